"""SQL of subscriptions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection, Row
from brinkbyte.catalog import Terms


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
    *,
    terms: Terms,
    status: str,
    period_anchor: datetime,
    trial_ends_at: datetime | None,
    hard_end: datetime | None,
    now: datetime,
) -> None:
    """Create the customer's subscription."""
    await connection.execute(
        "INSERT INTO subscriptions (tenant_id, subscription_id, terms, status, period_anchor, "
        "trial_ends_at, hard_end, created_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            subscription_id,
            Jsonb(terms.model_dump(mode="json")),
            status,
            period_anchor,
            trial_ends_at,
            hard_end,
            now,
            now,
        ],
    )


async def update(
    connection: Connection,
    tenant_id: str,
    *,
    terms: Terms,
    status: str,
    trial_ends_at: datetime | None,
    hard_end: datetime | None,
    now: datetime,
) -> None:
    """Change the customer's subscription."""
    await connection.execute(
        "UPDATE subscriptions SET terms = %s, status = %s, "
        # A due date counts while it is past due, and is forgotten with that.
        "payment_due_at = CASE WHEN %s = 'past_due' THEN payment_due_at END, "
        "trial_ends_at = %s, hard_end = %s, "
        "updated_at = %s WHERE tenant_id = %s AND ended_at IS NULL",
        [
            Jsonb(terms.model_dump(mode="json")),
            status,
            status,
            trial_ends_at,
            hard_end,
            now,
            tenant_id,
        ],
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
