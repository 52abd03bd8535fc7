"""How the outbox stands, for the operator, the instance's own pages, and metrics."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row

from brinkbyte.resources.state import MeteringState

COUNTED_EXACTLY: Final = 100_000
"""Backlogs above this are estimated from the planner's statistics: a month offline may leave tens
of millions of events, and this is asked every 15 seconds."""

_STATE: Final = """
WITH counted AS (
    SELECT count(*) AS events
    FROM (SELECT FROM usage_events WHERE epoch IS NULL LIMIT %(exact)s + 1) AS unsealed
), unsealed AS (
    SELECT CASE WHEN counted.events <= %(exact)s THEN counted.events ELSE greatest(
        counted.events,
        (SELECT sum(greatest(reltuples, 0))::bigint FROM pg_inherits
         JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'usage_events_unsealed'::regclass)) END AS events
    FROM counted
), pending AS (
    SELECT coalesce(sum(count), 0)::bigint AS events,
           (SELECT first_id FROM usage_batches WHERE acknowledged_at IS NULL
            ORDER BY first_id LIMIT 1) AS oldest
    FROM usage_batches WHERE acknowledged_at IS NULL
), oldest_unsealed AS (
    SELECT (SELECT id FROM usage_events WHERE epoch IS NULL ORDER BY id LIMIT 1) AS id
)
SELECT unsealed.events + pending.events AS backlog,
       uuid7_time(least(oldest_unsealed.id, pending.oldest)) AS oldest,
       status.last_reported_at, status.last_receipt, status.last_error_reason,
       status.last_error_message, status.epochs_opened
FROM unsealed, pending, oldest_unsealed, billing_sync_status AS status
"""


async def metering_state(conn: AsyncConnection[Any]) -> MeteringState:
    """Return backlog, last receipt and last error."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_STATE, {"exact": COUNTED_EXACTLY})
        row = await cursor.fetchone()
    if row is None:
        return MeteringState(backlog=0)
    return MeteringState(
        backlog=row["backlog"],
        oldest_unacknowledged_at=_seconds(row["oldest"]),
        last_reported_at=_seconds(row["last_reported_at"]),
        last_receipt=row["last_receipt"],
        last_error_reason=row["last_error_reason"],
        last_error_message=row["last_error_message"],
        epochs_opened=row["epochs_opened"],
    )


async def quarantined_events(conn: AsyncConnection[Any]) -> dict[str, int]:
    """Return how many events the ledger, or sealing, has set aside, by reason."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT reason, count(*) FROM usage_quarantined GROUP BY reason ORDER BY reason"
        )
        return {str(reason): int(count) async for reason, count in cursor}


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
