"""SQL of subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection, Row
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.rating.model import Change


async def live(connection: Connection, tenant_id: str) -> Row | None:
    """Return the customer's subscription that has not been replaced."""
    cursor = await connection.execute(
        "SELECT * FROM subscriptions WHERE tenant_id = %s AND ended_at IS NULL", [tenant_id]
    )
    return await cursor.fetchone()


async def insert(
    connection: Connection,
    tenant_id: str,
    subscription_id: UUID,
    change: Change,
    *,
    period_anchor: datetime,
    now: datetime,
) -> Row:
    """Create the customer's subscription as its first change says, and return it."""
    cursor = await connection.execute(
        "INSERT INTO subscriptions (tenant_id, subscription_id, terms, status, agreement, "
        "period_anchor, next_boundary, trial_ends_at, hard_end, created_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
        [
            tenant_id,
            subscription_id,
            Jsonb(change.terms.model_dump(mode="json")),
            change.status,
            Jsonb(change.agreement.model_dump(mode="json")),
            period_anchor,
            period_anchor,
            change.trial_ends_at,
            change.ends_at,
            now,
            now,
        ],
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - INSERT … RETURNING has one row
    return row


async def set_projection(
    connection: Connection,
    tenant_id: str,
    change: Change,
    *,
    projected_until: datetime | None,
    keeps_due: bool,
    now: datetime,
) -> None:
    """Write what is in force, and until when the row goes on saying so.

    Args:
        connection: a transaction of the tenant.
        tenant_id: whose.
        change: what is in force.
        projected_until: when the row will say something else; None: never.
        keeps_due: whether the due date of an unpaid invoice goes on counting.
        now: of the write.
    """
    await connection.execute(
        "UPDATE subscriptions SET terms = %(terms)s, status = %(status)s, "
        "agreement = %(agreement)s, trial_ends_at = %(trial_ends_at)s, hard_end = %(hard_end)s, "
        "payment_due_at = CASE WHEN %(keeps_due)s THEN payment_due_at END, "
        "projected_until = %(projected_until)s, updated_at = %(now)s "
        "WHERE tenant_id = %(tenant)s AND ended_at IS NULL",
        {
            "terms": Jsonb(change.terms.model_dump(mode="json")),
            "status": change.status,
            "agreement": Jsonb(change.agreement.model_dump(mode="json")),
            "trial_ends_at": change.trial_ends_at,
            "hard_end": change.ends_at,
            "projected_until": projected_until,
            "keeps_due": keeps_due,
            "now": now,
            "tenant": tenant_id,
        },
    )


async def set_payment(
    connection: Connection,
    tenant_id: str,
    *,
    status: str,
    due_at: datetime | None,
    now: datetime,
) -> None:
    """Note that an invoice is unpaid since its due date, or that nothing is unpaid any more."""
    await connection.execute(
        "UPDATE subscriptions SET status = %s, payment_due_at = %s, updated_at = %s "
        "WHERE tenant_id = %s AND ended_at IS NULL",
        [status, due_at, now, tenant_id],
    )


async def set_next_boundary(
    connection: Connection, tenant_id: str, subscription_id: UUID, boundary: datetime
) -> None:
    """Note up to where invoices are made."""
    await connection.execute(
        "UPDATE subscriptions SET next_boundary = %s WHERE tenant_id = %s AND subscription_id = %s",
        [boundary, tenant_id, subscription_id],
    )


async def changes(connection: Connection, tenant_id: str, subscription_id: UUID) -> list[Row]:
    """Return every change of a subscription, oldest first."""
    cursor = await connection.execute(
        "SELECT * FROM subscription_changes WHERE tenant_id = %s AND subscription_id = %s "
        "ORDER BY at, id",
        [tenant_id, subscription_id],
    )
    return await cursor.fetchall()


async def insert_change(
    connection: Connection,
    tenant_id: str,
    subscription_id: UUID,
    change: Change,
    *,
    actor: str,
    reason: str,
    at_once: bool,
) -> None:
    """Append a change."""
    await connection.execute(
        "INSERT INTO subscription_changes (tenant_id, id, subscription_id, at, actor, reason, "
        "terms, status, agreement, ends_at, trial_ends_at, at_once) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            uuid7(),
            subscription_id,
            change.at,
            actor,
            reason,
            Jsonb(change.terms.model_dump(mode="json")),
            change.status,
            Jsonb(change.agreement.model_dump(mode="json")),
            change.ends_at,
            change.trial_ends_at,
            at_once,
        ],
    )


