"""SQL of what instances have seen of the key set, and who signed what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from brinkbyte.billing.db import Connection, Row


async def note_held(
    connection: Connection, tenant_id: str, instance_id: str, number: int, now: datetime
) -> None:
    """Note the key set that an instance says it holds; writes at most every 10 minutes else."""
    await connection.execute(
        "UPDATE instances SET last_contact_at = %(now)s, "
        "key_set_seen_at = CASE WHEN coalesce(seen_key_set_number, 0) < %(number)s "
        "THEN %(now)s ELSE key_set_seen_at END, "
        "seen_key_set_number = greatest(seen_key_set_number, %(number)s) "
        "WHERE tenant_id = %(tenant)s AND instance_id = %(instance)s "
        "AND (coalesce(seen_key_set_number, 0) < %(number)s OR last_contact_at IS NULL "
        "OR last_contact_at < %(now)s - interval '10 minutes')",
        {"now": now, "number": number, "tenant": tenant_id, "instance": instance_id},
    )


async def note_bundle(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    *,
    number: int,
    key_ids: Iterable[str],
    expires_at: datetime,
) -> None:
    """Note the newest bundle that was made for an instance."""
    await connection.execute(
        "UPDATE instances SET bundle_key_set_number = %s, bundle_key_ids = %s, "
        "bundle_expires_at = %s WHERE tenant_id = %s AND instance_id = %s",
        [number, sorted(set(key_ids)), expires_at, tenant_id, instance_id],
    )


async def live_instances(connection: Connection) -> list[Row]:
    """Return what every live instance has seen, as far as the role may see them."""
    cursor = await connection.execute(
        "SELECT tenant_id, instance_id, name, created_at, seen_key_set_number, key_set_seen_at, "
        "greatest(last_seen_at, last_contact_at) AS contact_at, bundle_key_set_number, "
        "bundle_key_ids, bundle_expires_at FROM instances WHERE ended_at IS NULL "
        "ORDER BY tenant_id, instance_id"
    )
    return await cursor.fetchall()


async def signed_by(connection: Connection, key_ids: Iterable[str]) -> list[Row]:
    """Return the newest end of what these keys signed, by customer and key."""
    cursor = await connection.execute(
        "SELECT tenant_id, key_id, max(ends_at) AS ends_at FROM ("
        "SELECT tenant_id, key_id, expires_at AS ends_at FROM licenses "
        "UNION ALL SELECT tenant_id, key_id, token_expires_at FROM seats) AS documents "
        "WHERE key_id = ANY(%s) GROUP BY tenant_id, key_id ORDER BY tenant_id, key_id",
        [list(key_ids)],
    )
    return await cursor.fetchall()
