"""``POST /api/billing/webhooks/stripe``: no credential but the signature over the raw body."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.http import read_body
from brinkbyte.billing.providers.errors import WebhookError
from brinkbyte.billing.webhooks import service
from brinkbyte.kit.problem import ProblemError

MAX_BODY: Final = 1024 * 1024
_PROVIDER: Final = "stripe"

router = APIRouter(tags=["webhooks"])


@router.post(
    "/api/billing/webhooks/stripe",
    status_code=204,
    responses={
        400: {"description": "not a delivery of Stripe's, or not of now"},
        413: {"description": "longer than a delivery can be"},
        503: {"description": "no signing secret is set, or the database does not answer"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
async def stripe_webhook(
    request: Request, context: Annotated[Context, Depends(get_context)]
) -> Response:
    """Take in one event: answered once it is stored, the same for one that is stored already."""
    if context.webhooks is None:
        raise ProblemError(
            503,
            "no signing secret is set here; set BRINKBYTE_STRIPE_WEBHOOK_SECRETS",
            reason="WebhooksNotConfigured",
            headers={"Retry-After": "300"},
        )
    body = await read_body(request, MAX_BODY)
    try:
        event = context.webhooks.verify(body, request.headers)
    except WebhookError as error:
        context.metrics.webhooks.labels(error.reason).inc()
        raise ProblemError(400, error.message, reason=error.reason) from None
    new = await service.store(
        context.database, _PROVIDER, event, now=datetime.fromtimestamp(context.now(), UTC)
    )
    context.metrics.webhooks.labels("stored" if new else "repeated").inc()
    return Response(status_code=204)
