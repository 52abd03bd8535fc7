"""SQL of the aggregates: days of a period, trends, who uses most."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, Literal

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.usage.periods import MeterDays, Vector
from brinkbyte.kit.uuid7 import first_of

Grain = Literal["minute", "hour", "day"]
Consumer = Literal["camera", "device"]
_COLUMN: Final[dict[Consumer, str]] = {"camera": "camera_id", "device": "hardware_id"}


async def period_vector(
    connection: Connection,
    tenant_id: str,
    start: datetime,
    end: datetime,
    *,
    meters: Collection[str] | None = None,
) -> Vector:
    """Return what the day aggregates hold of a period now, late events included.

    Args:
        connection: of the tenant, or of a role that may see it. For a closing, hold
            ``repository.lock_chain``: then a batch is in it as a whole or not at all.
        tenant_id: whose.
        start: first midnight, UTC.
        end: midnight after the last day.
        meters: only these; None: all.
    """
    wanted = None if meters is None else list(meters)
    found: dict[str, MeterDays] = {}
    cursor = await connection.execute(
        "SELECT meter, bucket, quantity, cost, last_quantity, events FROM usage_aggregates "
        "WHERE tenant_id = %s AND grain = 'day' AND bucket >= %s AND bucket < %s "
        "AND (%s::text[] IS NULL OR meter = ANY(%s)) ORDER BY meter, bucket",
        [tenant_id, start, end, wanted, wanted],
    )
    for row in await cursor.fetchall():
        days = found.setdefault(row["meter"], MeterDays())
        days.quantity += row["quantity"]
        days.cost += row["cost"]
        days.events += row["events"]
        days.snapshots[row["bucket"]] = row["last_quantity"]
    cursor = await connection.execute(
        "SELECT DISTINCT ON (meter) meter, last_quantity FROM usage_aggregates "
        "WHERE tenant_id = %s AND grain = 'day' AND bucket < %s "
        "AND (%s::text[] IS NULL OR meter = ANY(%s)) ORDER BY meter, bucket DESC",
        [tenant_id, start, wanted, wanted],
    )
    for row in await cursor.fetchall():
        found.setdefault(row["meter"], MeterDays()).before = row["last_quantity"]
    return found


async def buckets(
    connection: Connection,
    tenant_id: str,
    meter: str,
    *,
    grain: Grain,
    start: datetime,
    end: datetime,
) -> list[Row]:
    """Return the buckets of a meter that hold anything, oldest first."""
    cursor = await connection.execute(
        "SELECT bucket, quantity, cost, events, last_quantity FROM usage_aggregates "
        "WHERE tenant_id = %s AND grain = %s AND meter = %s AND bucket >= %s AND bucket < %s "
        "ORDER BY bucket",
        [tenant_id, grain, meter, start, end],
    )
    return await cursor.fetchall()


async def top_of_tenant(
    connection: Connection,
    tenant_id: str,
    meter: str,
    *,
    by: Consumer,
    start: datetime,
    end: datetime,
    limit: int,
    gauge: bool,
    timeout_ms: int,
) -> list[Row]:
    """Return which cameras or devices used most, from the ledger itself.

    A counter is summed; of a gauge the newest value counts. Events that name none are left out.

    Raises:
        psycopg.errors.QueryCanceled: there are too many events for ``timeout_ms``.
    """
    await connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(timeout_ms)])
    quantity = "(array_agg(quantity ORDER BY id DESC))[1]" if gauge else "sum(quantity)"
    column = _COLUMN[by]
    cursor = await connection.execute(
        f"SELECT {column} AS consumer, {quantity} AS quantity, count(*) AS events "  # noqa: S608 - ours
        "FROM usage_events WHERE tenant_id = %s AND id >= %s AND id < %s AND meter = %s "
        f"AND {column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %s",
        [
            tenant_id,
            first_of(int(start.timestamp() * 1000)),
            first_of(int(end.timestamp() * 1000)),
            meter,
            limit,
        ],
    )
    return await cursor.fetchall()


async def top_tenants(
    connection: Connection,
    meter: str,
    *,
    start: datetime,
    end: datetime,
    limit: int,
    gauge: bool,
) -> list[Row]:
    """Return which customers used most, from the day aggregates (role ``brinkbyte_admin``)."""
    quantity = "(array_agg(last_quantity ORDER BY bucket DESC))[1]" if gauge else "sum(quantity)"
    cursor = await connection.execute(
        f"SELECT tenant_id AS consumer, {quantity} AS quantity, sum(events)::bigint AS events "  # noqa: S608
        "FROM usage_aggregates WHERE grain = 'day' AND meter = %s AND bucket >= %s AND bucket < %s "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %s",
        [meter, start, end, limit],
    )
    return await cursor.fetchall()
