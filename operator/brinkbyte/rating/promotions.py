"""Discounts that a customer's agreement may hold: promotion codes, and a year paid ahead."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from brinkbyte.catalog import Catalog, CatalogError, Terms, plan_sku
from brinkbyte.rating.model import Promotion
from brinkbyte.rating.periods import add_months, day_of


def redeem(catalog: Catalog, code: str, at: datetime, *, terms: Terms | None = None) -> Promotion:
    """Return the promotion of a code, to be added to the customer's ``Agreement.promotions``.

    It starts at the UTC midnight that begins the day of ``at`` and lasts as many months as the
    price list says. Whether the customer has redeemed the code before is for the caller to know.

    Args:
        catalog: the price list with its promotions.
        code: as it was typed; spaces around it and lower case do not matter.
        at: when it is redeemed, aware.
        terms: what the customer holds or is about to buy; without it, a code that is for certain
            plans only is refused.

    Raises:
        CatalogError: unknown, not yet or no longer offered, or not for these plans.
    """
    code = code.strip().upper()
    offer = catalog.promotion(code)
    start = day_of(at)
    if start.date() < offer.first_day:
        msg = f"promotion code {code!r} can be redeemed from {offer.first_day:%F} on; try it then"
        raise CatalogError(msg)
    if offer.last_day is not None and start.date() > offer.last_day:
        msg = f"promotion code {code!r} ended on {offer.last_day:%F}; leave it out"
        raise CatalogError(msg)
    held = {plan_sku(*plan) for plan in (terms.plans.items() if terms is not None else ())}
    if offer.plans and held.isdisjoint(offer.plans):
        msg = (
            f"promotion code {code!r} is not for this plan; "
            f"choose one of {', '.join(offer.plans)}, or leave the code out"
        )
        raise CatalogError(msg)
    return Promotion(
        code=code,
        percent=offer.percent,
        amount=offer.amount,
        lines=offer.lines,
        starts_at=start,
        ends_at=None if offer.months is None else add_months(start, offer.months),
    )


def annual_percent(catalog: Catalog, own: Decimal | None = None) -> Decimal:
    """Return the percent off a year paid ahead, for ``Agreement.annual_percent``.

    Args:
        catalog: the price list.
        own: what this customer has agreed, 0 to 100; None: what the price list offers.

    Raises:
        CatalogError: the price list offers none and the customer has none agreed.
    """
    percent = catalog.rules.annual_payment.percent if own is None else own
    if percent is None:
        msg = (
            "a year paid ahead is not offered in this price list (contact sales); agree a percent "
            "with the customer, or choose payment by the month"
        )
        raise CatalogError(msg)
    return percent
