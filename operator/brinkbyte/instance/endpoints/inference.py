"""A frame through a licensed model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from brinkbyte.instance.endpoints.answers import metered_response
from brinkbyte.instance.http import DEVICE, InstanceDep, MeteredCallDep
from brinkbyte.instance.schemas import InferenceAnswer, Word
from brinkbyte.instance.services.inference import FRAME_MEDIA_TYPE
from brinkbyte.license.claims import Identifier

router = APIRouter(prefix="/api/v1/cameras", tags=["inference"])


@router.post(
    "/{camera_id}/infer",
    dependencies=[DEVICE],
    response_model=InferenceAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {FRAME_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def infer(
    camera_id: Annotated[Identifier, Path()],
    model: Annotated[Word, Query()],
    call: MeteredCallDep,
    instance: InstanceDep,
) -> Response:
    """Return what a licensed model finds in a small RGB frame; needs an Idempotency-Key."""
    answer = await instance.inference.infer(call, camera_id, model)
    return metered_response(instance, "infer", answer)
