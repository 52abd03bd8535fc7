"""Sealing: unsealed events into the next batch of the live epoch, in one transaction.

Only the holder of the reporter's lock seals (see ``lock``): batch numbers have no gaps because a
number is taken in the transaction that stores its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from pydantic import ValidationError

from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.keys import SigningKey
from brinkbyte.metering.batches import MAX_EVENTS, SealedBatch, seal
from brinkbyte.metering.events import UsageEvent
from brinkbyte.store.epochs import Epoch
from brinkbyte.store.outbox import event_text

MAX_PAYLOAD_BYTES: Final = 2 * 1024 * 1024
SET_ASIDE: Final = "00000000-0000-0000-0000-000000000000"
"""Epoch of rows that are no events any more (edited by hand): kept, shown, never sent."""
UNREADABLE: Final = "UnreadableEvent"

_LOCK: Final = 0x6272_696E_6B00_0002
_NEXT: Final = """
SELECT id::text, event FROM usage_events WHERE epoch IS NULL ORDER BY id LIMIT %s
FOR UPDATE SKIP LOCKED
"""
_LAST: Final = """
SELECT batch_no, chain_hash FROM usage_batches WHERE epoch = %s ORDER BY batch_no DESC LIMIT 1
"""
_STORE: Final = """
INSERT INTO usage_batches
    (epoch, batch_no, instance, count, first_id, follows, previous_hash, chain_hash, header,
     payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_ASSIGN: Final = """
UPDATE usage_events SET epoch = %(epoch)s, batch_no = %(batch_no)s
WHERE id = ANY(%(ids)s::uuid[]) AND id BETWEEN %(first)s::uuid AND %(last)s::uuid
"""
_QUARANTINE: Final = """
INSERT INTO usage_quarantined (event_id, reason, epoch, batch_no)
SELECT unnest(%s::uuid[]), %s, %s, 0 ON CONFLICT (event_id) DO NOTHING
"""


async def lock_outbox(conn: AsyncConnection[Any]) -> bool:
    """Take the reporter's lock for as long as this connection lives; False: another holds it.

    Who loses the connection loses the lock, and can write nothing more either.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
        row = await cursor.fetchone()
    return bool(row and row[0])


@dataclass(frozen=True)
class Sealed:
    """A batch just sealed; ``full`` says that more events may wait."""

    batch: SealedBatch
    full: bool


async def seal_next(
    conn: AsyncConnection[Any], key: SigningKey, *, instance: str, epoch: Epoch
) -> Sealed | None:
    """Seal the oldest unsealed events, at most 1,000 and 2 MiB; None: there are none.

    Raises:
        InvalidInputError: never for a bad row (it is set aside); only for an unusable key.
    """
    while True:
        async with conn.transaction():
            async with conn.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(_NEXT, (MAX_EVENTS,))
                rows = await cursor.fetchall()
            if not rows:
                return None
            events, unreadable = _read(rows)
            if unreadable:
                await _set_aside(conn, unreadable)
            chosen = _within_limit(events)
            if chosen:
                batch = await _store(conn, key, chosen, instance=instance, epoch=epoch)
                failpoint("seal.before_commit")
        if chosen:
            failpoint("seal.committed")
            return Sealed(batch, full=len(rows) == MAX_EVENTS or len(chosen) < len(events))


def _read(rows: list[tuple[str, str]]) -> tuple[list[UsageEvent], list[str]]:
    events: list[UsageEvent] = []
    unreadable: list[str] = []
    for row_id, text in rows:
        try:
            event = UsageEvent.model_validate_json(text)
            if event.id != row_id or event_text(event) != text:
                unreadable.append(row_id)
            else:
                events.append(event)
        except (ValidationError, InvalidInputError):
            unreadable.append(row_id)
    return events, unreadable


def _within_limit(events: list[UsageEvent]) -> list[UsageEvent]:
    size = 2
    for number, event in enumerate(events):
        size += len(event_text(event).encode()) + 1
        if size > MAX_PAYLOAD_BYTES and number:
            return events[:number]
    return events


async def _store(
    conn: AsyncConnection[Any],
    key: SigningKey,
    events: list[UsageEvent],
    *,
    instance: str,
    epoch: Epoch,
) -> SealedBatch:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_LAST, (epoch.epoch,))
        last = await cursor.fetchone()
    last_no, previous_hash = last or (0, epoch.previous_hash)
    batch = seal(
        events,
        key,
        instance=instance,
        epoch=epoch.epoch,
        batch_no=last_no + 1,
        previous_hash=previous_hash,
        follows=epoch.follows if last is None else None,
    )
    header = batch.header
    ids = sorted(event.id for event in events)
    await conn.execute(
        _STORE,
        (
            header.epoch,
            header.batch_no,
            instance,
            header.count,
            ids[0],
            header.follows,
            header.previous_hash,
            header.chain_hash,
            batch.token,
            batch.payload,
        ),
    )
    await conn.execute(
        _ASSIGN,
        {
            "epoch": header.epoch,
            "batch_no": header.batch_no,
            "ids": ids,
            "first": ids[0],
            "last": ids[-1],
        },
    )
    return batch


async def _set_aside(conn: AsyncConnection[Any], ids: list[str]) -> None:
    await conn.execute(
        _ASSIGN,
        {"epoch": SET_ASIDE, "batch_no": 0, "ids": ids, "first": min(ids), "last": max(ids)},
    )
    await conn.execute(_QUARANTINE, (ids, UNREADABLE, SET_ASIDE))
