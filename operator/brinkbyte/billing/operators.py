"""SQL of the vendor's own credentials."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from brinkbyte.billing.db import Connection


async def add_operator_credential(
    connection: Connection,
    *,
    name: str,
    secret_hash: bytes,
    scopes: Sequence[str],
    now: datetime,
    expires_at: datetime,
) -> None:
    """Store a vendor credential's hash."""
    await connection.execute(
        "INSERT INTO operator_credentials (credential_id, name, secret_hash, scopes, created_at, "
        "expires_at) VALUES (%s, %s, %s, %s, %s, %s)",
        [uuid4(), name, secret_hash, list(scopes), now, expires_at],
    )
