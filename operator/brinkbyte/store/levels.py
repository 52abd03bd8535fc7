"""Levels of gauges that are the sum of parts, and the snapshot that is taken of them once a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from brinkbyte.kit.uuid7 import Uuid7Generator, uuid7
from brinkbyte.metering.events import UsageEvent, quantity_text
from brinkbyte.store.outbox import record_event, record_events

DATABASE: Final = "database"
"""The part of storage that is the instance's own database."""
_BYTES_IN_GB: Final = 10**9

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7071))"
_SET: Final = """
INSERT INTO usage_levels (tenant_id, meter, part, quantity) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant_id, meter, part) DO UPDATE SET quantity = excluded.quantity
"""
_SUM: Final = "SELECT sum(quantity) FROM usage_levels WHERE tenant_id = %s AND meter = %s"
_CLAIM: Final = """
INSERT INTO usage_snapshots (tenant_id, meter, day, event_id)
SELECT %s, unnest(%s::text[]), %s, unnest(%s::uuid[])
ON CONFLICT DO NOTHING RETURNING meter, event_id::text
"""
_STORED: Final = "SELECT pg_database_size(current_database())"
_HELD: Final = """
SELECT (SELECT count(*) FROM cameras WHERE tenant_id = %(tenant)s),
       (SELECT count(*) FROM edge_devices WHERE tenant_id = %(tenant)s)
"""
_TAKEN: Final = "SELECT count(*) FROM usage_snapshots WHERE tenant_id = %s AND day = %s"


async def record_level(
    conn: AsyncConnection[Any], tenant_id: str, meter: str, *, part: str, level: Decimal
) -> UsageEvent:
    """Set one part of a gauge and record the event of its new sum, in the caller's transaction."""
    await _set(conn, tenant_id, meter, part, level)
    event = UsageEvent(
        # Made under the lock: newest id, newest level.
        id=str(uuid7()),
        meter=meter,
        quantity=quantity_text(await _sum(conn, tenant_id, meter)),
        attributes={"storageType": part},
    )
    await record_event(conn, event)
    return event


async def held_here(conn: AsyncConnection[Any], tenant_id: str) -> tuple[int, int]:
    """Return how many cameras are configured and how many devices registered."""
    cameras, devices = await _row(conn, _HELD, {"tenant": tenant_id})
    return int(cameras), int(devices)


async def stored_bytes(conn: AsyncConnection[Any]) -> int:
    """Return the size of the instance's database."""
    (size,) = await _row(conn, _STORED, ())
    return int(size)


async def take_snapshot(
    conn: AsyncConnection[Any],
    tenant_id: str,
    *,
    now: datetime,
    storage_meters: tuple[str, ...],
    levels: Mapping[str, Decimal | int],
) -> list[UsageEvent]:
    """Record the level of each gauge once a UTC day, in the caller's transaction.

    Whoever comes second that day, in whatever process, finds it taken.

    Args:
        conn: the instance's database.
        tenant_id: whose gauges.
        now: the day's, also of the events.
        storage_meters: these say what is stored: the database and what services have told.
        levels: of further meters.

    Returns:
        The events that were recorded.
    """
    wanted: dict[str, Decimal | int] = dict(levels)
    stored = Decimal(await stored_bytes(conn)) / _BYTES_IN_GB if storage_meters else Decimal(0)
    for meter in sorted(storage_meters):
        await _set(conn, tenant_id, meter, DATABASE, stored)
        wanted[meter] = await _sum(conn, tenant_id, meter)
    meters = sorted(wanted)
    # Of the day that they are for, also when midnight passes meanwhile.
    ids = Uuid7Generator().texts([int(now.timestamp() * 1000)] * len(meters))
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_CLAIM, (tenant_id, meters, now.astimezone(UTC).date(), ids))
        claimed: dict[str, str] = dict(await cursor.fetchall())
    day = f"{now.astimezone(UTC):%Y-%m-%d}"
    events = [
        UsageEvent(
            id=event_id,
            meter=meter,
            quantity=quantity_text(wanted[meter]),
            # Whoever looks at the ledger sees by it that there is one a day.
            key=f"snapshot {day} {meter}",
            attributes={"snapshot": day},
        )
        for meter, event_id in sorted(claimed.items())
    ]
    await record_events(conn, events)
    return events


async def _set(
    conn: AsyncConnection[Any], tenant_id: str, meter: str, part: str, level: Decimal
) -> None:
    await conn.execute(_LOCK, (f"{tenant_id} {meter}",))
    await conn.execute(_SET, (tenant_id, meter, part, level))


async def _sum(conn: AsyncConnection[Any], tenant_id: str, meter: str) -> Decimal:
    (total,) = await _row(conn, _SUM, (tenant_id, meter))
    return Decimal(total)


async def _row(conn: AsyncConnection[Any], statement: str, values: Any) -> tuple[Any, ...]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement, values)
        row = await cursor.fetchone()
    if row is None:
        raise AssertionError("a count without a row")
    return row
