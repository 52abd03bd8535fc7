"""SQL of a customer's API keys: rows of ``credentials`` of the kind ``tenant``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from brinkbyte.billing.db import Connection, Row

_COLUMNS = (
    "credential_id, name, scopes, created_at, created_by, expires_at, revoked_at, replaced_by"
)


async def insert(
    connection: Connection,
    tenant_id: str,
    key_id: UUID,
    *,
    name: str,
    secret_hash: bytes,
    scopes: Sequence[str],
    actor: str,
    now: datetime,
    expires_at: datetime,
) -> Row:
    """Store a key's hash; returns the row."""
    cursor = await connection.execute(
        "INSERT INTO credentials (tenant_id, credential_id, kind, secret_hash, scopes, name, "
        "created_by, created_at, expires_at) VALUES (%s, %s, 'tenant', %s, %s, %s, %s, %s, %s) "
        "RETURNING credential_id, name, scopes, created_at, created_by, expires_at, revoked_at, "
        "replaced_by",
        [tenant_id, key_id, secret_hash, list(scopes), name, actor, now, expires_at],
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - RETURNING of an insert that did not raise
    return row


async def page(
    connection: Connection, tenant_id: str, *, before: UUID | None, limit: int
) -> list[Row]:
    """Return keys, newest first, older than the one named; ids are UUIDv7."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM credentials "  # noqa: S608 - constant
        "WHERE tenant_id = %(tenant)s AND kind = 'tenant' "
        "AND (%(before)s::uuid IS NULL OR credential_id < %(before)s) "
        "ORDER BY credential_id DESC LIMIT %(limit)s",
        {"tenant": tenant_id, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def lock(connection: Connection, tenant_id: str, key_id: UUID) -> Row | None:
    """Return a key and lock it."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM credentials "  # noqa: S608 - constant
        "WHERE tenant_id = %s AND credential_id = %s AND kind = 'tenant' FOR UPDATE",
        [tenant_id, key_id],
    )
    return await cursor.fetchone()


async def count_live(connection: Connection, tenant_id: str, now: datetime) -> int:
    """Return how many keys are good."""
    cursor = await connection.execute(
        "SELECT count(*) AS n FROM credentials WHERE tenant_id = %s AND kind = 'tenant' "
        "AND revoked_at IS NULL AND expires_at > %s",
        [tenant_id, now],
    )
    row = await cursor.fetchone()
    return 0 if row is None else row["n"]


async def replace(
    connection: Connection, tenant_id: str, key_id: UUID, *, by: UUID, end: datetime
) -> None:
    """Let a key end no later than a moment: another one has taken its place."""
    await connection.execute(
        "UPDATE credentials SET replaced_by = %s, expires_at = least(expires_at, %s) "
        "WHERE tenant_id = %s AND credential_id = %s",
        [by, end, tenant_id, key_id],
    )


async def revoke(connection: Connection, tenant_id: str, key_id: UUID, now: datetime) -> bool:
    """Revoke a key; False if it was revoked before."""
    cursor = await connection.execute(
        "UPDATE credentials SET revoked_at = %s WHERE tenant_id = %s AND credential_id = %s "
        "AND kind = 'tenant' AND revoked_at IS NULL",
        [now, tenant_id, key_id],
    )
    return cursor.rowcount == 1
