"""What travels over the instance API, beyond what the domain already names."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue, model_validator

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import Identifier
from brinkbyte.license.modes import LicenseMode

MAX_TELEMETRY_EVENTS = 500
_MAX_JSON_BYTES = 8192
_MAX_JSON_DEPTH = 32
_LEAST_SCORE = 1e-30
"""Nearer to nothing than this is nothing: the column has single precision."""


def _bounded_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        data = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        # Also text that is not Unicode, such as half a surrogate pair.
        raise ValueError("not plain JSON") from None
    if len(data) > _MAX_JSON_BYTES:
        raise ValueError(f"larger than {_MAX_JSON_BYTES} bytes of JSON")
    if b"\\u0000" in data:
        raise ValueError("text with a NUL character")
    if _deeper(value, _MAX_JSON_DEPTH):
        # Deeper still, and it could be stored but never be read out again.
        raise ValueError(f"nested more than {_MAX_JSON_DEPTH} deep")
    return value


def _deeper(value: Any, levels: int) -> bool:
    found = [value]
    for _ in range(levels + 1):
        found = [part for item in found for part in _parts(item)]
    return bool(found)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


Settings = Annotated[dict[str, Any], Field(max_length=64), AfterValidator(_bounded_json)]
"""Free settings: at most 64 members, 8 KiB of JSON, and 32 levels."""
Word = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][\w.-]*$")]
"""A short name: of a model, analytic, output, component, zone or label."""
Label = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
"""A share of the picture's width or height."""
Score = Annotated[Share, AfterValidator(lambda score: score if score >= _LEAST_SCORE else 0.0)]
"""How sure a model is."""
Point = tuple[Share, Share]
Names = Annotated[tuple[Word, ...], Field(max_length=64)]


class Pipeline(WireModel):
    """What runs on a camera's pictures; every name needs the camera's license."""

    models: Names = ()
    analytics: Names = ()
    outputs: Names = ()
    settings: Settings = Field(default_factory=dict)


class ComponentBody(WireModel):
    """A part of a pipeline, by its name in the path.

    ``type`` of a processor is an analytic, or ``inference`` with ``settings.model``; of a sink, an
    output; of a source, free.
    """

    kind: Literal["source", "processor", "sink"]
    type: Word
    settings: Settings = Field(default_factory=dict)

    @model_validator(mode="after")
    def _named_model(self) -> ComponentBody:
        if self.kind == "processor" and self.type == "inference":
            model = self.settings.get("model")
            if not isinstance(model, str):
                raise ValueError("an inference processor needs settings.model, a model's name")
        return self


class ComponentItem(ComponentBody):
    """A part of a pipeline."""

    name: Word


class LineZoneBody(WireModel):
    """A line to be crossed."""

    start: Point
    end: Point
    direction: Literal["both", "forward", "backward"] = "both"

    @model_validator(mode="after")
    def _has_length(self) -> LineZoneBody:
        if self.start == self.end:
            raise ValueError("start and end are the same point")
        return self


class LineZoneItem(LineZoneBody):
    """A line to be crossed, with its name."""

    name: Word


class PolygonZoneBody(WireModel):
    """An area."""

    points: Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]


class PolygonZoneItem(PolygonZoneBody):
    """An area, with its name."""

    name: Word


