"""Promotion codes: from what the price list offers to what a customer's agreement holds."""

from __future__ import annotations

from datetime import datetime

from brinkbyte.catalog import Catalog, Terms
from brinkbyte.rating.model import Promotion


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
    raise NotImplementedError
