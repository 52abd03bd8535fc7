"""One pass over the outbox: head, chain, seal, send, verify, mark."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from brinkbyte.client import BillingClient, BillingRefusedError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.license.keys import SigningKey
from brinkbyte.metering.batches import NO_HASH, SealedBatch, UsageHead
from brinkbyte.reporter.trust import ReceiptVerifier, require_same_customer
from brinkbyte.store.database import Connection
from brinkbyte.store.epochs import (
    BatchRef,
    Continue,
    Epoch,
    acknowledged_batches,
    decide,
    history_after,
    open_epoch,
)
from brinkbyte.store.receipts import DamagedBatchError, load_batch, mark_acknowledged
from brinkbyte.store.sealing import seal_next

_CONFLICT: Final = 409
_NEW_EPOCH: Final = frozenset({"EpochClosed", "ChainMismatch", "EpochConflict"})
_GAP: Final = "Gap"
_MAX_EPOCHS: Final = 3
"""New epochs in one pass; a server that refuses more is not asked again before the next run."""
_log = get_logger(__name__)


class DeadlineError(Exception):
    """The run's time is over; what is left goes with the next run."""


class _ChainRefusedError(Exception):
    """The server refused a batch for its place in the chain, or ours is damaged."""

    def __init__(self, reason: str, cause: Exception, *, reread: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause
        self.reread = reread


@dataclass
class Progress:
    """What a run has done so far."""

    sealed: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    epochs_opened: int = 0


class Delivery:
    """Carries the outbox to the ledger over one locked connection.

    Args:
        conn: autocommit connection that holds the outbox lock.
        client: the billing API.
        verifier: judges receipts.
        key: instance key pair.
        instance: instance id.
        customer_id: whose usage this is; None: whoever the identity is.
        deadline: by ``monotonic``: no batch is begun after it.
        progress: counted up as the work goes on.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        conn: Connection,
        client: BillingClient,
        verifier: ReceiptVerifier,
        *,
        key: SigningKey,
        instance: str,
        deadline: float,
        customer_id: str | None = None,
        progress: Progress | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conn = conn
        self._client = client
        self._verifier = verifier
        self._key = key
        self._instance = instance
        self._customer_id = customer_id
        self._deadline = deadline
        self._monotonic = monotonic
        self._server_time = 0
        self._read_at = 0.0
        self.progress = progress or Progress()

    async def run(self) -> None:
        """Deliver until nothing is left; safe to call again after any error.

        Raises:
            TemporaryError: the billing API cannot be reached or wants to be asked later.
            PermanentError: the identity is another customer's, the billing API refused a batch, or
                its receipt is not the vendor's.
            DeadlineError: time is over before the outbox is empty.
        """
        force: str | None = None
        gaps = 0
        for attempt in range(_MAX_EPOCHS + 1):
            head = await self._head()
            plan = await self._continue(head, force)
            try:
                for ref in plan.pending:
                    await self._deliver_stored(ref.epoch, ref.batch_no)
                await self._drain(plan.epoch)
            except _ChainRefusedError as refused:
                if attempt == _MAX_EPOCHS:
                    raise refused.cause from None
                gaps += refused.reread
                # After a gap the head alone usually tells what to send again; twice it does not.
                force = None if refused.reread and gaps == 1 else refused.reason
                _log.warning("the chain is taken up again", reason=refused.reason)
            else:
                return

    async def _head(self) -> UsageHead:
        head = await self._client.usage_head()
        # Before anything is sealed: what another customer's identity signs is billed to them.
        require_same_customer(self._customer_id, head.customer_id, "identity")
        self._server_time, self._read_at = head.server_time, self._monotonic()
        return head

    def _now(self) -> int:
        return self._server_time + int(self._monotonic() - self._read_at)

    async def _continue(self, head: UsageHead, force: str | None) -> Continue:
        history = await history_after(self._conn, self._instance, head)
        decision = decide(head, history)
        if isinstance(decision, Continue):
            if force is None:
                return decision
            reason = force
        else:
            reason = decision.reason
        kept = None
        if history.live is not None and not history.head_held:
            kept = await self._last_kept()
            head = await self._head()  # an answer may have moved it
        epoch = await open_epoch(
            self._conn, epoch=uuid7(), instance=self._instance, head=head, reason=reason, kept=kept
        )
        self.progress.epochs_opened += 1
        _log.info("epoch opened", epoch=epoch.epoch, follows=epoch.follows, reason=reason)
        return Continue(epoch, ())

    async def _last_kept(self) -> str:
        """Find the last of our acknowledged batches that the server still has, by sending some.

        It answers one that it has with the stored receipt and refuses any other. As long as it
        lost nothing this takes one batch.
        """
        refs = await acknowledged_batches(self._conn, self._instance)
        has, lacks = 0, len(refs) + 1
        asked = len(refs)
        while lacks - has > 1:
            if await self._server_has(refs[asked - 1]):
                has = asked
            else:
                lacks = asked
            asked = (has + lacks) // 2
        return refs[has - 1].chain_hash if has else NO_HASH

    async def _server_has(self, ref: BatchRef) -> bool:
        self._check_deadline()
        try:
            batch = await load_batch(self._conn, self._key, ref.epoch, ref.batch_no)
            answer = await self._client.send_batch(batch)
        except DamagedBatchError:
            return False  # its events can still be sealed anew
        except BillingRefusedError as error:
            if error.status == _CONFLICT and error.reason in _NEW_EPOCH | {_GAP}:
                return False
            raise
        await self._verifier.verify(answer.receipt, batch.header, self._now())
        return True

    async def _drain(self, epoch: Epoch) -> None:
        more = True
        while more:
            self._check_deadline()
            sealed = await seal_next(self._conn, self._key, instance=self._instance, epoch=epoch)
            if sealed is None:
                return
            self.progress.sealed += 1
            await self._deliver(sealed.batch)
            more = sealed.full

    async def _deliver_stored(self, epoch: str, batch_no: int) -> None:
        self._check_deadline()
        try:
            batch = await load_batch(self._conn, self._key, epoch, batch_no)
        except DamagedBatchError as error:
            raise _ChainRefusedError(error.reason, error, reread=False) from error
        await self._deliver(batch)

    async def _deliver(self, batch: SealedBatch) -> None:
        failpoint("send.before")
        try:
            answer = await self._client.send_batch(batch)
        except BillingRefusedError as error:
            if error.status == _CONFLICT and error.reason in _NEW_EPOCH | {_GAP}:
                raise _ChainRefusedError(
                    error.reason, error, reread=error.reason == _GAP
                ) from error
            raise
        failpoint("send.answered")
        claims = await self._verifier.verify(answer.receipt, batch.header, self._now())
        failpoint("receipt.verified")
        await mark_acknowledged(self._conn, batch.header, answer.receipt, claims)
        self.progress.acknowledged += 1
        self.progress.quarantined += len(claims.quarantined)
        if claims.quarantined:
            _log.warning(
                "the ledger set events aside",
                batch=f"{batch.header.epoch}/{batch.header.batch_no}",
                events={event.id: event.reason for event in claims.quarantined},
            )

    def _check_deadline(self) -> None:
        if self._monotonic() >= self._deadline:
            raise DeadlineError
