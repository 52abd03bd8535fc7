"""Epochs: chains of batches, and how ours stands to the head that the server reports.

Batches form one chain across epochs: each names the hash of the one before, the first of an epoch
names the epoch it follows. :func:`history_after` reads what we hold beyond the server's head, the
pure :func:`decide` says whether the chain goes on from there, and :func:`open_epoch` begins anew
where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from brinkbyte.kit.failpoints import failpoint
from brinkbyte.metering.batches import NO_HASH, UsageHead

FIRST: Final = "First"
"""Reason of the one epoch that is no sign of anything: nothing was there on either side."""
_NEW_DATABASE: Final = "NewDatabase"


@dataclass(frozen=True)
class Epoch:
    """The chain that batches are sealed into.

    Attributes:
        epoch: UUIDv7 text.
        follows: the epoch it closes, None for the first.
        previous_hash: what its batch 1 names as the hash before it.
    """

    epoch: str
    follows: str | None
    previous_hash: str


@dataclass(frozen=True)
class BatchRef:
    """A sealed batch without its bytes."""

    epoch: str
    batch_no: int
    follows: str | None
    previous_hash: str
    chain_hash: str
    acknowledged: bool


@dataclass(frozen=True)
class History:
    """What we hold, as far as it matters to a head.

    Attributes:
        live: our newest epoch of this instance.
        live_last: the newest batch of that epoch.
        up_to_head: batches without a receipt that the server has, since the head is ours: their
            receipts were lost on the way.
        after_head: every batch from the one that follows the head on, in order of sealing.
        unacknowledged: how many batches have no receipt, of any instance.
        strangers: whether epochs of an earlier instance id are here; the head may be one of them.
        head_held: the head is a batch that is kept here, or the server has nothing. Else it does
            not tell which of our acknowledged batches the server still has.
    """

    live: Epoch | None
    live_last: BatchRef | None
    up_to_head: tuple[BatchRef, ...]
    after_head: tuple[BatchRef, ...]
    unacknowledged: int
    strangers: bool = False
    head_held: bool = True


@dataclass(frozen=True)
class Continue:
    """The chain goes on: send these batches again or for the first time, then seal."""

    epoch: Epoch
    pending: tuple[BatchRef, ...]


@dataclass(frozen=True)
class OpenEpoch:
    """The chain does not go on from the head; why."""

    reason: str


def decide(head: UsageHead, history: History) -> Continue | OpenEpoch:
    """Tell whether our chain continues from the server's head without a break.

    Reasons for a new epoch: ``First``, ``NewInstance`` (enrolled again over this database),
    ``NewDatabase`` (nothing was sealed here, something is there), ``HeadAhead`` (the server has
    batches of our epoch that we do not: this database was restored), ``ChainBroken`` (the head is
    in no chain of ours, or what would follow is gone).
    """
    live = history.live
    if live is None:
        if history.strangers:
            return OpenEpoch("NewInstance")
        return OpenEpoch(FIRST if head.epoch is None else _NEW_DATABASE)
    tip = _tip(head, history.after_head)
    last = history.live_last
    if tip is None:
        fits = False
    elif last is None:
        fits = (live.follows, live.previous_hash) == (tip.epoch, tip.chain_hash)
    else:
        fits = tip == _Link(last.epoch, last.batch_no, last.chain_hash)
    pending = history.up_to_head + history.after_head
    if fits and sum(not batch.acknowledged for batch in pending) == history.unacknowledged:
        return Continue(live, pending)
    if last is not None and head.epoch == live.epoch and head.batch_no > last.batch_no:
        return OpenEpoch("HeadAhead")
    first = last is None and live.follows is None and not history.strangers
    if first and head.epoch not in {None, live.epoch}:
        return OpenEpoch(_NEW_DATABASE)  # ours was opened before anybody was asked
    return OpenEpoch("ChainBroken")


@dataclass(frozen=True)
class _Link:
    epoch: str | None
    batch_no: int
    chain_hash: str


def _tip(head: UsageHead, batches: Sequence[BatchRef]) -> _Link | None:
    """Follow the chain from the head; None when a link does not fit."""
    link = _Link(head.epoch, head.batch_no, head.chain_hash or NO_HASH)
    for batch in batches:
        next_in_epoch = batch.epoch == link.epoch and batch.batch_no == link.batch_no + 1
        first_of_next = batch.batch_no == 1 and batch.follows == link.epoch
        if not (next_in_epoch or first_of_next) or batch.previous_hash != link.chain_hash:
            return None
        link = _Link(batch.epoch, batch.batch_no, batch.chain_hash)
    return link


_REF: Final = """
SELECT epoch::text, batch_no, follows, previous_hash, chain_hash,
       acknowledged_at IS NOT NULL AS acknowledged
FROM usage_batches
"""
_LIVE: Final = """
SELECT epoch::text, follows, previous_hash FROM usage_epochs
WHERE instance = %s ORDER BY number DESC LIMIT 1
"""
_HEAD: Final = """
SELECT max(position) FROM usage_batches
WHERE chain_hash = %(hash)s AND epoch::text = %(epoch)s AND batch_no = %(batch_no)s
"""
_CHILD: Final = """
SELECT max(position) FROM usage_batches
WHERE instance = %(instance)s AND previous_hash = %(hash)s
  AND ((epoch::text = %(epoch)s AND batch_no = %(batch_no)s + 1)
       OR (batch_no = 1 AND follows IS NOT DISTINCT FROM %(epoch)s))
"""
_COUNTS: Final = """
SELECT (SELECT count(*) FROM usage_batches WHERE acknowledged_at IS NULL),
       EXISTS (SELECT 1 FROM usage_epochs WHERE instance <> %s)
