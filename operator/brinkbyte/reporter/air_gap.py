"""A site without a line: sealed batches into a file, receipts from a file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import jwt
import psycopg
from pydantic import ValidationError

from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.license.claims import ReceiptClaims
from brinkbyte.license.keys import KeySet, PublicJwk, verify_key_set
from brinkbyte.license.tokens import verify
from brinkbyte.metering.batches import BatchHeader, verify_receipt
from brinkbyte.metering.files import (
    FileError,
    FileLines,
    FileWriter,
    ReceiptsFile,
    UsageFile,
    check_file,
)
from brinkbyte.reporter.settings import ReporterSettings
from brinkbyte.reporter.trust import require_same_customer
from brinkbyte.resources.names import KEY_SET_KEY, LICENSE_KEY
from brinkbyte.store.air_gap import batches_to_carry, reopen, sealing_epoch, stored_header
from brinkbyte.store.database import Connection, connect
from brinkbyte.store.epochs import OpenEpoch, decide, history_after, open_epoch
from brinkbyte.store.identity import Identity
from brinkbyte.store.receipts import (
    DamagedBatchError,
    load_batch,
    mark_acknowledged,
    record_success,
)
from brinkbyte.store.sealing import lock_outbox, seal_next
from brinkbyte.store.state import metering_state

LOCK_SECONDS: Final = 60.0
_LOCK_PAUSE: Final = 0.5
_NEW_EPOCH: Final = frozenset({"EpochClosed", "ChainMismatch", "EpochConflict"})
_MAX_EPOCHS: Final = 3


@dataclass(frozen=True)
class Exported:
    """What was written."""

    batches: int
    events: int


@dataclass
class Imported:
    """What a file of receipts came to.

    Attributes:
        marked: batches that have their receipt now.
        known: batches that had it already.
        unknown: receipts of batches that are not here.
        quarantined: events that the ledger has set aside.
        refused: why the ledger stopped; None: it did not.
        epoch_opened: why what is left is sealed into a new epoch; None: it is not.
        left: events without a receipt.
    """

    marked: int = 0
    known: int = 0
    unknown: int = 0
    quarantined: list[str] = field(default_factory=list)
    refused: str | None = None
    epoch_opened: str | None = None
    left: int = 0


async def export_usage(
    settings: ReporterSettings,
    out: BinaryIO,
    *,
    acknowledged: bool = False,
) -> Exported:
    """Seal what waits, and write every batch without a receipt; again writes them again.

    Args:
        settings: where everything is, and whose site; by default the license's.
        out: seekable and empty.
        acknowledged: also batches with a receipt, for a ledger that was restored.

    Raises:
        TemporaryError: a reporter is at work, or the database does not answer.
        PermanentError: nobody knows whose site this is, the license is another customer's, or the
            key pair is unusable.
    """
    identity = Identity(settings.identity_dir)
    key, instance = identity.signing_key(), identity.instance_id()
    first = UsageFile(
        customer_id=_customer(settings),
        instance=instance,
        created_at=int(time.time()),
    )
    async with locked_outbox(settings) as conn:
        for attempt in range(_MAX_EPOCHS):
            epoch = await sealing_epoch(conn, instance)
            while await seal_next(conn, key, instance=instance, epoch=epoch) is not None:
                pass
            out.seek(0)
            out.truncate()
            writer = FileWriter(first)
            out.write(writer.begin())
            batches = events = 0
            try:
                async for name in batches_to_carry(conn, instance, acknowledged=acknowledged):
                    batch = await load_batch(conn, key, *name)
                    out.write(writer.line(batch.to_wire()))
                    batches, events = batches + 1, events + batch.header.count
            except DamagedBatchError as error:
                if attempt + 1 == _MAX_EPOCHS:
                    raise
                await reopen(conn, instance, error.reason)
                continue
            out.write(writer.end())
            return Exported(batches, events)
    raise AssertionError("neither written nor refused")


async def import_receipts(
    settings: ReporterSettings, path: Path, roots: Mapping[str, PublicJwk]
) -> Imported:
    """Verify receipts and mark their batches; a file again, or an older one, changes nothing.

    Args:
        settings: where everything is.
        path: the file that the vendor's import wrote.
        roots: root public keys of the release.

    Raises:
        FileError: the file is no file of receipts, was cut short, or is another site's.
        TokenError: a receipt is not the vendor's; nothing was marked.
        PermanentError: no trustworthy key set is to be had.
        TemporaryError: a reporter is at work, or the database does not answer.
    """
    with path.open("rb") as file:
        found, _ = check_file(file, ReceiptsFile, path.name)
    if not isinstance(found, ReceiptsFile):
        raise AssertionError("checked to be receipts")
    instance = Identity(settings.identity_dir).instance_id()
    done = Imported(refused=_refusal(found))
    keys = _keys(found, settings, roots)
    async with locked_outbox(settings) as conn:
        if found.instance != instance and not await _was_ours(conn, found.instance):
            raise FileError(
                f"the receipts are for instance {found.instance}, and this site is {instance}; "
                "take them to the site whose usage was imported",
                reason="OtherSite",
            )
        # Two passes: nothing is marked by a file in which anything is wrong.
        for receipt in _receipts(path):
            await _verify(conn, receipt, keys, found)
        for receipt in _receipts(path):
            held = await _verify(conn, receipt, keys, found)
            if held is None:
                done.unknown += 1
                continue
            claims, header, acknowledged = held
            if acknowledged:
                done.known += 1
                continue
            await mark_acknowledged(conn, header, receipt, claims)
            failpoint("file.marked")
            done.marked += 1
            done.quarantined += [f"{one.id}: {one.reason}" for one in claims.quarantined]
        if found.instance == instance:
            done.epoch_opened = await _follow(conn, instance, found)
        done.left = (await metering_state(conn)).backlog
        await record_success(conn, complete=not done.left)
    return done


async def _follow(conn: Connection, instance: str, found: ReceiptsFile) -> str | None:
    """Open a new epoch where the ledger's chain does not go on with ours; return why."""
    decision = decide(found.head, await history_after(conn, instance, found.head))
    if not isinstance(decision, OpenEpoch):
        return None
    refused = found.refused.reason if found.refused else ""
    # An older file's head is no news: only what the ledger refused, or has beyond us, is.
    if refused not in _NEW_EPOCH and decision.reason == "ChainBroken":
        return None
    await open_epoch(
        conn, epoch=uuid7(), instance=instance, head=found.head, reason=decision.reason
    )
    return decision.reason


