"""Old rows as the instance's rows.

Pure but for what it remembers of the run: which cameras there are, and which parts each has.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from brinkbyte.importer import values
from brinkbyte.importer.canonical import raw_text
from brinkbyte.importer.ids import TABLE_NUMBERS, RowIds
from brinkbyte.importer.source import FoundTable, Row
from brinkbyte.importer.values import Old, Unreadable
from brinkbyte.store.sqlite_journal import Reject

NewRow: TypeAlias = tuple[Any, ...]
"""Values in the order of the target's columns, the tenant left out."""

# What the instance's own API takes, so that it can show what was imported.
MAX_PARTS: Final = 64
MAX_MEMBERS: Final = 64
MAX_SETTINGS_BYTES: Final = 8192
MAX_POINTS: Final = 64
MAX_THUMBNAIL_BYTES: Final = 1 << 20
MAX_COUNT: Final = 2**53
_NAMES: Final = ("models", "analytics", "outputs")
_HEX: Final = re.compile(r"^(?:[0-9A-Fa-f]{2})+$")
_DATA_URL: Final = re.compile(r"^data:[^,]{0,100};base64,")
_PICTURES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"BM", "image/bmp"),
    (b"P6", "image/x-portable-pixmap"),
)
_DIRECTIONS: Final = {
    "": "both",
    "both": "both",
    "any": "both",
    "bidirectional": "both",
    "forward": "forward",
    "in": "forward",
    "backward": "backward",
    "out": "backward",
    "reverse": "backward",
}
_HOURLY: Final = frozenset({"", "hour", "hourly", "1h", "60m", "3600", "3600s"})
_LEAST_SCORE: Final = 1e-30
"""Nearer to nothing than this is nothing: the column has single precision."""
_SINGLE: Final = struct.Struct(">f")


