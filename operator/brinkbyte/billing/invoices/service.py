"""Rules of invoices that are there: what customers see of them, and what payments do."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from brinkbyte.billing import audit
from brinkbyte.billing.auth import TenantCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.invoices import closing, repository
from brinkbyte.billing.invoices import usage as used
from brinkbyte.billing.invoices.closing import major
from brinkbyte.billing.invoices.schemas import (
    Invoice,
    InvoiceHead,
    InvoiceLine,
    InvoicePage,
    Source,
    Upcoming,
)
from brinkbyte.billing.notifications.outbox import Kind, enqueue
from brinkbyte.billing.subscriptions import dunning, history
from brinkbyte.billing.subscriptions.pricing import line_item, plain
from brinkbyte.catalog import Catalog
from brinkbyte.kit.problem import ProblemError
from brinkbyte.rating import closing_lines, opening_lines, period_at, total

MAX_SOURCES: Final = 1000
_UNPAID: Final = ("open", "uncollectible")


async def page(
    context: Context, caller: TenantCaller, *, limit: int, cursor: str | None
) -> InvoicePage:
    """Return the caller's invoices, newest first.

    Raises:
        ProblemError: 422 ``InvalidCursor``.
    """
    before = None if cursor is None else _read_cursor(cursor)
    async with context.database.tenant(caller.tenant_id) as connection:
        rows = await repository.page(connection, caller.tenant_id, limit=limit + 1, before=before)
    more = len(rows) > limit
    rows = rows[:limit]
    return InvoicePage(
        invoices=tuple(head(context.catalog, row, context.now()) for row in rows),
        next_cursor=_cursor(rows[-1]) if more else None,
    )


def _cursor(row: Row) -> str:
    micros = round(row["boundary"].timestamp() * 1_000_000)
    return base64.urlsafe_b64encode(f"{micros}:{row['invoice_id']}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        micros, _, invoice_id = text.partition(":")
        return datetime.fromtimestamp(int(micros) / 1_000_000, UTC), UUID(invoice_id)
    except (binascii.Error, ValueError, OverflowError, OSError):
        raise ProblemError(
            422,
            "cursor: take it from nextCursor of the page before, or leave it out",
            reason="InvalidCursor",
        ) from None


def head(catalog: Catalog, row: Row, now: int) -> InvoiceHead:
    """Return an invoice without its lines."""
    return InvoiceHead.model_validate(_head(catalog, row, now))


def _head(catalog: Catalog, row: Row, now: int) -> dict[str, object]:
    unpaid = row["status"] in _UNPAID
    due = row["total"] + row["tax"] if unpaid else 0
    late = row["payment_failed_at"] is not None or row["due_at"].timestamp() <= now
    return {
        "invoice_id": str(row["invoice_id"]),
        "number": row["number"],
        "status": row["status"],
        "currency": row["currency"],
        "boundary": _seconds(row["boundary"]),
        "period_start": _seconds(row["period_start"]),
        "period_end": _seconds(row["period_end"]),
        "total": format(major(catalog, row["total"]), "f"),
        "tax": format(major(catalog, row["tax"]), "f"),
        "amount_due": format(major(catalog, due), "f"),
        "issued_at": _seconds(row["finalized_at"]),
        "due_at": _seconds(row["due_at"]),
        "paid_at": _seconds(row["paid_at"]),
        "overdue": unpaid and late,
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


async def get(context: Context, caller: TenantCaller, invoice_id: UUID) -> Invoice:
    """Return an invoice; each line of use says which sealed batches it comes from.

    Raises:
        ProblemError: 404 ``UnknownInvoice``.
    """
    catalog, tenant_id = context.catalog, caller.tenant_id
    async with context.database.tenant(tenant_id) as connection:
        row = await _final(connection, tenant_id, invoice_id)
        rows = await repository.lines(connection, tenant_id, invoice_id)
        lines = [await _line(connection, catalog, tenant_id, line) for line in rows]
    return Invoice.model_validate(
        {
            **_head(catalog, row, context.now()),
            "catalog_version": row["catalog_version"],
            "lines": lines,
        }
    )


async def final(context: Context, caller: TenantCaller, invoice_id: UUID) -> tuple[Row, list[Row]]:
    """Return the rows of a final invoice and of its lines.

    Raises:
        ProblemError: 404 ``UnknownInvoice``.
    """
    async with context.database.tenant(caller.tenant_id) as connection:
        row = await _final(connection, caller.tenant_id, invoice_id)
        return row, await repository.lines(connection, caller.tenant_id, invoice_id)


async def _final(connection: Connection, tenant_id: str, invoice_id: UUID) -> Row:
    row = await repository.find(connection, tenant_id, invoice_id)
    if row is None or row["status"] == "draft":
        raise unknown_invoice(invoice_id)
    return row


def unknown_invoice(invoice_id: UUID) -> ProblemError:
    """Return the refusal of an unknown invoice."""
    return ProblemError(
        404,
        f"there is no invoice {invoice_id}; list them with GET /api/billing/invoices",
        reason="UnknownInvoice",
    )


async def _line(connection: Connection, catalog: Catalog, tenant_id: str, row: Row) -> InvoiceLine:
    line = closing.line_of(catalog, row)
    found: list[Row] = []
    if line.line in catalog.meters and line.kind in ("overage", "pass_through", "adjustment"):
        # Whatever was used in the period counts, not only what lies beyond the allowance.
        found = await repository.sources(
            connection, tenant_id, line.line, line.period.start, line.period.end
        )
    return InvoiceLine(
        **line_item(line).model_dump(by_alias=False),
        part=row["part"],
        source_events=sum(source["events"] for source in found),
        sources=tuple(_source(source) for source in found[:MAX_SOURCES]),
    )


def _source(row: Row) -> Source:
    receipt = row["receipt"]
    return Source(
        instance=row["instance_id"],
        epoch=None if row["epoch"] is None else str(row["epoch"]),
        batch_no=row["batch_no"],
        events=row["events"],
        quantity=plain(row["quantity"]),
        received_at=_seconds(row["received_at"]),
        receipt_sha256=None if receipt is None else hashlib.sha256(receipt.encode()).hexdigest(),
    )


async def upcoming(context: Context, caller: TenantCaller) -> Upcoming:
    """Return what the next invoice would say with the use so far.

    Raises:
        ProblemError: 404 ``NoSubscription``.
    """
    catalog, tenant_id = context.catalog, caller.tenant_id
    moment = datetime.fromtimestamp(context.now(), UTC)
    async with context.database.tenant(tenant_id) as connection:
        row = await history.current(connection, catalog, tenant_id, context.now())
        if row is None:
            raise ProblemError(
                404, f"customer {tenant_id} has no subscription", reason="NoSubscription"
            )
        rated = history.history_of(row, await history.load(connection, tenant_id, row))
        period = period_at(rated, moment)
        usage = await used.of_period(connection, catalog, tenant_id, period, until=moment)
    lines = [
        *closing_lines(catalog, rated, period, usage),
        *opening_lines(catalog, rated, period_at(rated, period.end)),
    ]
    return Upcoming(
        currency=catalog.currency,
        invoiced_at=int(period.end.timestamp()),
        period_start=int(period.start.timestamp()),
        period_end=int(period.end.timestamp()),
        lines=tuple(line_item(line) for line in lines),
        total=format(total(catalog, lines), "f"),
    )


async def payment_succeeded(
    connection: Connection,
    invoice_id: UUID,
    at: datetime,
    actor: str,
    *,
    now: int | None = None,
) -> None:
    """Note that an invoice was paid; with nothing else unpaid the subscription is active again.

    Again changes nothing.

    Args:
        connection: a transaction of the tenant.
        invoice_id: our id.
        at: when it was paid.
        actor: as in the audit log.
        now: Unix seconds; by default the machine's.

    Raises:
        ProblemError: 404 ``UnknownInvoice``; 409 ``InvoiceVoid``.
    """
    row, moment = await _paying(connection, invoice_id, now)
    tenant_id = row["tenant_id"]
    if row["status"] == "paid":
        return
    if row["status"] == "void":
        raise ProblemError(
            409,
            f"invoice {row['number']} was taken back, but a payment of it came; pay it back",
            reason="InvoiceVoid",
        )
    await repository.mark_paid(connection, tenant_id, invoice_id, at, moment)
    seconds = int(moment.timestamp())
    await audit.record(
        connection,
        tenant_id,
        now=seconds,
        actor=actor,
        action="invoice.paid",
        subject=str(invoice_id),
        details={"number": row["number"], "total": row["total"]},
    )
    if row["payment_failed_at"] is None:
        return
    due = await repository.oldest_failed(connection, tenant_id)
    if due is None:
        await dunning.payment_received(connection, tenant_id, actor=actor, now=seconds)
    else:
        await dunning.due_since(
            connection, tenant_id, due_at=int(due.timestamp()), actor=actor, now=seconds
        )


async def payment_failed(
    connection: Connection, invoice_id: UUID, actor: str, *, now: int | None = None
) -> None:
    """Note that a payment of an invoice failed; again changes nothing.

    Args:
        connection: a transaction of the tenant.
        invoice_id: our id.
        actor: as in the audit log.
        now: Unix seconds; by default the machine's.

    Raises:
        ProblemError: 404 ``UnknownInvoice``.
    """
    row, moment = await _paying(connection, invoice_id, now)
    if row["status"] not in _UNPAID or row["payment_failed_at"] is not None:
        return
    tenant_id, seconds = row["tenant_id"], int(moment.timestamp())
    await repository.mark_failed(connection, tenant_id, invoice_id, moment)
    await audit.record(
        connection,
        tenant_id,
        now=seconds,
        actor=actor,
        action="invoice.payment_failed",
        subject=str(invoice_id),
        details={"number": row["number"], "total": row["total"]},
    )
    await enqueue(
        connection,
        tenant_id,
        Kind.PAYMENT_FAILED,
        key=f"payment_failed:{invoice_id}",
        payload={
            "invoiceId": str(invoice_id),
            "number": row["number"],
            "currency": row["currency"],
            "dueAt": _seconds(row["due_at"]),
        },
        now=seconds,
    )
    await dunning.owes(
        connection,
        tenant_id,
        due_at=int(row["due_at"].timestamp()),
        actor=actor,
        now=seconds,
    )


async def _paying(
    connection: Connection, invoice_id: UUID, now: int | None
) -> tuple[Row, datetime]:
    """Lock the customer and return the invoice as it then is."""
    tenant_id = await repository.tenant_of(connection)
    if tenant_id is not None:
        await customers.lock(connection, tenant_id)
    row = None if tenant_id is None else await repository.find(connection, tenant_id, invoice_id)
    if row is None or row["status"] == "draft":
        raise unknown_invoice(invoice_id)
    return row, datetime.fromtimestamp(int(time.time()) if now is None else now, UTC)