def _refusal(found: ReceiptsFile) -> str | None:
    refused = found.refused
    if refused is None:
        return None
    return f"batch {refused.epoch}/{refused.batch_no}: {refused.reason}: {refused.message}"


async def _verify(
    conn: Connection, receipt: str, keys: KeySet, found: ReceiptsFile
) -> tuple[ReceiptClaims, BatchHeader, bool] | None:
    """Return a receipt's claims, its batch, and whether that had one; None: no such batch here.

    A database that was restored has sealed other events under the number of a batch that the
    ledger has: the receipt is the vendor's, and the batch that it is for is not here any more.
    """
    now = found.head.server_time
    claims = verify(receipt, ReceiptClaims, keys.keys, now=now, audience=found.instance)
    stored = await stored_header(conn, claims.epoch, claims.batch_no)
    if stored is None:
        return None
    token, acknowledged = stored
    try:
        header = BatchHeader.model_validate(jwt.decode(token, options={"verify_signature": False}))
    except (jwt.PyJWTError, ValidationError, ValueError):
        return None  # damaged here: its events are sealed anew with the next export
    if header.chain_hash != claims.chain_hash:
        return None
    return verify_receipt(receipt, header, keys.keys, now=now), header, acknowledged


def _receipts(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        lines = FileLines(file, path.name)
        lines.first(ReceiptsFile)
        for line in lines.rest():
            try:
                receipt = json.loads(line)["receipt"]
            except (ValueError, TypeError, KeyError, RecursionError):
                receipt = None
            if not isinstance(receipt, str):
                raise FileError(
                    f"{path.name} has a line that is no receipt; make it anew",
                    reason="FileChanged",
                )
            yield receipt


def _keys(
    found: ReceiptsFile, settings: ReporterSettings, roots: Mapping[str, PublicJwk]
) -> KeySet:
    """Return the newest key set that a root of this release has signed: the file's, or ours."""
    sets: list[KeySet] = []
    failed: PermanentError | None = None
    documents: list[str | bytes] = [found.key_set]
    with suppress(OSError):
        documents.append((settings.license_dir / KEY_SET_KEY).read_bytes())
    for document in documents:
        try:
            sets.append(verify_key_set(document, roots, now=found.head.server_time))
        except PermanentError as error:
            failed = failed or error
    if not sets:
        raise failed or AssertionError("no document, no error")
    return max(sets, key=lambda one: one.number)


def _customer(settings: ReporterSettings) -> str:
    """Return whose site this is; the vendor verifies that the instance is theirs."""
    path = settings.license_dir / LICENSE_KEY
    try:
        token = path.read_text("ascii").strip()
        licensed = jwt.decode(token, options={"verify_signature": False})["sub"]
    except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError):
        licensed = None
    if not isinstance(licensed, str) or not licensed:
        licensed = None
    require_same_customer(settings.customer_id, licensed, "license")
    customer = settings.customer_id or licensed
    if customer is None:
        raise PermanentError(
            f"whose site this is cannot be read from {path}; name the customer with --customer",
            reason="CustomerUnknown",
        )
    return customer


@asynccontextmanager
async def locked_outbox(settings: ReporterSettings) -> AsyncIterator[Connection]:
    """Connect and take the outbox lock; a reporter that is at work is waited for."""
    try:
        conn = await connect(settings, name="brinkbyte-usage")
    except psycopg.OperationalError as error:
        raise TemporaryError(
            f"the database cannot be used ({str(error).strip()}); check BRINKBYTE_DATABASE_URL or "
            "the PostgresReady condition",
            reason="DatabaseUnreachable",
        ) from None
    async with conn:
        deadline = time.monotonic() + LOCK_SECONDS
        while not await lock_outbox(conn):
            if time.monotonic() >= deadline:
                raise TemporaryError(
                    "another reporter is at work; run this again when it has ended",
                    reason="ReporterBusy",
                )
            await asyncio.sleep(_LOCK_PAUSE)
        yield conn


async def _was_ours(conn: Connection, instance: str) -> bool:
    """Tell whether this database has sealed under an instance id before."""
    cursor = await conn.execute(
        "SELECT 1 FROM usage_epochs WHERE instance = %s LIMIT 1", (instance,)
    )
    return await cursor.fetchone() is not None
