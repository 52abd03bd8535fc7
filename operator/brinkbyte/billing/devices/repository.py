"""SQL of devices."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection
from brinkbyte.billing.licenses.holdings import Device


def at(seconds: int) -> datetime:
    """Return Unix seconds as a time."""
    return datetime.fromtimestamp(seconds, UTC)


async def declared(connection: Connection, tenant_id: str) -> list[Device]:
    """Return all declared devices."""
    cursor = await connection.execute(
        "SELECT name, uid, hardware_id, management_tier, site, declared_at, registered_at, "
        "registered_tier, reason FROM devices WHERE tenant_id = %s",
        [tenant_id],
    )
    return [
        Device(
            name=row["name"],
            uid=row["uid"],
            hardware_id=row["hardware_id"],
            tier=row["management_tier"],
            site=row["site"],
            created_at=int(row["declared_at"].timestamp()),
            registered_at=(
                None if row["registered_at"] is None else int(row["registered_at"].timestamp())
            ),
            registered_tier=row["registered_tier"],
            reason=row["reason"],
        )
        for row in await cursor.fetchall()
    ]


async def remove(connection: Connection, tenant_id: str, names: Iterable[str]) -> None:
    """Forget devices by resource name."""
    await connection.execute(
        "DELETE FROM devices WHERE tenant_id = %s AND name = ANY(%s)", [tenant_id, list(names)]
    )


async def save(connection: Connection, tenant_id: str, devices: Iterable[Device]) -> None:
    """Write devices that are new or changed."""
    rows = [
        {
            "name": device.name,
            "uid": device.uid,
            "hardware_id": device.hardware_id,
            "management_tier": device.tier,
            "site": device.site,
            "declared_at": at(device.created_at).isoformat(),
            "registered_at": (
                None if device.registered_at is None else at(device.registered_at).isoformat()
            ),
            "registered_tier": device.registered_tier,
            "reason": device.reason,
        }
        for device in devices
    ]
    # Who loses the registration goes first: its hardware id may pass to another row.
    await connection.execute(
        "UPDATE devices d SET registered_at = NULL "
        "FROM jsonb_to_recordset(%(rows)s) AS r (name text) "
        "WHERE d.tenant_id = %(tenant)s AND d.name = r.name",
        {"tenant": tenant_id, "rows": Jsonb(rows)},
    )
    await connection.execute(
        "INSERT INTO devices (tenant_id, name, uid, hardware_id, management_tier, site, "
        "declared_at, registered_at, registered_tier, reason) "
        "SELECT %(tenant)s, r.* FROM jsonb_to_recordset(%(rows)s) AS r (name text, uid text, "
        "hardware_id text, management_tier text, site text, declared_at timestamptz, "
        "registered_at timestamptz, registered_tier text, reason text) "
        "ON CONFLICT (tenant_id, name) DO UPDATE SET uid = excluded.uid, "
        "hardware_id = excluded.hardware_id, management_tier = excluded.management_tier, "
        "site = excluded.site, declared_at = excluded.declared_at, "
        "registered_at = excluded.registered_at, "
        "registered_tier = excluded.registered_tier, reason = excluded.reason",
        {"tenant": tenant_id, "rows": Jsonb(rows)},
    )
