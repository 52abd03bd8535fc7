"""``Idempotency-Key``: the same call again gets the answer of the first, and does no work.

An endpoint that creates something takes :data:`OnceOnly` and runs its rule through it::

    async def create(…, once: OnceOnly, …) -> Customer:
        return await once.run(tenant_id, Customer, lambda c: service.create_in(c, request, …))

The answer is stored in the transaction of the change: both are there, or neither. A second call
with the key waits for the first to end. A call that failed has changed nothing, so its key is
free. Without the header the rule just runs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Depends, Header, Request, Response
from psycopg import sql
from pydantic import TypeAdapter

from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.db import Connection
from brinkbyte.kit.problem import ProblemError

KEPT: Final = timedelta(hours=48)
WAIT: Final = "10s"
"""How long a call waits for another one with the same key."""
_NONCE: Final = 12
_PURGED: Final = 100
T = TypeVar("T")


@dataclass(frozen=True)
class _Place:
    """Where a caller's answers are: a customer's own table, or the vendor's."""

    table: sql.Identifier
    whose: dict[str, Any]

    @property
    def where(self) -> sql.Composable:
        return sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in self.whose
        )


class Once:
    """Runs a call's rule once for each ``Idempotency-Key`` of its caller."""

    def __init__(self, request: Request, response: Response, context: Context, key: str | None):
        self._request = request
        self._response = response
        self._context = context
        self._key = key

    async def run(
        self,
        tenant_id: str,
        answer: Any,
        work: Callable[[Connection], Awaitable[T]],
    ) -> T:
        """Open a transaction of the tenant's and run the rule in it, or return its first answer.

        Args:
            tenant_id: whose transaction it is.
            answer: type of the answer, to read a stored one.
            work: the rule; all its changes go through the connection.

        Raises:
            ProblemError: 422 ``IdempotencyKeyReused`` when the key came with another request; 409
                ``CallInProgress`` when the first call with it takes too long.
        """
        if self._key is None:
            async with self._context.database.tenant(tenant_id) as connection:
                return await work(connection)
        caller: str = self._request.state.caller
        adapter: TypeAdapter[T] = TypeAdapter(answer)
        name = _key_hash(self._context.secrets, caller, self._key)
        fingerprint = await self._fingerprint()
        place = _place(tenant_id, caller, name)
        async with self._context.database.tenant(tenant_id) as connection:
            now = datetime.fromtimestamp(self._context.now(), UTC)
            stored = await _claim(connection, place, fingerprint, now)
            if stored is None:
                made = await work(connection)
                body = adapter.dump_json(made, by_alias=True)
                sealed = _seal(self._context.secrets, caller, self._key, body)
                await connection.execute(
                    sql.SQL("UPDATE {} SET answer = %(answer)s WHERE {}").format(
                        place.table, place.where
                    ),
                    {**place.whose, "answer": sealed},
                )
                return made
        opened = _open(self._context.secrets, caller, self._key, stored)
        self._response.headers["Idempotent-Replay"] = "true"
        return adapter.validate_json(opened)

    async def _fingerprint(self) -> bytes:
        digest: bytes | None = getattr(self._request.state, "body_digest", None)
        if digest is None:
            digest = hashlib.sha256(await self._request.body()).digest()
        url = self._request.url
        named = f"{self._request.method} {url.path}?{url.query}\n".encode()
        return hashlib.sha256(named + digest).digest()


def _place(tenant_id: str, caller: str, name: bytes) -> _Place:
    whose: dict[str, Any] = {"caller": caller, "key_hash": name}
    if caller.startswith("operator:"):
        return _Place(sql.Identifier("own_idempotent_answers"), whose)
    return _Place(sql.Identifier("idempotent_answers"), {"tenant_id": tenant_id, **whose})


async def _claim(
    connection: Connection, place: _Place, fingerprint: bytes, now: datetime
) -> bytes | None:
    """Take the key; returns the sealed answer of the call that had it before."""
    await _purge(connection, place, now - KEPT)
    columns = {**place.whose, "fingerprint": fingerprint, "created_at": now}
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
        place.table,
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(map(sql.Placeholder, columns)),
    )
    try:
        await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(WAIT))
        try:
            cursor = await connection.execute(insert, columns)
        except psycopg.errors.ForeignKeyViolation:
            raise ProblemError(
                404, "there is no such customer; check the id", reason="UnknownCustomer"
            ) from None
        await connection.execute("SET LOCAL lock_timeout = 0")
    except psycopg.errors.LockNotAvailable:
        raise ProblemError(
            409,
            "the first call with this Idempotency-Key is still at work; ask again in a moment",
            reason="CallInProgress",
            headers={"Retry-After": "5"},
        ) from None
    if cursor.rowcount == 1:
        return None
    cursor = await connection.execute(
        sql.SQL("SELECT fingerprint, answer FROM {} WHERE {}").format(place.table, place.where),
        place.whose,
    )
    row = await cursor.fetchone()
    if row is None or row["answer"] is None or bytes(row["fingerprint"]) != fingerprint:
        raise ProblemError(
            422,
            "this Idempotency-Key was sent with another request; make a new key for each",
            reason="IdempotencyKeyReused",
        )
    return bytes(row["answer"])


async def _purge(connection: Connection, place: _Place, before: datetime) -> None:
    """Drop this key's answer when it is too old, and a few others that are."""
    await connection.execute(
        sql.SQL("DELETE FROM {} WHERE {} AND created_at < %(before)s").format(
            place.table, place.where
        ),
        {**place.whose, "before": before},
    )
    await connection.execute(
        sql.SQL(
            "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} "
            "WHERE created_at < %(before)s LIMIT %(some)s FOR UPDATE SKIP LOCKED))"
        ).format(table=place.table),
        {"before": before, "some": _PURGED},
    )


def _key_hash(secrets: Secrets, caller: str, key: str) -> bytes:
    return secrets.named("idempotency key", caller, key)


def _cipher(secrets: Secrets, caller: str, key: str) -> AESGCM:
    return AESGCM(secrets.named("idempotent answer", caller, key))


def _seal(secrets: Secrets, caller: str, key: str, body: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + _cipher(secrets, caller, key).encrypt(nonce, body, None)


def _open(secrets: Secrets, caller: str, key: str, sealed: bytes) -> bytes:
    try:
        return _cipher(secrets, caller, key).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except InvalidTag:
        raise ProblemError(
            409,
            "the answer of the first call cannot be read any more; list what was made, and use a "
            "new Idempotency-Key",
            reason="AnswerLost",
        ) from None


def once(
    request: Request,
    response: Response,
    context: Annotated[Context, Depends(get_context)],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="any unique text: the same call with it again gets the first answer and "
            "does nothing, for 48 hours",
            examples=["5f0c2a6e-order-17"],
        ),
    ] = None,
) -> Once:
    """Return what runs this call's rule once (FastAPI dependency)."""
    return Once(request, response, context, idempotency_key)


OnceOnly = Annotated[Once, Depends(once)]