class CameraBody(WireModel):
    """A camera's whole configuration."""

    name: Label = ""
    hardware_id: Identifier | None = Field(
        None, description="device it is on; the license's seat wins over it"
    )
    enabled: bool = True
    pipeline: Pipeline = Pipeline()
    components: Annotated[tuple[ComponentItem, ...], Field(max_length=64)] = ()
    line_zones: Annotated[tuple[LineZoneItem, ...], Field(max_length=64)] = ()
    polygon_zones: Annotated[tuple[PolygonZoneItem, ...], Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _names_once(self) -> CameraBody:
        for member in (self.components, self.line_zones, self.polygon_zones):
            names = [item.name for item in member]
            if len(set(names)) != len(names):
                raise ValueError("a name of a component or zone comes twice")
        return self


class NewCamera(CameraBody):
    """``POST /api/v1/cameras``."""

    camera_id: Identifier


class LicenseView(WireModel):
    """What of a camera's license matters to whoever looks at the camera."""

    licensed: bool
    mode: LicenseMode
    reason: str
    message: str


class CameraView(CameraBody):
    """A camera as it is configured and licensed."""

    camera_id: Identifier
    license: LicenseView
    created_at: datetime | None
    updated_at: datetime | None


class CameraPage(WireModel):
    """Cameras ordered by id; ``next`` is the ``after`` of the next page."""

    cameras: tuple[CameraView, ...]
    next: str | None


class TelemetryItem(WireModel):
    """One thing that a camera saw, at its own time."""

    kind: Word
    occurred_at: AwareDatetime
    label: Label = ""
    track_id: Annotated[str, Field(max_length=128, pattern=r"^[^\x00]*$")] | None = None
    zone: Word | None = None
    score: Score | None = None
    attributes: Settings = Field(default_factory=dict)


class TelemetryBatch(WireModel):
    """``POST /api/v1/telemetry``: what one camera of the calling device saw."""

    camera_id: Identifier
    events: Annotated[
        tuple[TelemetryItem, ...], Field(min_length=1, max_length=MAX_TELEMETRY_EVENTS)
    ]


class TelemetryAnswer(WireModel):
    """Answer 201: the events are kept and the call is metered."""

    accepted: int
    camera_id: str
    event_id: str | None = Field(
        description="id of the metering event; null: the vendor has switched metering off"
    )


class DetectionView(WireModel):
    """One thing found in a frame; the box is left, top, right, bottom in pixels."""

    box: tuple[float, float, float, float]
    score: float
    label: str


class InferenceAnswer(WireModel):
    """Answer 200: what the model found; the call is metered."""

    camera_id: str
    model: str
    detections: tuple[DetectionView, ...]
    event_id: str | None = Field(
        description="id of the metering event; null: the vendor has switched metering off"
    )


class AggregateView(WireModel):
    """Events of one kind and label of a camera in one hour or day."""

    bucket: datetime
    camera_id: str
    kind: str
    label: str
    events: int
    mean_score: float | None


class Aggregates(WireModel):
    """``GET /api/v1/telemetry/aggregates``."""

    bucket: Literal["hour", "day"]
    since: datetime
    until: datetime
    rows: tuple[AggregateView, ...]
    truncated: bool = Field(description="there are more rows: ask for a shorter span")


class RetentionView(WireModel):
    """``GET /api/v1/telemetry/retention``; times in Unix seconds but ``oldestKept``."""

    days: int | None = Field(description="null: nothing is dropped")
    frozen: bool = Field(description="the license is not in force: nothing is dropped meanwhile")
    announced_days: int | None = Field(None, description="a shorter retention that was announced")
    announced_at: int | None = None
    cut_at: int | None = Field(None, description="from then on it counts")
    oldest_kept: datetime | None = None
    readable_days: int | None = Field(None, description="null: all that is kept can be read")


class FrameView(WireModel):
    """A thumbnail that is kept; its picture is at ``path``."""

    id: UUID
    camera_id: str
    hardware_id: str
    occurred_at: datetime
    media_type: str
    width: int | None
    height: int | None
    bytes: int
    path: str


class FramePage(WireModel):
    """Thumbnails of a camera, the newest first."""

    frames: tuple[FrameView, ...]
    truncated: bool = Field(description="there are older ones: ask for a shorter span")


class FrameAnswer(WireModel):
    """Answer 201: the thumbnail is kept and the call is metered."""

    frame_id: UUID
    camera_id: str
    event_id: str | None = Field(
        description="id of the metering event; null: the vendor has switched metering off"
    )


class ConfigBody(WireModel):
    """``PUT /api/v1/config/{key}``: any JSON, 8 KiB at most."""

    value: JsonValue

    @model_validator(mode="after")
    def _bounded(self) -> ConfigBody:
        _bounded_json({"value": self.value})
        return self


class HeartbeatBody(OpenWireModel):
    """``POST /api/v1/license/heartbeat``; may be empty."""

    version: Annotated[str, Field(max_length=64)] | None = None


class HeartbeatReply(WireModel):
    """Answer 200."""

    hardware_id: str
    mode: LicenseMode
    online_seconds: int = Field(description="online this long without another heartbeat")


class ValidationAnswer(WireModel):
    """``POST /api/v1/license/validate/{camera_id}``."""

    camera_id: str
    valid: bool
    mode: LicenseMode
    reason: str
    message: str
    waived: str | None = Field(
        None, description="why it would be refused, were validation not switched off"
    )
    tier: str = Field(description="memory, redis, postgres, billing; none: nobody knew")
    hardware_id: str | None
    growth_packs: tuple[str, ...]
    models: tuple[str, ...]
    analytics: tuple[str, ...]
    outputs: tuple[str, ...]
    valid_until: int | None
    upgrade_url: str | None
