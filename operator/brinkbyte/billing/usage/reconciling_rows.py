"""SQL of what the ledger tells a site about itself."""

from __future__ import annotations

from uuid import UUID

from brinkbyte.billing.db import Connection, Row


async def event_hashes(
    connection: Connection, tenant_id: str, after: UUID, until: UUID, limit: int
) -> list[Row]:
    """Return ids and content hashes of events of sealed batches, in the order of ids."""
    cursor = await connection.execute(
        "SELECT id::text AS id, encode(content_hash, 'hex') AS hash FROM usage_events "
        "WHERE tenant_id = %s AND id > %s AND id < %s AND epoch IS NOT NULL "
        "ORDER BY id LIMIT %s",
        [tenant_id, after, until, limit],
    )
    return await cursor.fetchall()


async def set_aside(connection: Connection, tenant_id: str, after: str, until: str) -> list[Row]:
    """Return ids and reasons of events that are set aside, above one id and below another."""
    cursor = await connection.execute(
        'SELECT DISTINCT ON (event_id COLLATE "C") event_id, reason FROM usage_quarantine '
        "WHERE tenant_id = %s AND released_at IS NULL AND epoch IS NOT NULL "
        "AND event_id ~ '^[0-9a-f]{8}-' "
        'AND event_id COLLATE "C" > %s AND event_id COLLATE "C" < %s '
        'ORDER BY event_id COLLATE "C", id DESC',
        [tenant_id, after, until],
    )
    return await cursor.fetchall()


async def batch_hashes(
    connection: Connection, tenant_id: str, epoch: UUID, batch_no: int, limit: int
) -> list[Row]:
    """Return the batches after one, in the order of epochs and numbers."""
    cursor = await connection.execute(
        "SELECT epoch::text AS epoch, batch_no, encode(chain_hash, 'hex') AS hash "
        "FROM usage_batches WHERE tenant_id = %s AND (epoch, batch_no) > (%s, %s) "
        "ORDER BY epoch, batch_no LIMIT %s",
        [tenant_id, epoch, batch_no, limit],
    )
    return await cursor.fetchall()
