"""SQL of invoices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection, Row
from brinkbyte.rating.model import Line, Period


async def insert_draft(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    subscription_id: UUID,
    *,
    boundary: datetime,
    closed: Period | None,
    currency: str,
    catalog_version: str,
    total: int,
    rated_from: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write an invoice that is not final yet; ``total`` in minor units."""
    await connection.execute(
        "INSERT INTO invoices (tenant_id, invoice_id, subscription_id, boundary, period_start, "
        "period_end, currency, catalog_version, total, status, rated_from, created_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'draft', %s, %s, %s)",
        [
            tenant_id,
            invoice_id,
            subscription_id,
            boundary,
            None if closed is None else closed.start,
            None if closed is None else closed.end,
            currency,
            catalog_version,
            total,
            Jsonb(dict(rated_from)),
            now,
            now,
        ],
    )


async def insert_lines(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    lines: Sequence[tuple[str, datetime, Line, int]],
) -> None:
    """Write lines of a draft: (part, begin of the period rated, line, amount in minor units)."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO invoice_lines (tenant_id, invoice_id, position, line, kind, description, "
            "quantity, unit_price, per, days, of_days, period_start, period_end, amount, part, "
            "of_period) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    tenant_id,
                    invoice_id,
                    position,
                    line.line,
                    line.kind,
                    line.description,
                    line.quantity,
                    line.unit_price,
                    line.per,
                    line.days,
                    line.of_days,
                    line.period.start,
                    line.period.end,
                    amount,
                    part,
                    of_period,
                )
                for position, (part, of_period, line, amount) in enumerate(lines, 1)
            ],
        )


async def numbered(connection: Connection, tenant_id: str) -> int:
    """Return how many invoices of the customer have a number."""
    cursor = await connection.execute(
        "SELECT count(*) AS n FROM invoices WHERE tenant_id = %s AND number IS NOT NULL",
        [tenant_id],
    )
    row = await cursor.fetchone()
    return int(row["n"]) if row else 0


async def finalize(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    *,
    number: str,
    status: str,
    due_at: datetime,
    now: datetime,
) -> None:
    """Make a draft final."""
    await connection.execute(
        "UPDATE invoices SET number = %(number)s, status = %(status)s, due_at = %(due)s, "
        "finalized_at = %(now)s, updated_at = %(now)s, "
        "paid_at = CASE WHEN %(status)s = 'paid' THEN %(now)s END "
        "WHERE tenant_id = %(tenant)s AND invoice_id = %(invoice)s AND status = 'draft'",
        {
            "number": number,
            "status": status,
            "due": due_at,
            "now": now,
            "tenant": tenant_id,
            "invoice": invoice_id,
        },
    )


async def find(connection: Connection, tenant_id: str, invoice_id: UUID) -> Row | None:
    """Return an invoice."""
    cursor = await connection.execute(
        "SELECT * FROM invoices WHERE tenant_id = %s AND invoice_id = %s", [tenant_id, invoice_id]
    )
    return await cursor.fetchone()


async def tenant_of(connection: Connection) -> str | None:
    """Return whose transaction this is."""
    cursor = await connection.execute("SELECT current_tenant() AS tenant_id")
    row = await cursor.fetchone()
    return None if row is None else row["tenant_id"]


async def page(
    connection: Connection,
    tenant_id: str,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None,
) -> list[Row]:
    """Return final invoices, newest first, from after a place on."""
    at, invoice_id = before or (None, None)
    cursor = await connection.execute(
        "SELECT * FROM invoices WHERE tenant_id = %(tenant)s AND status <> 'draft' "
        "AND (%(at)s::timestamptz IS NULL OR (boundary, invoice_id) < (%(at)s, %(id)s::uuid)) "
        "ORDER BY boundary DESC, invoice_id DESC LIMIT %(limit)s",
        {"tenant": tenant_id, "at": at, "id": invoice_id, "limit": limit},
    )
    return await cursor.fetchall()


async def lines(connection: Connection, tenant_id: str, invoice_id: UUID) -> list[Row]:
    """Return an invoice's lines in their order."""
    cursor = await connection.execute(
        "SELECT * FROM invoice_lines WHERE tenant_id = %s AND invoice_id = %s ORDER BY position",
        [tenant_id, invoice_id],
    )
    return await cursor.fetchall()


async def lines_of_period(
    connection: Connection, tenant_id: str, subscription_id: UUID, start: datetime
) -> list[Row]:
    """Return what was invoiced for the use of a period: as it closed, and adjusted since."""
    cursor = await connection.execute(
        "SELECT l.* FROM invoice_lines l JOIN invoices i USING (tenant_id, invoice_id) "
        "WHERE l.tenant_id = %s AND l.of_period = %s AND l.part IN ('closing', 'adjustment') "
        "AND i.subscription_id = %s AND i.status <> 'void' ORDER BY i.boundary, l.position",
        [tenant_id, start, subscription_id],
    )
    return await cursor.fetchall()


