"""The ledger's rules: one transaction from a sealed batch to its signed receipt."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID, uuid4

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import rsa

from brinkbyte.billing.auth import InstanceCaller, VendorCaller
from brinkbyte.billing.clones import service as clones
from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.licenses.documents import sign_all
from brinkbyte.billing.quotas import service as quotas
from brinkbyte.billing.usage import repository
from brinkbyte.billing.usage.chain import Refusal, refuse_first, refuse_next
from brinkbyte.billing.usage.events import (
    Arrived,
    Envelope,
    Judged,
    RejectedEvent,
    arrived,
    judge,
    parse_envelope,
)
from brinkbyte.billing.usage.repository import Origin
from brinkbyte.billing.usage.schemas import ReportAnswer
from brinkbyte.kit.errors import TemporaryError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import ISSUER, Quarantined, ReceiptClaims
from brinkbyte.license.keys import PublicJwk
from brinkbyte.metering.batches import (
    BatchError,
    BatchHeader,
    UsageHead,
    check_payload,
    verify_batch_header,
)

RECEIPT_SECONDS: Final = 400 * 86_400
"""As long as the ledger is kept: a stored receipt sent again still verifies."""
_STATUS: Final = {
    "MalformedBatch": 422,
    "PayloadMismatch": 422,
    "UnknownInstanceKey": 403,
    "BadSignature": 403,
    "WrongInstance": 403,
    "ChainMismatch": 409,
    "EpochClosed": 409,
    "EpochConflict": 409,
}


def _problem(reason: str, message: str) -> ProblemError:
    return ProblemError(_STATUS[reason], message, reason=reason)


async def head(context: Context, caller: InstanceCaller) -> UsageHead:
    """Return where an instance's chain goes on: its own open epoch, else the one before it left."""
    async with context.database.tenant(caller.tenant_id) as connection:
        row = await repository.open_epoch(connection, caller.tenant_id, caller.instance_id)
        if row is None:
            row = await repository.inherited_epoch(connection, caller.tenant_id)
    if row is None:
        return UsageHead(server_time=context.now(), customer_id=caller.tenant_id)
    return UsageHead(
        server_time=context.now(),
        customer_id=caller.tenant_id,
        epoch=str(row["epoch"]),
        batch_no=row["last_batch_no"],
        chain_hash=bytes(row["last_chain_hash"]).hex(),
    )


async def ingest(context: Context, caller: InstanceCaller, body: bytes) -> str:
    """Take in a sealed batch and return its receipt; the stored one on a repeat.

    Raises:
        ProblemError: see :class:`brinkbyte.metering.batches.BatchAnswer`.
    """
    outcome = "refused"
    try:
        envelope = parse_envelope(body)
        arrival = Arrived(bytes(envelope.events))
        # Judged before the lock is held: it is the larger part of the work that is not SQL.
        judged = judge(arrival, context.catalog, caller.families, int(context.clock() * 1000))
        async with context.database.pipelined(caller.tenant_id) as connection:
            header, epoch = await _verify(connection, caller, envelope, len(arrival.events))
            refusal: Refusal | None = None
            if epoch is not None and header.batch_no <= epoch["last_batch_no"]:
                stored = await _stored(connection, context, caller, header)
                if stored is not None:
                    outcome = "repeated"
                    return stored
            follows = None if header.follows is None else UUID(header.follows)
            if epoch is None:
                refusal = await refuse_first(connection, caller, header, follows)
            else:
                refusal = refuse_next(epoch, header, caller)
            if refusal is None:
                receipt = await _record(
                    connection,
                    context,
                    caller,
                    header,
                    token=envelope.header,
                    judged=judged,
                    follows=follows,
                )
                failpoint("ingest.before_commit")
        if refusal is not None:
            await _alarm(context, caller, header, refusal)
            raise _refused(refusal)
        failpoint("ingest.committed")
        outcome = "accepted"
    except BatchError as error:
        raise _problem(error.reason, error.message) from None
    except psycopg.errors.CheckViolation as error:
        raise _no_partition(error) from None
    finally:
        context.metrics.batches.labels(outcome).inc()
    return receipt


def _no_partition(error: psycopg.errors.CheckViolation) -> Exception:
    if "no partition" not in str(error):
        return error
    return TemporaryError(
        "the ledger is not prepared for this month; run `brinkbyte billing migrate`",
        reason="LedgerNotPrepared",
        retry_after=60,
    )


