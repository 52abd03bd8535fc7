"""Terms and usage to money. Each line is rounded once, half to even, to minor units."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Literal

from brinkbyte.catalog.compiler import allowances, held_units
from brinkbyte.catalog.errors import CatalogError
from brinkbyte.catalog.model import Catalog, Charge, charge_line, plan_sku
from brinkbyte.catalog.terms import Terms, charge_price, check_names, check_terms
from brinkbyte.catalog.values import EXACT, Frozen, Money

ZERO = Decimal(0)
MAX_USAGE = Decimal(10**24)


class QuoteLine(Frozen):
    """One fixed charge: `amount` = `unit_price` x `quantity`, rounded."""

    line: str
    """Stable id: the SKU, with `.year` or `.once` when the charge is not monthly."""
    sku: str
    description: str
    every: Literal["month", "year", "once"]
    unit_price: Money
    quantity: int
    amount: Money


class ContactSalesLine(Frozen):
    """Something wanted that has no price until sales agree one with the customer."""

    line: str
    sku: str
    description: str
    every: Literal["month", "year", "once"]
    quantity: int


class RateLine(Frozen):
    """What use beyond the fixed charges costs; no amount, because use is not known yet."""

    meter: str
    description: str
    unit: str
    included: int
    amount: Money | None
    """Price of `per` units beyond `included`; null: what each event costs."""
    per: int


class Quote(Frozen):
    """What terms cost, before tax and before use."""

    catalog_version: str
    currency: str
    lines: tuple[QuoteLine, ...]
    contact_sales: tuple[ContactSalesLine, ...]
    """Not in any total."""
    rates: tuple[RateLine, ...]
    monthly_total: Money
    yearly_total: Money
    one_time_total: Money


class CostLine(Frozen):
    """One line of what a month costs so far."""

    line: str
    """The prepaid charge's line id, or the meter's name."""
    kind: Literal["prepaid", "overage", "pass_through"]
    description: str
    quantity: Decimal
    """Units bought, or units beyond the allowance, or units whose cost is passed on."""
    unit_price: Money | None
    """Price of `per` units; null when each event carries its own."""
    per: int
    amount: Money


def round_money(catalog: Catalog, amount: Decimal) -> Decimal:
    """Round an amount to the currency's minor units, half to even."""
    return amount.quantize(Decimal(1).scaleb(-catalog.rules.money.minor_units), context=EXACT)


def quote(catalog: Catalog, terms: Terms) -> Quote:
    """Price the terms; what has no price yet is listed apart instead of refused.

    Raises:
        CatalogError: unknown names, quantities out of range, bad overrides.
    """
    check_names(catalog, terms)
    lines: list[QuoteLine] = []
    contact: list[ContactSalesLine] = []
    for sku, description, charge, quantity in _charges(catalog, terms):
        price = charge_price(terms, sku, charge)
        line = charge_line(sku, charge)
        if price is None:
            contact.append(
                ContactSalesLine(
                    line=line,
                    sku=sku,
                    description=description,
                    every=charge.every,
                    quantity=quantity,
                )
            )
            continue
        lines.append(
            QuoteLine(
                line=line,
                sku=sku,
                description=description,
                every=charge.every,
                unit_price=price,
                quantity=quantity,
                amount=round_money(catalog, EXACT.multiply(price, Decimal(quantity))),
            )
        )

    def total(every: str) -> Decimal:
        amount = ZERO
        for item in lines:
            if item.every == every:
                amount = EXACT.add(amount, item.amount)
        return round_money(catalog, amount)

    return Quote(
        catalog_version=catalog.version,
        currency=catalog.currency,
        lines=tuple(lines),
        contact_sales=tuple(contact),
        rates=tuple(_rates(catalog, terms)),
        monthly_total=total("month"),
        yearly_total=total("year"),
        one_time_total=total("once"),
    )


