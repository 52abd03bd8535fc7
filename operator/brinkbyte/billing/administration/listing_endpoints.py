"""HTTP of what the vendor lists across customers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from brinkbyte.billing.administration import listings
from brinkbyte.billing.administration.endpoints import Across
from brinkbyte.billing.administration.listing_schemas import (
    AuditLog,
    Customers,
    Devices,
    Licenses,
    Metering,
    Sites,
)
from brinkbyte.billing.auth import vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.paging import Paged

router = APIRouter(prefix="/api/v1/admin", tags=["administration"])
Server = Annotated[Context, Depends(get_context)]
Vendor = Annotated[str, Depends(vendor_caller)]
CustomerFilter = Annotated[
    str | None,
    Query(
        alias="customerId",
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][\w.:@-]*$",
        description="only of this customer",
    ),
]
Word = Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")
Moment = Query(ge=0, le=253_402_300_799, description="Unix seconds")


@router.get("/customers")
async def customers(
    context: Server,
    actor: Vendor,
    database: Across,
    page: Paged,
    search: Annotated[str | None, Word] = None,
) -> Customers:
    """List customers by id; `search` is looked for in id and name."""
    return await listings.customers(
        database, context.catalog, page, search=search, now=context.now()
    )


@router.get("/instances")
async def instances(
    actor: Vendor,
    database: Across,
    page: Paged,
    customer_id: CustomerFilter = None,
    ended: Annotated[bool, Query(description="also those that have ended")] = False,
) -> Sites:
    """List instances by customer."""
    return await listings.instances(database, page, customer_id=customer_id, ended=ended)


@router.get("/devices")
async def devices(
    actor: Vendor, database: Across, page: Paged, customer_id: CustomerFilter = None
) -> Devices:
    """List edge devices by customer and name."""
    return await listings.devices(database, page, customer_id=customer_id)


@router.get("/licenses")
async def licenses(context: Server, actor: Vendor, database: Across, page: Paged) -> Licenses:
    """List the newest license of each customer, and the mode that it leads to."""
    return await listings.licenses(database, context.catalog, page, now=context.now())


@router.get("/metering")
async def metering(context: Server, actor: Vendor, database: Across, page: Paged) -> Metering:
    """List how far the metering of each live instance is: backlog, newest batch, silence."""
    return await listings.metering(database, page, now=context.now())


@router.get("/audit")
async def audit(
    actor: Vendor,
    database: Across,
    page: Paged,
    *,
    customer_id: CustomerFilter = None,
    by: Annotated[str | None, Word] = None,
    action: Annotated[str | None, Word] = None,
    subject: Annotated[str | None, Word] = None,
    since: Annotated[int | None, Moment] = None,
    until: Annotated[int | None, Moment] = None,
    own: Annotated[bool, Query(description="the vendor's own changes, no customer's")] = False,
) -> AuditLog:
    """List changes, newest first: who (`by`), what, when."""
    filters = {"customer": customer_id, "actor": by, "action": action, "subject": subject}
    return await listings.audit_log(
        database, page, own=own, filters=filters, since=since, until=until
    )