async def had_trial(connection: Connection, tenant_id: str) -> bool:
    """Tell whether the customer ever had a trial."""
    cursor = await connection.execute(
        "SELECT 1 FROM subscription_changes WHERE tenant_id = %s AND trial_ends_at IS NOT NULL "
        "LIMIT 1",
        [tenant_id],
    )
    return await cursor.fetchone() is not None


async def agreed(connection: Connection, tenant_id: str) -> Row | None:
    """Return the own values that are agreed with a customer."""
    cursor = await connection.execute(
        "SELECT * FROM agreed_values WHERE tenant_id = %s", [tenant_id]
    )
    return await cursor.fetchone()


async def set_agreed(
    connection: Connection,
    tenant_id: str,
    overrides: Mapping[str, Any],
    annual_percent: Decimal | None,
    now: datetime,
) -> None:
    """Replace the own values that are agreed with a customer."""
    await connection.execute(
        "INSERT INTO agreed_values (tenant_id, overrides, annual_percent, updated_at) "
        "VALUES (%s, %s, %s, %s) ON CONFLICT (tenant_id) DO UPDATE SET "
        "overrides = excluded.overrides, annual_percent = excluded.annual_percent, "
        "updated_at = excluded.updated_at",
        [tenant_id, Jsonb(dict(overrides)), annual_percent, now],
    )


async def due(connection: Connection, now: datetime, boundary: datetime) -> list[str]:
    """Return customers of whom something is to be done (across customers).

    Args:
        connection: a transaction that sees every customer's row.
        now: ends of projections up to here.
        boundary: boundaries up to here.
    """
    cursor = await connection.execute(
        "SELECT tenant_id FROM subscriptions WHERE ended_at IS NULL "
        "AND (next_boundary <= %s OR projected_until <= %s) ORDER BY next_boundary, tenant_id",
        [boundary, now],
    )
    return [row["tenant_id"] for row in await cursor.fetchall()]


async def overdue(connection: Connection, due_before: datetime) -> list[str]:
    """Return customers that are past due since before a moment (across customers)."""
    cursor = await connection.execute(
        "SELECT tenant_id FROM subscriptions WHERE ended_at IS NULL AND status = 'past_due' "
        "AND payment_due_at <= %s ORDER BY tenant_id",
        [due_before],
    )
    return [row["tenant_id"] for row in await cursor.fetchall()]


async def ending(
    connection: Connection, since: datetime, until: datetime, dunning: timedelta
) -> list[str]:
    """Return customers whose trial, term or time to pay ends within a time (across customers)."""
    cursor = await connection.execute(
        "SELECT tenant_id FROM subscriptions WHERE ended_at IS NULL "
        "AND (trial_ends_at BETWEEN %(since)s AND %(until)s "
        "OR hard_end BETWEEN %(since)s AND %(until)s "
        "OR payment_due_at + %(dunning)s BETWEEN %(since)s AND %(until)s) ORDER BY tenant_id",
        {"since": since, "until": until, "dunning": dunning},
    )
    return [row["tenant_id"] for row in await cursor.fetchall()]


async def oldest_boundary(connection: Connection) -> datetime | None:
    """Return the earliest boundary that is not settled yet (across customers)."""
    cursor = await connection.execute(
        "SELECT min(next_boundary) AS at FROM subscriptions WHERE ended_at IS NULL"
    )
    row = await cursor.fetchone()
    return None if row is None else row["at"]
