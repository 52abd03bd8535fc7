"""An invoice of many lines, on a provider that takes only so many items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from brinkbyte.billing.providers.base import Item

REST_KEY: Final = "rest"
"""Key of the item that stands for all smaller lines."""


def fit(items: Sequence[Item], limit: int, *, number: str) -> tuple[Item, ...]:
    """Return at most ``limit`` items of the same sum, in the same order.

    The ``limit - 1`` lines of the largest amounts (either sign; of equal ones the earlier) stay;
    all others become one last item that names our invoice, where each of them stands.

    Args:
        items: our lines; their keys are unique.
        limit: at least 1.
        number: our invoice's, for people.
    """
    if len(items) <= limit:
        return tuple(items)
    by_size = sorted(range(len(items)), key=lambda at: (-abs(items[at].amount), at))
    kept = set(by_size[: limit - 1])
    others = [item for at, item in enumerate(items) if at not in kept]
    rest = Item(
        REST_KEY,
        f"{len(others)} further lines, each in invoice {number}",
        sum(item.amount for item in others),
    )
    return (*(item for at, item in enumerate(items) if at in kept), rest)
