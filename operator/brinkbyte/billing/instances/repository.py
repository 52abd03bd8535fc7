"""SQL of instances, their keys and credentials, and enrollments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection, Row
from brinkbyte.license.keys import PublicJwk
from brinkbyte.license.wire import EnrollmentRequest, Heartbeat


async def live(connection: Connection, tenant_id: str) -> Row | None:
    """Return the customer's live instance."""
    cursor = await connection.execute(
        "SELECT * FROM instances WHERE tenant_id = %s AND ended_at IS NULL", [tenant_id]
    )
    return await cursor.fetchone()


async def find(connection: Connection, tenant_id: str, instance_id: str) -> Row | None:
    """Return an instance, ended or not."""
    cursor = await connection.execute(
        "SELECT * FROM instances WHERE tenant_id = %s AND instance_id = %s",
        [tenant_id, instance_id],
    )
    return await cursor.fetchone()


async def all_instances(connection: Connection) -> list[Row]:
    """Return every instance that the role may see, newest first."""
    cursor = await connection.execute("SELECT * FROM instances ORDER BY created_at DESC")
    return await cursor.fetchall()


async def insert(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    request: EnrollmentRequest,
    now: datetime,
) -> None:
    """Create an instance and its first key."""
    await connection.execute(
        "INSERT INTO instances (tenant_id, instance_id, name, uid, cluster_fingerprint, version, "
        "key_id, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            instance_id,
            request.name,
            request.uid,
            request.cluster_fingerprint,
            request.version,
            request.public_key.kid,
            now,
        ],
    )
    await add_key(connection, tenant_id, instance_id, request.public_key, now)


async def end(
    connection: Connection, tenant_id: str, instance_id: str, reason: str, now: datetime
) -> bool:
    """End an instance; False if it had ended already."""
    cursor = await connection.execute(
        "UPDATE instances SET ended_at = %s, ended_reason = %s "
        "WHERE tenant_id = %s AND instance_id = %s AND ended_at IS NULL",
        [now, reason, tenant_id, instance_id],
    )
    return cursor.rowcount == 1


async def set_revision(
    connection: Connection, tenant_id: str, instance_id: str, revision: int
) -> None:
    """Store the number of the newest inventory."""
    await connection.execute(
        "UPDATE instances SET inventory_revision = %s WHERE tenant_id = %s AND instance_id = %s",
        [revision, tenant_id, instance_id],
    )


async def set_settled(
    connection: Connection, tenant_id: str, instance_id: str, basis: bytes
) -> None:
    """Store what the instance's seats were decided for."""
    await connection.execute(
        "UPDATE instances SET settled_for = %s WHERE tenant_id = %s AND instance_id = %s",
        [basis, tenant_id, instance_id],
    )


async def add_key(
    connection: Connection, tenant_id: str, instance_id: str, key: PublicJwk, now: datetime
) -> None:
    """Register a public key and make it the one that tokens are cut for."""
    await connection.execute(
        "INSERT INTO instance_keys (tenant_id, instance_id, key_id, jwk, registered_at) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [tenant_id, instance_id, key.kid, Jsonb(key.model_dump(mode="json")), now],
    )
    await connection.execute(
        "UPDATE instances SET key_id = %s WHERE tenant_id = %s AND instance_id = %s",
        [key.kid, tenant_id, instance_id],
    )


async def keys(connection: Connection, tenant_id: str, instance_id: str) -> dict[str, PublicJwk]:
    """Return every key that the instance ever registered, by thumbprint."""
    cursor = await connection.execute(
        "SELECT key_id, jwk FROM instance_keys WHERE tenant_id = %s AND instance_id = %s",
        [tenant_id, instance_id],
    )
    return {
        row["key_id"]: PublicJwk.model_validate({**row["jwk"], "kinds": ()})
        for row in await cursor.fetchall()
    }


async def add_credential(
    connection: Connection,
    tenant_id: str,
    credential_id: UUID,
    *,
    kind: str,
    instance_id: str | None,
    secret_hash: bytes,
    scopes: Sequence[str],
    families: Sequence[str],
    now: datetime,
    expires_at: datetime,
) -> None:
    """Store a credential's hash."""
    await connection.execute(
        "INSERT INTO credentials (tenant_id, credential_id, kind, instance_id, secret_hash, "
        "scopes, families, created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            credential_id,
            kind,
            instance_id,
            secret_hash,
            list(scopes),
            list(families),
            now,
            expires_at,
        ],
    )


