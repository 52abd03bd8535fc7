"""However many lines an invoice has, the provider gets at most so many items of the same sum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.providers.base import Item
from brinkbyte.billing.providers.items import REST_KEY, fit


@given(st.lists(st.integers(-1000, 1000), max_size=40), st.integers(1, 20))
def test_sum_and_order_stay(amounts: list[int], limit: int) -> None:
    items = [Item(str(n), f"Line {n}", amount) for n, amount in enumerate(amounts)]
    fitted = fit(items, limit, number="N-1")
    assert len(fitted) == min(limit, len(items))
    assert sum(item.amount for item in fitted) == sum(amounts)
    kept = [item for item in fitted if item.key != REST_KEY]
    assert kept == [item for item in items if item in kept]
    if len(items) <= limit:
        assert list(fitted) == items
    elif kept:
        gone = [item for item in items if item not in kept]
        assert min(abs(item.amount) for item in kept) >= max(abs(item.amount) for item in gone)
        assert fitted[-1].description.startswith(f"{len(gone)} further lines")
