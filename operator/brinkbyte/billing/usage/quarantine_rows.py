"""SQL of what is set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from brinkbyte.billing.db import Connection, Row


async def quarantined(connection: Connection, tenant_id: str) -> list[Row]:
    """Return everything that was set aside of a customer."""
    cursor = await connection.execute(
        "SELECT id, instance_id, epoch, batch_no, position, event_id, reason, received_at, "
        "released_at FROM usage_quarantine WHERE tenant_id = %s ORDER BY id",
        [tenant_id],
    )
    return await cursor.fetchall()


async def counts(connection: Connection, tenant_id: str) -> dict[str, int]:
    """Return how many events wait for their release, by reason."""
    cursor = await connection.execute(
        "SELECT reason, count(*) AS n FROM usage_quarantine "
        "WHERE tenant_id = %s AND released_at IS NULL GROUP BY reason ORDER BY reason",
        [tenant_id],
    )
    return {row["reason"]: row["n"] for row in await cursor.fetchall()}


async def waiting(
    connection: Connection, tenant_id: str, after: UUID | None, limit: int
) -> list[Row]:
    """Return events that wait for their release, in the order in which they were set aside."""
    cursor = await connection.execute(
        "SELECT id, instance_id, epoch, batch_no, position, event_id, reason, event, received_at "
        "FROM usage_quarantine WHERE tenant_id = %s AND released_at IS NULL "
        "AND (%s::uuid IS NULL OR id > %s) ORDER BY id LIMIT %s",
        [tenant_id, after, after, limit],
    )
    return await cursor.fetchall()


async def families(connection: Connection, tenant_id: str, emitter: str) -> frozenset[str]:
    """Return the product lines whose meters an emitter may report by any of its credentials."""
    kind, _, credential = emitter.partition(":")
    if kind == "operator":
        cursor = await connection.execute(
            "SELECT unnest(families) AS family FROM operator_credentials "
            "WHERE credential_id::text = %s",
            [credential],
        )
    else:
        cursor = await connection.execute(
            "SELECT DISTINCT unnest(families) AS family FROM credentials "
            "WHERE tenant_id = %s AND instance_id = %s",
            [tenant_id, emitter],
        )
    return frozenset(row["family"] for row in await cursor.fetchall())


async def mark_released(
    connection: Connection, tenant_id: str, ids: Sequence[UUID], now: datetime
) -> None:
    """Note that events are in the ledger now."""
    await connection.execute(
        "UPDATE usage_quarantine SET released_at = %s WHERE tenant_id = %s AND id = ANY(%s)",
        [now, tenant_id, list(ids)],
    )


async def set_reasons(connection: Connection, tenant_id: str, reasons: Mapping[UUID, str]) -> None:
    """Note why events are still bad."""
    await connection.execute(
        "UPDATE usage_quarantine q SET reason = s.reason "
        "FROM unnest(%s::uuid[], %s::text[]) AS s(id, reason) "
        "WHERE q.tenant_id = %s AND q.id = s.id AND q.reason <> s.reason",
        [list(reasons), list(reasons.values()), tenant_id],
    )


async def ledger_start(connection: Connection) -> str | None:
    """Return the first month (YYYYMM) that the ledger still has."""
    cursor = await connection.execute(
        "SELECT min(right(c.relname, 6)) AS month FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'usage_events'::regclass"
    )
    row = await cursor.fetchone()
    return None if row is None else row["month"]


async def open_hold(
    connection: Connection,
    tenant_id: str,
    hold_id: UUID,
    *,
    since: datetime,
    reason: str,
    actor: str,
    now: datetime,
) -> None:
    """Keep the ledger from a moment on."""
    await connection.execute(
        "INSERT INTO usage_holds (tenant_id, id, since, reason, opened_at, opened_by) "
        "VALUES (%s, %s, %s, %s, %s, %s)",
        [tenant_id, hold_id, since, reason, now, actor],
    )


async def close_holds(
    connection: Connection, tenant_id: str, actor: str, now: datetime
) -> list[UUID]:
    """Close a customer's holds; returns those that were open."""
    cursor = await connection.execute(
        "UPDATE usage_holds SET closed_at = %s, closed_by = %s "
        "WHERE tenant_id = %s AND closed_at IS NULL RETURNING id",
        [now, actor, tenant_id],
    )
    return [row["id"] for row in await cursor.fetchall()]
