"""The import, killed -9 at every named point and run again: nothing is lost, nothing doubled."""

from __future__ import annotations

import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from support.campaign_plan import soaking
from support.importing import Importer, contents, counts
from support.old_edge import DEVICE, build

pytestmark = pytest.mark.services
SOURCE = Path(__file__).resolve().parents[3] / "operator" / "brinkbyte"
EVENTS = 100_000 if soaking() else 4000
# In the order in which one import comes past them; chunks are of several tables.
FORWARD = [
    "import.backup.half:1",
    "import.backup.written:1",
    "import.backup.done:1",
    "import.backed_up:1",
    "import.begun:1",
    "import.chunk.before_commit:3",
    "import.chunk.committed:2",
    "import.sums.before_commit:5",
    "import.sums.committed:3",
    "import.finished:1",
]
BACK = [
    "import.rollback.begun:1",
    "import.rollback.before_commit:4",
    "import.rollback.committed:3",
    "import.rollback.before_commit:20",
    "import.rollback.done:1",
]
MANY = [*FORWARD, *(f"import.chunk.before_commit:{n}" for n in range(1, 20))]


def test_every_point_is_here() -> None:
    found = {
        point
        for path in SOURCE.rglob("*.py")
        for point in re.findall(r'failpoint\("(import\.[^"]+)"\)', path.read_text())
    }
    assert found == {point.split(":")[0] for point in (*FORWARD, *BACK)}


def own_rows(dsn: str) -> None:
    """Write what the instance had before."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO cameras (tenant_id, camera_id, name, pipeline) "
            "VALUES ('acme', 'cam-0', 'own', '{}')"
        )
        connection.execute("INSERT INTO config (tenant_id, key, value) VALUES ('acme', 'x', '1')")
        connection.execute("SELECT ensure_day_partition('telemetry_events', '2026-03-05')")
        connection.execute(
            "INSERT INTO telemetry_events (tenant_id, occurred_at, id, camera_id, hardware_id, "
            "kind) VALUES ('acme', '2026-03-05', gen_random_uuid(), 'cam-0', 'hw', 'detection')"
        )


@pytest.mark.timeout(3600)
@pytest.mark.soak
def test_killed_at_every_point_forth_and_back(
    importer: Importer, other_database: str, tmp_path: Path
) -> None:
    expected = build(importer.source, events=EVENTS, days=20, wal=True)
    own_rows(importer.dsn)
    own = contents(importer.dsn)
    undisturbed = Importer(importer.source, other_database, tmp_path / "undisturbed")
    assert undisturbed().code == 3
    for point in FORWARD if not soaking() else MANY:
        killed = importer(failpoint=point)
        assert killed.code in {-signal.SIGKILL, 3}, killed.output
        if not soaking():
            assert killed.code == -signal.SIGKILL, f"{point} was not passed: {killed.output}"
    done = importer()
    assert done.code == 3, done.output
    assert importer.report["equal"] is True
    # What an undisturbed import wrote, and what was there before.
    assert {
        table: sorted([*rows, *own[table]], key=repr)
        for table, rows in contents(other_database).items()
    } == contents(importer.dsn)
    assert importer.rejects == undisturbed.rejects
    assert counts(importer.dsn)["telemetry_events"] == expected.rows["telemetry_events"] + 1
    for point in BACK:
        killed = importer("--rollback", failpoint=point)
        assert killed.code == -signal.SIGKILL, f"{point}: {killed.output}"
    # The last kill came after the end.
    assert importer("--rollback").code == 1
    assert contents(importer.dsn) == own


def test_a_half_made_backup_is_no_backup(importer: Importer) -> None:
    build(importer.source, events=100)
    for point in ("import.backup.half", "import.backup.written"):
        assert importer(failpoint=point).code == -signal.SIGKILL
        assert not list(importer.folder.glob("backup-*.sqlite"))
    assert importer().code == 3
    (backup,) = importer.folder.glob("backup-*.sqlite")
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT count(*) FROM telemetry_events").fetchone() == (102,)
        row = copy.execute("SELECT value FROM config WHERE key = 'device_id'").fetchone()
    assert row == (DEVICE,)


def test_an_import_that_was_killed_can_be_taken_back(importer: Importer) -> None:
    build(importer.source, events=500)
    assert importer(failpoint="import.chunk.committed:6").code == -signal.SIGKILL
    assert counts(importer.dsn)["telemetry_events"] > 0
    assert importer("--rollback", failpoint="import.rollback.committed:2").code == -signal.SIGKILL
    # Half taken back, it is not gone on with.
    refused = importer()
    assert (refused.code, "RollingBack" in refused.output) == (1, True)
    assert importer("--rollback").code == 0
    assert not any(counts(importer.dsn).values())
    # And anew.
    assert importer().code == 3
    assert importer.report["equal"] is True
