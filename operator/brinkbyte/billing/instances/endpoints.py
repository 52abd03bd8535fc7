"""HTTP of enrollment, credentials, key pairs, heartbeats."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from brinkbyte.billing.auth import InstanceCaller, Scope, instance_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.http import described_body, json_body
from brinkbyte.billing.instances import heartbeats, service
from brinkbyte.license.wire import (
    CredentialRotation,
    Enrollment,
    EnrollmentRequest,
    Heartbeat,
    HeartbeatAnswer,
    InstanceKeyRequest,
)

router = APIRouter(prefix="/api/v1", tags=["instances"])
Server = Annotated[Context, Depends(get_context)]
Admin = Annotated[InstanceCaller, Depends(instance_caller(Scope.INSTANCE_ADMIN))]


@router.post("/enrollments", status_code=201, openapi_extra=described_body(EnrollmentRequest))
async def enroll(
    context: Server, request: Annotated[EnrollmentRequest, Depends(json_body(EnrollmentRequest))]
) -> Enrollment:
    """Exchange a one-time token for an instance and its credential."""
    return await service.enroll(context, request)


@router.post("/instance/credential")
async def rotate(context: Server, caller: Admin) -> CredentialRotation:
    """Make a new credential; the old one is good for 24 hours more."""
    return await service.rotate_credential(context, caller)


@router.put("/instance/key", status_code=204, openapi_extra=described_body(InstanceKeyRequest))
async def register_key(
    context: Server,
    caller: Admin,
    request: Annotated[InstanceKeyRequest, Depends(json_body(InstanceKeyRequest))],
) -> None:
    """Register a new instance key pair."""
    await service.register_key(context, caller, request)


@router.delete("/instance", status_code=204)
async def end(
    context: Server,
    caller: Annotated[InstanceCaller, Depends(instance_caller(Scope.INSTANCE_ADMIN, ended=True))],
) -> None:
    """Free everything and end the instance; repeating it is fine for 24 hours."""
    await service.end_instance(context, caller)


@router.post("/heartbeat", openapi_extra=described_body(Heartbeat))
async def heartbeat(
    context: Server,
    caller: Annotated[InstanceCaller, Depends(instance_caller(Scope.HEARTBEAT))],
    request: Annotated[Heartbeat, Depends(json_body(Heartbeat))],
) -> HeartbeatAnswer:
    """Take in a sign of life."""
    return await heartbeats.heartbeat(context, caller, request)
