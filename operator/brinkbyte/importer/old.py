"""The old tables: which columns mean what, under which names they were seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Names = tuple[str, ...]

PLUMBING: Final = frozenset({"id", "rowid", "tenant_id", "created_at", "updated_at"})
"""Columns that were the old database's own business."""
BOOKKEEPING: Final = frozenset({"schema_version", "schema_migrations", "migrations"})
"""Tables that tell of the old schema only."""


@dataclass(frozen=True)
class OldTable:
    """A table of the old edge service.

    Attributes:
        name: in the old database and, the same, in the instance's.
        names: other names that it had.
        fields: what its columns mean → names that they had, the first one present counts.
        required: fields without which no row could be read.
        folded: whether columns that nobody knows go into the row's free JSON.
        chunk_rows: rows a transaction.
    """

    name: str
    fields: dict[str, Names]
    required: Names
    names: Names = ()
    folded: bool = False
    chunk_rows: int = 1000


_CAMERA: Final = ("camera_id", "camera")
_DEVICE: Final = ("hardware_id", "device_id", "device")
_TIME: Final = ("occurred_at", "timestamp", "ts", "event_time", "time", "created_at")

TABLES: Final = (
    OldTable(
        "config",
        {"key": ("key", "name"), "value": ("value", "data")},
        ("key", "value"),
        ("settings",),
    ),
    OldTable(
        "cameras",
        {
            "camera_id": ("camera_id", "uuid", "id"),
            "name": ("name", "title"),
            "hardware_id": _DEVICE,
            "enabled": ("enabled", "is_enabled", "active"),
            "pipeline": ("pipeline", "pipeline_json", "config", "settings"),
        },
        ("camera_id",),
        folded=True,
    ),
    OldTable(
        "camera_components",
        {
            "camera_id": _CAMERA,
            "name": ("name", "component_id", "id"),
            "kind": ("kind", "component_type", "category", "role"),
            "type": ("type", "subtype", "implementation", "class"),
            "settings": ("settings", "config", "configuration", "params"),
        },
        ("camera_id", "kind", "type"),
        ("components",),
        folded=True,
    ),
    OldTable(
        "line_zones",
        {
            "camera_id": _CAMERA,
            "name": ("name", "zone_name", "zone_id", "id"),
            "start_x": ("start_x", "x1"),
            "start_y": ("start_y", "y1"),
            "end_x": ("end_x", "x2"),
            "end_y": ("end_y", "y2"),
            "points": ("points", "coordinates"),
            "direction": ("direction",),
        },
        ("camera_id",),
    ),
    OldTable(
        "polygon_zones",
        {
            "camera_id": _CAMERA,
            "name": ("name", "zone_name", "zone_id", "id"),
            "points": ("points", "polygon", "vertices", "coordinates"),
        },
        ("camera_id", "points"),
    ),
    OldTable(
        "telemetry_events",
        {
            "camera_id": _CAMERA,
            "hardware_id": _DEVICE,
            "occurred_at": _TIME,
            "kind": ("kind", "event_type", "type", "event"),
            "label": ("label", "object_class", "class_name", "class"),
            "track_id": ("track_id", "tracker_id", "object_id"),
            "zone": ("zone", "zone_name", "zone_id"),
            "score": ("score", "confidence"),
            "attributes": ("attributes", "data", "metadata", "payload"),
        },
        ("camera_id", "occurred_at", "kind"),
        ("telemetry", "events"),
        folded=True,
        chunk_rows=5000,
    ),
    OldTable(
        "frames",
        {
            "camera_id": _CAMERA,
            "hardware_id": _DEVICE,
            "occurred_at": _TIME,
            "width": ("width",),
            "height": ("height",),
            "thumbnail": ("thumbnail", "image", "data", "jpeg", "blob"),
        },
        ("camera_id", "occurred_at", "thumbnail"),
        ("thumbnails",),
        # A picture may have a mebibyte: what is in memory at once stays small.
        chunk_rows=32,
    ),
    OldTable(
        "telemetry_aggregates",
        {
            "bucket": ("bucket", "hour", "bucket_start", "window_start", "timestamp"),
            "granularity": ("granularity", "resolution", "interval", "period"),
            "camera_id": _CAMERA,
            "kind": ("kind", "event_type", "type"),
            "label": ("label", "object_class", "class_name", "class"),
            "events": ("events", "event_count", "count", "total"),
            "score_sum": ("score_sum", "confidence_sum"),
            "scored": ("scored", "confidence_count"),
            "mean": ("mean_score", "avg_confidence", "average_confidence"),
        },
        ("bucket", "camera_id", "kind", "events"),
        ("aggregates",),
    ),
)
