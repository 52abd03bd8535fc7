"""SQL of instances without a line and of the bundles made for them."""

from __future__ import annotations

from datetime import datetime

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.instances import repository as instances
from brinkbyte.license.request import SiteRequest


async def insert_instance(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    request: SiteRequest,
    now: datetime,
) -> None:
    """Create the instance of a site without a line, and its key."""
    claims = request.claims
    await connection.execute(
        "INSERT INTO instances (tenant_id, instance_id, name, uid, cluster_fingerprint, version, "
        "key_id, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            instance_id,
            claims.name,
            claims.uid,
            claims.cluster_fingerprint,
            claims.version,
            request.public_key.kid,
            now,
        ],
    )
    await instances.add_key(connection, tenant_id, instance_id, request.public_key, now)


async def requested(
    connection: Connection, tenant_id: str, instance_id: str, request: SiteRequest, at: datetime
) -> None:
    """Note what a request says of its site, and that the site has no line."""
    await connection.execute(
        "UPDATE instances SET air_gapped = true, requested_at = %s, seen_version = %s, "
        "seen_fingerprint = %s, seen_key_set_number = %s, seen_license_sequence = %s "
        "WHERE tenant_id = %s AND instance_id = %s",
        [
            at,
            request.claims.version,
            request.claims.cluster_fingerprint,
            request.inventory.held.key_set_number,
            request.inventory.held.license_sequence,
            tenant_id,
            instance_id,
        ],
    )


async def newest(connection: Connection, tenant_id: str, instance_id: str) -> Row | None:
    """Return the newest bundle of an instance."""
    cursor = await connection.execute(
        "SELECT * FROM bundles WHERE tenant_id = %s AND instance_id = %s "
        "ORDER BY sequence DESC LIMIT 1",
        [tenant_id, instance_id],
    )
    return await cursor.fetchone()


async def insert(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    *,
    sequence: int,
    request_id: str,
    content_hash: bytes,
    issued_at: datetime,
    expires_at: datetime,
) -> None:
    """Note a bundle."""
    await connection.execute(
        "INSERT INTO bundles (tenant_id, instance_id, sequence, request_id, content_hash, "
        "issued_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [tenant_id, instance_id, sequence, request_id, content_hash, issued_at, expires_at],
    )
