"""HTTP of subscriptions: the vendor's, and the customer's own."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends

from brinkbyte.billing.auth import Scope, TenantCaller, tenant_caller, vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.http import described_body, json_body
from brinkbyte.billing.idempotency import OnceOnly
from brinkbyte.billing.subscriptions import own, service
from brinkbyte.billing.subscriptions.schemas import (
    AgreedValues,
    OwnSubscription,
    Preview,
    Subscription,
    SubscriptionSet,
    SubscriptionWish,
)

router = APIRouter(prefix="/api", tags=["subscriptions"])
Reader = Annotated[TenantCaller, Depends(tenant_caller(Scope.BILLING_READ))]
Writer = Annotated[TenantCaller, Depends(tenant_caller(Scope.BILLING_WRITE))]
Wish = Annotated[SubscriptionWish, Depends(json_body(SubscriptionWish))]


@router.post("/subscriptions", openapi_extra=described_body(SubscriptionSet))
async def set_subscription(
    context: Annotated[Context, Depends(get_context)],
    actor: Annotated[str, Depends(vendor_caller)],
    once: OnceOnly,
    request: Annotated[SubscriptionSet, Depends(json_body(SubscriptionSet))],
) -> Subscription:
    """Set what a customer has bought."""
    made = await once.run(
        request.customer_id,
        Subscription,
        lambda connection: service.set_in(
            connection, context.catalog, request, actor=actor, now=context.now()
        ),
    )
    await context.quota_cache.forget(request.customer_id)
    return made


@router.put("/customers/{customer_id}/agreed", openapi_extra=described_body(AgreedValues))
async def set_agreed(
    context: Annotated[Context, Depends(get_context)],
    actor: Annotated[str, Depends(vendor_caller)],
    customer_id: str,
    request: Annotated[AgreedValues, Depends(json_body(AgreedValues))],
) -> AgreedValues:
    """Set the prices and limits of a customer's own that its next change is bought with."""
    return await own.set_agreed(context, customer_id, request, actor)


@router.get("/billing/subscription")
async def get_subscription(
    context: Annotated[Context, Depends(get_context)], caller: Reader
) -> OwnSubscription:
    """Return the caller's subscription, and what changes next by itself."""
    return await own.get(context, caller)


@router.post(
    "/billing/subscription", status_code=201, openapi_extra=described_body(SubscriptionWish)
)
async def create_subscription(
    context: Annotated[Context, Depends(get_context)], caller: Writer, once: OnceOnly, wish: Wish
) -> OwnSubscription:
    """Subscribe, or subscribe again after the end."""
    made = await once.run(
        caller.tenant_id,
        OwnSubscription,
        lambda connection: own.create_in(connection, context, caller, wish),
    )
    await context.quota_cache.forget(caller.tenant_id)
    return made


@router.put("/billing/subscription", openapi_extra=described_body(SubscriptionWish))
async def change_subscription(
    context: Annotated[Context, Depends(get_context)], caller: Writer, wish: Wish
) -> OwnSubscription:
    """Change plans and quantities: more counts at once, less from the next period."""
    return await own.change(context, caller, wish)


@router.delete("/billing/subscription")
async def cancel_subscription(
    context: Annotated[Context, Depends(get_context)],
    caller: Writer,
    at: Literal["now", "period_end"] = "now",
) -> OwnSubscription:
    """Cancel, to the end of today or of what is paid."""
    return await own.cancel(context, caller, at)


@router.post("/billing/subscription/preview", openapi_extra=described_body(SubscriptionWish))
async def preview_subscription(
    context: Annotated[Context, Depends(get_context)], caller: Reader, wish: Wish
) -> Preview:
    """Say what a change would cost; nothing is written."""
    return await own.preview(context, caller, wish)
