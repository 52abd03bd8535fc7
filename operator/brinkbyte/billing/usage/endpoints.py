"""HTTP of the ledger."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request

from brinkbyte.billing.auth import (
    InstanceCaller,
    Scope,
    VendorCaller,
    instance_caller,
    vendor_emitter,
)
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import lookup as customers
from brinkbyte.billing.http import described_body, json_body, read_body
from brinkbyte.billing.usage import service
from brinkbyte.billing.usage.schemas import ReportAnswer, UsageReport
from brinkbyte.kit.problem import ProblemError
from brinkbyte.metering.batches import BatchAnswer, UsageHead

MAX_BATCH_BYTES: Final = 12 * 1024 * 1024
MAX_WAITING: Final = 64
router = APIRouter(tags=["usage"])
Server = Annotated[Context, Depends(get_context)]
Caller = Annotated[InstanceCaller, Depends(instance_caller(Scope.USAGE))]
_BATCH_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["header", "events"],
                    "additionalProperties": False,
                    "properties": {
                        "header": {"type": "string", "description": "compact JWS"},
                        "events": {"type": "array", "items": {"type": "object"}},
                    },
                }
            }
        },
    }
}


@router.get("/api/v1/usage/head")
async def head(context: Server, caller: Caller) -> UsageHead:
    """Return what the ledger holds of this instance."""
    return await service.head(context, caller)


@router.post("/api/v1/usage/batch", openapi_extra=_BATCH_SCHEMA)
async def batch(request: Request, context: Server, caller: Caller) -> BatchAnswer:
    """Take in a sealed batch; answers with its signed receipt."""
    gate = context.ingest_gate
    if gate.waiting >= MAX_WAITING:
        raise ProblemError(
            429,
            "too many batches wait; send this one again later",
            reason="Busy",
            headers={"Retry-After": "3"},
        )
    with gate:
        body = await read_body(request, MAX_BATCH_BYTES)
        return BatchAnswer(receipt=await service.ingest(context, caller, body))


@router.post("/api/usage/report", openapi_extra=described_body(UsageReport))
async def report(
    context: Server,
    caller: Annotated[VendorCaller, Depends(vendor_emitter)],
    request: Annotated[UsageReport, Depends(json_body(UsageReport, MAX_BATCH_BYTES))],
) -> ReportAnswer:
    """Take in events of the vendor's own services."""
    await customers.require(context, request.customer_id)
    raws = [json.dumps(event, ensure_ascii=False).encode() for event in request.events]
    return await service.report(context, request.customer_id, caller, raws)
