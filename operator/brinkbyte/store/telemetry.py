"""Telemetry events and their hourly sums in PostgreSQL; retention drops whole days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb

Bucket: TypeAlias = Literal["hour", "day"]
DAILY_TABLES: Final = ("telemetry_events", "frames")
"""Tables with a partition for each day that has rows."""
RETENTION_LOCK: Final = "brinkbyte.retention"
"""Advisory lock: held alone by whoever drops days, shared by an import that is writing them."""
_DAYS_AHEAD: Final = 3
_EMPTY_AFTER: Final = timedelta(days=2)
"""A day that ended so long ago and has no row keeps no partition; a late row makes it again."""

_AGGREGATE: Final = """
INSERT INTO telemetry_aggregates AS held
    (tenant_id, bucket, camera_id, kind, label, events, score_sum, scored)
SELECT %(tenant)s, *
FROM unnest(%(buckets)s::timestamptz[], %(cameras)s::text[], %(kinds)s::text[], %(labels)s::text[],
            %(events)s::bigint[], %(sums)s::float8[], %(scored)s::bigint[])
ON CONFLICT (tenant_id, bucket, camera_id, kind, label) DO UPDATE
    SET events = held.events + excluded.events, score_sum = held.score_sum + excluded.score_sum,
        scored = held.scored + excluded.scored
"""
_SUMS: Final = """
SELECT date_trunc(%(unit)s, bucket, 'UTC') AS bucket, camera_id, kind, label,
    sum(events)::bigint AS events,
    CASE WHEN sum(scored) > 0 THEN sum(score_sum) / sum(scored) END AS mean_score
FROM telemetry_aggregates
WHERE tenant_id = %(tenant)s AND bucket >= %(since)s AND bucket < %(until)s
  AND (%(camera)s::text IS NULL OR camera_id = %(camera)s)
  AND (%(kind)s::text IS NULL OR kind = %(kind)s)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT %(limit)s
"""


@dataclass(frozen=True)
class TelemetryEvent:
    """One thing that a camera saw."""

    id: UUID
    camera_id: str
    hardware_id: str
    occurred_at: datetime
    kind: str
    label: str = ""
    track_id: str | None = None
    zone: str | None = None
    score: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TelemetrySum:
    """Events of one kind and label of a camera in one hour or day."""

    bucket: datetime
    camera_id: str
    kind: str
    label: str
    events: int
    mean_score: float | None


async def ensure_days(
    conn: AsyncConnection[Any], days: Iterable[datetime], *, table: str = "telemetry_events"
) -> None:
    """Make the partitions of the given instants' days (UTC) where they are missing.

    They stay until the caller's transaction ends, whatever retention does.
    """
    await conn.execute(
        "SELECT ensure_day_partition(%s, day) FROM unnest(%s::timestamptz[]) AS day ORDER BY day",
        (table, sorted(set(days))),
    )


async def ensure_days_ahead(conn: AsyncConnection[Any], now: datetime) -> None:
    """Make today's partitions and those of the next three days."""
    for table in DAILY_TABLES:
        await ensure_days(
            conn, [now + timedelta(days=ahead) for ahead in range(_DAYS_AHEAD + 1)], table=table
        )


async def insert_events(
    conn: AsyncConnection[Any], tenant_id: str, events: Sequence[TelemetryEvent]
) -> None:
    """Write events and add them to their hours' sums, inside the caller's transaction.

    The partitions of their days must exist (:func:`ensure_days`).
    """
    async with (
        conn.cursor() as cursor,
        cursor.copy(
            "COPY telemetry_events (tenant_id, occurred_at, id, camera_id, hardware_id, kind, "
            "label, track_id, zone, score, attributes) FROM STDIN"
        ) as copy,
    ):
        for event in events:
            await copy.write_row(
                (
                    tenant_id,
                    event.occurred_at,
                    event.id,
                    event.camera_id,
                    event.hardware_id,
                    event.kind,
                    event.label,
                    event.track_id,
                    event.zone,
                    event.score,
                    Jsonb(event.attributes),
                )
            )
    await _aggregate(conn, tenant_id, events)