def _refused(refusal: Refusal) -> ProblemError:
    if refusal.missing is not None:
        return ProblemError(409, refusal.message, reason="Gap", missing=list(refusal.missing))
    return _problem(refusal.reason, refusal.message)


async def _verify(
    connection: Connection, caller: InstanceCaller, envelope: Envelope, count: int
) -> tuple[BatchHeader, Row | None]:
    """Lock the chain; return the header, verified, and its epoch as the ledger has it."""
    tenant_id = caller.tenant_id
    await repository.lock_chain(connection, tenant_id)
    registered = await repository.ask_emitter(connection, tenant_id, caller.instance_id)
    # Looked up beside the keys, in one round trip; nothing goes by it before the header verifies.
    named = _epoch_named(envelope.header)
    found = None if named is None else await repository.ask_epoch(connection, tenant_id, named)
    rows = await registered.fetchall()
    if not rows or rows[0]["ended_at"] is not None:
        # Between the look at its credential and here.
        raise ProblemError(
            403,
            "this instance has ended; its events go with the one enrolled after it",
            reason="InstanceEnded",
        )
    keys = {row["key_id"]: _public_key(json.dumps(row["jwk"])) for row in rows if row["key_id"]}
    header = verify_batch_header(envelope.header, keys)
    if header.instance != caller.instance_id:
        raise BatchError(
            "the batch is another instance's; send it with that instance's credential",
            reason="WrongInstance",
        )
    check_payload(header, bytes(envelope.events))
    if header.count != count:
        raise BatchError("the header's count is not the number of events", reason="MalformedBatch")
    if header.follows is not None and (header.batch_no != 1 or header.follows == header.epoch):
        raise BatchError(
            "only the first batch of an epoch follows another one", reason="MalformedBatch"
        )
    if found is None or named != UUID(header.epoch):
        return header, await repository.epoch(connection, tenant_id, UUID(header.epoch))
    return header, await found.fetchone()


