"""The license as a whole, camera by camera, and the devices' heartbeat."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from brinkbyte.instance.http import DEVICE, SERVICE, InstanceDep, PrincipalDep
from brinkbyte.instance.schemas import HeartbeatBody, HeartbeatReply, ValidationAnswer
from brinkbyte.instance.services.views import validation_answer
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import Identifier
from brinkbyte.store.devices import ONLINE_FOR, heartbeat

router = APIRouter(prefix="/api/v1/license", tags=["license"])
CameraId = Annotated[Identifier, Path()]


@router.get("", dependencies=[SERVICE])
async def get_license(instance: InstanceDep) -> dict[str, Any]:
    """Return plan, mode, features, limits and use."""
    return instance.views.license()


@router.get("/status", dependencies=[SERVICE])
async def get_status(instance: InstanceDep) -> dict[str, Any]:
    """Return how the license came to be what it is: sequences, refreshes, tiers, refusals."""
    return instance.views.license_status()


@router.post("/validate/{camera_id}", dependencies=[SERVICE], response_model=ValidationAnswer)
async def validate(camera_id: CameraId, instance: InstanceDep) -> Response:
    """Return whether a camera is licensed, for what, and which tier knew."""
    configured = await instance.configured_device(camera_id)
    decision, tier = await instance.license.validate(camera_id, configured)
    # Asked for every frame of every camera: serialized once, not checked against its own model.
    body = validation_answer(decision, tier).model_dump_json()
    return Response(body, media_type="application/json")


@router.post("/heartbeat", dependencies=[DEVICE])
async def device_heartbeat(
    instance: InstanceDep, principal: PrincipalDep, _body: HeartbeatBody | None = None
) -> HeartbeatReply:
    """Note that a device lives: it is online for 90 seconds."""
    device = principal.device
    tenant = instance.settings.customer_id
    known = False
    if device is not None:
        async with instance.pool.connection() as connection:
            known = await heartbeat(connection, tenant, device.hardware_id)
        if not known:
            # Its credential is newer than our last look at the devices.
            await instance.sync_devices()
            async with instance.pool.connection() as connection:
                known = await heartbeat(connection, tenant, device.hardware_id)
    if device is None or not known:
        raise ProblemError(
            409, "the device is being set up; send again in a moment", reason="DeviceNotReady"
        )
    return HeartbeatReply(
        hardware_id=device.hardware_id,
        mode=instance.license.policy().decision.mode,
        online_seconds=int(ONLINE_FOR.total_seconds()),
    )
