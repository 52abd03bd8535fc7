"""``brinkbyte migrate sqlite``: what is carried over, what is set aside, what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from brinkbyte.importer import source as source_module
from brinkbyte.importer.cli import app
from brinkbyte.importer.run import ImportRun
from brinkbyte.instance.services.cameras import camera_view, named_by
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.license.modes import LicenseMode
from brinkbyte.store.cameras import list_cameras
from brinkbyte.store.policy import CameraDecision
from brinkbyte.store.telemetry import drop_days_before
from support.importing import Importer, contents, counts
from support.old_edge import DEVICE, START, build

pytestmark = pytest.mark.services


@dataclass
class Done:
    code: int
    output: str
    reason: str


@dataclass
class Here(Importer):
    """Imports inside this process."""

    def run(self, *arguments: str, source: Path | None = None) -> Done:
        given = ["sqlite", str(source or self.source), "--folder", str(self.folder)]
        result = CliRunner().invoke(
            app,
            [*given, *arguments],
            env={
                "BRINKBYTE_CUSTOMER_ID": "acme",
                "BRINKBYTE_DATABASE_URL": self.dsn,
                "COLUMNS": "200",
            },
        )
        error = result.exception
        if error is not None and not isinstance(error, BrinkByteError | SystemExit):
            raise error
        reason = error.reason if isinstance(error, BrinkByteError) else ""
        return Done(result.exit_code, result.output, reason)

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            done = connection.execute(statement.encode(), arguments)
            return done.fetchall() if done.description else []

    def old(self, statement: str, *arguments: Any) -> None:
        with closing(sqlite3.connect(self.source)) as db, db:
            db.execute(statement, arguments)


@pytest.fixture
def here(tmp_path: Path, database: str) -> Here:
    return Here(tmp_path / "edge.db", database, tmp_path / "import")


def test_everything_is_carried_over_or_set_aside_with_its_reason(here: Here) -> None:
    expected = build(here.source, events=1000)
    before = hashlib.sha256(here.source.read_bytes()).hexdigest()
    done = here.run()
    assert done.code == 3, done.output
    assert "counts and checksums are equal" in done.output
    found = counts(here.dsn)
    derived = here.sql("SELECT count(*) FROM sqlite_import_rows WHERE name = 'telemetry_sums'")
    found["telemetry_aggregates"] -= derived[0][0]
    assert found == expected.rows
    assert Counter((one["table"], one["reason"]) for one in here.rejects) == expected.rejected
    # Nothing was written to the old file, and the backup is what it says.
    assert hashlib.sha256(here.source.read_bytes()).hexdigest() == before
    said = here.report["backup"]
    assert hashlib.sha256(Path(said["path"]).read_bytes()).hexdigest() == said["sha256"]
    assert (
        said["sha256"] in Path(f"{said['path'].removesuffix('.sqlite')}.sqlite.sha256").read_text()
    )
    for table, line in here.report["tables"].items():
        assert line["equal"] is True, table
        assert line["sourceChecksum"] == line["targetChecksum"], table
        parts = ("written", "existing", "conflicts", "rejected")
        assert sum(line[part] for part in parts) == line["rows"] == line["read"], table


async def test_the_instance_shows_and_checks_what_was_imported(here: Here) -> None:
    build(here.source, events=10)
    here.run()
    connection = await psycopg.AsyncConnection.connect(here.dsn)
    async with connection:
        cameras = await list_cameras(connection, "acme", after="", limit=100)
    views = {}
    for camera in cameras:
        named_by(camera)
        decision = CameraDecision(camera.camera_id, True, LicenseMode.ACTIVE, "", "")
        views[camera.camera_id] = camera_view(camera, decision)
    assert set(views) == {"cam-1", "cam-2", "cam-3"}
    gate = views["cam-1"]
    assert (gate.name, gate.hardware_id, gate.enabled) == ("Gate", DEVICE, True)
    assert gate.pipeline.models == ("person",)
    # What nobody knows is kept in the settings.
    assert gate.pipeline.settings == {"fps": 5, "vendor": "acme"}
    assert {part.name for part in gate.components} == {"in", "find", "sink-3"}
    assert {(zone.name, zone.direction) for zone in gate.line_zones} == {
        ("door", "forward"),
        ("line-7", "both"),
    }
    assert (views["cam-3"].enabled, views["cam-3"].pipeline.analytics) == (False, ("counting",))


def test_values_of_every_type_arrive(here: Here) -> None:
    build(here.source, events=100)
    here.run()
    config = dict(here.sql("SELECT key, value FROM config"))
    assert config["fps"] == 12.5
    assert config["note"] == "plain text"
    assert config["empty"] is None
    assert config["flags"]["a"][2] == 12345678901234567890
    rows = here.sql(
        "SELECT occurred_at, camera_id, hardware_id, label, score, attributes "
        "FROM telemetry_events WHERE track_id = '0'"
    )
    assert rows == [
        (START, "cam-1", DEVICE, "person", 0.0,
         {"box": [0, 2, 3.5, 1e-7], "n": 0, "firmware": "fw-2"})
    ]  # fmt: skip
    # A row that names no device has its camera's, or the configured one.
    assert {row[0] for row in here.sql("SELECT DISTINCT hardware_id FROM telemetry_events")} == {
        DEVICE, "edge-old-2",
    }  # fmt: skip
    pictures = {kind for (kind,) in here.sql("SELECT DISTINCT media_type FROM frames")}
    assert pictures == {"image/jpeg", "image/png"}
    assert {
        version for (version,) in here.sql("SELECT DISTINCT substr(id::text, 15, 1) FROM frames")
    } == {"8"}


def test_rejects_hold_the_values_exactly(here: Here) -> None:
    build(here.source, events=1)
    here.old("INSERT INTO config (key, value) VALUES (?, ?)", "long", b"\x00" * 300)
    here.run()
    by_rowid = {(one["table"], one["rowid"]): one["values"] for one in here.rejects}
    with closing(sqlite3.connect(here.source)) as db:
        (rowid,) = db.execute("SELECT rowid FROM config WHERE key = 'long'").fetchone()
    assert by_rowid["config", rowid] == ["long", {"hex": "00" * 300}]
    broken = [one for one in here.rejects if "text_hex" in json.dumps(one)]
    assert broken[0]["values"][4] == {"text_hex": "ff41"}


def test_twice_is_a_no_op(here: Here) -> None:
    build(here.source, events=300)
    here.run()
    first = contents(here.dsn)
    rejects = here.rejects
    again = here.run()
    assert again.code == 3
    assert "nothing is new" in again.output
    assert contents(here.dsn) == first
    assert here.rejects == rejects
    assert len(list(here.folder.glob("backup-*.sqlite"))) == 1


def test_a_dry_run_writes_nothing_and_says_what_would_be(here: Here) -> None:
    expected = build(here.source, events=300)
    done = here.run("--dry-run")
    assert done.code == 3
    assert "nothing was written" in done.output
    assert not any(counts(here.dsn).values())
    assert here.sql("SELECT count(*) FROM sqlite_imports") == [(0,)]
    reasons = Counter((one["table"], one["reason"]) for one in here.rejects)
    # What two old rows have against each other shows when they are written.
    assert reasons == {key: rows for key, rows in expected.rejected.items() if key[1] != "Conflict"}


def test_strict_refuses_before_anything_is_written(here: Here) -> None:
    build(here.source, events=300)
    done = here.run("--strict")
    assert (done.code, done.reason) == (1, "RowsSetAside")
    assert here.rejects
    assert not any(counts(here.dsn).values())
    for table, condition in (
        ("config", "key = 'blob'"), ("cameras", "id > 'cam-3'"), ("camera_components", "id > 3"),
        ("line_zones", "id > 2"), ("polygon_zones", "id > 2"), ("telemetry_events", "1"),
        ("frames", "id > 42"), ("telemetry_aggregates", "rowid > 100"),
    ):  # fmt: skip
        here.old(f"DELETE FROM {table} WHERE {condition}")
    done = here.run("--strict")
    assert done.code == 0, done.output
    assert here.rejects == []


def test_a_database_that_has_grown_brings_what_is_new(here: Here) -> None:
    build(here.source, events=300)
    here.run()
    before = counts(here.dsn)
    at = int((START + timedelta(minutes=1)).timestamp() * 1000)
    for _ in range(3):
        here.old(
            "INSERT INTO telemetry_events (camera_id, timestamp, event_type, label) "
            "VALUES ('cam-1', ?, 'detection', 'tram')",
            at,
        )
    # What people have changed meanwhile is theirs.
    here.sql("UPDATE cameras SET name = 'renamed' WHERE camera_id = 'cam-1'")
    done = here.run()
    assert done.code == 3, done.output
    assert counts(here.dsn)["telemetry_events"] == before["telemetry_events"] + 3
    assert here.report["newRows"] == 3
    assert len(list(here.folder.glob("backup-*.sqlite"))) == 2
    # The day's hours are summed anew, once.
    sums = here.sql(
        "SELECT events FROM telemetry_aggregates WHERE label = 'tram' AND kind = 'detection'"
    )
    assert sums == [(3,)]
    summed = here.sql(
        "SELECT sum(a.events) FROM telemetry_aggregates a WHERE bucket >= %s "
        "AND NOT (bucket = %s AND label = 'person' AND camera_id = 'cam-1' AND kind = 'detection')",
        START, START,
    )  # fmt: skip
    events = here.sql(
        "SELECT count(*) FROM telemetry_events WHERE NOT (occurred_at < %s "
        "AND label = 'person' AND camera_id = 'cam-1' AND kind = 'detection')",
        START + timedelta(hours=1),
    )
    assert summed == events


def test_rows_that_are_there_already_stay_as_they_are(here: Here) -> None:
    build(here.source, events=50)
    here.sql(
        "INSERT INTO cameras (tenant_id, camera_id, name, hardware_id, pipeline) VALUES "
        "('acme', 'cam-1', 'Mine', 'hw', '{}'), ('acme', 'cam-2', 'Yard', NULL, "
        """'{"models": [], "analytics": [], "outputs": [], "settings": {}}')"""
    )
    here.run()
    line = here.report["tables"]["cameras"]
    assert (line["written"], line["existing"], line["conflicts"]) == (1, 1, 1)
    conflicts = [
        one for one in here.rejects if one["table"] == "cameras" and one["reason"] == "Conflict"
    ]
    assert conflicts[0]["values"][0] == "cam-1"
    assert here.sql("SELECT name FROM cameras WHERE camera_id = 'cam-1'") == [("Mine",)]
    here.run("--rollback")
    # With the parts that had been imported for them gone, both are as they were.
    assert here.sql("SELECT camera_id, name FROM cameras ORDER BY 1") == [
        ("cam-1", "Mine"),
        ("cam-2", "Yard"),
    ]
    assert here.sql("SELECT count(*) FROM camera_components") == [(0,)]


def test_the_way_back_leaves_what_was_changed_since(here: Here) -> None:
    build(here.source, events=900)
    here.run()
    here.sql("UPDATE cameras SET name = 'mine now' WHERE camera_id = 'cam-3'")
    here.sql("UPDATE config SET value = '13' WHERE key = 'fps'")
    here.sql(
        "INSERT INTO line_zones (tenant_id, camera_id, name, start_x, start_y, end_x, end_y, "
        "direction) VALUES ('acme', 'cam-2', 'new', 0, 0, 1, 1, 'both')"
    )
    # Live events raised an hour's sum, one day was changed by hand, another is past its time.
    here.sql(
        "UPDATE telemetry_aggregates SET events = events + 1 WHERE bucket = "
        "(SELECT max(bucket) FROM telemetry_aggregates) AND label = 'car'"
    )
    here.sql("UPDATE telemetry_events SET label = 'x' WHERE track_id = '100'")
    here.sql("DROP TABLE telemetry_events_20260304")
    (day,) = here.sql("SELECT count(*) FROM telemetry_events_20260301")
    done = here.run("--rollback")
    assert done.code == 0, done.output
    kept = [line for line in done.output.splitlines() if line.startswith("kept: ")]
    assert len(kept) == 5, done.output
    assert any(
        "telemetry_sums 2026-03-08T23:00Z cam-1 crossing car: changed" in line for line in kept
    )
    assert any("cameras cam-3: changed since" in line for line in kept)
    assert any("cameras cam-2: has parts of others" in line for line in kept)
    assert any("telemetry_events of 2026-03-01" in line for line in kept)
    assert here.sql("SELECT camera_id FROM cameras ORDER BY 1") == [("cam-2",), ("cam-3",)]
    assert here.sql("SELECT key FROM config") == [("fps",)]
    left = here.sql("SELECT count(*), count(DISTINCT occurred_at::date) FROM telemetry_events")
    assert left == [(*day, 1)]
    assert here.sql("SELECT count(*) FROM telemetry_aggregates") == [(1,)]
    assert here.sql("SELECT status FROM sqlite_imports") == [("rolled_back",)]
    # Nothing is left to take back, and what was kept does not keep the next import off.
    assert here.run("--rollback").reason == "NoImport"
    again = here.run()
    assert here.report["tables"]["telemetry_events"]["existing"] == day[0] - 1
    assert here.report["tables"]["telemetry_events"]["conflicts"] == 1
    assert again.code == 3, again.output


async def test_retention_takes_imported_days_by_its_rules(here: Here) -> None:
    build(here.source, events=900)
    here.run()
    connection = await psycopg.AsyncConnection.connect(here.dsn, autocommit=True)
    async with connection:
        gone = await drop_days_before(
            connection, "acme", START + timedelta(days=4), now=datetime.now(UTC)
        )
    assert len(gone) == 6
    again = here.run()
    assert again.code == 3, again.output
    assert here.report["tables"]["telemetry_events"]["goneSince"] > 400
    done = here.run("--rollback")
    assert "kept: " not in done.output
    assert counts(here.dsn)["telemetry_events"] == 0


def test_what_is_older_than_the_instance_keeps_is_said(here: Here) -> None:
    build(here.source, events=50)
    assert "this instance keeps 7 days" in here.run().output
    for days, said in (("36500", False), ("30", True), ("null", False)):
        here.sql(
            "INSERT INTO system_config (tenant_id, key, value) VALUES ('acme', 'retention', %s) "
            "ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value",
            f'{{"days": {days}}}',
        )
        assert ("the oldest day is 2026-03-01" in here.run().output) is said


def test_what_differs_in_the_end_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    build(here.source, events=50)
    add_sums = ImportRun._add_sums

    def tampered(self: ImportRun, import_id: Any) -> tuple[int, int]:
        here.sql("UPDATE telemetry_events SET label = 'other' WHERE track_id = '3'")
        here.sql("DELETE FROM config WHERE key = 'fps'")
        return add_sums(self, import_id)

    monkeypatch.setattr(ImportRun, "_add_sums", tampered)
    done = here.run()
    assert done.code == 1
    assert "differs from the old database" in done.output
    tables = here.report["tables"]
    assert {name for name, line in tables.items() if not line["equal"]} == {
        "config",
        "telemetry_events",
    }
    assert here.sql("SELECT status FROM sqlite_imports") == [("running",)]


def test_what_is_in_the_write_ahead_log_counts(here: Here) -> None:
    build(here.source, events=10, wal=True)
    with closing(sqlite3.connect(here.source)) as service:
        service.execute("PRAGMA wal_autocheckpoint = 0")
        with service:
            service.execute("INSERT INTO config (key, value) VALUES ('late', '1')")
        assert here.source.with_name("edge.db-wal").stat().st_size > 0
        here.run()
    assert here.sql("SELECT value FROM config WHERE key = 'late'") == [(1,)]


def test_another_database_under_the_same_name_is_refused(here: Here, tmp_path: Path) -> None:
    build(here.source, events=100)
    here.run()
    before = contents(here.dsn)
    other = tmp_path / "other.db"
    build(other, events=100)
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("UPDATE telemetry_events SET zone = 'y' WHERE id = 101")
    done = here.run(source=other)
    assert (done.code, done.reason) == (1, "OtherSource")
    assert contents(here.dsn) == before
    # Under a name of its own it is another box's: its telemetry comes beside the first one's.
    done = here.run("--source-name", "box-2", source=other)
    assert done.code == 3
    assert counts(here.dsn)["telemetry_events"] == 2 * len(before["telemetry_events"])
    assert here.report["tables"]["cameras"]["existing"] == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "NoSource"), (b"", "NotSqlite"), (b"SQLite format 2\0" * 100, "NotSqlite")],
)
def test_what_is_no_database_is_refused(here: Here, content: bytes | None, reason: str) -> None:
    if content is not None:
        here.source.write_bytes(content)
    assert here.run().reason == reason
    assert here.sql("SELECT count(*) FROM sqlite_imports") == [(0,)]


def test_a_damaged_database_is_refused(here: Here) -> None:
    build(here.source, events=2000)
    data = bytearray(here.source.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096 * 3] = b"\x17" * (4096 * 3)
    here.source.write_bytes(data)
    done = here.run("--source-name", "x")
    assert (done.code, done.reason) == (1, "DamagedSource")
    # The first page alone is enough to see it.
    here.source.write_bytes(bytes(data[:4096]))
    assert here.run().reason == "DamagedSource"
    assert not list(here.folder.glob("backup*"))


def test_a_locked_database_is_waited_for_and_then_refused(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_BUSY_SECONDS", 0.01)
    build(here.source, events=10)
    with closing(sqlite3.connect(here.source, isolation_level=None)) as service:
        service.execute("BEGIN EXCLUSIVE")
        assert here.run().reason == "SourceBusy"
        service.execute("ROLLBACK")
    assert here.run().code == 3


def test_tables_and_columns_may_be_missing_or_have_other_names(here: Here) -> None:
    with closing(sqlite3.connect(here.source)) as db, db:
        db.executescript(
            """
            CREATE TABLE Settings (name TEXT PRIMARY KEY, data) WITHOUT ROWID;
            INSERT INTO Settings VALUES ('fps', 5), ('device_id', 'box');
            CREATE TABLE events (camera, ts, type);
            INSERT INTO events VALUES (7, 1772323200, 'detection'), ('cam', 2460000.5, 'x');
            CREATE TABLE thumbnails (camera, ts, jpeg, note);
            INSERT INTO thumbnails VALUES ('cam', '2026-03-01', x'ffd8ff00', 'n');
            CREATE TABLE gadgets (id);
            INSERT INTO gadgets VALUES (1);
            CREATE TABLE migrations (id);
            """
        )
    done = here.run()
    assert done.code == 0, done.output
    assert "table gadgets (1 rows) is none of the old service's" in done.output
    assert "columns of thumbnails not carried over: note" in done.output
    assert here.sql("SELECT camera_id, occurred_at FROM telemetry_events ORDER BY 2") == [
        ("cam", datetime(2023, 2, 25, tzinfo=UTC)),
        ("7", datetime(2026, 3, 1, tzinfo=UTC)),
    ]
    assert here.sql("SELECT key FROM config ORDER BY 1") == [("device_id",), ("fps",)]
    assert here.run().code == 0
    assert here.run("--rollback").code == 0
    assert not any(counts(here.dsn).values())


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE other (a)",
        "CREATE TABLE telemetry_events (a); INSERT INTO telemetry_events VALUES (1)",
    ],
)
def test_a_database_of_another_shape_is_refused(here: Here, script: str) -> None:
    with closing(sqlite3.connect(here.source)) as db, db:
        db.executescript(script)
    assert here.run().reason == "UnknownShape"


def test_one_import_at_a_time_and_on_a_new_enough_schema(
    here: Here, postgres_database: str
) -> None:
    build(here.source, events=10)
    with psycopg.connect(here.dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('brinkbyte.sqlite_import', 0))")
        assert here.run().reason == "ImportRunning"
        assert here.run("--rollback").reason == "ImportRunning"
    assert Here(here.source, postgres_database, here.folder).run().reason == "SchemaTooOld"


def test_a_device_id_that_cannot_be_one_is_asked_for(here: Here) -> None:
    build(here.source, events=100)
    here.old("UPDATE config SET value = 'two words' WHERE key = 'device_id'")
    done = here.run()
    assert done.reason == "InvalidDevice"
    assert here.run("--hardware-id", "box-9").code == 3
    assert ("box-9",) in here.sql("SELECT DISTINCT hardware_id FROM telemetry_events")
    assert here.sql("SELECT source FROM sqlite_imports") == [("two-words",)]


def test_a_picture_as_text_is_the_same_picture(here: Here) -> None:
    build(here.source, events=1)
    picture = b"\x89PNG\r\n\x1a\n" + bytes(100)
    at = int(START.timestamp())
    for text in (picture.hex(), base64.b64encode(picture).decode()):
        here.old(
            "INSERT INTO frames (camera_id, timestamp, thumbnail) VALUES ('cam-1', ?, ?)", at, text
        )
    here.run()
    (found,) = here.sql("SELECT count(*) FROM frames WHERE thumbnail = %s", picture)
    assert found == (2,)