"""


async def history_after(conn: AsyncConnection[Any], instance: str, head: UsageHead) -> History:
    """Read what :func:`decide` needs to know."""
    async with conn.cursor(row_factory=class_row(Epoch)) as cursor:
        await cursor.execute(_LIVE, (instance,))
        live = await cursor.fetchone()
    values = {
        "instance": instance,
        "hash": head.chain_hash or NO_HASH,
        "epoch": head.epoch,
        "batch_no": head.batch_no,
    }
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_HEAD, values)
        (ours,) = await cursor.fetchone() or (None,)
        await cursor.execute(_CHILD, values)
        (child,) = await cursor.fetchone() or (None,)
        await cursor.execute(_COUNTS, (instance,))
        unacknowledged, strangers = await cursor.fetchone() or (0, False)
    async with conn.cursor(row_factory=class_row(BatchRef)) as refs:
        await refs.execute(
            _REF + "WHERE instance = %s AND acknowledged_at IS NULL AND position <= %s "
            "ORDER BY position",
            (instance, ours),
        )
        up_to_head = tuple(await refs.fetchall())
        await refs.execute(
            _REF + "WHERE instance = %s AND position >= %s ORDER BY position", (instance, child)
        )
        after_head = tuple(await refs.fetchall())
        await refs.execute(
            _REF + "WHERE epoch = %s ORDER BY batch_no DESC LIMIT 1",
            (live.epoch if live else None,),
        )
        live_last = await refs.fetchone()
    head_held = head.epoch is None or ours is not None
    return History(live, live_last, up_to_head, after_head, unacknowledged, strangers, head_held)


async def acknowledged_batches(conn: AsyncConnection[Any], instance: str) -> list[BatchRef]:
    """Return the instance's kept batches that have a receipt, in the order of sealing.

    What the server has of them is a beginning of this list: a backup is a moment, and each batch
    was sent after the receipt of the one before.
    """
    async with conn.cursor(row_factory=class_row(BatchRef)) as refs:
        await refs.execute(
            _REF + "WHERE instance = %s AND acknowledged_at IS NOT NULL ORDER BY position",
            (instance,),
        )
        return await refs.fetchall()


# What the server lacks of our acknowledged batches is sealed again too: it was restored, and the
# chain that led there is gone. A batch with the head's own number and another hash counts as lost.
# After enrolling again the head is the last of the instance before. Under a head that is not here
# the caller says how far the server has ours.
_SUPERSEDED: Final = """
CREATE TEMPORARY TABLE superseded ON COMMIT DROP AS
SELECT batch.epoch, batch.batch_no, batch.first_id, batch.count
FROM usage_batches AS batch JOIN usage_epochs AS epoch USING (epoch)
LEFT JOIN usage_epochs AS head ON head.epoch::text = %(epoch)s
WHERE batch.acknowledged_at IS NULL
   OR (batch.instance = %(instance)s AND %(epoch)s::text IS NULL)
   OR (epoch.number, batch.batch_no) > (head.number, %(batch_no)s::bigint)
   OR (epoch.number = head.number AND batch.batch_no = %(batch_no)s::bigint
       AND batch.chain_hash <> %(hash)s)
   OR (batch.instance = %(instance)s AND %(kept)s::text IS NOT NULL AND batch.position > coalesce(
       (SELECT position FROM usage_batches WHERE chain_hash = %(kept)s), 0))
"""
_UNSEAL: Final = """
UPDATE usage_events AS event SET epoch = NULL, batch_no = NULL FROM superseded
WHERE event.epoch = superseded.epoch AND event.batch_no = superseded.batch_no
  AND event.id >= (SELECT first_id FROM superseded ORDER BY first_id LIMIT 1)
"""
_FORGET: Final = """
DELETE FROM usage_batches AS batch USING superseded
WHERE batch.epoch = superseded.epoch AND batch.batch_no = superseded.batch_no
"""
_INSERT: Final = """
INSERT INTO usage_epochs (epoch, instance, follows, previous_hash, reason, resealed)
VALUES (%s, %s, %s, %s, %s, %s)
"""


async def open_epoch(
    conn: AsyncConnection[Any],
    *,
    epoch: UUID,
    instance: str,
    head: UsageHead,
    reason: str,
    kept: str | None = None,
) -> Epoch:
    """Open an epoch that follows the server's head, in one transaction.

    Every event without a receipt, and every event of a batch that the server no longer has, is
    unsealed again and keeps its id. The older epochs close.

    Args:
        conn: the reporter's connection.
        epoch: the new one.
        instance: ours.
        head: the server's.
        reason: why, see :func:`decide`.
        kept: chain hash of the last of our batches that the server has, ``NO_HASH``: it has none;
            None: the head tells.
    """
    opened = Epoch(str(epoch), head.epoch, head.chain_hash or NO_HASH)
    async with conn.transaction():
        await conn.execute(
            _SUPERSEDED,
            {
                "epoch": head.epoch,
                "instance": instance,
                "batch_no": head.batch_no,
                "hash": head.chain_hash or NO_HASH,
                "kept": kept,
            },
        )
        resealed = await conn.execute(_UNSEAL)
        await conn.execute(_FORGET)
        await conn.execute("UPDATE usage_epochs SET closed_at = now() WHERE closed_at IS NULL")
        await conn.execute(
            _INSERT,
            (epoch, instance, opened.follows, opened.previous_hash, reason, resealed.rowcount),
        )
        if reason != FIRST:
            await conn.execute(
                "UPDATE billing_sync_status SET epochs_opened = epochs_opened + 1, "
                "updated_at = now()"
            )
    failpoint("epoch.opened")
    return opened