class Converter:
    """Converts the rows of one old database.

    Args:
        tenant_id: whose instance it is.
        source: name of the old database.
        hardware_id: device of rows that name none.
        latest: rows later than this have a broken time.
    """

    def __init__(self, tenant_id: str, source: str, *, hardware_id: str, latest: datetime) -> None:
        self.hardware_id = hardware_id
        self.latest = latest
        self.cameras: dict[str, str | None] = {}
        self.parts: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._ids = {table: RowIds(tenant_id, source, table) for table in TABLE_NUMBERS}
        self._by_table: dict[str, Callable[[int, Row, Mapping[str, Old]], NewRow]] = {
            "config": self._config,
            "cameras": self._camera,
            "camera_components": self._component,
            "line_zones": self._line,
            "polygon_zones": self._polygon,
            "telemetry_events": self._event,
            "frames": self._frame,
            "telemetry_aggregates": self._aggregate,
        }

    def convert(self, found: FoundTable, rowid: int, row: Row) -> NewRow:
        """Return the instance's row.

        Raises:
            Unreadable: the row cannot be what its table is for.
        """
        fields = len(found.columns)
        extra: Mapping[str, Old] = {}
        if found.extra and found.table.folded:
            extra = {
                name: value
                for name, value in zip(found.extra, row[fields:], strict=True)
                if value is not None
            }
        return self._by_table[found.table.name](rowid, row[:fields], extra)

    def _config(self, _rowid: int, row: Row, _extra: Mapping[str, Old]) -> NewRow:
        key, value = row
        name = (values.text(key, "key") or "").strip()
        if not name:
            raise Unreadable("Missing", "key is empty")
        try:
            return name, values.json_value(value, "value")
        except Unreadable:
            # Most were plain text.
            return name, values.text(value, "value", most=100_000, printable=False)

    def _camera(self, _rowid: int, row: Row, extra: Mapping[str, Old]) -> NewRow:
        camera, name, device, enabled, pipeline = row
        camera_id = values.identifier(camera, "camera_id")
        hardware_id = self._device(device)
        new = (
            camera_id,
            values.text(name, "name") or "",
            hardware_id or None,
            values.boolean(enabled, "enabled", default=True),
            _pipeline(values.json_object(pipeline, "pipeline"), extra),
        )
        self.cameras.setdefault(camera_id, hardware_id or None)
        return new

    def _component(self, rowid: int, row: Row, extra: Mapping[str, Old]) -> NewRow:
        camera, name, kind, type_, settings = row
        camera_id = self._known(camera)
        found = (values.text(kind, "kind") or "").strip().lower()
        if found not in {"source", "processor", "sink"}:
            raise Unreadable("NotAKind", f"kind {found[:60]!r} is no source, processor or sink")
        free = {**values.json_object(settings, "settings"), **_folded(extra)}
        _check_settings(free, "settings")
        what = values.word(type_, "type")
        if (found, what) == ("processor", "inference") and not isinstance(free.get("model"), str):
            raise Unreadable("NoModel", "an inference processor needs settings.model, a name")
        return self._part(
            "camera_components",
            (camera_id, _part_name(name, found, rowid), found, what, free),
        )

    def _line(self, rowid: int, row: Row, _extra: Mapping[str, Old]) -> NewRow:
        camera, name, *ends, points, direction = row
        camera_id = self._known(camera)
        if all(end is None for end in ends) and points is not None:
            pairs = _points(points)
            if len(pairs) != 2:
                raise Unreadable("NotALine", f"a line has 2 points, this one {len(pairs)}")
            coordinates = [*pairs[0], *pairs[1]]
        else:
            names = ("start_x", "start_y", "end_x", "end_y")
            coordinates = [values.share(end, at) for end, at in zip(ends, names, strict=True)]
        if coordinates[:2] == coordinates[2:]:
            raise Unreadable("NotALine", "start and end are the same point")
        given = (values.text(direction, "direction") or "").strip().lower()
        if given not in _DIRECTIONS:
            raise Unreadable("NotADirection", f"direction {given[:60]!r} is not known")
        return self._part(
            "line_zones",
            (camera_id, _part_name(name, "line", rowid), *coordinates, _DIRECTIONS[given]),
        )

    def _polygon(self, rowid: int, row: Row, _extra: Mapping[str, Old]) -> NewRow:
        camera, name, points = row
        camera_id = self._known(camera)
        pairs = _points(points)
        if not 3 <= len(pairs) <= MAX_POINTS:
            raise Unreadable("NotAnArea", f"an area has 3 to {MAX_POINTS} points, not {len(pairs)}")
        return self._part("polygon_zones", (camera_id, _part_name(name, "polygon", rowid), pairs))

    def _event(self, rowid: int, row: Row, extra: Mapping[str, Old]) -> NewRow:
        camera, device, at, kind, label, track_id, zone, score, attributes = row
        camera_id = values.identifier(camera, "camera_id")
        free = values.json_object(attributes, "attributes")
        if extra:
            free = {**_folded(extra), **free}
        sure = values.number(score, "score")
        if sure is not None:
            sure = values.share(sure, "score")
            # As the column keeps it, in single precision.
            sure = _SINGLE.unpack(_SINGLE.pack(sure))[0] if sure >= _LEAST_SCORE else 0.0
        return (
            values.time(at, "occurred_at", latest=self.latest),
            self._ids["telemetry_events"](rowid),
            camera_id,
            self._device(device) or self.cameras.get(camera_id) or self.hardware_id,
            values.word(kind, "kind"),
            values.text(label, "label") or "",
            values.text(track_id, "track_id", most=128),
            values.text(zone, "zone", most=64),
            sure,
            free,
        )

    def _frame(self, rowid: int, row: Row, _extra: Mapping[str, Old]) -> NewRow:
        camera, device, at, width, height, thumbnail = row
        camera_id = values.identifier(camera, "camera_id")
        picture = _picture(thumbnail)
        return (
            values.time(at, "occurred_at", latest=self.latest),
            self._ids["frames"](rowid),
            camera_id,
            self._device(device) or self.cameras.get(camera_id) or self.hardware_id,
            media_type(picture),
            _side(width, "width"),
            _side(height, "height"),
            picture,
        )

    def _aggregate(self, _rowid: int, row: Row, _extra: Mapping[str, Old]) -> NewRow:
        bucket, granularity, camera, kind, label, events, score_sum, scored, mean = row
        given = (values.text(granularity, "granularity") or "").strip().lower()
        if given not in _HOURLY:
            raise Unreadable("NotHourly", f"sums are kept by the hour, not by {given[:60]!r}")
        at = values.time(bucket, "bucket", latest=self.latest)
        if (at.minute, at.second, at.microsecond) != (0, 0, 0):
            raise Unreadable("NotHourly", f"{at:%Y-%m-%dT%H:%M:%SZ} is no beginning of an hour")
        count = _count(events, "events")
        total = values.number(score_sum, "score_sum")
        average = values.number(mean, "mean")
        judged = count if scored is None else _count(scored, "scored")
        if total is None:
            total = average * judged if average is not None else 0.0
            judged = judged if average is not None else 0
        return (
            at,
            values.identifier(camera, "camera_id"),
            values.word(kind, "kind"),
            values.text(label, "label") or "",
            count,
            total + 0.0,
            judged,
        )

    def _device(self, value: Old) -> str:
        """Return a row's own device, nothing where it names none."""
        given = (values.text(value, "hardware_id", most=1000) or "").strip()
        return values.identifier(given, "hardware_id") if given else ""

    def _known(self, camera: Old) -> str:
        camera_id = values.identifier(camera, "camera_id")
        if camera_id not in self.cameras:
            raise Unreadable("NoCamera", f"camera {camera_id} is configured nowhere")
        return camera_id

    def _part(self, table: str, row: NewRow) -> NewRow:
        names = self.parts[table, str(row[0])]
        if row[1] not in names and len(names) >= MAX_PARTS:
            raise Unreadable("TooMany", f"camera {row[0]} has {MAX_PARTS} of these already")
        names.add(str(row[1]))
        return row


