"""What a site without a line needs of its chain: the epoch to seal into, what has no receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.batches import UsageHead
from brinkbyte.store.epochs import FIRST, Epoch, open_epoch

_LIVE: Final = """
SELECT epoch::text, follows, previous_hash FROM usage_epochs
WHERE instance = %s ORDER BY number DESC LIMIT 1
"""
_ACKNOWLEDGED: Final = """
SELECT epoch::text, batch_no, chain_hash FROM usage_batches
WHERE acknowledged_at IS NOT NULL ORDER BY position DESC LIMIT 1
"""
_BATCHES: Final = """
SELECT epoch::text, batch_no, position FROM usage_batches
WHERE instance = %s AND (acknowledged_at IS NULL OR %s) AND position > %s
ORDER BY position LIMIT 1
"""
_HEADER: Final = """
SELECT header, acknowledged_at IS NOT NULL FROM usage_batches
WHERE epoch::text = %s AND batch_no = %s
"""


async def sealing_epoch(conn: AsyncConnection[Any], instance: str) -> Epoch:
    """Return the epoch to seal into without asking anybody; it is opened if there is none."""
    async with conn.cursor(row_factory=class_row(Epoch)) as cursor:
        await cursor.execute(_LIVE, (instance,))
        live = await cursor.fetchone()
    return live or await reopen(conn, instance, "NewInstance")


async def reopen(conn: AsyncConnection[Any], instance: str, reason: str) -> Epoch:
    """Open an epoch that follows the last batch with a receipt; what has none is sealed again.

    Args:
        conn: holds the outbox lock.
        instance: whose epoch.
        reason: shown; ``First`` where nothing was ever sealed here.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_ACKNOWLEDGED)
        last = await cursor.fetchone()
        await cursor.execute("SELECT EXISTS (SELECT FROM usage_epochs)")
        (some,) = await cursor.fetchone() or (False,)
    head = UsageHead(server_time=0)
    if last is not None:
        head = UsageHead(server_time=0, epoch=last[0], batch_no=last[1], chain_hash=last[2])
    return await open_epoch(
        conn, epoch=uuid7(), instance=instance, head=head, reason=reason if some else FIRST
    )


async def batches_to_carry(
    conn: AsyncConnection[Any], instance: str, *, acknowledged: bool
) -> AsyncIterator[tuple[str, int]]:
    """Yield epoch and number of batches in the order of sealing.

    Args:
        conn: autocommit.
        instance: whose batches.
        acknowledged: also those with a receipt, as far as they are kept.
    """
    position = 0
    while True:
        async with conn.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(_BATCHES, (instance, acknowledged, position))
            row = await cursor.fetchone()
        if row is None:
            return
        position = row[2]
        yield row[0], row[1]


async def stored_header(
    conn: AsyncConnection[Any], epoch: str, batch_no: int
) -> tuple[str, bool] | None:
    """Return a batch's signed header and whether it has its receipt; None: it is not here."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_HEADER, (epoch, batch_no))
        row = await cursor.fetchone()
    return None if row is None else (str(row[0]), bool(row[1]))
