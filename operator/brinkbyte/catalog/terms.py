"""What a customer has bought, and whether the catalog lets them.

Keys of `Terms.overrides` (a customer's own values; `override_keys` lists all of them):

- `<line>.price`: money. `<line>` is a SKU or a plan's SKU (`fleet.plan.starter.price`); a charge
  that is not monthly adds its interval (`vision.integration.vms_connectors.once.price`).
- `<plan SKU>.<claim>`: a feature or limit under its license claim's name
  (`fleet.plan.enterprise.dataRetentionDays`); for a family without plans `<family>.<claim>`
  (`vision.dataRetentionDays`), which counts while no plan with features is bought.
- `<plan SKU>.<measure>.included` and `.overage`: a plan's allowance and its overage price
  (`platform.plan.standard.llm_tokens.included`).
- `<meter>.overage`: the overage price of a pooled meter (`vision.api_calls.overage`).

They belong to one SKU or plan, so a value agreed for one plan never widens another.
"""

from collections.abc import Iterator
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from brinkbyte.catalog.errors import CatalogError
from brinkbyte.catalog.model import (
    ACCOUNT_LIMITS,
    FEATURE_FLAGS,
    FEATURE_LIMITS,
    Catalog,
    Charge,
    Plan,
    charge_line,
    plan_sku,
)
from brinkbyte.catalog.values import UNLIMITED, Frozen, FrozenMap, parse_money

MAX_QUANTITY: Final = 1_000_000_000

OverrideKind = Literal["money", "limit", "flag"]


def _exact(value: object) -> object:
    return format(value, "f") if isinstance(value, Decimal) else value


OverrideValue = bool | int | str | Decimal
"""A Decimal is kept as its string, so that terms read back from JSON are equal."""


class Terms(Frozen):
    """What one customer has bought. Any content is accepted here; `check_terms` judges it.

    Attributes:
        plans: family to plan name, for families that have plans.
        quantities: SKU to bought quantity.
        overrides: the customer's own values; money as a decimal string, a limit as a number or
            "unlimited", a flag as true or false. Keys: see the module.
    """

    plans: FrozenMap[str, str] = Field(default_factory=dict)
    quantities: FrozenMap[str, int] = Field(default_factory=dict)
    overrides: FrozenMap[str, Annotated[OverrideValue, BeforeValidator(_exact)]] = Field(
        default_factory=dict
    )


def override_keys(catalog: Catalog) -> dict[str, OverrideKind]:
    """Return every key that `Terms.overrides` may have, and what kind of value it takes."""
    return dict(_iterate_keys(catalog))


def _iterate_keys(catalog: Catalog) -> Iterator[tuple[str, OverrideKind]]:
    for name, family in catalog.families.items():
        for plan_name, plan in family.plans.items():
            if plan.offering != "fallback":
                yield from _plan_keys(catalog, plan_sku(name, plan_name), plan)
        if not family.plans:
            # Without a plan the device limit is what was bought, never a negotiated number.
            yield f"{name}.dataRetentionDays", "limit"
            yield from ((f"{name}.{key}", "flag") for key in FEATURE_FLAGS)
            yield from ((f"{name}.{key}", "limit") for key in ACCOUNT_LIMITS)
        for meter, pool in family.pools.items():
            if pool.overage is not None:
                yield f"{meter}.overage", "money"
    for sku, spec in catalog.skus.items():
        for charge in spec.charges:
            yield f"{charge_line(sku, charge)}.price", "money"


def _plan_keys(catalog: Catalog, sku: str, plan: Plan) -> Iterator[tuple[str, OverrideKind]]:
    for charge in plan.charges:
        yield f"{charge_line(sku, charge)}.price", "money"
    if plan.features is not None:
        yield from ((f"{sku}.{key}", "limit") for key in FEATURE_LIMITS)
        yield from ((f"{sku}.{key}", "flag") for key in FEATURE_FLAGS)
    if plan.limits is not None:
        yield from ((f"{sku}.{key}", "limit") for key in ACCOUNT_LIMITS)
    for meter, allowance in plan.allowances.items():
        measure = catalog.meter(meter).measures
        yield f"{sku}.{measure}.included", "limit"
        if allowance.overage is not None:
            yield f"{sku}.{measure}.overage", "money"


def money_override(terms: Terms, key: str) -> Decimal | None:
    """Return the customer's own price under `key`, None when there is none."""
    value = terms.overrides.get(key)
    return None if value is None else parse_money(value)


def limit_value(terms: Terms, key: str, listed: int | str | None) -> int | None:
    """Return the limit in force: the customer's own, else the listed; None is no limit."""
    value = terms.overrides.get(key, listed)
    return value if isinstance(value, int) else None


def flag_value(terms: Terms, key: str, *, listed: bool | None) -> bool:
    """Return the flag in force: the customer's own, else the listed; empty is off."""
    return bool(terms.overrides.get(key, bool(listed)))