async def balance(connection: Connection, tenant_id: str) -> int:
    """Return the credit, in minor units, that was carried on and is not used up."""
    cursor = await connection.execute(
        "SELECT coalesce(sum(l.amount), 0)::bigint AS credit FROM invoice_lines l "
        "JOIN invoices i USING (tenant_id, invoice_id) "
        "WHERE l.tenant_id = %s AND l.part = 'balance' AND i.status <> 'void'",
        [tenant_id],
    )
    row = await cursor.fetchone()
    return int(row["credit"]) if row else 0


async def closed_periods(
    connection: Connection, tenant_id: str, subscription_id: UUID, since: datetime
) -> list[Row]:
    """Return periods that closed since, oldest first."""
    cursor = await connection.execute(
        "SELECT * FROM closed_periods WHERE tenant_id = %s AND subscription_id = %s "
        "AND period_end > %s ORDER BY period_start",
        [tenant_id, subscription_id, since],
    )
    return await cursor.fetchall()


async def close_period(
    connection: Connection,
    tenant_id: str,
    subscription_id: UUID,
    period: Period,
    *,
    catalog_version: str,
    usage: Mapping[str, Any],
    now: datetime,
) -> None:
    """Note what a period was rated from; again: what it is adjusted to."""
    await connection.execute(
        "INSERT INTO closed_periods (tenant_id, subscription_id, period_start, period_end, "
        "catalog_version, usage, closed_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (tenant_id, subscription_id, period_start) DO UPDATE SET "
        "usage = excluded.usage, updated_at = excluded.updated_at",
        [
            tenant_id,
            subscription_id,
            period.start,
            period.end,
            catalog_version,
            Jsonb(dict(usage)),
            now,
            now,
        ],
    )


async def sources(
    connection: Connection, tenant_id: str, meter: str, start: datetime, end: datetime
) -> list[Row]:
    """Return the sealed batches that events of a meter came in, with what came of it."""
    # Ids are times: the range keeps to the partitions of the period.
    cursor = await connection.execute(
        "SELECT e.epoch, e.batch_no, e.instance_id, count(*) AS events, "
        "sum(e.quantity) AS quantity, b.receipt, b.received_at FROM usage_events e "
        "LEFT JOIN usage_batches b ON b.tenant_id = e.tenant_id AND b.epoch = e.epoch "
        "AND b.batch_no = e.batch_no "
        "WHERE e.tenant_id = %s AND e.meter = %s AND e.id >= first_uuid7(%s) "
        "AND e.id < first_uuid7(%s) "
        "GROUP BY e.epoch, e.batch_no, e.instance_id, b.receipt, b.received_at "
        "ORDER BY min(e.occurred_at)",
        [tenant_id, meter, start, end],
    )
    return await cursor.fetchall()


async def mark_paid(
    connection: Connection, tenant_id: str, invoice_id: UUID, at: datetime, now: datetime
) -> None:
    """Note that an invoice is paid."""
    await connection.execute(
        "UPDATE invoices SET status = 'paid', paid_at = %s, updated_at = %s "
        "WHERE tenant_id = %s AND invoice_id = %s",
        [at, now, tenant_id, invoice_id],
    )


async def mark_failed(
    connection: Connection, tenant_id: str, invoice_id: UUID, now: datetime
) -> None:
    """Note that a payment of an invoice failed, for the first time."""
    await connection.execute(
        "UPDATE invoices SET payment_failed_at = %s, updated_at = %s "
        "WHERE tenant_id = %s AND invoice_id = %s AND payment_failed_at IS NULL",
        [now, now, tenant_id, invoice_id],
    )


async def oldest_failed(connection: Connection, tenant_id: str) -> datetime | None:
    """Return the earliest due date of an invoice whose payment failed and that is not paid."""
    cursor = await connection.execute(
        "SELECT min(due_at) AS due FROM invoices WHERE tenant_id = %s "
        "AND status IN ('open', 'uncollectible') AND payment_failed_at IS NOT NULL",
        [tenant_id],
    )
    row = await cursor.fetchone()
    return None if row is None else row["due"]


async def unpaid(connection: Connection, tenant_id: str, due_before: datetime) -> list[Row]:
    """Return open invoices that are past due and of which no failure is noted."""
    cursor = await connection.execute(
        "SELECT * FROM invoices WHERE tenant_id = %s AND status = 'open' "
        "AND payment_failed_at IS NULL AND due_at <= %s ORDER BY due_at",
        [tenant_id, due_before],
    )
    return await cursor.fetchall()


async def debtors(connection: Connection, due_before: datetime) -> list[str]:
    """Return customers that have such invoices (across customers)."""
    cursor = await connection.execute(
        "SELECT DISTINCT tenant_id FROM invoices WHERE status = 'open' "
        "AND payment_failed_at IS NULL AND due_at <= %s ORDER BY tenant_id",
        [due_before],
    )
    return [row["tenant_id"] for row in await cursor.fetchall()]
