"""SQL of the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.providers.base import ProviderEvent


async def put(
    connection: Connection, provider: str, event: ProviderEvent, *, now: datetime
) -> bool:
    """Store a delivered event; false if it is there already."""
    # No conflict target: naming one needs the right to read it, which the api role lacks.
    cursor = await connection.execute(
        "INSERT INTO webhook_events (provider, event_id, kind, object_id, created_at, "
        "received_at) VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [provider, event.event_id, event.kind, event.object_id, event.created_at, now],
    )
    return cursor.rowcount == 1


async def put_fetched(
    connection: Connection, provider: str, events: Sequence[ProviderEvent], *, now: datetime
) -> int:
    """Store fetched events; returns how many were not delivered before."""
    cursor = await connection.execute(
        "INSERT INTO webhook_events (provider, event_id, kind, object_id, created_at, "
        "received_at, fetched) SELECT %s, e.event_id, e.kind, e.object_id, e.created_at, %s, true "
        "FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[]) "
        "AS e (event_id, kind, object_id, created_at) ON CONFLICT DO NOTHING",
        [
            provider,
            now,
            [event.event_id for event in events],
            [event.kind for event in events],
            [event.object_id for event in events],
            [event.created_at for event in events],
        ],
    )
    return cursor.rowcount


async def waiting(connection: Connection, provider: str, limit: int) -> list[Row]:
    """Return events that nobody has worked on, as they came."""
    cursor = await connection.execute(
        "SELECT event_id, kind, object_id FROM webhook_events "
        "WHERE provider = %s AND processed_at IS NULL ORDER BY received_at, event_id LIMIT %s",
        [provider, limit],
    )
    return await cursor.fetchall()


async def close(
    connection: Connection, provider: str, event_id: str, outcome: str, *, now: datetime
) -> None:
    """Mark an event as worked on."""
    await connection.execute(
        "UPDATE webhook_events SET processed_at = %s, outcome = %s "
        "WHERE provider = %s AND event_id = %s AND processed_at IS NULL",
        [now, outcome, provider, event_id],
    )


async def drop_old(connection: Connection, before: datetime) -> int:
    """Drop events that were worked on and are older."""
    cursor = await connection.execute(
        "DELETE FROM webhook_events WHERE received_at < %s AND processed_at IS NOT NULL", [before]
    )
    return cursor.rowcount
