"""The outbox: an event exists once its row has committed with the work it measures.

Rows commit out of order, so nothing here ever asks for ids above the last one seen: an event is
unsealed as long as it names no batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import tuple_row

from brinkbyte.kit.canonical import canonical_json
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.uuid7 import first_of
from brinkbyte.metering.events import UsageEvent

EVENT_RETENTION: Final = timedelta(days=100)
"""Acknowledged events stay this long for the site's own summaries."""
_PARTITION_PREFIX: Final = "usage_events_"
_MONTHS_AHEAD: Final = 2

_WAITING: Final = """
SELECT EXISTS (SELECT FROM {} WHERE epoch IS NULL) OR EXISTS (SELECT FROM {} WHERE batch_no = 0)
"""
_KEPT: Final = "SELECT EXISTS (SELECT FROM {} JOIN usage_batches USING (epoch, batch_no))"
_RECORD: Final = "SELECT record_usage_events(%s, %s, %s, %s, %s, %s)"


async def record_event(conn: AsyncConnection[Any], event: UsageEvent) -> None:
    """Write an event into the outbox, inside the caller's transaction.

    Raises:
        InvalidInputError: the event has text that PostgreSQL cannot hold; nothing was written.
        psycopg.errors.UniqueViolation: an event of this id exists; the transaction is aborted.
    """
    await record_events(conn, (event,))


async def record_events(conn: AsyncConnection[Any], events: Iterable[UsageEvent]) -> None:
    """Write events into the outbox in one statement, inside the caller's transaction.

    Raises:
        InvalidInputError: an event has text that PostgreSQL cannot hold; nothing was written.
        psycopg.errors.UniqueViolation: an event of an id exists; the transaction is aborted.
    """
    listed = list(events)
    if not listed:
        return
    for event in listed:
        if "\0" in f"{event.meter}{event.camera_id}{event.hardware_id}":
            raise InvalidInputError(
                f"event {event.id}: meter, camera and device names cannot hold a NUL character; "
                "remove it",
                reason="InvalidEvent",
            )
    await conn.execute(
        _RECORD,
        (
            [event.id for event in listed],
            [event_text(event) for event in listed],
            [event.meter for event in listed],
            [Decimal(event.quantity) for event in listed],
            [event.camera_id for event in listed],
            [event.hardware_id for event in listed],
        ),
    )


def event_text(event: UsageEvent) -> str:
    """Return the event's canonical JSON.

    Raises:
        InvalidInputError: the event has text that is not Unicode.
    """
    try:
        return canonical_json(event.to_wire()).decode()  # type: ignore[arg-type]  # text and dict
    except ValueError as error:
        raise InvalidInputError(
            f"event {event.id} has no canonical form: {error}", reason="InvalidEvent"
        ) from None


@dataclass(frozen=True)
class UsageTotal:
    """What was metered of one meter in a span of time."""

    meter: str
    events: int
    quantity: Decimal


async def usage_totals(
    conn: AsyncConnection[Any], since: datetime, until: datetime
) -> list[UsageTotal]:
    """Sum the outbox by meter over ``[since, until)``, by the events' own times."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT meter, count(*), sum(quantity) FROM usage_events "
            "WHERE id >= %s AND id < %s GROUP BY meter ORDER BY meter",
            (first_of(_milliseconds(since)), first_of(_milliseconds(until))),
        )
        return [UsageTotal(*row) async for row in cursor]


def _milliseconds(at: datetime) -> int:
    # No id is older than 1970.
    return max(0, (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


async def ensure_partitions(conn: AsyncConnection[Any], now: datetime) -> None:
    """Make this month's partition and the next two; recording makes a missing one by itself."""
    await conn.execute(
        "SELECT ensure_usage_partition(%s + make_interval(months => ahead)) "
        "FROM generate_series(0, %s) AS ahead",
        (now, _MONTHS_AHEAD),
    )


async def drop_old_partitions(
    conn: AsyncConnection[Any], now: datetime, *, keep: timedelta = EVENT_RETENTION
) -> list[str]:
    """Drop partitions whose events are all older than ``keep`` and all acknowledged.

    A partition with one event that is unsealed, or whose batch is still kept, stays whole. A
    partition that others are using right now is left for the next time.

    Args:
        conn: autocommit, or outside a transaction: each drop is a transaction of its own. It
            holds the outbox lock, so that nobody seals meanwhile.
        now: the time to judge by.
        keep: age below which nothing is dropped.

    Returns:
        Names of the partitions that went.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = 'usage_events'::regclass ORDER BY 1"
        )
        names = [str(row[0]) async for row in cursor]
    oldest_kept = f"{_PARTITION_PREFIX}{now - keep:%Y%m}"
    return [
        name for name in names if name < oldest_kept and await _drop_if_acknowledged(conn, name)
    ]


async def _drop_if_acknowledged(conn: AsyncConnection[Any], name: str) -> bool:
    table = sql.Identifier(name)
    waiting = sql.SQL(_WAITING).format(table, table)
    # Without a lock, as this reads the whole partition.
    if await _any(conn, waiting) or await _any(conn, sql.SQL(_KEPT).format(table)):
        return False
    try:
        async with conn.transaction():
            # Rather later than in anybody's way.
            await conn.execute("SET LOCAL lock_timeout = '2s'")
            await conn.execute("LOCK TABLE usage_events IN ACCESS EXCLUSIVE MODE")
            # Whatever came meanwhile is unsealed: only we seal. Two look-ups in partial indexes.
            if await _any(conn, waiting):
                return False
            await conn.execute(sql.SQL("DROP TABLE {}").format(table))
            return True
    except psycopg.errors.LockNotAvailable:
        return False


async def _any(conn: AsyncConnection[Any], query: sql.Composed) -> bool:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(query)
        row = await cursor.fetchone()
    return row is None or bool(row[0])
