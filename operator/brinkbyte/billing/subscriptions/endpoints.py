"""HTTP of subscriptions (vendor's credential)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from brinkbyte.billing.auth import vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.http import described_body, json_body
from brinkbyte.billing.subscriptions import service
from brinkbyte.billing.subscriptions.schemas import Subscription, SubscriptionSet

router = APIRouter(prefix="/api", tags=["subscriptions"])


@router.post("/subscriptions", openapi_extra=described_body(SubscriptionSet))
async def set_subscription(
    context: Annotated[Context, Depends(get_context)],
    actor: Annotated[str, Depends(vendor_caller)],
    request: Annotated[SubscriptionSet, Depends(json_body(SubscriptionSet))],
) -> Subscription:
    """Set what a customer has bought."""
    return await service.set_subscription(context, request, actor)
