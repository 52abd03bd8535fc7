"""SQL of targets and deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from brinkbyte.billing.db import Connection, Row

_TARGET: Final = (
    "id, channel, address, kinds, secret_version, previous_until, failing_since, disabled_at, "
    "disabled_reason, created_at, updated_at"
)


async def targets(connection: Connection, tenant_id: str) -> list[Row]:
    """Return a customer's targets with how many deliveries wait, oldest first."""
    cursor = await connection.execute(
        f"SELECT {_TARGET}, (SELECT count(*) FROM notification_deliveries d "  # noqa: S608 - constant
        "WHERE d.tenant_id = t.tenant_id AND d.target_id = t.id AND d.state = 'pending') "
        "AS waiting FROM notification_targets t WHERE tenant_id = %s AND NOT direct "
        "ORDER BY created_at, id",
        [tenant_id],
    )
    return await cursor.fetchall()


async def target(connection: Connection, tenant_id: str, wanted: UUID) -> Row | None:
    """Return a target and let nobody else change it until the transaction ends."""
    cursor = await connection.execute(
        f"SELECT {_TARGET}, 0 AS waiting FROM notification_targets "  # noqa: S608 - constant
        "WHERE tenant_id = %s AND id = %s AND NOT direct FOR UPDATE",
        [tenant_id, wanted],
    )
    return await cursor.fetchone()


async def put_target(
    connection: Connection,
    tenant_id: str,
    wanted: UUID,
    *,
    channel: str,
    address: str,
    kinds: Sequence[str],
    now: datetime,
) -> tuple[UUID, bool]:
    """Add a target; an address that is set already keeps its id and takes the kinds.

    Returns:
        Its id, and whether it is new.
    """
    cursor = await connection.execute(
        "INSERT INTO notification_targets AS t (tenant_id, id, channel, address, kinds, "
        "created_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (tenant_id, channel, md5(address)) DO UPDATE SET kinds = excluded.kinds, "
        "direct = false, updated_at = excluded.updated_at RETURNING id",
        [tenant_id, wanted, channel, address, list(kinds), now, now],
    )
    row = await cursor.fetchone()
    found = wanted if row is None else row["id"]
    return found, found == wanted


async def set_kinds(
    connection: Connection, tenant_id: str, wanted: UUID, kinds: Sequence[str], now: datetime
) -> None:
    """Change what a target is told of."""
    await connection.execute(
        "UPDATE notification_targets SET kinds = %s, updated_at = %s "
        "WHERE tenant_id = %s AND id = %s",
        [list(kinds), now, tenant_id, wanted],
    )


async def enable(connection: Connection, tenant_id: str, wanted: UUID, now: datetime) -> None:
    """Let a target be told again."""
    await connection.execute(
        "UPDATE notification_targets SET disabled_at = NULL, disabled_reason = NULL, "
        "failing_since = NULL, updated_at = %s WHERE tenant_id = %s AND id = %s",
        [now, tenant_id, wanted],
    )


async def roll(
    connection: Connection, tenant_id: str, wanted: UUID, until: datetime, now: datetime
) -> None:
    """Take the next secret; the one before signs too until a moment."""
    await connection.execute(
        "UPDATE notification_targets SET secret_version = secret_version + 1, "
        "previous_until = %s, updated_at = %s WHERE tenant_id = %s AND id = %s",
        [until, now, tenant_id, wanted],
    )


async def delete(connection: Connection, tenant_id: str, wanted: UUID) -> None:
    """Delete a target with its deliveries."""
    await connection.execute(
        "DELETE FROM notification_targets WHERE tenant_id = %s AND id = %s", [tenant_id, wanted]
    )


async def notifications(
    connection: Connection, tenant_id: str, limit: int, before: UUID | None
) -> list[Row]:
    """Return a customer's notifications, the newest first, with what became of each telling."""
    cursor = await connection.execute(
        "SELECT n.id, n.kind, n.payload, n.created_at, coalesce((SELECT jsonb_agg("
        "jsonb_build_object('targetId', d.target_id, 'channel', t.channel, 'address', t.address, "
        "'state', d.state, 'attempts', d.attempts, 'lastError', d.last_error, "
        "'deliveredAt', extract(epoch FROM d.delivered_at)::bigint, "
        "'nextTryAt', CASE WHEN d.state = 'pending' THEN extract(epoch FROM d.due_at)::bigint END) "
        "ORDER BY t.created_at, t.id) FROM notification_deliveries d "
        "JOIN notification_targets t ON t.tenant_id = d.tenant_id AND t.id = d.target_id "
        "WHERE d.tenant_id = n.tenant_id AND d.notification_id = n.id), '[]') AS deliveries "
        "FROM notifications n WHERE n.tenant_id = %s AND (%s::uuid IS NULL OR n.id < %s) "
        "AND NOT n.payload ? 'to' ORDER BY n.id DESC LIMIT %s",
        [tenant_id, before, before, limit],
    )
    return await cursor.fetchall()


