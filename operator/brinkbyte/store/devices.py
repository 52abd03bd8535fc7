"""Edge devices and their online state in PostgreSQL. The database's clock decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from brinkbyte.resources.state import DeviceCredential, DeviceState

ONLINE_FOR: Final = timedelta(seconds=90)
"""A device is online while its last heartbeat is younger than this."""

_SYNC: Final = """
INSERT INTO edge_devices AS held
    (tenant_id, hardware_id, name, management_tier, registered_at, revision)
SELECT %(tenant)s, hardware_id, name, tier, to_timestamp(created), %(revision)s
FROM unnest(%(ids)s::text[], %(names)s::text[], %(tiers)s::text[], %(created)s::bigint[])
    AS given (hardware_id, name, tier, created)
ON CONFLICT (tenant_id, hardware_id) DO UPDATE
    SET name = excluded.name, management_tier = excluded.management_tier,
        registered_at = excluded.registered_at
    WHERE (held.name, held.management_tier, held.registered_at)
        <> (excluded.name, excluded.management_tier, excluded.registered_at)
"""
_OFFLINE: Final = """
WITH late AS MATERIALIZED (
    SELECT hardware_id FROM edge_devices
    WHERE tenant_id = %(tenant)s AND online AND last_seen < now() - %(online_for)s
), stamp AS MATERIALIZED (
    SELECT next_device_revision(%(tenant)s) AS revision WHERE EXISTS (SELECT FROM late)
)
UPDATE edge_devices SET online = false, revision = stamp.revision
FROM late, stamp
WHERE edge_devices.tenant_id = %(tenant)s AND edge_devices.hardware_id = late.hardware_id
  AND online AND last_seen < now() - %(online_for)s
"""


@dataclass(frozen=True)
class DeviceChanges:
    """Devices whose online state changed after a revision.

    Attributes:
        revision: of the newest change of any device.
    """

    revision: int
    devices: tuple[DeviceState, ...]
    online: int


async def sync_devices(
    conn: AsyncConnection[Any], tenant_id: str, devices: Sequence[DeviceCredential]
) -> None:
    """Make the table's devices the given ones, inside the caller's transaction."""
    ids = [device.hardware_id for device in devices]
    # First of all: everybody takes the lock of the revisions before the locks of rows.
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("SELECT next_device_revision(%s)", (tenant_id,))
        stamp = await cursor.fetchone()
    await conn.execute(
        "DELETE FROM edge_devices WHERE tenant_id = %s AND NOT hardware_id = ANY(%s)",
        (tenant_id, ids),
    )
    await conn.execute(
        _SYNC,
        {
            "tenant": tenant_id,
            "revision": 0 if stamp is None else stamp[0],
            "ids": ids,
            "names": [device.name for device in devices],
            "tiers": [device.management_tier for device in devices],
            "created": [device.created_at for device in devices],
        },
    )


async def heartbeat(conn: AsyncConnection[Any], tenant_id: str, hardware_id: str) -> bool:
    """Note a heartbeat, inside the caller's transaction.

    Returns:
        False when there is no such device.
    """
    done = await conn.execute(
        "UPDATE edge_devices SET last_seen = now() "
        "WHERE tenant_id = %s AND hardware_id = %s AND online",
        (tenant_id, hardware_id),
    )
    if done.rowcount:
        return True
    done = await conn.execute(
        "UPDATE edge_devices SET last_seen = now(), online = true, "
        "revision = next_device_revision(%(tenant)s) "
        "WHERE tenant_id = %(tenant)s AND hardware_id = %(device)s",
        {"tenant": tenant_id, "device": hardware_id},
    )
    return bool(done.rowcount)


async def mark_offline(conn: AsyncConnection[Any], tenant_id: str) -> int:
    """Mark devices without a recent heartbeat offline, and return how many."""
    done = await conn.execute(_OFFLINE, {"tenant": tenant_id, "online_for": ONLINE_FOR})
    return done.rowcount


async def device_changes(
    conn: AsyncConnection[Any], tenant_id: str, *, since: int
) -> DeviceChanges:
    """Return devices that went on or off after a revision.

    A revision that this database never gave (it was restored) returns every device.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT hardware_id, online, last_seen, revision FROM edge_devices "
            "WHERE tenant_id = %s ORDER BY hardware_id",
            (tenant_id,),
        )
        rows: list[tuple[str, bool, datetime | None, int]] = await cursor.fetchall()
    newest = max((revision for *_, revision in rows), default=0)
    after = since if since <= newest else 0
    return DeviceChanges(
        revision=newest,
        devices=tuple(
            DeviceState(
                hardware_id=hardware_id,
                online=online,
                last_seen=None if last_seen is None else int(last_seen.timestamp()),
            )
            for hardware_id, online, last_seen, revision in rows
            if after == 0 or revision > after
        ),
        online=sum(online for _, online, *_ in rows),
    )


async def longest_registered(
    conn: AsyncConnection[Any], tenant_id: str, count: int
) -> tuple[str, ...]:
    """Return the hardware ids of the devices registered first."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT hardware_id FROM edge_devices WHERE tenant_id = %s "
            "ORDER BY registered_at, hardware_id LIMIT %s",
            (tenant_id, count),
        )
        return tuple([str(row[0]) async for row in cursor])
