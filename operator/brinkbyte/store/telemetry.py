"""Telemetry events and their hourly sums in PostgreSQL; retention drops whole days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb

Bucket: TypeAlias = Literal["hour", "day"]
_PREFIX: Final = "telemetry_events_"
_DAYS_AHEAD: Final = 3

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


async def ensure_days(conn: AsyncConnection[Any], days: Iterable[datetime]) -> None:
    """Make the partitions of the given instants' days (UTC) where they are missing."""
    await conn.execute(
        "SELECT ensure_telemetry_partition(day) FROM unnest(%s::timestamptz[]) AS day ORDER BY day",
        (sorted(set(days)),),
    )


async def ensure_days_ahead(conn: AsyncConnection[Any], now: datetime) -> None:
    """Make today's partition and those of the next three days."""
    await ensure_days(conn, [now + timedelta(days=ahead) for ahead in range(_DAYS_AHEAD + 1)])


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
    conn: AsyncConnection[Any], tenant_id: str, oldest: datetime
) -> list[str]:
    """Drop the partitions of all days before ``oldest``'s day, and their hours' sums.

    A partition that others are using right now is left for the next time.

    Args:
        conn: autocommit, or outside a transaction: each drop is a transaction of its own.
        tenant_id: whose sums go; the instance's only tenant.
        oldest: first instant that must stay.

    Returns:
        Names of the partitions that went.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = 'telemetry_events'::regclass ORDER BY 1"
        )
        names = [str(row[0]) async for row in cursor]
    first_kept = f"{_PREFIX}{oldest.astimezone(UTC):%Y%m%d}"
    gone = [name for name in names if name < first_kept and await _drop(conn, name)]
    midnight = oldest.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    async with conn.transaction():
        await conn.execute(
            "DELETE FROM telemetry_aggregates WHERE tenant_id = %s AND bucket < %s",
            (tenant_id, midnight),
        )
    return gone


async def _drop(conn: AsyncConnection[Any], name: str) -> bool:
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout = '2s'")
            await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
    except psycopg.errors.LockNotAvailable:
        return False
    return True
