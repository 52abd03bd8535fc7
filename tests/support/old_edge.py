"""An old edge database for tests: the old service's tables, with the types that SQLite lets in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE schema_version (version INTEGER);
INSERT INTO schema_version VALUES (3);
CREATE TABLE config (key TEXT PRIMARY KEY, value TEXT, updated_at TEXT);
CREATE TABLE cameras (
    id TEXT PRIMARY KEY, name TEXT, device_id TEXT, enabled INTEGER, pipeline TEXT, vendor TEXT,
    created_at TEXT, updated_at TEXT);
CREATE TABLE camera_components (
    id INTEGER PRIMARY KEY, camera_id TEXT, name TEXT, component_type TEXT, type TEXT, config TEXT);
CREATE TABLE line_zones (
    id INTEGER PRIMARY KEY, camera_id TEXT, name TEXT, x1 REAL, y1 REAL, x2 REAL, y2 REAL,
    direction TEXT);
CREATE TABLE polygon_zones (id INTEGER PRIMARY KEY, camera_id TEXT, name TEXT, points TEXT);
CREATE TABLE telemetry_events (
    id INTEGER PRIMARY KEY, camera_id TEXT, device_id TEXT, timestamp INTEGER, event_type TEXT,
    label TEXT, track_id INTEGER, zone TEXT, confidence REAL, data TEXT, firmware TEXT);
CREATE TABLE frames (
    id INTEGER PRIMARY KEY, camera_id TEXT, timestamp INTEGER, width INTEGER, height INTEGER,
    thumbnail BLOB);
CREATE TABLE telemetry_aggregates (
    bucket TEXT, camera_id TEXT, event_type TEXT, label TEXT, count INTEGER, avg_confidence REAL);
PRAGMA user_version = 3;
"""
DEVICE = "edge-old-1"
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
PNG = b"\x89PNG\r\n\x1a\n" + b"png"
START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Expected:
    """What an import must come to."""

    rows: dict[str, int] = field(default_factory=dict)
    rejected: dict[tuple[str, str], int] = field(default_factory=dict)

    def bad(self, table: str, reason: str, count: int = 1) -> None:
        key = (table, reason)
        self.rejected[key] = self.rejected.get(key, 0) + count


def build(path: Path, *, events: int = 1000, days: int = 8, wal: bool = False) -> Expected:
    """Write an old database with broken rows and odd types, and say what is in it."""
    expected = Expected()
    with closing(sqlite3.connect(path)) as db, db:
        if wal:
            db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA)
        _configuration(db, expected)
        _telemetry(db, expected, events, days)
        _frames(db, expected)
        _aggregates(db, expected)
    return expected


def _configuration(db: sqlite3.Connection, expected: Expected) -> None:
    db.executemany(
        "INSERT INTO config (key, value) VALUES (?, ?)",
        [
            ("device_id", DEVICE),
            ("fps", 12.5),
            ("flags", '{"b": 1, "a": [1e20, -0.0, 12345678901234567890]}'),
            ("note", "plain text"),
            ("empty", None),
            ("blob", b"\x00\x01"),
        ],
    )
    expected.rows["config"] = 5
    expected.bad("config", "NotText")
    cameras = [
        ("cam-1", "Gate", DEVICE, 1, json.dumps({"models": ["person"], "fps": 5}), "acme"),
        ("cam-2", "Yard", None, "true", None, None),
        ("cam-3", b"Dock", "edge-old-2", "off", b'{"analytics": ["counting"]}', None),
        ("front door", "no id", DEVICE, 1, "{}", None),
        ("cam-5", "broken", DEVICE, 1, "{not json", None),
        ("cam-6", "perhaps", DEVICE, "perhaps", "{}", None),
    ]
    db.executemany(
        "INSERT INTO cameras (id, name, device_id, enabled, pipeline, vendor) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        cameras,
    )
    expected.rows["cameras"] = 3
    for reason in ("NotAnIdentifier", "NotJson", "NotABoolean"):
        expected.bad("cameras", reason)
    db.executemany(
        "INSERT INTO camera_components (camera_id, name, component_type, type, config) "
        "VALUES (?, ?, ?, ?, ?)",
        [
            ("cam-1", "in", "source", "rtsp", '{"url": "rtsp://camera"}'),
            ("cam-1", "find", "Processor", "inference", '{"model": "person"}'),
            ("cam-1", None, "sink", "mqtt", None),
            ("cam-1", "find", "processor", "inference", '{"model": "person"}'),
            ("cam-1", "find", "processor", "counting", "{}"),
            ("cam-9", "in", "source", "rtsp", "{}"),
            ("cam-2", "x", "gadget", "rtsp", "{}"),
            ("cam-2", "y", "processor", "inference", "{}"),
        ],
    )
    # The fourth row is the second again; the fifth is another of its name.
    expected.rows["camera_components"] = 3
    for reason in ("Conflict", "NoCamera", "NotAKind", "NoModel"):
        expected.bad("camera_components", reason)
    db.executemany(
        "INSERT INTO line_zones (camera_id, name, x1, y1, x2, y2, direction) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            ("cam-1", "door", 0, 0.5, "1", "0.5", "in"),
            ("cam-1", "7", 0.1, 0.1, 0.9, 0.9, None),
            ("cam-1", "wide", 0, 0, 640, 480, "both"),
            ("cam-1", "dot", 0.5, 0.5, 0.5, 0.5, "both"),
        ],
    )
    expected.rows["line_zones"] = 2
    expected.bad("line_zones", "NotAShare")
    expected.bad("line_zones", "NotALine")
    db.executemany(
        "INSERT INTO polygon_zones (camera_id, name, points) VALUES (?, ?, ?)",
        [
            ("cam-1", "area", "[[0,0],[1,0],[1,1]]"),
            ("cam-2", "area", '[{"x":0,"y":0},{"x":"0.5","y":0},{"x":0.5,"y":0.5}]'),
            ("cam-2", "thin", "[[0,0],[1,1]]"),
        ],
    )
    expected.rows["polygon_zones"] = 2
    expected.bad("polygon_zones", "NotAnArea")