async def _aggregate(
    conn: AsyncConnection[Any], tenant_id: str, events: Sequence[TelemetryEvent]
) -> None:
    sums: dict[tuple[datetime, str, str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for event in events:
        hour = event.occurred_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        entry = sums[hour, event.camera_id, event.kind, event.label]
        entry[0] += 1
        if event.score is not None:
            entry[1] += event.score
            entry[2] += 1
    # One order for everybody: two batches of one camera wait for each other, never in a circle.
    rows = sorted(sums.items())
    await conn.execute(
        _AGGREGATE,
        {
            "tenant": tenant_id,
            "buckets": [key[0] for key, _ in rows],
            "cameras": [key[1] for key, _ in rows],
            "kinds": [key[2] for key, _ in rows],
            "labels": [key[3] for key, _ in rows],
            "events": [int(entry[0]) for _, entry in rows],
            "sums": [entry[1] for _, entry in rows],
            "scored": [int(entry[2]) for _, entry in rows],
        },
    )


async def sums(
    conn: AsyncConnection[Any],
    tenant_id: str,
    *,
    unit: Bucket,
    since: datetime,
    until: datetime,
    camera_id: str | None,
    kind: str | None,
    limit: int,
) -> list[TelemetrySum]:
    """Return the sums of ``[since, until)`` by hour or day, camera, kind and label."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            _SUMS,
            {
                "tenant": tenant_id,
                "unit": unit,
                "since": since,
                "until": until,
                "camera": camera_id,
                "kind": kind,
                "limit": limit,
            },
        )
        return [TelemetrySum(**row) async for row in cursor]


async def drop_days_before(
    conn: AsyncConnection[Any], tenant_id: str, oldest: datetime | None, *, now: datetime
) -> list[str]:
    """Drop the partitions of days before ``oldest``'s, with their hours' sums, and of empty days.

    A partition that others are using right now is left for the next time, and so is everything
    while another replica is at it or an import is writing old days.

    Args:
        conn: autocommit, or outside a transaction: each drop is a transaction of its own.
        tenant_id: whose sums go; the instance's only tenant.
        oldest: first instant that must stay; None: nothing that has a row is dropped.
        now: days that ended two days before have no partition unless they have rows.

    Returns:
        Names of the partitions with rows, or past their time, that went.
    """
    async with _alone(conn) as alone:
        if not alone:
            return []
        gone: list[str] = []
        for table in DAILY_TABLES:
            first_kept = _name(table, oldest) if oldest is not None else ""
            last_full = _name(table, now - _EMPTY_AFTER)
            for name, has_pages in await _partitions(conn, table):
                if name < first_kept:
                    if await _drop(conn, table, name):
                        gone.append(name)
                elif name < last_full and not has_pages:
                    await _drop(conn, table, name, only_empty=True)
        if oldest is not None:
            midnight = oldest.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            async with conn.transaction():
                await conn.execute(
                    "DELETE FROM telemetry_aggregates WHERE tenant_id = %s AND bucket < %s",
                    (tenant_id, midnight),
                )
        return gone


@asynccontextmanager
async def _alone(conn: AsyncConnection[Any]) -> AsyncIterator[bool]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (RETENTION_LOCK,)
        )
        row = await cursor.fetchone()
        got = row is not None and bool(row[0])
        try:
            yield got
        finally:
            if got:
                await cursor.execute(
                    "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (RETENTION_LOCK,)
                )


async def _partitions(conn: AsyncConnection[Any], table: str) -> list[tuple[str, bool]]:
    """Return the partitions in order, each with whether it has pages: without, it has no rows."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT relname::text, pg_relation_size(inhrelid) > 0 FROM pg_inherits "
            "JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = to_regclass(%s) ORDER BY 1",
            (table,),
        )
        return await cursor.fetchall()


def _name(table: str, at: datetime) -> str:
    return f"{table}_{at.astimezone(UTC):%Y%m%d}"


async def _is_empty(conn: AsyncConnection[Any], name: str) -> bool:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(sql.Identifier(name))
        )
        row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def _drop(
    conn: AsyncConnection[Any], table: str, name: str, *, only_empty: bool = False
) -> bool:
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout = '2s'")
            # Whoever has seen this partition and has not yet written its rows is waited for.
            await conn.execute(
                sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table))
            )
            if only_empty and not await _is_empty(conn, name):
                return False
            await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
    except psycopg.errors.LockNotAvailable:
        return False
    return True
