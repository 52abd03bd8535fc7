"""The outbox as it is compared with the ledger: ids, content hashes, and what is known of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from brinkbyte.store.sealing import SET_ASIDE

PAGE: Final = 10_000
_EVENTS: Final = """
SELECT event.id::text AS id,
    encode(sha256(convert_to(event.event, 'UTF8')), 'hex') AS hash,
    event.epoch IS NOT NULL AND (batch.epoch IS NULL OR batch.acknowledged_at IS NOT NULL)
        AS acknowledged,
    coalesce(event.epoch::text = %(aside)s, false) AS unreadable
FROM usage_events AS event LEFT JOIN usage_batches AS batch USING (epoch, batch_no)
WHERE event.id > %(after)s::uuid AND event.id < %(until)s::uuid
ORDER BY event.id LIMIT %(limit)s
"""
_BATCHES: Final = """
SELECT epoch::text, batch_no, chain_hash FROM usage_batches
WHERE acknowledged_at IS NOT NULL AND acknowledged_at >= %s ORDER BY epoch, batch_no
"""


class OutboxEvent(NamedTuple):
    """One event of the outbox.

    Attributes:
        hash: SHA-256 of its canonical JSON, hex.
        acknowledged: its batch has a receipt, or had one and is past its time.
        unreadable: sealing has set it aside, as it is no event any more: it was never sent.
    """

    id: str
    hash: str
    acknowledged: bool
    unreadable: bool


async def outbox_events(
    conn: AsyncConnection[Any], after: str, until: str
) -> AsyncIterator[OutboxEvent]:
    """Yield the events above one id and below another, in the order of ids."""
    while True:
        async with conn.cursor(row_factory=class_row(OutboxEvent)) as cursor:
            await cursor.execute(
                _EVENTS, {"aside": SET_ASIDE, "after": after, "until": until, "limit": PAGE}
            )
            page = await cursor.fetchall()
        for event in page:
            yield event
        if len(page) < PAGE:
            return
        after = page[-1].id


async def acknowledged_batches(
    conn: AsyncConnection[Any], since: datetime
) -> list[tuple[str, int, str]]:
    """Return epoch, number and chain hash of the kept batches acknowledged since a time."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_BATCHES, (since,))
        return [(str(row[0]), int(row[1]), str(row[2])) async for row in cursor]
