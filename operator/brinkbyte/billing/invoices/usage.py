"""What was used in a billing period, as rating takes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from brinkbyte.billing.db import Connection
from brinkbyte.billing.usage import sums
from brinkbyte.billing.usage.periods import usage_of
from brinkbyte.catalog import Catalog
from brinkbyte.rating.model import MeterUsage, Period, Usage


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
    end = period.end if until is None else min(period.end, until)
    vector = await sums.period_vector(connection, tenant_id, period.start, period.end)
    return usage_of(catalog, vector, period.start, end)


def stored(usage: Usage) -> dict[str, Any]:
    """Return usage as it is stored: exact decimals as text."""
    return {name: used.model_dump(mode="json") for name, used in sorted(usage.items())}