def telemetry_row(number: int, at: datetime) -> tuple[Any, ...]:
    """A row in one of the ways in which the old service wrote them."""
    when: Any = int(at.timestamp() * 1000)
    if number % 7 == 0:
        when = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    elif number % 7 == 1:
        when = at.strftime("%Y-%m-%d %H:%M:%S")
    elif number % 7 == 2:
        when = at.timestamp()
    score: Any = (number % 100) / 100
    if number % 5 == 0:
        score = str(score)
    elif number % 5 == 1:
        score = None
    data: Any = json.dumps({"box": [number, 2, 3.5, 1e-7], "n": number})
    if number % 11 == 0:
        data = data.encode()
    elif number % 11 == 1:
        data = None
    return (
        f"cam-{1 + number % 3}",
        DEVICE if number % 2 else None,
        when,
        ("detection", "crossing")[number % 2],
        ("person", "car", None, "Straße")[number % 4],
        number,
        "door" if number % 3 else None,
        score,
        data,
        "fw-2" if number % 13 == 0 else None,
    )


BROKEN = [
    ("NotATime", {3: "yesterday"}),
    ("TimeOutOfRange", {3: 0}),
    ("TimeOutOfRange", {3: 4102444800000}),
    ("Missing", {3: None}),
    ("NotAnIdentifier", {1: "no such id!"}),
    ("Missing", {1: None}),
    ("NotANumber", {8: "high"}),
    ("NotAShare", {8: 17}),
    ("NotAnObject", {9: "[1]"}),
    ("NotJson", {9: '{"a": NaN}'}),
    ("NotText", {5: b"\xff\xfe"}),
    ("NotText", {5: "a\0b"}),
    ("NotAName", {4: "1st"}),
]


def _telemetry(db: sqlite3.Connection, expected: Expected, events: int, days: int) -> None:
    every = max(1, events // len(BROKEN))
    broken = iter(BROKEN)

    def rows() -> Iterator[tuple[Any, ...]]:
        for number in range(events):
            at = START + timedelta(minutes=number * days * 1440 / events)
            row = [None, *telemetry_row(number, at)]
            if number % every == every // 2 and (fault := next(broken, None)) is not None:
                for column, value in fault[1].items():
                    row[column] = value
                expected.bad("telemetry_events", fault[0])
            yield tuple(row)

    db.executemany(f"INSERT INTO telemetry_events VALUES ({', '.join('?' * 11)})", rows())
    # Text that is not UTF-8, which only SQL can write.
    db.execute(
        "INSERT INTO telemetry_events (camera_id, timestamp, event_type, label) "
        "VALUES ('cam-1', 1772323200000, 'detection', CAST(x'ff41' AS TEXT))"
    )
    expected.bad("telemetry_events", "NotText")
    # Rowids need not begin at 1.
    db.execute(
        "INSERT INTO telemetry_events (id, camera_id, timestamp, event_type) "
        "VALUES (-5, 'cam-1', 1772323200000, 'detection')"
    )
    bad = sum(n for (table, _), n in expected.rejected.items() if table == "telemetry_events")
    expected.rows["telemetry_events"] = events + 2 - bad


def _frames(db: sqlite3.Connection, expected: Expected) -> None:
    at = int(START.timestamp() * 1000)
    db.executemany(
        "INSERT INTO frames (camera_id, timestamp, width, height, thumbnail) "
        "VALUES (?, ?, ?, ?, ?)",
        [
            *(("cam-1", at + n * 3_600_000, 320, "240", JPEG + bytes([n])) for n in range(40)),
            ("cam-2", at, None, None, PNG.hex()),
            ("cam-2", at, None, None, "data:image/png;base64,iVBORw0KGgpwbmc="),
            ("cam-2", at, None, None, None),
            ("cam-2", at, None, None, "!!"),
            ("cam-2", at, -1, 1, JPEG),
        ],
    )
    expected.rows["frames"] = 42
    expected.bad("frames", "NoPicture", 2)
    expected.bad("frames", "NotANumber")


def _aggregates(db: sqlite3.Connection, expected: Expected) -> None:
    # Of a month whose events are gone, and of an hour whose events are there.
    old = START - timedelta(days=30)
    db.executemany(
        "INSERT INTO telemetry_aggregates VALUES (?, ?, ?, ?, ?, ?)",
        [
            *(
                ((old + timedelta(hours=n)).isoformat(), "cam-1", "detection", "person", n, 0.5)
                for n in range(100)
            ),
            (START.isoformat(), "cam-1", "detection", "person", 123, None),
            ((old + timedelta(minutes=5)).isoformat(), "cam-1", "detection", "person", 1, None),
            (old.isoformat(), "cam-1", "detection", "car", "many", None),
        ],
    )
    expected.rows["telemetry_aggregates"] = 101
    expected.bad("telemetry_aggregates", "NotHourly")
    expected.bad("telemetry_aggregates", "NotANumber")