def month_cost(
    catalog: Catalog,
    terms: Terms,
    usage: Mapping[str, Decimal],
    *,
    carried_costs: Mapping[str, Decimal] | None = None,
) -> tuple[CostLine, ...]:
    """Return what the month would cost so far: monthly prepaid items and overage.

    Yearly and one-time items have dates of their own and are not part of a month.

    Args:
        catalog: the price list.
        terms: what the customer has bought.
        usage: by meter: a counter's sum, a gauge's mean so far; in the meter's unit.
        carried_costs: by pass-through meter: the sum of the costs that its events carry.

    Raises:
        CatalogError: terms that cannot be bought, an unknown meter, negative usage, or usage of a
            pass-through meter without its carried costs.
    """
    check_terms(catalog, terms)
    carried = carried_costs or {}
    check_usage(catalog, usage, carried)
    lines = [
        CostLine(
            line=line.line,
            kind="prepaid",
            description=line.description,
            quantity=Decimal(line.quantity),
            unit_price=line.unit_price,
            per=1,
            amount=line.amount,
        )
        for line in quote(catalog, terms).lines
        if line.every == "month"
    ]
    included = allowances(catalog, terms)
    for name, meter in catalog.meters.items():
        used = usage.get(name, ZERO)
        allowance = included.get(name)
        if meter.pass_through is not None and carried.get(name, ZERO) > 0:
            lines.append(
                CostLine(
                    line=name,
                    kind="pass_through",
                    description=f"{meter.title}, at cost",
                    quantity=used,
                    unit_price=None,
                    per=1,
                    amount=round_money(catalog, carried[name]),
                )
            )
        if allowance is None or allowance.overage is None or allowance.included is None:
            continue
        beyond = EXACT.subtract(used, Decimal(allowance.included))
        if beyond > 0:
            rate = allowance.overage
            cost = EXACT.divide(EXACT.multiply(beyond, rate.amount), Decimal(rate.per))
            lines.append(
                CostLine(
                    line=name,
                    kind="overage",
                    description=f"{meter.title} beyond {allowance.included:,}",
                    quantity=beyond,
                    unit_price=rate.amount,
                    per=rate.per,
                    amount=round_money(catalog, cost),
                )
            )
    return tuple(lines)


def _charges(catalog: Catalog, terms: Terms) -> Iterator[tuple[str, str, Charge, int]]:
    """Yield (SKU, description, charge, quantity) in catalog order; a trial is a charge of 0."""
    for family, spec in catalog.families.items():
        if family in terms.plans:
            plan = catalog.plan(family, terms.plans[family])
            sku = plan_sku(family, terms.plans[family])
            title = f"{spec.title} {plan.title}"
            for charge in plan.charges or (_trial_charge(),):
                yield sku, _describe(title, plan.trial_days), charge, 1
    for sku, item in catalog.skus.items():
        quantity = terms.quantities.get(sku, 0)
        if quantity > 0 and item.basis != "usage":
            for charge in item.charges or (_trial_charge(),):
                yield sku, _describe(item.title, item.trial_days), charge, quantity


def _trial_charge() -> Charge:
    return Charge(every="month", amount=ZERO)


def _describe(title: str, trial_days: int | None) -> str:
    return title if trial_days is None else f"{title} (trial of {trial_days} days, no charge)"


def _rates(catalog: Catalog, terms: Terms) -> Iterator[RateLine]:
    included = allowances(catalog, terms)
    units = held_units(catalog, terms)
    for name, meter in catalog.meters.items():
        allowance = included.get(name)
        if meter.pass_through in units:
            yield RateLine(
                meter=name,
                description=f"{meter.title}, at cost",
                unit=meter.unit,
                included=0,
                amount=None,
                per=1,
            )
        if allowance is not None and allowance.overage is not None:
            if allowance.included is None:
                continue
            yield RateLine(
                meter=name,
                description=f"{meter.title} beyond {allowance.included:,}",
                unit=meter.unit,
                included=allowance.included,
                amount=allowance.overage.amount,
                per=allowance.overage.per,
            )


def check_usage(
    catalog: Catalog, usage: Mapping[str, Decimal], carried: Mapping[str, Decimal]
) -> None:
    """Refuse usage that cannot be priced.

    Args:
        catalog: the price list.
        usage: by meter, in the meter's unit.
        carried: by pass-through meter: the sum of the costs that its events carry.

    Raises:
        CatalogError: lists every unknown meter, value out of range, carried cost of a meter that
            passes none on, and pass-through meter that was used without one.
    """
    problems: list[str] = []
    for kind, values in (("usage", usage), ("carried cost", carried)):
        for name, value in values.items():
            try:
                meter = catalog.meter(name)
            except CatalogError as error:
                problems.extend(error.problems)
                continue
            if not value.is_finite() or not 0 <= value <= MAX_USAGE:
                problems.append(f"{kind} of {name!r} is {value}; it must be from 0 to {MAX_USAGE}")
            elif kind == "carried cost" and meter.pass_through is None:
                problems.append(f"{name!r} does not pass costs on; leave its carried cost out")
            elif kind == "usage" and meter.pass_through and value > 0 and name not in carried:
                problems.append(f"{name!r} costs what its events carry; give carried_costs")
    if problems:
        raise CatalogError(problems)
