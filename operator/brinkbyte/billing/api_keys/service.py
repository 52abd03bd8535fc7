"""Rules of a customer's API keys; every change is in the audit log, no secret is anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from brinkbyte.billing import audit
from brinkbyte.billing.api_keys import repository
from brinkbyte.billing.api_keys.schemas import ApiKey, ApiKeyCreate, ApiKeyMade
from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7

MAX_LIVE: Final = 50
"""Keys of a customer that are good at a time."""


async def require_customer(connection: Connection, customer_id: str) -> Row:
    """Return the customer, locked.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    row = await customers.lock(connection, customer_id)
    if row is None:
        raise unknown_customer(customer_id)
    return row


async def create_in(
    connection: Connection,
    secrets: Secrets,
    customer_id: str,
    request: ApiKeyCreate,
    *,
    actor: str,
    now: int,
) -> ApiKeyMade:
    """Make a key; its secret is in the answer and nowhere else.

    Raises:
        ProblemError: 404 ``UnknownCustomer``; 409 ``TooManyKeys``.
    """
    await require_customer(connection, customer_id)
    return await _make(connection, secrets, customer_id, request, actor=actor, now=now)


async def _make(
    connection: Connection,
    secrets: Secrets,
    customer_id: str,
    request: ApiKeyCreate,
    *,
    actor: str,
    now: int,
    replaces: UUID | None = None,
) -> ApiKeyMade:
    moment = datetime.fromtimestamp(now, UTC)
    if await repository.count_live(connection, customer_id, moment) >= MAX_LIVE:
        raise ProblemError(
            409,
            f"there are {MAX_LIVE} API keys already; revoke one that is not used",
            reason="TooManyKeys",
            limit=MAX_LIVE,
        )
    secret, key_id = secrets.create("tenant"), uuid7()
    scopes = sorted(set(request.scopes))
    row = await repository.insert(
        connection,
        customer_id,
        key_id,
        name=request.name,
        secret_hash=secrets.hash(secret),
        scopes=scopes,
        actor=actor,
        now=moment,
        expires_at=moment + timedelta(days=request.life_days),
    )
    await audit.record(
        connection,
        customer_id,
        now=now,
        actor=actor,
        action="api_key.created" if replaces is None else "api_key.rotated",
        subject=str(key_id),
        details={
            "name": request.name,
            "scopes": scopes,
            **({} if replaces is None else {"replaces": str(replaces)}),
        },
    )
    return ApiKeyMade(**_fields(row), secret=secret)


async def page_in(
    connection: Connection, customer_id: str, *, before: UUID | None, limit: int
) -> list[ApiKey]:
    """Return a customer's keys, newest first, at most ``limit``.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    if await customers.find(connection, customer_id) is None:
        raise unknown_customer(customer_id)
    rows = await repository.page(connection, customer_id, before=before, limit=limit)
    return [ApiKey(**_fields(row)) for row in rows]


async def rotate_in(
    connection: Connection,
    secrets: Secrets,
    customer_id: str,
    key_id: UUID,
    *,
    overlap_hours: int,
    actor: str,
    now: int,
) -> ApiKeyMade:
    """Make a key of the same name, scopes and length of life; the old one is good for a while yet.

    Raises:
        ProblemError: 404 ``UnknownCustomer`` or ``UnknownKey``; 409 ``KeyEnded``.
    """
    await require_customer(connection, customer_id)
    row = await _require(connection, customer_id, key_id)
    moment = datetime.fromtimestamp(now, UTC)
    if row["revoked_at"] is not None or row["expires_at"] <= moment:
        raise ProblemError(
            409, f"API key {key_id} has ended; create a new one instead", reason="KeyEnded"
        )
    # A key that was rotated before has had its end moved: its successor lives as long as any.
    life = (row["expires_at"] - row["created_at"]).days if row["replaced_by"] is None else 365
    made = await _make(
        connection,
        secrets,
        customer_id,
        ApiKeyCreate(
            name=row["name"] or "key", scopes=tuple(row["scopes"]), life_days=max(1, life)
        ),
        actor=actor,
        now=now,
        replaces=key_id,
    )
    await repository.replace(
        connection,
        customer_id,
        key_id,
        by=UUID(made.key_id),
        end=moment + timedelta(hours=overlap_hours),
    )
    return made


async def revoke_in(
    connection: Connection, customer_id: str, key_id: UUID, *, actor: str, now: int
) -> None:
    """Revoke a key at once; again is fine.

    Raises:
        ProblemError: 404 ``UnknownCustomer`` or ``UnknownKey``.
    """
    await require_customer(connection, customer_id)
    row = await _require(connection, customer_id, key_id)
    moment = datetime.fromtimestamp(now, UTC)
    if await repository.revoke(connection, customer_id, key_id, moment):
        await audit.record(
            connection,
            customer_id,
            now=now,
            actor=actor,
            action="api_key.revoked",
            subject=str(key_id),
            details={"name": row["name"]},
        )


async def _require(connection: Connection, customer_id: str, key_id: UUID) -> Row:
    row = await repository.lock(connection, customer_id, key_id)
    if row is None:
        raise ProblemError(
            404, f"there is no API key {key_id}; list them to see their ids", reason="UnknownKey"
        )
    return row


def _fields(row: Row) -> dict[str, object]:
    return {
        "key_id": str(row["credential_id"]),
        "name": row["name"],
        "scopes": tuple(row["scopes"]),
        "created_at": int(row["created_at"].timestamp()),
        "created_by": row["created_by"],
        "expires_at": int(row["expires_at"].timestamp()),
        "revoked_at": None if row["revoked_at"] is None else int(row["revoked_at"].timestamp()),
        "replaced_by": None if row["replaced_by"] is None else str(row["replaced_by"]),
    }
