"""SQL of the providers' tables: what is on its way, and what came back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.providers.base import TheirInvoice

_SOON: Final = timedelta(hours=1)
_SETTLED: Final = timedelta(minutes=10)


async def to_push(connection: Connection, provider: str, *, now: datetime, limit: int) -> list[Row]:
    """Return final invoices that the provider lacks and whose next try is due, oldest first.

    One that was voided while on its way is among them: the provider may have it already.
    """
    cursor = await connection.execute(
        "SELECT i.tenant_id, i.invoice_id FROM invoices i "
        "LEFT JOIN provider_invoices p USING (tenant_id, invoice_id) "
        "WHERE i.provider_ref IS NULL AND (i.status = 'open' "
        "OR (i.status = 'void' AND p.provider = %(provider)s)) "
        "AND (p.next_try_at IS NULL OR p.next_try_at <= %(now)s) "
        "ORDER BY i.finalized_at, i.tenant_id, i.invoice_id LIMIT %(limit)s",
        {"provider": provider, "now": now, "limit": limit},
    )
    return await cursor.fetchall()


async def to_read(
    connection: Connection, provider: str, *, before: datetime, limit: int
) -> list[Row]:
    """Return invoices whose copy shall be read: not since ``before``, or an event named it."""
    cursor = await connection.execute(
        "SELECT i.tenant_id, i.invoice_id FROM invoices i "
        "JOIN provider_invoices p USING (tenant_id, invoice_id) "
        "WHERE i.provider = %(provider)s AND p.reference IS NOT NULL "
        "AND (i.status IN ('open', 'uncollectible') "
        "OR (i.status = 'void' AND p.state <> 'void')) "
        "AND (p.checked_at IS NULL OR p.checked_at <= %(before)s) "
        "ORDER BY p.checked_at NULLS FIRST, i.tenant_id, i.invoice_id LIMIT %(limit)s",
        {"provider": provider, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def begin_try(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    provider: str,
    *,
    due_at: datetime,
    later: datetime,
    now: datetime,
) -> Row:
    """Write that a try begins and return the row.

    Args:
        connection: a transaction of the tenant's.
        tenant_id: whose invoice.
        invoice_id: which.
        provider: where it goes.
        due_at: what our invoice says.
        later: used where the due date that was sent, or ours, is hardly ahead any more.
        now: time of the try.
    """
    cursor = await connection.execute(
        "INSERT INTO provider_invoices AS p (tenant_id, invoice_id, provider, due_at, started_at, "
        "tried_at, next_try_at) VALUES (%(tenant)s, %(invoice)s, %(provider)s, "
        "greatest(%(due)s, %(later)s), %(now)s, %(now)s, %(now)s) "
        "ON CONFLICT (tenant_id, invoice_id) DO UPDATE SET tried_at = %(now)s, "
        "provider = %(provider)s, "
        "due_at = CASE WHEN p.due_at <= %(soon)s AND p.tried_at <= %(settled)s THEN %(later)s "
        "ELSE p.due_at END "
        "RETURNING *",
        {
            "tenant": tenant_id,
            "invoice": invoice_id,
            "provider": provider,
            "due": due_at,
            "later": later,
            "soon": now + _SOON,
            # Another due date is another key: no call of an earlier try may still be under way.
            "settled": now - _SETTLED,
            "now": now,
        },
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an upsert returns its row
    await connection.execute(
        "UPDATE invoices SET provider = %s, provider_tried_at = %s, updated_at = %s "
        "WHERE tenant_id = %s AND invoice_id = %s",
        [provider, now, now, tenant_id, invoice_id],
    )
    return row


async def invoice(connection: Connection, tenant_id: str, invoice_id: UUID) -> Row | None:
    """Return an invoice with the way it has come at the provider."""
    cursor = await connection.execute(
        "SELECT i.*, p.provider AS sent_to, p.alarm, p.failures, p.state AS their_state "
        "FROM invoices i LEFT JOIN provider_invoices p USING (tenant_id, invoice_id) "
        "WHERE i.tenant_id = %s AND i.invoice_id = %s",
        [tenant_id, invoice_id],
    )
    return await cursor.fetchone()


async def lines(connection: Connection, tenant_id: str, invoice_id: UUID) -> list[Row]:
    """Return an invoice's lines in order."""
    cursor = await connection.execute(
        "SELECT position, description, amount FROM invoice_lines "
        "WHERE tenant_id = %s AND invoice_id = %s ORDER BY position",
        [tenant_id, invoice_id],
    )
    return await cursor.fetchall()


async def payer(connection: Connection, tenant_id: str, provider: str) -> Row | None:
    """Return name, e-mail and the provider's id of a customer."""
    cursor = await connection.execute(
        "SELECT c.name, c.billing_email, p.reference FROM billing_customers c "
        "LEFT JOIN provider_customers p ON p.tenant_id = c.tenant_id AND p.provider = %s "
        "WHERE c.tenant_id = %s",
        [provider, tenant_id],
    )
    return await cursor.fetchone()


