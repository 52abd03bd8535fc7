"""The rules of the inbox: stored once, worked on once, fetched when it was not delivered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from brinkbyte.billing.db import Database
from brinkbyte.billing.providers import repository as providers
from brinkbyte.billing.providers.base import BillingProvider, ProviderEvent
from brinkbyte.billing.webhooks import repository
from brinkbyte.kit.failpoints import failpoint

FETCH_EVERY: Final = timedelta(hours=1)
OVERLAP: Final = timedelta(minutes=15)
"""Events may become readable later than others, and the provider's clock is not ours."""
FIRST_LOOK: Final = timedelta(days=29)
"""The provider keeps its events 30 days."""
KEPT: Final = timedelta(days=60)
"""Longer than an event can be fetched or delivered again."""
_BATCH: Final = 500


async def store(database: Database, provider: str, event: ProviderEvent, *, now: datetime) -> bool:
    """Store a verified delivery before it is answered; false if it is there already."""
    async with database.nobody() as connection:
        return await repository.put(connection, provider, event, now=now)


async def fetch(database: Database, provider: BillingProvider, now: datetime) -> int:
    """Once an hour, fetch the provider's events; returns how many had not been delivered.

    Raises:
        BillingProviderError: it does not answer; the next run fetches from where the last ended.
    """
    async with database.nobody() as connection:
        cursor = await providers.cursor_of(connection, provider.name)
    if cursor is not None and now - cursor["fetched_at"] < FETCH_EVERY:
        return 0
    since = now - FIRST_LOOK
    if cursor is not None:
        since = max(since, cursor["fetched_to"] - OVERLAP)
    events = await provider.events_since(since)
    async with database.nobody() as connection:
        new = 0
        if events:
            new = await repository.put_fetched(connection, provider.name, events, now=now)
        await providers.move_cursor(connection, provider.name, to=now, now=now)
        await repository.drop_old(connection, now - KEPT)
    return new


async def process(database: Database, provider: str, now: datetime) -> int:
    """Work on what waits: the copies of the invoices that events name are read by the next step.

    Returns:
        How many events were worked on.
    """
    worked = 0
    while True:
        async with database.nobody() as connection:
            batch = await repository.waiting(connection, provider, _BATCH)
        for event in batch:
            await _process(database, provider, event["event_id"], event["object_id"], now)
        worked += len(batch)
        if len(batch) < _BATCH:
            return worked


async def _process(
    database: Database, provider: str, event_id: str, object_id: str, now: datetime
) -> None:
    async with database.nobody() as connection:
        found = await providers.tenants_of(connection, provider, object_id) if object_id else []
        if not found:
            # Not ours, or not yet: what is on its way is read as soon as it has arrived.
            await repository.close(connection, provider, event_id, "not_ours", now=now)
            return
    for row in found:
        async with database.tenant(row["tenant_id"]) as connection:
            await providers.read_soon(connection, row["tenant_id"], row["invoice_id"])
            await repository.close(connection, provider, event_id, "read", now=now)
            failpoint("event.before_commit")