def _epoch_named(token: str) -> UUID | None:
    """Return the epoch that a header names, unverified; None: it will not verify either."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return UUID(claims["epoch"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


@lru_cache(maxsize=4096)
def _public_key(jwk: str) -> rsa.RSAPublicKey:
    """Read a key as it was registered; reading costs more than verifying with it."""
    return PublicJwk.model_validate({**json.loads(jwk), "kinds": ()}).public_key


async def _stored(
    connection: Connection, context: Context, caller: InstanceCaller, header: BatchHeader
) -> str | None:
    """Return the stored receipt if exactly this batch is in the ledger."""
    row = await repository.batch(connection, caller.tenant_id, UUID(header.epoch), header.batch_no)
    if row is None or row["instance_id"] != header.instance:
        return None
    if bytes(row["chain_hash"]).hex() != header.chain_hash:
        return None
    receipt: str = row["receipt"]
    context.keyring.refresh()
    if not context.orphaned(jwt.get_unverified_header(receipt).get("kid")):
        return receipt
    # The key that signed it is in the set no more: the same words under one that is.
    said = jwt.decode(receipt, options={"verify_signature": False}, algorithms=["RS256"])
    (again,) = await sign_all(context, [ReceiptClaims.model_validate_json(json.dumps(said))])
    return again


async def _alarm(
    context: Context, caller: InstanceCaller, header: BatchHeader, refusal: Refusal
) -> None:
    if refusal.alarm:
        async with context.database.tenant(caller.tenant_id) as connection:
            current = await repository.open_epoch(connection, caller.tenant_id, caller.instance_id)
            await clones.raise_alarm(
                connection,
                context,
                caller,
                reason=clones.TWO_EPOCHS,
                first_party="none" if current is None else str(current["epoch"]),
                second_party=header.epoch,
                details={"refused": refusal.reason, "batchNo": header.batch_no},
            )


async def _record(
    connection: Connection,
    context: Context,
    caller: InstanceCaller,
    header: BatchHeader,
    *,
    token: str,
    judged: Judged,
    follows: UUID | None,
) -> str:
    """Write a batch that fits, and return its receipt."""
    now = context.now()
    moment = datetime.fromtimestamp(now, UTC)
    tenant_id, epoch_id = caller.tenant_id, UUID(header.epoch)
    if header.batch_no == 1:
        if follows is not None:
            await repository.close_epochs(connection, tenant_id, follows, moment)
        await repository.insert_epoch(connection, tenant_id, header, follows, moment)
        if follows is not None:
            await clones.note_reopened(
                connection, context, caller, follows=str(follows), epoch=header.epoch
            )
    else:
        await repository.advance_epoch(connection, tenant_id, header)
    claims = ReceiptClaims(
        iss=ISSUER,
        sub=caller.instance_id,
        aud=caller.instance_id,
        jti=str(uuid4()),
        iat=now,
        nbf=now,
        exp=now + RECEIPT_SECONDS,
        instance=header.instance,
        epoch=header.epoch,
        batch_no=header.batch_no,
        chain_hash=header.chain_hash,
        payload_sha256=header.payload_sha256,
        count=header.count,
        quarantined=_named(judged.bad),
    )
    # Signed while the database writes: it hardly ever finds more to set aside.
    signing = asyncio.ensure_future(sign_all(context, [claims]))
    try:
        inserted, rejected = await write_events(
            connection,
            context,
            tenant_id,
            judged,
            Origin(caller.instance_id, epoch_id, header.batch_no),
            now=moment,
        )
        (receipt,) = await signing
    except BaseException:
        signing.cancel()
        raise
    if len(rejected) != len(judged.bad):
        told = claims.model_copy(update={"quarantined": _named(rejected)})
        (receipt,) = await sign_all(context, [told])
    await repository.insert_batch(
        connection,
        tenant_id,
        header,
        token=token,
        receipt=receipt,
        inserted=inserted,
        quarantined=len(rejected),
        now=moment,
    )
    return receipt


def _named(rejected: Iterable[RejectedEvent]) -> tuple[Quarantined, ...]:
    return tuple(Quarantined(id=event.event_id, reason=event.reason) for event in rejected)


async def write_events(
    connection: Connection,
    context: Context,
    tenant_id: str,
    judged: Judged,
    origin: Origin,
    *,
    now: datetime,
) -> tuple[int, list[RejectedEvent]]:
    """Write good events, set bad ones aside; the caller holds the chain's lock.

    Returns:
        How many were new, and what was set aside, in the order of what was sent.
    """
    good, bad = judged.good, judged.bad
    inserted, rejected = 0, list(bad)
    if good:
        new = await repository.insert_events(connection, tenant_id, good, origin, now)
        failpoint("ingest.copied")
        inserted = len(new)
        if new:
            await repository.count_events(connection, tenant_id, new)
            await quotas.count_events(connection, context.catalog, tenant_id, new, now)
        if inserted < len(good):
            others = await repository.with_other_content(connection, tenant_id, good)
            rejected += [
                RejectedEvent(
                    e.position,
                    judged.arrival.raws[e.position],
                    e.event.id,
                    "DuplicateIdOtherContent",
                )
                for e in good
                if e.event.id in others
            ]
    rejected.sort(key=lambda event: event.position)
    if rejected:
        await repository.quarantine(connection, tenant_id, rejected, origin, now)
    events = context.metrics.events
    events.labels("inserted").inc(inserted)
    events.labels("quarantined").inc(len(rejected))
    events.labels("duplicate").inc(max(0, len(good) + len(bad) - inserted - len(rejected)))
    return inserted, rejected


async def report(
    context: Context, tenant_id: str, caller: VendorCaller, raws: Sequence[bytes]
) -> ReportAnswer:
    """Take in events that the vendor's own services report without sealing them.

    The same events again change nothing.
    """
    moment = datetime.fromtimestamp(context.now(), UTC)
    judged = judge(arrived(raws), context.catalog, caller.families, int(context.clock() * 1000))
    try:
        async with context.database.pipelined(tenant_id) as connection:
            await repository.lock_chain(connection, tenant_id)
            inserted, rejected = await write_events(
                connection, context, tenant_id, judged, Origin(caller.actor), now=moment
            )
    except psycopg.errors.CheckViolation as error:
        raise _no_partition(error) from None
    return ReportAnswer(
        accepted=inserted,
        duplicates=len(raws) - inserted - len(rejected),
        quarantined=_named(rejected),
    )
