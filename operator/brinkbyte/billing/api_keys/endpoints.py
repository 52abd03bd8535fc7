"""HTTP of API keys: the vendor's for any customer, an owner's for the own."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from brinkbyte.billing.api_keys import service
from brinkbyte.billing.api_keys.schemas import ApiKeyCreate, ApiKeyMade, ApiKeyRotate, ApiKeys
from brinkbyte.billing.auth import Scope, TenantCaller, tenant_caller, vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.http import CustomerId, described_body, json_body
from brinkbyte.billing.idempotency import OnceOnly
from brinkbyte.billing.paging import Page, Paged

vendor = APIRouter(prefix="/api/v1/admin/customers/{customer_id}/keys", tags=["API keys"])
tenant = APIRouter(prefix="/api/billing/keys", tags=["API keys"])
Server = Annotated[Context, Depends(get_context)]
Vendor = Annotated[str, Depends(vendor_caller)]
Owner = Annotated[TenantCaller, Depends(tenant_caller(Scope.TENANT_OWNER))]
Create = Annotated[ApiKeyCreate, Depends(json_body(ApiKeyCreate))]
Rotate = Annotated[ApiKeyRotate, Depends(json_body(ApiKeyRotate))]


async def _page(context: Context, customer_id: str, page: Page) -> ApiKeys:
    async with context.database.tenant(customer_id) as connection:
        found = await service.page_in(connection, customer_id, before=page.uuid(), limit=page.fetch)
    keys, following = page.cut(found, lambda key: key.key_id)
    return ApiKeys(keys=keys, next=following)


async def _create(
    context: Context, once: OnceOnly, customer_id: str, request: ApiKeyCreate, actor: str
) -> ApiKeyMade:
    return await once.run(
        customer_id,
        ApiKeyMade,
        lambda connection: service.create_in(
            connection, context.secrets, customer_id, request, actor=actor, now=context.now()
        ),
    )


async def _rotate(
    context: Context,
    once: OnceOnly,
    customer_id: str,
    key_id: UUID,
    *,
    request: ApiKeyRotate,
    actor: str,
) -> ApiKeyMade:
    return await once.run(
        customer_id,
        ApiKeyMade,
        lambda connection: service.rotate_in(
            connection,
            context.secrets,
            customer_id,
            key_id,
            overlap_hours=request.overlap_hours,
            actor=actor,
            now=context.now(),
        ),
    )


async def _revoke(context: Context, customer_id: str, key_id: UUID, actor: str) -> None:
    async with context.database.tenant(customer_id) as connection:
        await service.revoke_in(connection, customer_id, key_id, actor=actor, now=context.now())


@vendor.get("")
async def keys_of(context: Server, actor: Vendor, customer_id: CustomerId, page: Paged) -> ApiKeys:
    """List a customer's API keys, newest first; their secrets are stored nowhere."""
    return await _page(context, customer_id, page)


@vendor.post("", status_code=201, openapi_extra=described_body(ApiKeyCreate))
async def create_for(
    context: Server, actor: Vendor, customer_id: CustomerId, once: OnceOnly, request: Create
) -> ApiKeyMade:
    """Make an API key for a customer; its secret is shown only now."""
    return await _create(context, once, customer_id, request, actor)


@vendor.post("/{key_id}/rotate", status_code=201, openapi_extra=described_body(ApiKeyRotate))
async def rotate_for(
    context: Server,
    actor: Vendor,
    customer_id: CustomerId,
    key_id: UUID,
    *,
    once: OnceOnly,
    request: Rotate,
) -> ApiKeyMade:
    """Make an API key in place of another, which stays good for the overlap."""
    return await _rotate(context, once, customer_id, key_id, request=request, actor=actor)


@vendor.delete("/{key_id}", status_code=204)
async def revoke_for(context: Server, actor: Vendor, customer_id: CustomerId, key_id: UUID) -> None:
    """Revoke an API key at once; again is fine."""
    await _revoke(context, customer_id, key_id, actor)


@tenant.get("")
async def keys(context: Server, caller: Owner, page: Paged) -> ApiKeys:
    """List the customer's API keys, newest first; their secrets are stored nowhere."""
    return await _page(context, caller.tenant_id, page)


@tenant.post("", status_code=201, openapi_extra=described_body(ApiKeyCreate))
async def create(context: Server, caller: Owner, once: OnceOnly, request: Create) -> ApiKeyMade:
    """Make an API key; its secret is shown only now."""
    return await _create(context, once, caller.tenant_id, request, caller.actor)


@tenant.post("/{key_id}/rotate", status_code=201, openapi_extra=described_body(ApiKeyRotate))
async def rotate(
    context: Server, caller: Owner, key_id: UUID, once: OnceOnly, request: Rotate
) -> ApiKeyMade:
    """Make an API key in place of another, which stays good for the overlap."""
    return await _rotate(
        context, once, caller.tenant_id, key_id, request=request, actor=caller.actor
    )


@tenant.delete("/{key_id}", status_code=204)
async def revoke(context: Server, caller: Owner, key_id: UUID) -> None:
    """Revoke an API key at once; again is fine."""
    await _revoke(context, caller.tenant_id, key_id, caller.actor)