async def credential_end(
    connection: Connection, tenant_id: str, secret_hash: bytes
) -> datetime | None:
    """Return when the credential of a secret ends, None without one."""
    cursor = await connection.execute(
        "SELECT expires_at FROM credentials WHERE tenant_id = %s AND secret_hash = %s",
        [tenant_id, secret_hash],
    )
    row = await cursor.fetchone()
    return None if row is None else row["expires_at"]


async def limit_credentials(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    *,
    expires_at: datetime,
) -> None:
    """Let the instance's credentials of before end no later than a moment."""
    await connection.execute(
        "UPDATE credentials SET expires_at = least(expires_at, %s) "
        "WHERE tenant_id = %s AND instance_id = %s",
        [expires_at, tenant_id, instance_id],
    )


async def revoke_credentials(
    connection: Connection, tenant_id: str, instance_id: str, now: datetime
) -> int:
    """Revoke all credentials of an instance, and the token that could make another one.

    Returns:
        How many were not revoked yet.
    """
    cursor = await connection.execute(
        "UPDATE credentials c SET revoked_at = %(now)s "
        "WHERE tenant_id = %(tenant)s AND revoked_at IS NULL "
        "AND (instance_id = %(instance)s OR credential_id IN ("
        "SELECT credential_id FROM enrollments "
        "WHERE tenant_id = %(tenant)s AND instance_id = %(instance)s))",
        {"now": now, "tenant": tenant_id, "instance": instance_id},
    )
    return cursor.rowcount


async def revoke_enrollment(
    connection: Connection, tenant_id: str, credential_id: UUID, now: datetime
) -> bool:
    """Revoke an enrollment token; False if there is none that is not revoked yet."""
    cursor = await connection.execute(
        "UPDATE credentials SET revoked_at = %s WHERE tenant_id = %s AND credential_id = %s "
        "AND kind = 'enrollment' AND revoked_at IS NULL",
        [now, tenant_id, credential_id],
    )
    return cursor.rowcount == 1


async def enrollments(connection: Connection, tenant_id: str) -> list[Row]:
    """Return a customer's enrollment tokens, newest first; their secrets are nowhere."""
    cursor = await connection.execute(
        "SELECT e.credential_id, e.replace, e.created_at, c.expires_at, e.used_at, c.revoked_at, "
        "e.instance_id FROM enrollments e JOIN credentials c USING (tenant_id, credential_id) "
        "WHERE e.tenant_id = %s ORDER BY e.created_at DESC",
        [tenant_id],
    )
    return await cursor.fetchall()


async def add_enrollment(
    connection: Connection, tenant_id: str, credential_id: UUID, *, replace: bool, now: datetime
) -> None:
    """Create an enrollment."""
    await connection.execute(
        "INSERT INTO enrollments (tenant_id, credential_id, replace, created_at) "
        "VALUES (%s, %s, %s, %s)",
        [tenant_id, credential_id, replace, now],
    )


async def lock_enrollment(
    connection: Connection, tenant_id: str, credential_id: UUID
) -> Row | None:
    """Return an enrollment and lock it."""
    cursor = await connection.execute(
        "SELECT * FROM enrollments WHERE tenant_id = %s AND credential_id = %s FOR UPDATE",
        [tenant_id, credential_id],
    )
    return await cursor.fetchone()


async def use_enrollment(
    connection: Connection,
    tenant_id: str,
    credential_id: UUID,
    *,
    key_id: str,
    instance_id: str,
    now: datetime,
) -> None:
    """Mark an enrollment as used."""
    await connection.execute(
        "UPDATE enrollments SET used_at = %s, used_key_id = %s, instance_id = %s "
        "WHERE tenant_id = %s AND credential_id = %s",
        [now, key_id, instance_id, tenant_id, credential_id],
    )


async def heartbeat(
    connection: Connection, tenant_id: str, instance_id: str, beat: Heartbeat, now: datetime
) -> None:
    """Store what the instance told about itself."""
    await connection.execute(
        "UPDATE instances SET last_seen_at = %s, seen_version = %s, seen_fingerprint = %s, "
        "seen_license_sequence = %s, devices_online = %s, backlog = %s "
        "WHERE tenant_id = %s AND instance_id = %s",
        [
            now,
            beat.version,
            beat.cluster_fingerprint,
            beat.license_sequence,
            beat.devices_online,
            beat.backlog,
            tenant_id,
            instance_id,
        ],
    )


async def clone_alarm(
    connection: Connection, tenant_id: str, instance_id: str, now: datetime
) -> None:
    """Note that a copy of the instance's database may be reporting."""
    await connection.execute(
        "UPDATE instances SET clone_alarm_at = %s WHERE tenant_id = %s AND instance_id = %s",
        [now, tenant_id, instance_id],
    )
