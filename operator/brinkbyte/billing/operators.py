"""SQL of the vendor's own credentials."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from brinkbyte.billing.db import Connection, Row


async def add_operator_credential(
    connection: Connection,
    *,
    name: str,
    secret_hash: bytes,
    scopes: Sequence[str],
    families: Sequence[str],
    now: datetime,
    expires_at: datetime,
) -> UUID:
    """Store a vendor credential's hash; returns its id."""
    credential_id = uuid4()
    await connection.execute(
        "INSERT INTO operator_credentials (credential_id, name, secret_hash, scopes, families, "
        "created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [credential_id, name, secret_hash, list(scopes), list(families), now, expires_at],
    )
    return credential_id


async def all_credentials(connection: Connection) -> list[Row]:
    """Return every vendor credential without its hash, newest first."""
    cursor = await connection.execute(
        "SELECT credential_id, name, scopes, families, created_at, expires_at, revoked_at "
        "FROM operator_credentials ORDER BY created_at DESC"
    )
    return await cursor.fetchall()


async def revoke(connection: Connection, credential_id: UUID, now: datetime) -> str | None:
    """Revoke a vendor credential; returns its name, None if it is unknown or was revoked."""
    cursor = await connection.execute(
        "UPDATE operator_credentials SET revoked_at = %s "
        "WHERE credential_id = %s AND revoked_at IS NULL RETURNING name",
        [now, credential_id],
    )
    row = await cursor.fetchone()
    return None if row is None else row["name"]
