"""HTTP of customers: the vendor's, and what a customer may read of itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from brinkbyte.billing.auth import reader_of_customer, vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import service
from brinkbyte.billing.customers.schemas import Customer, CustomerCreate, LicenseDocument, Portal
from brinkbyte.billing.http import CustomerId, described_body, json_body
from brinkbyte.billing.idempotency import OnceOnly

router = APIRouter(prefix="/api", tags=["customers"])
Server = Annotated[Context, Depends(get_context)]
Vendor = Annotated[str, Depends(vendor_caller)]
Reader = Annotated[str, Depends(reader_of_customer)]


@router.post("/customers", status_code=201, openapi_extra=described_body(CustomerCreate))
async def create(
    context: Server,
    actor: Vendor,
    once: OnceOnly,
    request: Annotated[CustomerCreate, Depends(json_body(CustomerCreate))],
) -> Customer:
    """Create a customer."""
    return await once.run(
        request.customer_id,
        Customer,
        lambda c: service.create_in(c, request, actor=actor, now=context.now()),
    )


@router.get("/license/{customer_id}")
async def license_of(context: Server, actor: Reader, customer_id: CustomerId) -> LicenseDocument:
    """Return the newest license of the customer's instance."""
    return await service.license_of(context, customer_id)


@router.get("/portal/{customer_id}")
async def portal(context: Server, actor: Reader, customer_id: CustomerId) -> Portal:
    """Return what a customer sees at a glance."""
    return await service.portal(context, customer_id)
