"""SQL of the clusters that instances were seen in, and of clone alarms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection, Row


async def clusters(connection: Connection, tenant_id: str, instance_id: str) -> list[Row]:
    """Return the clusters that an instance was seen in."""
    cursor = await connection.execute(
        "SELECT fingerprint, first_seen_at, last_seen_at FROM instance_clusters "
        "WHERE tenant_id = %s AND instance_id = %s",
        [tenant_id, instance_id],
    )
    return await cursor.fetchall()


async def see_cluster(
    connection: Connection, tenant_id: str, instance_id: str, fingerprint: str, now: datetime
) -> None:
    """Note that an instance was seen in a cluster."""
    await connection.execute(
        "INSERT INTO instance_clusters AS c "
        "(tenant_id, instance_id, fingerprint, first_seen_at, last_seen_at) "
        "VALUES (%(tenant)s, %(instance)s, %(fingerprint)s, %(now)s, %(now)s) "
        "ON CONFLICT (tenant_id, instance_id, fingerprint) DO UPDATE "
        "SET last_seen_at = greatest(c.last_seen_at, excluded.last_seen_at)",
        {"tenant": tenant_id, "instance": instance_id, "fingerprint": fingerprint, "now": now},
    )


async def epochs_reopened(
    connection: Connection, tenant_id: str, instance_id: str, since: datetime
) -> int:
    """Return how many epochs of an instance followed another one since then."""
    cursor = await connection.execute(
        "SELECT count(*) AS n FROM usage_epochs WHERE tenant_id = %s AND instance_id = %s "
        "AND follows IS NOT NULL AND opened_at > %s",
        [tenant_id, instance_id, since],
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["n"])


async def last_acknowledged(
    connection: Connection, tenant_id: str, instance_id: str, reason: str
) -> datetime | None:
    """Return when an alarm of this reason was last acknowledged."""
    cursor = await connection.execute(
        "SELECT max(acknowledged_at) AS at FROM clone_alarms "
        "WHERE tenant_id = %s AND instance_id = %s AND reason = %s",
        [tenant_id, instance_id, reason],
    )
    row = await cursor.fetchone()
    return None if row is None else row["at"]


async def raise_alarm(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    *,
    reason: str,
    first_party: str,
    second_party: str,
    details: Mapping[str, Any],
    now: datetime,
) -> bool:
    """Open an alarm, or count the open one; True if it is new."""
    cursor = await connection.execute(
        "INSERT INTO clone_alarms AS a (tenant_id, id, instance_id, reason, first_party, "
        "second_party, details, raised_at, last_seen_at) "
        "VALUES (%(tenant)s, %(id)s, %(instance)s, %(reason)s, %(first)s, %(second)s, "
        "%(details)s, %(now)s, %(now)s) "
        "ON CONFLICT (tenant_id, instance_id, reason) WHERE acknowledged_at IS NULL DO UPDATE "
        "SET last_seen_at = excluded.last_seen_at, times = a.times + 1 "
        "RETURNING times",
        {
            "tenant": tenant_id,
            "id": uuid4(),
            "instance": instance_id,
            "reason": reason,
            "first": first_party,
            "second": second_party,
            "details": Jsonb(dict(details)),
            "now": now,
        },
    )
    row = await cursor.fetchone()
    return row is not None and row["times"] == 1


async def open_alarm(connection: Connection, tenant_id: str, instance_id: str) -> Row | None:
    """Return the newest alarm of an instance that nobody has acknowledged."""
    cursor = await connection.execute(
        "SELECT * FROM clone_alarms WHERE tenant_id = %s AND instance_id = %s "
        "AND acknowledged_at IS NULL ORDER BY last_seen_at DESC, id LIMIT 1",
        [tenant_id, instance_id],
    )
    return await cursor.fetchone()


async def alarms(connection: Connection, *, acknowledged: bool) -> list[Row]:
    """Return the alarms that the role may see, newest first; acknowledged ones on request."""
    cursor = await connection.execute(
        "SELECT * FROM clone_alarms WHERE %s OR acknowledged_at IS NULL "
        "ORDER BY last_seen_at DESC, id",
        [acknowledged],
    )
    return await cursor.fetchall()


async def count_open(connection: Connection) -> dict[str, int]:
    """Return how many alarms are open, by reason."""
    cursor = await connection.execute(
        "SELECT reason, count(*) AS n FROM clone_alarms WHERE acknowledged_at IS NULL "
        "GROUP BY reason"
    )
    return {row["reason"]: row["n"] for row in await cursor.fetchall()}


async def acknowledge(
    connection: Connection, tenant_id: str, *, actor: str, note: str, now: datetime
) -> list[Row]:
    """Acknowledge every open alarm of a customer; returns them."""
    # The instance first, as whoever raises an alarm has it locked first.
    await connection.execute(
        "UPDATE instances SET clone_alarm_at = NULL "
        "WHERE tenant_id = %s AND clone_alarm_at IS NOT NULL",
        [tenant_id],
    )
    cursor = await connection.execute(
        "UPDATE clone_alarms SET acknowledged_at = %s, acknowledged_by = %s, note = %s "
        "WHERE tenant_id = %s AND acknowledged_at IS NULL RETURNING *",
        [now, actor, note, tenant_id],
    )
    return await cursor.fetchall()
