"""Usage of sites without a line: files of sealed batches in, files of receipts out.

The batches go through the rules of those that come over a line, one by one; what is in the ledger
already gets its stored receipt, so a file may be imported again, whole or overlapping.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from uuid import UUID

import jwt
import msgspec

from brinkbyte.billing import audit
from brinkbyte.billing.auth import INSTANCE_FAMILIES, InstanceCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.instances import repository as instances
from brinkbyte.billing.usage import service
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.problem import ProblemError
from brinkbyte.metering.files import (
    FileLines,
    FileWriter,
    ReceiptsFile,
    RefusedBatch,
    UsageFile,
    check_file,
)

_NO_CREDENTIAL: Final = UUID(int=0)


@dataclass(frozen=True)
class ImportedUsage:
    """What a file came to.

    Attributes:
        batches: of the file, which all have their receipt, or those before the refused one.
        refused: where the ledger stopped; None: it did not.
    """

    customer_id: str
    instance: str
    batches: int
    refused: RefusedBatch | None


async def import_usage(
    context: Context, path: Path, out: IO[bytes], *, actor: str, customer: str | None = None
) -> ImportedUsage:
    """Take in a file of sealed batches and write their receipts.

    Args:
        context: dependencies; the database as the api role.
        path: the file that ``brinkbyte usage export`` wrote.
        out: gets the file of receipts, once all of it is known.
        actor: for the audit log.
        customer: refuse the file unless it is this customer's.

    Raises:
        FileError: the file is no file of usage, was cut short, or was changed; nothing was taken
            in.
        PermanentError: the file is of another customer, or of an instance that is not the
            customer's.
        TemporaryError: the ledger cannot take it in now; the same file again later is fine.
    """
    with path.open("rb") as file:
        found, _ = check_file(file, UsageFile, path.name)
    if not isinstance(found, UsageFile):
        raise AssertionError("checked to be usage")
    tenant_id = found.customer_id
    if customer is not None and customer != tenant_id:
        raise PermanentError(
            f"the file is of customer {tenant_id}, not of {customer}; ask who sent it",
            reason="CustomerMismatch",
        )
    async with context.database.tenant(tenant_id) as connection:
        if await instances.find(connection, tenant_id, found.instance) is None:
            raise PermanentError(
                f"customer {tenant_id} has no instance {found.instance}; the file is of another "
                "site, or its bundle was made by another billing database",
                reason="UnknownInstance",
            )
    caller = InstanceCaller(tenant_id, found.instance, _NO_CREDENTIAL, frozenset(INSTANCE_FAMILIES))
    context.keyring.refresh()
    batches, refused = 0, None
    with tempfile.TemporaryFile() as receipts:
        for body in _batches(path):
            try:
                receipt = await service.ingest(context, caller, body)
            except ProblemError as error:
                refused = _refused(body, error)
                break
            failpoint("file.ingested")
            receipts.write(json.dumps({"receipt": receipt}).encode() + b"\n")
            batches += 1
        first = ReceiptsFile(
            customer_id=tenant_id,
            instance=found.instance,
            head=await service.head(context, caller),
            refused=refused,
            key_set=json.dumps(context.keyring.document),
        )
        async with context.database.tenant(tenant_id) as connection:
            await audit.record(
                connection,
                tenant_id,
                now=context.now(),
                actor=actor,
                action="usage.imported",
                subject=found.instance,
                details={
                    "batches": batches,
                    "refused": None if refused is None else refused.reason,
                },
            )
        receipts.seek(0)
        _write(out, first, receipts)
    return ImportedUsage(tenant_id, found.instance, batches, refused)


def _batches(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        lines = FileLines(file, path.name)
        lines.first(UsageFile)
        for line in lines.rest():
            yield line.rstrip(b"\n")


def _refused(body: bytes, error: ProblemError) -> RefusedBatch:
    """Say which batch it was, as far as that can be read."""
    try:
        header = msgspec.json.decode(body)["header"]
        said = jwt.decode(header, options={"verify_signature": False})
        epoch, batch_no = str(said["epoch"]), int(said["batchNo"])
    except (msgspec.MsgspecError, jwt.PyJWTError, ValueError, TypeError, KeyError):
        epoch, batch_no = "unreadable", 0
    return RefusedBatch(epoch=epoch, batch_no=batch_no, reason=error.reason, message=error.message)


def _write(out: IO[bytes], first: ReceiptsFile, receipts: IO[bytes]) -> None:
    writer = FileWriter(first)
    out.write(writer.begin())
    for line in receipts:
        out.write(writer.line(line.rstrip(b"\n")))
    out.write(writer.end())