def charge_price(terms: Terms, sku: str, charge: Charge) -> Decimal | None:
    """Return the unit price in force for a charge; None is "contact sales"."""
    own = money_override(terms, f"{charge_line(sku, charge)}.price")
    return charge.amount if own is None else own


def check_names(catalog: Catalog, terms: Terms) -> None:
    """Refuse terms that name what does not exist or cannot be held, whatever it costs.

    Raises:
        CatalogError: lists every unknown name, bad quantity and bad override.
    """
    problems = [
        *_plan_problems(catalog, terms),
        *_quantity_problems(catalog, terms),
        *_override_problems(catalog, terms),
    ]
    if problems:
        raise CatalogError(problems)


def check_terms(catalog: Catalog, terms: Terms) -> None:
    """Refuse terms that cannot be bought.

    Raises:
        CatalogError: lists every unknown plan, SKU or override, every quantity out of range, and
            every empty price or limit for which the customer has no value of their own.
    """
    check_names(catalog, terms)
    missing: dict[str, list[str]] = {}
    for sku, key in missing_values(catalog, terms):
        missing.setdefault(sku, []).append(key)
    if missing:
        raise CatalogError(
            f"{sku!r} cannot be bought without the customer's own values (contact sales); "
            f"set overrides: {', '.join(keys)}"
            for sku, keys in missing.items()
        )


def missing_values(catalog: Catalog, terms: Terms) -> Iterator[tuple[str, str]]:
    """Yield (SKU, override key) for each empty price or limit that the terms leave open."""
    for family, name in terms.plans.items():
        plan = catalog.plan(family, name)
        sku = plan_sku(family, name)
        if plan.offering == "sold":
            yield from (
                (sku, key) for key in _empty_keys(catalog, sku, plan) if key not in terms.overrides
            )
    for sku, quantity in terms.quantities.items():
        for charge in catalog.sku(sku).charges:
            if quantity > 0 and charge_price(terms, sku, charge) is None:
                yield sku, f"{charge_line(sku, charge)}.price"


def _empty_keys(catalog: Catalog, sku: str, plan: Plan) -> Iterator[str]:
    for charge in plan.charges:
        if charge.amount is None:
            yield f"{charge_line(sku, charge)}.price"
    listed: dict[str, object] = {}
    if plan.features is not None:
        listed.update(plan.features.model_dump(by_alias=True))
    if plan.limits is not None:
        listed.update(plan.limits.model_dump(by_alias=True))
    # An empty flag is not a limit: it is off until the customer's terms turn it on.
    for key in (*FEATURE_LIMITS, *ACCOUNT_LIMITS):
        if key in listed and listed[key] is None:
            yield f"{sku}.{key}"
    for meter, allowance in plan.allowances.items():
        if allowance.included is None:
            yield f"{sku}.{catalog.meter(meter).measures}.included"


def _plan_problems(catalog: Catalog, terms: Terms) -> Iterator[str]:
    for family, name in terms.plans.items():
        try:
            plan = catalog.plan(family, name)
        except CatalogError as error:
            yield from error.problems
            continue
        if plan.offering == "fallback":
            sku = plan_sku(family, name)
            yield f"plan {sku!r} is what holds without a license and is not sold; leave it out"


def _quantity_problems(catalog: Catalog, terms: Terms) -> Iterator[str]:
    plans = {plan_sku(f, p): f for f, family in catalog.families.items() for p in family.plans}
    for sku, quantity in terms.quantities.items():
        if sku in plans:
            yield f"{sku!r} is a plan: set plans[{plans[sku]!r}], not a quantity"
            continue
        try:
            spec = catalog.sku(sku)
        except CatalogError as error:
            yield from error.problems
            continue
        if not 0 <= quantity <= MAX_QUANTITY:
            yield f"quantity of {sku!r} is {quantity}; it must be from 0 to {MAX_QUANTITY}"
        if spec.at_most is not None and quantity > spec.at_most:
            yield f"quantity of {sku!r} is {quantity}; at most {spec.at_most} can be held"
        if quantity > 0 and spec.requires and terms.quantities.get(spec.requires, 0) <= 0:
            yield f"{sku!r} is sold only together with {spec.requires!r}; add that first"


def _override_problems(catalog: Catalog, terms: Terms) -> Iterator[str]:
    kinds = override_keys(catalog) if terms.overrides else {}
    for key, value in terms.overrides.items():
        kind = kinds.get(key)
        if kind is None:
            close = get_close_matches(key, list(kinds), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see the catalog's override keys"
            yield f"unknown override {key!r}; {hint}"
        elif kind == "flag" and not isinstance(value, bool):
            yield f"override {key!r} must be true or false, not {value!r}"
        elif kind == "limit" and not _is_limit(value):
            yield f'override {key!r} must be a whole number from 0 or "unlimited", not {value!r}'
        elif kind == "money":
            try:
                parse_money(value)
            except ValueError as error:
                yield f"override {key!r}: {error}"


def _is_limit(value: OverrideValue) -> bool:
    if isinstance(value, bool):
        return False
    return value >= 0 if isinstance(value, int) else value == UNLIMITED
