"""What was used in a billing period, as rating takes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.invoices import repository
from brinkbyte.catalog import Catalog
from brinkbyte.rating.model import MeterUsage, Period, Usage

ZERO: Final = Decimal(0)
_EXACT: Final = Decimal("1e-9")


async def of_period(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    period: Period,
    *,
    until: datetime | None = None,
) -> dict[str, MeterUsage]:
    """Return usage by meter: counters summed, gauges averaged by day.

    Args:
        connection: a transaction of the tenant.
        catalog: names the meters.
        tenant_id: whose.
        period: which.
        until: a moment in a period that still runs; gauges are averaged up to its day.
    """
    rows = await repository.day_sums(connection, tenant_id, period.start, period.end)
    before = await repository.values_before(connection, tenant_id, period.start)
    listed: dict[str, list[Row]] = {}
    for row in rows:
        listed.setdefault(row["meter"], []).append(row)
    end = period.end if until is None else min(period.end, until)
    found: dict[str, MeterUsage] = {}
    for name, meter in catalog.meters.items():
        days = listed.get(name, [])
        if meter.kind == "gauge":
            if not days and name not in before:
                continue
            values = {row["bucket"]: row["last_quantity"] for row in days}
            quantity = mean_by_day(values, before.get(name), period.start, end)
        elif days:
            quantity = sum((row["quantity"] for row in days), ZERO)
        else:
            continue
        found[name] = MeterUsage(
            quantity=quantity,
            cost=sum((row["cost"] for row in days), ZERO),
            events=sum(row["events"] for row in days),
        )
    return found


def mean_by_day(
    values: Mapping[datetime, Decimal], before: Decimal | None, start: datetime, end: datetime
) -> Decimal:
    """Return the mean of daily snapshots; a missing one repeats the last.

    Days before the first value ever do not count.

    Args:
        values: by UTC midnight.
        before: the last value before ``start``.
        start: UTC midnight.
        end: exclusive.
    """
    counted: list[Decimal] = []
    last, day = before, start
    while day < end:
        last = values.get(day, last)
        if last is not None:
            counted.append(last)
        day += timedelta(days=1)
    return (sum(counted, ZERO) / len(counted)).quantize(_EXACT) if counted else ZERO


def stored(usage: Usage) -> dict[str, Any]:
    """Return usage as it is stored: exact decimals as text."""
    return {name: used.model_dump(mode="json") for name, used in sorted(usage.items())}