async def due(connection: Connection, now: datetime, limit: int) -> list[Row]:
    """Return deliveries that are due, of every customer that the role may see."""
    cursor = await connection.execute(
        "SELECT tenant_id, notification_id, target_id FROM notification_deliveries "
        "WHERE state = 'pending' AND due_at <= %s ORDER BY due_at LIMIT %s",
        [now, limit],
    )
    return await cursor.fetchall()


async def claim(
    connection: Connection,
    tenant_id: str,
    notification: UUID,
    target_id: UUID,
    *,
    now: datetime,
    until: datetime,
) -> Row | None:
    """Take a due delivery for a while; None if another has it, or it was told meanwhile.

    ``attempts`` is with this one.
    """
    cursor = await connection.execute(
        "UPDATE notification_deliveries d SET attempts = d.attempts + 1, due_at = %(until)s "
        "FROM notifications n, notification_targets t, billing_customers c "
        "WHERE d.tenant_id = %(tenant)s AND d.notification_id = %(notification)s "
        "AND d.target_id = %(target)s AND d.state = 'pending' AND d.due_at <= %(now)s "
        "AND n.tenant_id = d.tenant_id AND n.id = d.notification_id "
        "AND t.tenant_id = d.tenant_id AND t.id = d.target_id AND c.tenant_id = d.tenant_id "
        "RETURNING d.tenant_id, d.notification_id, d.target_id, d.attempts, d.created_at, n.kind, "
        "n.payload, t.channel, t.address, t.secret_version, t.previous_until, t.failing_since, "
        "t.disabled_at, t.disabled_reason, c.name",
        {
            "until": until,
            "tenant": tenant_id,
            "notification": notification,
            "target": target_id,
            "now": now,
        },
    )
    return await cursor.fetchone()


async def settle(
    connection: Connection,
    row: Row,
    *,
    state: str,
    due_at: datetime,
    error: str | None,
    now: datetime,
) -> bool:
    """Write what became of a try; False: another has settled it meanwhile."""
    cursor = await connection.execute(
        "UPDATE notification_deliveries SET state = %(state)s, due_at = %(due)s, "
        "last_error = %(error)s, "
        "delivered_at = CASE WHEN %(state)s = 'delivered' THEN %(now)s::timestamptz END "
        "WHERE tenant_id = %(tenant)s AND notification_id = %(notification)s "
        "AND target_id = %(target)s AND state = 'pending' AND attempts = %(attempts)s",
        {
            "state": state,
            "due": due_at,
            "error": error,
            "now": now,
            "tenant": row["tenant_id"],
            "notification": row["notification_id"],
            "target": row["target_id"],
            "attempts": row["attempts"],
        },
    )
    return cursor.rowcount == 1


async def mark_target(connection: Connection, row: Row, *, failing_since: datetime | None) -> None:
    """Note since when a target fails; None: it does not."""
    await connection.execute(
        "UPDATE notification_targets SET failing_since = %s "
        "WHERE tenant_id = %s AND id = %s AND failing_since IS DISTINCT FROM %s",
        [failing_since, row["tenant_id"], row["target_id"], failing_since],
    )


async def disable(connection: Connection, row: Row, reason: str, now: datetime) -> bool:
    """Tell a target nothing more, and give up what waits for it; False: it had been."""
    cursor = await connection.execute(
        "UPDATE notification_targets SET disabled_at = %s, disabled_reason = %s, updated_at = %s "
        "WHERE tenant_id = %s AND id = %s AND disabled_at IS NULL",
        [now, reason, now, row["tenant_id"], row["target_id"]],
    )
    if cursor.rowcount != 1:
        return False
    await connection.execute(
        "UPDATE notification_deliveries SET state = 'failed', last_error = %s "
        "WHERE tenant_id = %s AND target_id = %s AND state = 'pending'",
        [f"the target was disabled: {reason}", row["tenant_id"], row["target_id"]],
    )
    return True
