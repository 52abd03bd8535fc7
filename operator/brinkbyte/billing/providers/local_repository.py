"""SQL of the provider that needs no account."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from brinkbyte.billing.db import Connection, Row


async def add_invoice(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    *,
    number: str,
    currency: str,
    total: int,
    state: str,
    due_at: datetime,
    paid_at: datetime | None,
    now: datetime,
) -> None:
    """Write a copy; one that is there stays as it is."""
    await connection.execute(
        "INSERT INTO local_invoices (tenant_id, invoice_id, number, currency, total, state, "
        "due_at, paid_at, created_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (tenant_id, invoice_id) DO NOTHING",
        [tenant_id, invoice_id, number, currency, total, state, due_at, paid_at, now, now],
    )


async def invoice(connection: Connection, tenant_id: str, invoice_id: UUID) -> Row | None:
    """Return a copy."""
    cursor = await connection.execute(
        "SELECT * FROM local_invoices WHERE tenant_id = %s AND invoice_id = %s",
        [tenant_id, invoice_id],
    )
    return await cursor.fetchone()


async def set_state(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    state: str,
    *,
    among: tuple[str, ...],
    paid_at: datetime | None = None,
    note: str | None = None,
    now: datetime,
) -> bool:
    """Move a copy to a state from one of some; false if it was in none of them."""
    cursor = await connection.execute(
        "UPDATE local_invoices SET state = %s, paid_at = %s, note = coalesce(%s, note), "
        "updated_at = %s WHERE tenant_id = %s AND invoice_id = %s AND state = ANY(%s)",
        [state, paid_at, note, now, tenant_id, invoice_id, list(among)],
    )
    return cursor.rowcount == 1


async def changed_since(connection: Connection, moment: datetime) -> list[Row]:
    """Return copies that changed since, across tenants, oldest change first."""
    cursor = await connection.execute(
        "SELECT tenant_id, invoice_id, state, updated_at FROM local_invoices "
        "WHERE updated_at >= %s ORDER BY updated_at, tenant_id, invoice_id",
        [moment],
    )
    return await cursor.fetchall()


async def subscription(connection: Connection, tenant_id: str) -> Row | None:
    """Return a customer's record, locked."""
    cursor = await connection.execute(
        "SELECT * FROM local_subscriptions WHERE tenant_id = %s FOR UPDATE", [tenant_id]
    )
    return await cursor.fetchone()


async def put_subscription(
    connection: Connection,
    tenant_id: str,
    *,
    price_id: str,
    trial_ends_at: datetime | None,
    cancel_at_period_end: bool,
    canceled_at: datetime | None,
    now: datetime,
) -> None:
    """Write a customer's record."""
    await connection.execute(
        "INSERT INTO local_subscriptions (tenant_id, price_id, trial_ends_at, "
        "cancel_at_period_end, canceled_at, created_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id) DO UPDATE SET "
        "price_id = excluded.price_id, trial_ends_at = excluded.trial_ends_at, "
        "cancel_at_period_end = excluded.cancel_at_period_end, "
        "canceled_at = excluded.canceled_at, updated_at = excluded.updated_at",
        [tenant_id, price_id, trial_ends_at, cancel_at_period_end, canceled_at, now, now],
    )
