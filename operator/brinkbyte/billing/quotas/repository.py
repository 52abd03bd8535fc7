"""SQL of usage sums."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from brinkbyte.billing.db import Connection, Row


async def days(
    connection: Connection, tenant_id: str, start: datetime, end: datetime, meter: str | None = None
) -> list[Row]:
    """Return daily sums and last values of a period, by meter and day."""
    cursor = await connection.execute(
        "SELECT meter, bucket, quantity, cost, last_quantity, events FROM usage_aggregates "
        "WHERE tenant_id = %s AND grain = 'day' AND bucket >= %s AND bucket < %s "
        "AND (%s::text IS NULL OR meter = %s) ORDER BY meter, bucket",
        [tenant_id, start, end, meter, meter],
    )
    return await cursor.fetchall()


async def last_before(
    connection: Connection, tenant_id: str, start: datetime, meter: str | None = None
) -> dict[str, Decimal]:
    """Return each meter's newest value before a period, for gauges that were not seen since."""
    cursor = await connection.execute(
        "SELECT DISTINCT ON (meter) meter, last_quantity FROM usage_aggregates "
        "WHERE tenant_id = %s AND grain = 'day' AND bucket < %s "
        "AND (%s::text IS NULL OR meter = %s) ORDER BY meter, bucket DESC",
        [tenant_id, start, meter, meter],
    )
    return {row["meter"]: row["last_quantity"] for row in await cursor.fetchall()}
