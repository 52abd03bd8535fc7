"""Sealed batches on their way: read for sending, marked by a receipt, kept, and let go."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from pydantic import ValidationError

from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.claims import ReceiptClaims, TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.metering.batches import (
    BatchError,
    BatchHeader,
    SealedBatch,
    chain_hash,
    check_payload,
    verify_batch_header,
)

BATCH_RETENTION: Final = timedelta(days=45)
"""Acknowledged batches stay this long, to be sent again when the ledger was restored."""

_READ: Final = "SELECT header, payload FROM usage_batches WHERE epoch = %s AND batch_no = %s"
_MARK: Final = """
UPDATE usage_batches SET acknowledged_at = coalesce(acknowledged_at, now()), receipt = %s
WHERE epoch = %s AND batch_no = %s
"""
_QUARANTINE: Final = """
INSERT INTO usage_quarantined AS held (event_id, reason, epoch, batch_no)
SELECT unnest(%s::uuid[]), unnest(%s::text[]), %s, %s
ON CONFLICT (event_id) DO UPDATE
    SET reason = excluded.reason, epoch = excluded.epoch, batch_no = excluded.batch_no
"""
_REPORTED: Final = """
UPDATE billing_sync_status
SET last_reported_at = now(), last_attempt_at = now(), last_receipt = %s, updated_at = now()
"""
# The newest batch of all stays whatever its age: the chain goes on from it.
_PURGE: Final = """
DELETE FROM usage_batches
WHERE acknowledged_at < %s AND position < (SELECT max(position) FROM usage_batches)
"""


class DamagedBatchError(PermanentError):
    """A stored batch is not what was sealed any more: its events are sealed anew."""


async def load_batch(
    conn: AsyncConnection[Any], key: SigningKey, epoch: str, batch_no: int
) -> SealedBatch:
    """Read a sealed batch and check it; a batch of an earlier key pair is signed by this one.

    The chain hash leaves the signature out, so signing again changes nothing that a later batch or
    a receipt refers to.

    Raises:
        DamagedBatchError: header or payload were changed in the database.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_READ, (epoch, batch_no))
        row = await cursor.fetchone()
    if row is None:
        raise DamagedBatchError(
            f"batch {epoch}/{batch_no} is gone from the database", reason="BatchDamaged"
        )
    token, payload = str(row[0]), bytes(row[1])
    try:
        header, token = _check_header(token, key)
        check_payload(header, payload)
        if (header.epoch, header.batch_no) != (epoch, batch_no):
            raise BatchError("the header is another batch's", reason="MalformedBatch")
    except (BatchError, ValidationError, jwt.PyJWTError, ValueError, KeyError) as error:
        raise DamagedBatchError(
            f"batch {epoch}/{batch_no} was changed in the database ({error})",
            reason="BatchDamaged",
        ) from None
    return SealedBatch(header, token, payload)


def _check_header(token: str, key: SigningKey) -> tuple[BatchHeader, str]:
    if jwt.get_unverified_header(token).get("kid") == key.kid:
        return verify_batch_header(token, {key.kid: key.private_key.public_key()}), token
    header = BatchHeader.model_validate(jwt.decode(token, options={"verify_signature": False}))
    members = header.to_wire()
    del members["chainHash"]
    if chain_hash(members, header.previous_hash) != header.chain_hash:
        raise BatchError("the chain hash is not the header's", reason="ChainMismatch")
    return header, jwt.encode(
        header.to_wire(),
        key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.BATCH.typ, "kid": key.kid},
    )


async def mark_acknowledged(
    conn: AsyncConnection[Any], batch: BatchHeader, receipt: str, claims: ReceiptClaims
) -> None:
    """Store a verified receipt; its events are acknowledged by it, in one transaction."""
    async with conn.transaction():
        await conn.execute(_MARK, (receipt, batch.epoch, batch.batch_no))
        await conn.execute(
            _QUARANTINE,
            (
                [event.id for event in claims.quarantined],
                [event.reason for event in claims.quarantined],
                batch.epoch,
                batch.batch_no,
            ),
        )
        await conn.execute(_REPORTED, (f"{batch.epoch}/{batch.batch_no}",))
        failpoint("mark.before_commit")
    failpoint("mark.committed")


async def purge_batches(
    conn: AsyncConnection[Any], now: datetime, *, keep: timedelta = BATCH_RETENTION
) -> int:
    """Delete batches acknowledged longer ago than ``keep``, and return how many went."""
    return (await conn.execute(_PURGE, (now - keep,))).rowcount


async def record_success(conn: AsyncConnection[Any], *, complete: bool = True) -> None:
    """Note a run without an error: whatever an earlier one met is over.

    Args:
        conn: the reporter's connection.
        complete: whether nothing is unacknowledged.
    """
    await conn.execute(
        "UPDATE billing_sync_status SET last_attempt_at = now(), "
        "last_reported_at = CASE WHEN %s THEN now() ELSE last_reported_at END, "
        "last_error_reason = NULL, last_error_message = NULL, last_error_at = NULL, "
        "updated_at = now()",
        (complete,),
    )


async def record_failure(conn: AsyncConnection[Any], reason: str, message: str) -> None:
    """Note why a run could not finish."""
    await conn.execute(
        "UPDATE billing_sync_status SET last_attempt_at = now(), last_error_reason = %s, "
        "last_error_message = %s, last_error_at = now(), updated_at = now()",
        (reason[:128], message[:1000].replace("\0", "")),
    )
