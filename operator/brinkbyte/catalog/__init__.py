"""The price list as data, and the pure functions that read it.

In: a versioned YAML file of this package (`load_catalog`), and what a customer has bought
(`Terms`: plans, quantities by SKU, the customer's own values).
Out: what they may use (`compile_entitlements`, `grants`), what it costs (`quote`, `month_cost`),
and the tables of the documentation (`python -m brinkbyte.catalog.docs`). A refusal is a
`CatalogError` that names the SKU, plan, key or YAML path and what to do.

Pure: no clock, no network, no file but the package's own data. May import `brinkbyte.kit`, the
standard library, pydantic and yaml; nothing else.
"""

from brinkbyte.catalog.compiler import (
    Allowance,
    Entitlements,
    Features,
    Grants,
    Limits,
    Rate,
    compile_entitlements,
    grants,
    unlicensed_entitlements,
)
from brinkbyte.catalog.errors import CatalogError
from brinkbyte.catalog.loader import catalog_versions, load_catalog, parse_catalog
from brinkbyte.catalog.model import Catalog, charge_line, plan_sku
from brinkbyte.catalog.pricing import (
    ContactSalesLine,
    CostLine,
    Quote,
    QuoteLine,
    RateLine,
    check_usage,
    month_cost,
    quote,
    round_money,
)
from brinkbyte.catalog.terms import OverrideValue, Terms, check_terms, override_keys

__all__ = [
    "Allowance",
    "Catalog",
    "CatalogError",
    "ContactSalesLine",
    "CostLine",
    "Entitlements",
    "Features",
    "Grants",
    "Limits",
    "OverrideValue",
    "Quote",
    "QuoteLine",
    "Rate",
    "RateLine",
    "Terms",
    "catalog_versions",
    "charge_line",
    "check_terms",
    "check_usage",
    "compile_entitlements",
    "grants",
    "load_catalog",
    "month_cost",
    "override_keys",
    "parse_catalog",
    "plan_sku",
    "quote",
    "round_money",
    "unlicensed_entitlements",
]
