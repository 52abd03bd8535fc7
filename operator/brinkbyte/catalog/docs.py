"""Renders the catalog as Markdown tables: `python -m brinkbyte.catalog.docs [--check] PATH`.

Without `--check` the file is written; with it the program exits 1 when the file is not what the
catalog says.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from brinkbyte.catalog.loader import load_catalog
from brinkbyte.catalog.model import (
    ACCOUNT_LIMITS,
    FEATURE_FLAGS,
    FEATURE_LIMITS,
    Adds,
    Catalog,
    Charge,
    Overage,
    Plan,
    plan_sku,
)
from brinkbyte.catalog.terms import override_keys
from brinkbyte.kit.generated import write_page

CONTACT_SALES = "contact sales"
_EVERY = {"month": "a month", "year": "a year", "once": "once"}


def render(catalog: Catalog) -> str:
    """Return the whole page, ending in a newline."""
    sections = [
        _intro(catalog),
        *(_plans(catalog, name) for name, family in catalog.families.items() if family.plans),
        _skus(catalog),
        _packs(catalog),
        _pools(catalog),
        _classes(catalog),
        _meters(catalog),
        _rules(catalog),
        _promotions(catalog),
        _overrides(catalog),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or check it; returns the exit code."""
    return write_page(render(load_catalog()), "brinkbyte.catalog.docs", __doc__, argv)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell or '-' for cell in line)} |" for line in lines]


def _money(catalog: Catalog, amount: Decimal) -> str:
    # Cents are shown in full, fractions of a cent as far as they go.
    digits = max(catalog.rules.money.minor_units, -int(amount.normalize().as_tuple().exponent))
    return f"{amount:.{digits}f} {catalog.currency}"


def _charges(catalog: Catalog, charges: Iterable[Charge]) -> str:
    return " + ".join(
        CONTACT_SALES
        if charge.amount is None
        else f"{_money(catalog, charge.amount)} {_EVERY[charge.every]}"
        for charge in charges
    )


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, int | str) else CONTACT_SALES


def _per(catalog: Catalog, overage: Overage, unit: str) -> str:
    units = unit if overage.per == 1 else f"{overage.per:,} {unit}s"
    return f"{_money(catalog, overage.amount)} per {units}"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _intro(catalog: Catalog) -> list[str]:
    return [
        "# Catalog",
        "",
        "Generated from the catalog file by `python -m brinkbyte.catalog.docs`; change that file,",
        "not this page.",
        "",
        f"Version {catalog.version}. Prices are in {catalog.currency}, before tax.",
        f'"{CONTACT_SALES}" is an empty price or limit: it can be bought once the terms of the',
        "customer have a value of their own.",
    ]


def _plans(catalog: Catalog, name: str) -> list[str]:
    family = catalog.families[name]
    plans = family.plans
    rows: list[list[str]] = [
        ["SKU", *(f"`{plan_sku(name, plan)}`" for plan in plans)],
        ["Price", *(_plan_price(catalog, plan) for plan in plans.values())],
    ]
    if any(plan.features for plan in plans.values()):
        rows.extend(
            [f"`{key}`", *(_plan_cell(plan, key) for plan in plans.values())]
            for key in (*FEATURE_LIMITS, *FEATURE_FLAGS, *ACCOUNT_LIMITS)
        )
    meters = dict.fromkeys(meter for plan in plans.values() for meter in plan.allowances)
    rows.extend(
        [
            f"`{meter}`",
            *(_plan_allowance(catalog, plan, meter) for plan in plans.values()),
        ]
        for meter in meters
    )
    return [
        f"## {family.title} plans",
        "",
        f"Sold per {family.sold_per}.",
        "",
        *_table(["", *(plan.title for plan in plans.values())], rows),
    ]


def _plan_price(catalog: Catalog, plan: Plan) -> str:
    if plan.offering == "trial":
        return f"no charge for {plan.trial_days} days"
    if plan.offering == "fallback":
        return "not sold"
    return _charges(catalog, plan.charges)


def _plan_cell(plan: Plan, key: str) -> str:
    value = _listed(plan).get(key)
    return "not set" if value is None and plan.offering != "sold" else _cell(value)


def _listed(plan: Plan) -> dict[str, object]:
    listed: dict[str, object] = {}
    for part in (plan.features, plan.limits):
        if part is not None:
            listed.update(part.model_dump(by_alias=True))
    return listed


def _plan_allowance(catalog: Catalog, plan: Plan, meter: str) -> str:
    allowance = plan.allowances.get(meter)
    if allowance is None:
        return ""
    text = _cell(allowance.included)
    if allowance.cap is not None:
        return f"{text}, {allowance.cap}"
    if allowance.overage is not None:
        return f"{text}, then {_per(catalog, allowance.overage, catalog.meter(meter).unit)}"
    return text


