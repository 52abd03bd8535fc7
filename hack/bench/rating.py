"""Measure how long the invoices of many subscriptions take, beside bare arithmetic.

``python -m bench.rating`` measures this alone. One core, one process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from brinkbyte.catalog import Terms, load_catalog
from brinkbyte.rating import (
    Agreement,
    Change,
    History,
    MeterUsage,
    Period,
    Promotion,
    Usage,
    adjustment_lines,
    closing_lines,
    opening_lines,
    period_at,
    total,
)
from stack.tools import StepError

SUBSCRIPTIONS: Final = 10_000
LATE_EVERY: Final = 20
"""One in so many has late events of the month before: 5 %."""
LINES: Final = 12
_CATALOG: Final = load_catalog()
_START: Final = datetime(2026, 9, 1, tzinfo=UTC)
_BOUNDARY: Final = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        subscriptions: how many were rated.
        lines: how many lines they gave.
        ours: seconds for all of their invoices.
        bare: seconds to multiply and round as many amounts, and nothing else.
    """

    subscriptions: int
    lines: int
    ours: float
    bare: float


def _history(number: int) -> History:
    """Return a subscription of all three families with a rise in the month that closes."""
    seats = 3 + number % 40
    quantities = {
        "vision.base_seat": seats,
        "vision.device.basic": 1 + number % 7,
        "vision.device.managed": 1 + number % 3,
        "vision.pack.advanced_analytics": 1 + seats // 2,
        "vision.pack.intelligence": 1,
        "vision.integration.cloud_export": 1,
        "vision.integration.api_overage": 1,
        "vision.integration.sms": 1,
    }
    plans = {"fleet": "professional", "platform": "standard"}
    # Some customers have a price of their own, so that not all terms are alike.
    own = {"fleet.plan.professional.price": f"{200 + number % 500}.00"}
    code = Promotion(
        code="BENCH", percent=Decimal(5), lines=("vision.base_seat",), starts_at=_START
    )
    agreement = Agreement(promotions=(code,))
    first = Change(
        at=_START.replace(hour=number % 24),
        terms=Terms(plans=plans, quantities=quantities, overrides=own),
        status="active",
        agreement=agreement,
    )
    more = {**quantities, "vision.base_seat": seats + 1 + number % 5}
    rise = Change(
        at=datetime(2026, 10, 1 + number % 28, 12, tzinfo=UTC),
        terms=Terms(plans=plans, quantities=more, overrides=own),
        status="active",
        agreement=agreement,
    )
    return History(anchor=_START, changes=(first, rise))


def _usage(number: int, more: int = 0) -> Usage:
    return {
        "vision.api_calls": MeterUsage(quantity=Decimal(3_000_000 + number + more)),
        "vision.sms": MeterUsage(quantity=Decimal(40), cost=Decimal("3.0125") + number % 9),
        "platform.api_calls": MeterUsage(quantity=Decimal(100_001 + number % 9_000 + more)),
    }


def _invoice(history: History, usage: Usage, late: Usage | None, before: Period) -> int:
    """Rate one invoice; returns how many lines it has."""
    closed = period_at(history, datetime(2026, 10, 15, tzinfo=UTC))
    lines = [
        *closing_lines(_CATALOG, history, closed, usage),
        *opening_lines(_CATALOG, history, period_at(history, _BOUNDARY)),
    ]
    if late is not None:
        invoiced = closing_lines(_CATALOG, history, before, usage)
        lines += adjustment_lines(_CATALOG, history, before, late, invoiced)
    total(_CATALOG, lines)
    return len(lines)


def rating(subscriptions: int = SUBSCRIPTIONS) -> Figures:
    """Rate all invoices of one boundary.

    Raises:
        StepError: the subscriptions are smaller than they are meant to be.
    """
    work = [
        (
            _history(number),
            _usage(number),
            _usage(number, 2_500) if number % LATE_EVERY == 0 else None,
        )
        for number in range(subscriptions)
    ]
    before = Period(start=_START, end=datetime(2026, 10, 1, tzinfo=UTC))
    began = time.perf_counter()
    lines = sum(_invoice(history, usage, late, before) for history, usage, late in work)
    ours = time.perf_counter() - began
    if lines < LINES * subscriptions:
        msg = f"{lines} lines of {subscriptions} subscriptions; {LINES} of each were meant"
        raise StepError(msg)
    cent, price = Decimal("0.01"), Decimal("59.9375")
    began = time.perf_counter()
    for number in range(lines):
        (price * number * 20 / 31).quantize(cent, rounding=ROUND_HALF_EVEN)
    return Figures(subscriptions, lines, ours, time.perf_counter() - began)


if __name__ == "__main__":
    print(rating())
