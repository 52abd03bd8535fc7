"""HTTP of a customer's invoices."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from brinkbyte.billing.auth import Scope, TenantCaller, tenant_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import lookup as customers
from brinkbyte.billing.invoices import service
from brinkbyte.billing.invoices.closing import line_of, major
from brinkbyte.billing.invoices.schemas import Invoice, InvoicePage, Upcoming

router = APIRouter(prefix="/api/billing/invoices", tags=["invoices"])
Reader = Annotated[TenantCaller, Depends(tenant_caller(Scope.BILLING_READ))]
Ctx = Annotated[Context, Depends(get_context)]


@router.get("")
async def list_invoices(
    context: Ctx,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> InvoicePage:
    """Return invoices, newest first; go on with ``nextCursor``."""
    return await service.page(context, caller, limit=limit, cursor=cursor)


@router.get("/upcoming")
async def upcoming_invoice(context: Ctx, caller: Reader) -> Upcoming:
    """Return what the next invoice would say with the use so far."""
    return await service.upcoming(context, caller)


@router.get("/{invoice_id}")
async def get_invoice(context: Ctx, caller: Reader, invoice_id: UUID) -> Invoice:
    """Return an invoice; each line of use says which sealed batches it comes from."""
    return await service.get(context, caller, invoice_id)


@router.get(
    "/{invoice_id}/pdf",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}}}},
)
async def invoice_pdf(context: Ctx, caller: Reader, invoice_id: UUID) -> Response:
    """Return an invoice as a PDF document."""
    # A quarter second of every start, and most servers never draw one.
    from brinkbyte.billing.invoices.document import Document, render  # noqa: PLC0415

    row, lines = await service.final(context, caller, invoice_id)
    customer = await customers.require(context, caller.tenant_id)
    document = Document(
        seller=context.invoicing.seller,
        buyer=(customer["name"], caller.tenant_id),
        number=row["number"],
        issued_at=row["finalized_at"],
        due_at=row["due_at"],
        paid_at=row["paid_at"],
        status=row["status"],
        period=(None if row["period_start"] is None else (row["period_start"], row["period_end"])),
        currency=row["currency"],
        lines=tuple(line_of(context.catalog, line) for line in lines),
        subtotal=major(context.catalog, row["total"]),
        tax=major(context.catalog, row["tax"]),
    )
    (body,) = await context.in_threads(render, [document])
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in row["number"])
    return Response(
        body,
        media_type="application/pdf",
        headers={
            "Content-Disposition": f'inline; filename="invoice-{name}.pdf"',
            "Cache-Control": "private, no-store",
        },
    )