async def remember_customer(
    connection: Connection, tenant_id: str, provider: str, reference: str, now: datetime
) -> None:
    """Keep the provider's id of a customer."""
    await connection.execute(
        "INSERT INTO provider_customers (tenant_id, provider, reference, created_at, updated_at) "
        "VALUES (%(tenant)s, %(provider)s, %(reference)s, %(now)s, %(now)s) "
        "ON CONFLICT (tenant_id, provider) DO UPDATE SET reference = %(reference)s, "
        "updated_at = %(now)s WHERE provider_customers.reference <> %(reference)s",
        {"tenant": tenant_id, "provider": provider, "reference": reference, "now": now},
    )


async def record_copy(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    theirs: TheirInvoice,
    *,
    checked_at: datetime | None,
    now: datetime,
) -> None:
    """Write what the provider's copy says: reference, state and tax."""
    await connection.execute(
        "UPDATE provider_invoices SET reference = %s, state = %s, url = %s, checked_at = %s, "
        "failures = 0, alarm = NULL WHERE tenant_id = %s AND invoice_id = %s",
        [theirs.reference, theirs.state, theirs.url, checked_at, tenant_id, invoice_id],
    )
    await connection.execute(
        "UPDATE invoices SET provider_ref = %(reference)s, tax = %(tax)s, provider_error = NULL, "
        "updated_at = %(now)s WHERE tenant_id = %(tenant)s AND invoice_id = %(invoice)s "
        "AND (provider_ref, tax, provider_error) IS DISTINCT FROM "
        "(%(reference)s, %(tax)s, NULL::text)",
        {
            "reference": theirs.reference,
            "tax": theirs.tax,
            "now": now,
            "tenant": tenant_id,
            "invoice": invoice_id,
        },
    )


async def record_failure(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    *,
    message: str,
    alarm: str | None,
    next_try_at: datetime,
    checked_at: datetime,
    now: datetime,
) -> None:
    """Write why a try failed, and when the next one is due."""
    await connection.execute(
        "UPDATE provider_invoices SET failures = failures + 1, alarm = %s, next_try_at = %s, "
        "checked_at = %s WHERE tenant_id = %s AND invoice_id = %s",
        [alarm, next_try_at, checked_at, tenant_id, invoice_id],
    )
    await connection.execute(
        "UPDATE invoices SET provider_error = %s, updated_at = %s "
        "WHERE tenant_id = %s AND invoice_id = %s",
        [message, now, tenant_id, invoice_id],
    )


async def tenants_of(connection: Connection, provider: str, reference: str) -> list[Row]:
    """Return which invoice of whose the provider's one is."""
    cursor = await connection.execute(
        "SELECT tenant_id, invoice_id FROM provider_invoices WHERE provider = %s "
        "AND reference = %s",
        [provider, reference],
    )
    return await cursor.fetchall()


async def read_soon(connection: Connection, tenant_id: str, invoice_id: UUID) -> None:
    """Have an invoice's copy read by the next run."""
    await connection.execute(
        "UPDATE provider_invoices SET checked_at = NULL WHERE tenant_id = %s AND invoice_id = %s",
        [tenant_id, invoice_id],
    )


async def troubled(connection: Connection, *, now: datetime) -> list[Row]:
    """Return invoices with an alarm, and those that wait for their first success, for people."""
    cursor = await connection.execute(
        "SELECT i.tenant_id, i.invoice_id, i.number, i.status, i.total, i.currency, i.provider, "
        "p.failures, p.alarm, i.provider_error, p.started_at, p.next_try_at "
        "FROM invoices i LEFT JOIN provider_invoices p USING (tenant_id, invoice_id) "
        "WHERE (i.status = 'open' AND i.provider_ref IS NULL AND i.finalized_at <= %s) "
        "OR p.alarm IS NOT NULL ORDER BY i.tenant_id, i.finalized_at",
        [now],
    )
    return await cursor.fetchall()


async def cursor_of(connection: Connection, provider: str) -> Row | None:
    """Return up to when a provider's events were fetched, and when that was."""
    cursor = await connection.execute(
        "SELECT fetched_to, fetched_at FROM provider_cursors WHERE provider = %s", [provider]
    )
    return await cursor.fetchone()


async def move_cursor(
    connection: Connection, provider: str, *, to: datetime, now: datetime
) -> None:
    """Write up to when a provider's events are in."""
    await connection.execute(
        "INSERT INTO provider_cursors (provider, fetched_to, fetched_at) VALUES (%s, %s, %s) "
        "ON CONFLICT (provider) DO UPDATE SET fetched_to = excluded.fetched_to, "
        "fetched_at = excluded.fetched_at",
        [provider, to, now],
    )


async def try_soon(connection: Connection, tenant_id: str, now: datetime) -> None:
    """Have a customer's invoices that wait tried by the next run."""
    await connection.execute(
        "UPDATE provider_invoices SET next_try_at = %s WHERE tenant_id = %s "
        "AND reference IS NULL AND next_try_at > %s",
        [now, tenant_id, now],
    )
