"""What holds for every history: exact sums, no dependence on how a change was split, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brinkbyte.catalog import Terms, load_catalog
from brinkbyte.rating import (
    Agreement,
    Change,
    History,
    Line,
    Promotion,
    Usage,
    adjustment_lines,
    closing_lines,
    effective,
    opening_lines,
    periods_until,
    total,
)
from support.subscriptions import TICK, day, used

pytestmark = pytest.mark.unit

CATALOG = load_catalog()
SEAT, VMS, DEVICE = (
    "vision.base_seat",
    "vision.integration.vms_connectors",
    "vision.device.managed",
)
START = day("2026-01-31")
MONTHS = 4
UNTIL = day("2026-06-10")

prices = st.decimals(min_value=0, max_value=500, places=3).map(str)
terms = st.builds(
    lambda plan, seats, devices, yearly, price: Terms(
        plans={} if plan is None else {"platform": plan},
        quantities={SEAT: seats, DEVICE: devices, VMS: yearly},
        overrides={} if price is None else {"vision.base_seat.price": price},
    ),
    st.sampled_from([None, "free", "standard", "enterprise"]),
    st.integers(0, 20),
    st.integers(0, 3),
    st.integers(0, 1),
    st.none() | prices,
)
moments = st.integers(0, 125 * 24).map(lambda hours: START + timedelta(hours=hours))
promotions = st.builds(
    lambda percent, amount, lines, start, length: Promotion(
        code="CODE",
        percent=percent,
        amount=amount if percent is None else None,
        lines=lines,
        starts_at=START + timedelta(days=start),
        ends_at=None if length is None else START + timedelta(days=start + length),
    ),
    st.none() | st.decimals(min_value=0, max_value=100, places=2),
    st.decimals(min_value=0, max_value=900, places=3),
    st.sampled_from([(), (SEAT,), ("platform.api_calls", f"{VMS}.once")]),
    st.integers(-40, 90),
    st.none() | st.integers(1, 200),
)
agreements = st.builds(
    Agreement,
    interval=st.sampled_from(["month", "year"]),
    annual_percent=st.decimals(min_value=0, max_value=100, places=1),
    promotions=st.lists(promotions, max_size=2).map(tuple),
)
statuses = st.sampled_from(["active", "active", "trialing", "past_due", "suspended", "canceled"])
changes = st.builds(
    Change,
    at=moments,
    terms=terms,
    status=statuses,
    agreement=agreements,
    ends_at=st.none() | moments,
    trial_ends_at=st.none() | moments,
)
usages = st.fixed_dictionaries(
    {
        "platform.api_calls": st.integers(0, 2_000_000).map(used),
        "platform.storage_gb": st.decimals(min_value=0, max_value=3000, places=4).map(used),
        "vision.sms": st.decimals(min_value=0, max_value=90, places=5).map(
            lambda cost: used(1, str(cost))
        ),
    }
)


def history_of(items: list[Change]) -> History:
    return History(anchor=START, changes=tuple(sorted(items, key=lambda change: change.at)))


histories = st.lists(changes, min_size=1, max_size=6).map(history_of)
# Quantities alone, paid all along: where more must never cost less.
plain = st.lists(
    st.builds(lambda at, what: Change(at=at, terms=what, status="active"), moments, terms),
    min_size=1,
    max_size=6,
).map(history_of)


def invoices(history: History, usage: Usage) -> Iterator[tuple[Line, ...]]:
    """Yield what opened and what closed, period by period."""
    for period in periods_until(history, UNTIL):
        yield opening_lines(CATALOG, history, period)
        yield closing_lines(CATALOG, history, period, usage)


def owed(history: History, usage: Usage | None = None) -> Decimal:
    return sum((total(CATALOG, lines) for lines in invoices(history, usage or {})), Decimal(0))


def values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from values(inner)
    else:
        yield value


@settings(deadline=None, max_examples=60)
@given(histories, usages)
def test_lines_are_exact_and_the_same_again(history: History, usage: Usage) -> None:
    cent = Decimal("0.01")
    copy = History.model_validate(history.model_dump())
    for lines, again in zip(invoices(history, usage), invoices(copy, usage), strict=True):
        assert lines == again
        assert total(CATALOG, lines) == sum((line.amount for line in lines), Decimal(0))
        assert total(CATALOG, lines) >= 0
        for line in lines:
            assert line.amount == line.amount.quantize(cent)
            assert (line.amount < 0) == (line.kind == "discount")
            assert not any(isinstance(value, float) for value in values(line.model_dump()))
            if line.unit_price is not None:
                assert line.days is None or line.of_days is not None
                exact = line.unit_price * line.quantity / line.per
                exact = exact * (line.days or 1) / (line.of_days or 1)
                assert abs(line.amount - exact) <= cent / 2


@settings(deadline=None, max_examples=60)
@given(histories, usages)
def test_what_comes_later_never_changes_an_invoice(history: History, usage: Usage) -> None:
    for period in periods_until(history, UNTIL):
        for moment, rate in (
            (period.start + TICK, lambda h: opening_lines(CATALOG, h, period)),  # noqa: B023
            (period.end, lambda h: closing_lines(CATALOG, h, period, usage)),  # noqa: B023
        ):
            known = tuple(change for change in history.changes if change.at < moment)
            # The first period opens with the first change.
            known = known or history.changes[:1]
            same = tuple(c for c in history.changes if c.at == known[-1].at)
            known = (*[c for c in known if c.at != known[-1].at], *same)
            assert rate(history) == rate(history.model_copy(update={"changes": known}))


@settings(deadline=None, max_examples=60)
@given(plain, terms, st.integers(0, 5))
def test_a_change_made_in_two_steps_at_once_costs_the_same(
    history: History, other: Terms, index: int
) -> None:
    index %= len(history.changes)
    change = history.changes[index]
    before = history.changes[index - 1].terms if index else Terms()
    # The step between takes some of the new quantities and leaves the rest as they were.
    step = Terms(
        plans=change.terms.plans,
        quantities={
            sku: change.terms.quantities[sku] if sku in (SEAT, DEVICE) and other.plans
            else min(before.quantities.get(sku, 0), change.terms.quantities[sku])
            for sku in change.terms.quantities
        },
        overrides=change.terms.overrides,
    )  # fmt: skip
    split = (*history.changes[:index], change.model_copy(update={"terms": step}))
    twice = History(anchor=history.anchor, changes=(*split, *history.changes[index:]))
    assert list(invoices(twice, {})) == list(invoices(history, {}))


@settings(deadline=None, max_examples=60)
@given(plain, st.integers(0, 5), st.integers(1, 9), st.sampled_from([SEAT, DEVICE]))
def test_more_never_costs_less(history: History, index: int, more: int, sku: str) -> None:
    # At one price of its own: with prices that change, later or earlier units differ.
    same = [
        change.model_copy(
            update={
                "terms": change.terms.model_copy(update={"overrides": {}}),
            }
        )
        for change in history.changes
    ]
    index %= len(same)
    larger = list(same)
    held = dict(same[index].terms.quantities)
    held[sku] = held.get(sku, 0) + more
    larger[index] = same[index].model_copy(
        update={"terms": same[index].terms.model_copy(update={"quantities": held})}
    )
    # Each line may be rounded by half a cent.
    slack = Decimal("0.01") * 6 * MONTHS
    assert owed(history_of(larger)) + slack >= owed(history_of(same))


@settings(deadline=None, max_examples=60)
@given(plain, st.integers(0, 5), st.integers(0, 20), st.integers(1, 300), st.integers(1, 300))
def test_a_fall_and_a_rise_back_cost_no_more_than_keeping(
    history: History, index: int, fewer: int, after: int, back: int
) -> None:
    upto = history.changes[index % len(history.changes)].at
    kept = [c for c in history.changes if c.at <= upto]
    change = kept[-1]
    held = dict(change.terms.quantities)
    held[SEAT] = min(held[SEAT], fewer)
    fall = change.model_copy(
        update={
            "at": change.at + timedelta(hours=after),
            "terms": change.terms.model_copy(update={"quantities": held}),
        }
    )
    again = change.model_copy(update={"at": fall.at + timedelta(hours=back)})
    detour = History(anchor=START, changes=(*kept, fall, again))
    keeping = History(anchor=START, changes=tuple(kept))
    assert owed(detour) <= owed(keeping) + Decimal("0.01") * MONTHS


@settings(deadline=None, max_examples=60)
@given(histories, usages, usages)
def test_adjustments_bring_what_was_invoiced_to_what_is_owed(
    history: History, usage: Usage, late: Usage
) -> None:
    for period in periods_until(history, UNTIL):
        closed = closing_lines(CATALOG, history, period, usage)
        opened = opening_lines(CATALOG, history, period)
        assert adjustment_lines(CATALOG, history, period, usage, [*opened, *closed]) == ()
        more = adjustment_lines(CATALOG, history, period, late, closed)
        assert all(line.amount for line in more)
        after = [*closed, *more]
        assert adjustment_lines(CATALOG, history, period, late, after) == ()
        meters = {line.line for line in more}
        anew = closing_lines(CATALOG, history, period, late)
        for name in meters:
            assert total(CATALOG, [x for x in after if x.line == name]) == total(
                CATALOG, [x for x in anew if x.line == name]
            )


@settings(deadline=None, max_examples=100)
@given(plain, moments)
def test_what_is_in_force_is_at_least_what_is_wanted(history: History, moment: datetime) -> None:
    change = effective(CATALOG, history, moment)
    wanted = [c for c in history.changes if c.at <= moment]
    assert (change is None) == (not wanted)
    if change is not None:
        for sku, quantity in wanted[-1].terms.quantities.items():
            assert change.terms.quantities.get(sku, 0) >= quantity
        assert change.agreement == wanted[-1].agreement
