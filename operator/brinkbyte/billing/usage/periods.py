"""What was used in a period: the one way from day aggregates to what is billed.

A counter is the sum of its events. A gauge is the mean of daily snapshots, the newest value of each
day; a missing one repeats the last, and days before the first value ever do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.rating.model import MeterUsage

ZERO: Final = Decimal(0)
_STEP: Final = Decimal("1e-9")
_DAY: Final = timedelta(days=1)


@dataclass
class MeterDays:
    """What the day aggregates say of one meter in a period.

    Attributes:
        quantity: sum of the events' quantities.
        cost: sum of the costs that they carry.
        events: how many there are.
        snapshots: the newest value of each day that has one, by its midnight, UTC.
        before: the newest value before the period; None: there was none.
    """

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    events: int = 0
    snapshots: dict[datetime, Decimal] = field(default_factory=dict)
    before: Decimal | None = None


Vector = Mapping[str, MeterDays]
"""By meter; what was used neither in the period nor before it is not there."""


def mean_of_days(
    snapshots: Mapping[datetime, Decimal], before: Decimal | None, start: datetime, until: datetime
) -> Decimal | None:
    """Return a gauge's mean over the days that begin in ``[start, until)``.

    None: it has had no value yet.
    """
    values: list[Decimal] = []
    last, day = before, start
    while day < until:
        last = snapshots.get(day, last)
        if last is not None:
            values.append(last)
        day += _DAY
    if not values:
        return None
    return (sum(values, ZERO) / len(values)).quantize(_STEP)


def usage_of(
    catalog: Catalog, vector: Vector, start: datetime, until: datetime
) -> dict[str, MeterUsage]:
    """Return what was used by meter, as rating and quotas take it.

    Args:
        catalog: knows which meters are gauges.
        vector: of the whole period.
        start: the period's first midnight, UTC.
        until: its end; for one that still runs, just after the present moment.
    """
    found: dict[str, MeterUsage] = {}
    for name, meter in catalog.meters.items():
        days = vector.get(name)
        if days is None:
            continue
        if meter.kind == "gauge":
            quantity = mean_of_days(days.snapshots, days.before, start, until)
            if quantity is None:
                continue
        elif days.events:
            quantity = days.quantity
        else:
            continue
        cost = days.cost if meter.pass_through is not None else ZERO
        found[name] = MeterUsage(quantity=quantity, cost=cost, events=days.events)
    return found


def projected(
    used: Decimal, *, gauge: bool, start: datetime, end: datetime, now: datetime
) -> Decimal:
    """Return what a period will come to if it goes on as so far.

    A counter: ``used x length of the period / time gone``, where at least one day counts as gone. A
    gauge: its mean so far. A period that has ended: what was used.
    """
    if gauge or now >= end:
        return used
    gone = max(now - start, _DAY)
    share = Decimal(gone // timedelta(seconds=1)) / Decimal((end - start) // timedelta(seconds=1))
    return (used / share).quantize(_STEP)
