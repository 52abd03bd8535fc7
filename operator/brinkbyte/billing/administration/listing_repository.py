"""SQL that looks across customers (role ``brinkbyte_admin``), always a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from brinkbyte.billing.db import Connection, Row


async def _rows(connection: Connection, statement: str, parameters: dict[str, Any]) -> list[Row]:
    cursor = await connection.execute(statement.encode(), parameters)
    return await cursor.fetchall()


def _pattern(search: str | None) -> str | None:
    if search is None:
        return None
    escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


async def customers(
    connection: Connection, *, search: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return customers whose id or name contains a text, by id."""
    return await _rows(
        connection,
        "SELECT c.tenant_id, c.name, c.created_at, i.instance_id, i.last_seen_at, "
        "EXISTS (SELECT FROM revocations r WHERE r.tenant_id = c.tenant_id "
        "AND r.kind = 'license') AS revoked "
        "FROM billing_customers c "
        "LEFT JOIN instances i ON i.tenant_id = c.tenant_id AND i.ended_at IS NULL "
        "WHERE (%(pattern)s::text IS NULL OR c.tenant_id ILIKE %(pattern)s "
        "OR c.name ILIKE %(pattern)s) "
        "AND (%(after)s::text IS NULL OR c.tenant_id > %(after)s) "
        "ORDER BY c.tenant_id LIMIT %(limit)s",
        {"pattern": _pattern(search), "after": after, "limit": limit},
    )


async def subscriptions(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, Row]:
    """Return the live subscriptions of some customers."""
    rows = await _rows(
        connection,
        "SELECT * FROM subscriptions WHERE tenant_id = ANY(%(ids)s) AND ended_at IS NULL",
        {"ids": list(tenant_ids)},
    )
    return {row["tenant_id"]: row for row in rows}


async def instances(
    connection: Connection,
    *,
    customer_id: str | None,
    ended: bool,
    after: Sequence[str] | None,
    limit: int,
) -> list[Row]:
    """Return instances by customer, ended ones on request."""
    return await _rows(
        connection,
        "SELECT tenant_id, instance_id, name, created_at, ended_at, ended_reason, air_gapped, "
        "last_seen_at, seen_version, devices_online, clone_alarm_at FROM instances "
        "WHERE (%(customer)s::text IS NULL OR tenant_id = %(customer)s) "
        "AND (%(ended)s OR ended_at IS NULL) "
        "AND (%(first)s::text IS NULL OR (tenant_id, instance_id) > (%(first)s, %(second)s)) "
        "ORDER BY tenant_id, instance_id LIMIT %(limit)s",
        {"customer": customer_id, "ended": ended, **_two(after), "limit": limit},
    )


async def devices(
    connection: Connection, *, customer_id: str | None, after: Sequence[str] | None, limit: int
) -> list[Row]:
    """Return devices by customer and name."""
    return await _rows(
        connection,
        "SELECT tenant_id, name, hardware_id, management_tier, site, declared_at, registered_at, "
        "reason FROM devices WHERE (%(customer)s::text IS NULL OR tenant_id = %(customer)s) "
        "AND (%(first)s::text IS NULL OR (tenant_id, name) > (%(first)s, %(second)s)) "
        "ORDER BY tenant_id, name LIMIT %(limit)s",
        {"customer": customer_id, **_two(after), "limit": limit},
    )


async def licenses(connection: Connection, *, after: str | None, limit: int) -> list[Row]:
    """Return the newest license of each customer, by customer."""
    return await _rows(
        connection,
        "SELECT l.tenant_id, l.instance_id, l.sequence, l.issued_at, l.expires_at, "
        "i.seen_license_sequence, EXISTS (SELECT FROM revocations r "
        "WHERE r.tenant_id = l.tenant_id AND r.kind = 'license') AS revoked "
        "FROM licenses l JOIN instances i USING (tenant_id, instance_id) "
        "WHERE l.kind = 'license' AND l.token <> '' "
        "AND (%(after)s::text IS NULL OR l.tenant_id > %(after)s) "
        "ORDER BY l.tenant_id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )


async def metering(connection: Connection, *, after: str | None, limit: int) -> list[Row]:
    """Return live instances with their newest batch, by customer (who has one at most)."""
    return await _rows(
        connection,
        "SELECT i.tenant_id, i.instance_id, i.air_gapped, i.last_seen_at, i.backlog, "
        "b.received_at, b.batch_no, q.n AS quarantined FROM instances i "
        "LEFT JOIN LATERAL (SELECT u.received_at, u.batch_no FROM usage_epochs e "
        "JOIN usage_batches u ON u.tenant_id = e.tenant_id AND u.epoch = e.epoch "
        "AND u.batch_no = e.last_batch_no WHERE e.tenant_id = i.tenant_id "
        "AND e.instance_id = i.instance_id ORDER BY e.opened_at DESC LIMIT 1) b ON true "
        "LEFT JOIN LATERAL (SELECT count(*) AS n FROM usage_quarantine u "
        "WHERE u.tenant_id = i.tenant_id AND u.released_at IS NULL) q ON true "
        "WHERE i.ended_at IS NULL AND (%(after)s::text IS NULL OR i.tenant_id > %(after)s) "
        "ORDER BY i.tenant_id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )


async def audit_entries(
    connection: Connection,
    *,
    own: bool,
    filters: dict[str, Any],
    since: datetime | None,
    until: datetime | None,
    before: UUID | None,
    limit: int,
) -> list[Row]:
    """Return entries of the audit log, newest first.

    Args:
        connection: a transaction of the admin role.
        own: the vendor's own log, which names no customer.
        filters: customer, actor, action or subject, each None or what it must be.
        since: not before.
        until: before.
        before: older than this entry.
        limit: rows at most.
    """
    table, customer = ("own_audit_log", "NULL::text") if own else ("audit_log", "tenant_id")
    return await _rows(
        connection,
        f"SELECT id, at, {customer} AS tenant_id, actor, action, subject, details "  # noqa: S608
        f"FROM {table} "
        f"WHERE (%(customer)s::text IS NULL OR {customer} = %(customer)s) "
        "AND (%(actor)s::text IS NULL OR actor = %(actor)s) "
        "AND (%(action)s::text IS NULL OR action = %(action)s) "
        "AND (%(subject)s::text IS NULL OR subject = %(subject)s) "
        "AND (%(since)s::timestamptz IS NULL OR at >= %(since)s) "
        "AND (%(until)s::timestamptz IS NULL OR at < %(until)s) "
        "AND (%(before)s::uuid IS NULL OR id < %(before)s) "
        "ORDER BY id DESC LIMIT %(limit)s",
        {**filters, "since": since, "until": until, "before": before, "limit": limit},
    )


def _two(after: Sequence[str] | None) -> dict[str, str | None]:
    first, second = (None, None) if after is None else after
    return {"first": first, "second": second}
