"""Thumbnails in from devices, out to people."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from pydantic import AwareDatetime

from brinkbyte.instance.endpoints.answers import metered_response
from brinkbyte.instance.http import DEVICE, SERVICE, InstanceDep, MeteredCallDep
from brinkbyte.instance.schemas import FrameAnswer, FramePage
from brinkbyte.license.claims import Identifier

router = APIRouter(prefix="/api/v1/cameras", tags=["frames"])
CameraId = Annotated[Identifier, Path()]


@router.post(
    "/{camera_id}/frames",
    dependencies=[DEVICE],
    status_code=201,
    response_model=FrameAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def take_frame(
    camera_id: CameraId,
    occurred_at: Annotated[AwareDatetime, Query()],
    call: MeteredCallDep,
    instance: InstanceDep,
) -> Response:
    """Keep a thumbnail (JPEG, PNG or WebP, 256 KiB at most); needs an Idempotency-Key."""
    answer = await instance.frames.take(call, camera_id, occurred_at)
    return metered_response(instance, "frame", answer)


@router.get("/{camera_id}/frames", dependencies=[SERVICE])
async def list_frames(
    camera_id: CameraId,
    instance: InstanceDep,
    since: Annotated[AwareDatetime | None, Query()] = None,
    until: Annotated[AwareDatetime | None, Query()] = None,
) -> FramePage:
    """Return a camera's thumbnails, the newest first, by default of the last day."""
    return await instance.frames.page(camera_id, since, until)


@router.get("/{camera_id}/frames/{frame_id}", dependencies=[SERVICE])
async def get_frame(
    camera_id: CameraId,
    frame_id: UUID,
    occurred_at: Annotated[AwareDatetime, Query()],
    instance: InstanceDep,
) -> Response:
    """Return a thumbnail's picture."""
    kind, picture = await instance.frames.picture(camera_id, occurred_at, frame_id)
    # What a device sent is shown as a picture and as nothing else.
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(picture, media_type=kind, headers=headers)
