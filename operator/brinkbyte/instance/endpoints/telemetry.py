"""Telemetry in from devices, sums out."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from brinkbyte.instance.endpoints.answers import metered_response, parse_body
from brinkbyte.instance.http import DEVICE, SERVICE, InstanceDep, MeteredCallDep
from brinkbyte.instance.schemas import (
    Aggregates,
    RetentionView,
    TelemetryAnswer,
    TelemetryBatch,
    Word,
)
from brinkbyte.license.claims import Identifier

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"])


@router.post(
    "",
    dependencies=[DEVICE],
    status_code=201,
    response_model=TelemetryAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": TelemetryBatch.model_json_schema()}},
        }
    },
)
async def take_telemetry(call: MeteredCallDep, instance: InstanceDep) -> Response:
    """Keep what a camera of the calling device saw; needs an Idempotency-Key."""
    answer = await instance.telemetry.take(call, parse_body(call, TelemetryBatch))
    return metered_response(instance, "telemetry", answer)


@router.get("/aggregates", dependencies=[SERVICE])
async def aggregates(
    instance: InstanceDep,
    *,
    bucket: Literal["hour", "day"] = "hour",
    since: Annotated[AwareDatetime | None, Query()] = None,
    until: Annotated[AwareDatetime | None, Query()] = None,
    camera_id: Annotated[Identifier | None, Query()] = None,
    kind: Annotated[Word | None, Query()] = None,
) -> Aggregates:
    """Return events by hour or day, camera, kind and label; by default of the last day."""
    return await instance.telemetry.aggregates(
        bucket=bucket, since=since, until=until, camera_id=camera_id, kind=kind
    )


@router.get("/retention", dependencies=[SERVICE])
async def retention(instance: InstanceDep) -> RetentionView:
    """Return how long data is kept, and whether a shorter time was announced."""
    return await instance.telemetry.retention()