@dataclass
class Chunk:
    """A chunk of old rows, converted: rowid, new row, old row."""

    rows: list[tuple[int, NewRow, Row]]
    rejects: list[Reject]
    read: int
    last_rowid: int
    last_row: Row


def convert_chunk(converter: Converter, found: FoundTable, chunk: list[tuple[int, Row]]) -> Chunk:
    """Convert a chunk's rows; what cannot be is set aside with its reason."""
    rows: list[tuple[int, NewRow, Row]] = []
    rejects: list[Reject] = []
    convert = converter.convert
    for rowid, raw in chunk:
        try:
            rows.append((rowid, convert(found, rowid, raw), raw))
        except Unreadable as error:
            rejects.append(
                Reject(found.table.name, rowid, error.reason, error.message, raw_text(raw))
            )
    return Chunk(rows, rejects, len(chunk), *chunk[-1])


def media_type(picture: bytes) -> str:
    """Return what a picture's first bytes say it is."""
    for magic, name in _PICTURES:
        if picture.startswith(magic):
            return name
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    return "application/octet-stream"


def _pipeline(given: dict[str, Any], extra: Mapping[str, Old]) -> dict[str, Any]:
    """Return the pipeline as the instance has it: three lists of names, all else in settings."""
    names: dict[str, list[str]] = {}
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NAMES:
            if not isinstance(value, list) or len(value) > MAX_MEMBERS:
                raise Unreadable("NotAPipeline", f"pipeline.{name} is no list of names")
            names[name] = [values.word(item, f"pipeline.{name}") for item in value]
        elif name == "settings" and isinstance(value, dict):
            settings |= value
        else:
            settings[name] = value
    settings |= _folded(extra)
    _check_settings(settings, "pipeline")
    return {**{name: names.get(name, []) for name in _NAMES}, "settings": settings}


def _check_settings(settings: dict[str, Any], column: str) -> None:
    if len(settings) > MAX_MEMBERS:
        raise Unreadable("TooLong", f"{column} has {len(settings)} members, {MAX_MEMBERS} fit")
    size = len(json.dumps(settings, ensure_ascii=False).encode())
    if size > MAX_SETTINGS_BYTES:
        raise Unreadable("TooLong", f"{column} has {size} bytes, {MAX_SETTINGS_BYTES} fit")


def _folded(extra: Mapping[str, Old]) -> dict[str, Any]:
    """Return columns that nobody knows as JSON; a blob as base64."""
    found: dict[str, Any] = {}
    for name, value in extra.items():
        if isinstance(value, bytes):
            found[name] = base64.b64encode(value).decode()
        elif isinstance(value, float):
            found[name] = values.number(value, name)
        else:
            found[name] = value
    values.check_json(found, "columns")
    return found


def _part_name(value: Old, prefix: str, rowid: int) -> str:
    """Return a part's name; the old numbers get a word in front, as names begin with a letter."""
    given = (values.text(value, "name", most=1000) or "").strip()
    if not given:
        return f"{prefix}-{rowid}"
    return f"{prefix}-{given}" if given.isdecimal() else values.word(given, "name")


def _points(value: Old) -> list[list[float]]:
    found = values.json_value(value, "points")
    if not isinstance(found, list):
        raise Unreadable("NotPoints", "points is no list")
    pairs = []
    for item in found:
        pair = [item.get("x"), item.get("y")] if isinstance(item, dict) else item
        if not isinstance(pair, list) or len(pair) != 2:
            raise Unreadable("NotPoints", "a point is a pair of shares, x and y")
        if any(isinstance(part, bool | list | dict) for part in pair):
            raise Unreadable("NotPoints", "a point is a pair of shares, x and y")
        pairs.append([values.share(part, "points") for part in pair])
    return pairs


def _picture(value: Old) -> bytes:
    if isinstance(value, str):
        value = _picture_of_text(value.strip())
    if not isinstance(value, bytes) or not value:
        raise Unreadable("NoPicture", "thumbnail is no picture")
    if len(value) > MAX_THUMBNAIL_BYTES:
        raise Unreadable("TooLong", f"thumbnail has {len(value)} bytes, {MAX_THUMBNAIL_BYTES} fit")
    return value


def _picture_of_text(given: str) -> bytes:
    if _HEX.match(given):
        picture = bytes.fromhex(given)
        if media_type(picture) != "application/octet-stream":
            return picture
    try:
        return base64.b64decode(_DATA_URL.sub("", given), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("NoPicture", "thumbnail is text, neither base64 nor hex") from None


def _side(value: Old, column: str) -> int | None:
    found = values.integer(value, column)
    if found is not None and not 0 < found < 2**31:
        raise Unreadable("NotANumber", f"{column} {found} is no size of a picture")
    return found


def _count(value: Old, column: str) -> int:
    found = values.integer(value, column)
    if found is None:
        raise Unreadable("Missing", f"{column} is empty")
    if not 0 <= found <= MAX_COUNT:
        raise Unreadable("NotANumber", f"{column} {found} is no number of events")
    return found
