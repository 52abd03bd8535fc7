"""HTTP of the administration (vendor's credential)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from brinkbyte.billing.administration import service
from brinkbyte.billing.administration.schemas import (
    Acknowledgement,
    CloneAlarmRow,
    CustomerFlags,
    FlagsPatch,
    KeyRollout,
    Payment,
    PaymentNotice,
    Seats,
)
from brinkbyte.billing.auth import vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.db import Database
from brinkbyte.billing.http import described_body, json_body
from brinkbyte.billing.licenses.rotation import read_state
from brinkbyte.billing.rollout import service as rollout
from brinkbyte.kit.problem import ProblemError

router = APIRouter(prefix="/api/v1/admin", tags=["administration"])
Server = Annotated[Context, Depends(get_context)]
Vendor = Annotated[str, Depends(vendor_caller)]
_Id = Path(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][\w.:@-]*$")
CustomerId = Annotated[str, _Id]
CameraId = Annotated[str, _Id]


def _administration(context: Server) -> Database:
    if context.administration is None:
        raise ProblemError(
            503,
            "this server may not look across customers: set BRINKBYTE_ADMIN_DATABASE_URL for it, "
            "or use `brinkbyte billing admin`",
            reason="AdministrationUnavailable",
        )
    return context.administration


Across = Annotated[Database, Depends(_administration)]


@router.get("/keys")
async def keys(context: Server, actor: Vendor, database: Across) -> KeyRollout:
    """Return the signing keys, and which instances have seen the newest or need the old ones."""
    state = read_state(context.keyring.directory)
    return service.key_rollout(await rollout.progress(database, state, now=context.now()))


@router.get("/clone-alarms")
async def clone_alarms(
    actor: Vendor,
    database: Across,
    acknowledged: Annotated[bool, Query(description="also those that were acknowledged")] = False,
) -> list[CloneAlarmRow]:
    """Return the clone alarms of every customer, newest first."""
    return await service.clone_alarms(database, acknowledged=acknowledged)


@router.post(
    "/customers/{customer_id}/clone-alarms/acknowledge",
    openapi_extra=described_body(Acknowledgement),
)
async def acknowledge(
    context: Server,
    actor: Vendor,
    customer_id: CustomerId,
    request: Annotated[Acknowledgement, Depends(json_body(Acknowledgement))],
) -> list[CloneAlarmRow]:
    """Acknowledge a customer's clone alarms; returns those that were open."""
    return await service.acknowledge_clones(
        context.database, customer_id, note=request.note, actor=actor, now=context.now()
    )


@router.get("/customers/{customer_id}/flags")
async def flags(context: Server, actor: Vendor, customer_id: CustomerId) -> CustomerFlags:
    """Return a customer's feature flags."""
    return await service.get_flags(context.database, customer_id)


@router.patch("/customers/{customer_id}/flags", openapi_extra=described_body(FlagsPatch))
async def set_flags(
    context: Server,
    actor: Vendor,
    customer_id: CustomerId,
    request: Annotated[FlagsPatch, Depends(json_body(FlagsPatch))],
) -> CustomerFlags:
    """Set some feature flags of a customer."""
    return await service.set_flags(
        context.database, customer_id, request.given, actor=actor, now=context.now()
    )


@router.post("/customers/{customer_id}/payment", openapi_extra=described_body(PaymentNotice))
async def payment(
    context: Server,
    actor: Vendor,
    customer_id: CustomerId,
    request: Annotated[PaymentNotice, Depends(json_body(PaymentNotice))],
) -> Payment:
    """Note that an invoice is unpaid, or that all is paid."""
    noted = await service.note_payment(
        context.database, customer_id, request.due_at, actor=actor, now=context.now()
    )
    await context.quota_cache.forget(customer_id)
    return noted


@router.get("/customers/{customer_id}/seats")
async def seats(context: Server, actor: Vendor, customer_id: CustomerId) -> Seats:
    """Return a customer's camera seats, trials and their history."""
    return await service.seats_of(context.database, context.catalog, customer_id, now=context.now())


@router.get("/customers/{customer_id}/seats/{camera_id}")
async def seat(
    context: Server, actor: Vendor, customer_id: CustomerId, camera_id: CameraId
) -> Seats:
    """Return one camera's seat, trial and history."""
    return await service.seats_of(
        context.database, context.catalog, customer_id, camera_id, now=context.now()
    )
