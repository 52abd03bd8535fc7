"""Idempotency keys: a request that comes twice is done once and answered twice alike.

The key is reserved in the caller's transaction, by the unique index: of two simultaneous requests
with one key the second waits for the first to commit and then gets its answer, or does the work
itself when the first was rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from brinkbyte.kit.errors import InvalidInputError

KEPT_HOURS: Final = 48
MAX_KEY_LENGTH: Final = 200

# A key past its time counts as never seen. A row without an answer was committed by a caller that
# forgot to store one: it has no answer to repeat, so the work is done (again).
_RESERVE: Final = """
INSERT INTO idempotency_keys AS held (credential, key, request_hash)
VALUES (%(credential)s, %(key)s, %(request_hash)s)
ON CONFLICT (credential, key) DO UPDATE
    SET request_hash = excluded.request_hash, created_at = excluded.created_at,
        response_status = NULL, response_body = NULL
    WHERE held.created_at < now() - make_interval(hours => %(hours)s)
       OR held.response_status IS NULL
RETURNING key
"""
_STORED: Final = """
SELECT request_hash, response_status, response_body FROM idempotency_keys
WHERE credential = %(credential)s AND key = %(key)s
"""
_STORE: Final = """
UPDATE idempotency_keys SET response_status = %s, response_body = %s
WHERE credential = %s AND key = %s
"""


@dataclass(frozen=True)
class StoredAnswer:
    """The answer that the first request with this key got."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Reservation:
    """The key is the caller's: do the work, then :meth:`store`, in the same transaction."""

    credential: str
    key: str

    async def store(self, conn: AsyncConnection[Any], status: int, body: bytes) -> None:
        """Keep the answer for repeats of the request."""
        await conn.execute(_STORE, (status, body, self.credential, self.key))


async def idempotent(
    conn: AsyncConnection[Any], credential: str, key: str, request_hash: str
) -> Reservation | StoredAnswer:
    """Reserve a key in the caller's transaction, or return the answer it already has.

    Args:
        conn: a connection inside a transaction, isolation READ COMMITTED.
        credential: id of the caller's credential, never the secret.
        key: the caller's ``Idempotency-Key``, 1 to 200 characters.
        request_hash: SHA-256 of method, path and body, hex.

    Raises:
        InvalidInputError: the key is malformed (``IdempotencyKeyInvalid``), or came before with
            another request (``IdempotencyKeyReused``).
    """
    if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise InvalidInputError(
            f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable characters; send a fresh "
            "UUID for each request",
            reason="IdempotencyKeyInvalid",
        )
    values = {
        "credential": credential,
        "key": key,
        "request_hash": request_hash,
        "hours": KEPT_HOURS,
    }
    reserved = await conn.execute(_RESERVE, values)
    if await reserved.fetchone() is not None:
        return Reservation(credential, key)
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_STORED, values)
        row = await cursor.fetchone()
    if row is None:
        # Removed by the clean-up between the two statements: it was past its time.
        return await idempotent(conn, credential, key, request_hash)
    stored_hash, status, body = row
    if stored_hash != request_hash:
        raise InvalidInputError(
            f"Idempotency-Key {key!r} was used with another request; send a new key",
            reason="IdempotencyKeyReused",
        )
    return StoredAnswer(status, bytes(body))


async def purge_idempotency_keys(conn: AsyncConnection[Any]) -> int:
    """Delete keys past their 48 hours and return how many went."""
    done = await conn.execute(
        "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(hours => %s)",
        (KEPT_HOURS,),
    )
    return done.rowcount