def _skus(catalog: Catalog) -> list[str]:
    rows: list[list[str]] = []
    for sku, spec in catalog.skus.items():
        price = {
            "prepaid": f"{_charges(catalog, spec.charges)} per {spec.unit}",
            "trial": f"no charge for {spec.trial_days} days",
            "usage": "what is used",
        }[spec.basis]
        notes = [f"{count:,} `{meter}` a month" for meter, count in spec.includes.items()]
        notes += [f"{count} x `{other}` included" for other, count in spec.bundles.items()]
        notes += [f"needs `{spec.requires}`"] if spec.requires else []
        notes += [f"at most {spec.at_most}"] if spec.at_most else []
        rows.append([f"`{sku}`", spec.title, price, "; ".join(notes)])
    return [
        "## Items bought in quantities",
        "",
        *_table(["SKU", "What", "Price", "Notes"], rows),
    ]


def _packs(catalog: Catalog) -> list[str]:
    rows = [["(base license)", "camera", *_adds(catalog.base)]]
    rows.extend([f"`{ref.name}`", ref.per, *_adds(ref.adds)] for ref in catalog.pack_refs())
    return [
        "## What the base license and the packs unlock",
        "",
        *_table(["Pack", "Per", "Models", "Analytics", "Outputs", "Language model"], rows),
    ]


def _adds(adds: Adds) -> list[str]:
    return [_codes(names) for names in (adds.models, adds.analytics, adds.outputs, adds.llm)]


def _pools(catalog: Catalog) -> list[str]:
    rows: list[list[str]] = []
    for family in catalog.families.values():
        for meter, pool in family.pools.items():
            overage = ""
            if pool.overage is not None:
                overage = _per(catalog, pool.overage, catalog.meter(meter).unit)
                if pool.overage.requires:
                    overage += f", with `{pool.overage.requires}`"
            rows.append([f"`{meter}`", pool.cap, overage])
    return [
        "## Pooled allowances",
        "",
        "What the items include is one pool for the tenant: included x quantity.",
        "",
        *_table(["Meter", "Cap without overage", "Overage"], rows),
    ]


def _classes(catalog: Catalog) -> list[str]:
    rows = [[f"`{n}`", _codes(m.classes)] for n, m in catalog.models.items() if m.classes]
    return ["## Models with sub-classes", "", *_table(["Model", "Classes"], rows)]


def _meters(catalog: Catalog) -> list[str]:
    rows = [
        [f"`{name}`", meter.title, meter.unit, meter.kind, meter.family, meter.billing]
        for name, meter in catalog.meters.items()
    ]
    return [
        "## Meters",
        "",
        "Priced meters cost beyond their allowance, limited meters only have one, informing meters",
        "have neither.",
        "",
        *_table(["Meter", "What", "Unit", "Kind", "Family", "Billing"], rows),
    ]


def _rules(catalog: Catalog) -> list[str]:
    def leaves(prefix: str, value: object) -> Iterator[list[str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from leaves(f"{prefix}.{key}" if prefix else key, inner)
        elif value is None:
            yield [f"`{prefix}`", "none; by agreement only"]
        elif isinstance(value, list | tuple):
            yield [f"`{prefix}`", ", ".join(str(item) for item in value)]
        else:
            yield [f"`{prefix}`", str(value).replace("_", " ")]

    rows = leaves("", catalog.rules.model_dump())
    return ["## Billing rules", "", *_table(["Rule", "Value"], rows)]


def _promotions(catalog: Catalog) -> list[str]:
    rows: list[list[str]] = []
    for code, offer in catalog.promotions.items():
        off = f"{offer.percent} %" if offer.percent is not None else ""
        if offer.amount is not None:
            off = f"{_money(catalog, offer.amount)} a month"
        redeemed = (
            f"{offer.first_day:%F} to {offer.last_day:%F}"
            if offer.last_day
            else (f"from {offer.first_day:%F}")
        )
        rows.append(
            [
                f"`{code}`",
                offer.title,
                off,
                _codes(offer.lines) or "every prepaid charge",
                _codes(offer.plans) or "any",
                f"{offer.months} months" if offer.months else "for ever",
                redeemed,
            ]
        )
    head = ["Code", "What", "Off", "Applies to", "Plans", "Counts", "Redeemed"]
    table = _table(head, rows) if rows else ["None is offered at present."]
    return ["## Promotion codes", "", *table]


def _overrides(catalog: Catalog) -> list[str]:
    what = {
        "money": 'money, such as `"19.90"`',
        "limit": 'a whole number or `"unlimited"`',
        "flag": "`true` or `false`",
    }
    rows = [[f"`{key}`", what[kind]] for key, kind in sorted(override_keys(catalog).items())]
    return [
        "## A customer's own values",
        "",
        "Keys that a customer's terms may override. A value belongs to one item or plan and does",
        "not follow the customer to another. An empty flag is off until it is set here.",
        "",
        *_table(["Key", "Value"], rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
