"""HTTP of customers (vendor's credential)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from brinkbyte.billing.auth import vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import service
from brinkbyte.billing.customers.schemas import Customer, CustomerCreate, LicenseDocument, Portal
from brinkbyte.billing.http import described_body, json_body

router = APIRouter(prefix="/api", tags=["customers"])
Server = Annotated[Context, Depends(get_context)]
Vendor = Annotated[str, Depends(vendor_caller)]
CustomerId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][\w.:@-]*$")]


@router.post("/customers", status_code=201, openapi_extra=described_body(CustomerCreate))
async def create(
    context: Server,
    actor: Vendor,
    request: Annotated[CustomerCreate, Depends(json_body(CustomerCreate))],
) -> Customer:
    """Create a customer."""
    return await service.create(context, request, actor)


@router.get("/license/{customer_id}")
async def license_of(context: Server, actor: Vendor, customer_id: CustomerId) -> LicenseDocument:
    """Return the newest license of the customer's instance."""
    return await service.license_of(context, customer_id)


@router.get("/portal/{customer_id}")
async def portal(context: Server, actor: Vendor, customer_id: CustomerId) -> Portal:
    """Return what a customer sees at a glance."""
    return await service.portal(context, customer_id)
