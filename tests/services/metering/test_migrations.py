"""Migrations: each once, each whole, whoever dies in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from brinkbyte.store.migrations_runner import MigrationError, load_migrations, migrate
from support.metering_site import OPERATOR

pytestmark = pytest.mark.services


def versions(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT version FROM schema_migrations ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def write(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(script)


def test_the_packaged_schema_is_applied_once(postgres_database: str) -> None:
    packaged = [migration.version for migration in load_migrations()]
    assert migrate(postgres_database) == packaged
    assert migrate(postgres_database) == []
    assert versions(postgres_database) == packaged


def test_two_runs_at_once_take_turns(postgres_database: str) -> None:
    results: list[list[int]] = []
    runs = [
        threading.Thread(target=lambda: results.append(migrate(postgres_database)))
        for _ in range(4)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert sorted(map(len, results))[:3] == [0, 0, 0]
    assert max(results) == [migration.version for migration in load_migrations()]


@pytest.mark.parametrize("point", ["migrate.before_commit:1", "migrate.committed:1"])
def test_a_killed_run_is_finished_by_the_next(postgres_database: str, point: str) -> None:
    code = "import sys; from brinkbyte.store import migrate; migrate(sys.argv[1])"
    killed = subprocess.run(
        [sys.executable, "-c", code, postgres_database],
        env={**os.environ, "PYTHONPATH": str(OPERATOR), "BRINKBYTE_FAILPOINT": point},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    done = versions(postgres_database)
    assert len(done) == (0 if "before" in point else 1)
    migrate(postgres_database)
    assert versions(postgres_database) == [m.version for m in load_migrations()]


def test_a_changed_file_is_refused_before_anything_is_applied(
    postgres_database: str, tmp_path: Path
) -> None:
    write(tmp_path, "0001_one.sql", "CREATE TABLE one (n int)")
    assert migrate(postgres_database, folder=tmp_path) == [1]
    write(tmp_path, "0001_one.sql", "CREATE TABLE one (n bigint)")
    write(tmp_path, "0002_two.sql", "CREATE TABLE two (n int)")
    with pytest.raises(MigrationError, match=r"0001_one was changed .* add a new") as refused:
        migrate(postgres_database, folder=tmp_path)
    assert refused.value.reason == "ChangedMigration"
    assert versions(postgres_database) == [1]


def test_a_failing_migration_leaves_nothing_and_is_named(
    postgres_database: str, tmp_path: Path
) -> None:
    write(tmp_path, "0001_one.sql", "CREATE TABLE one (n int); SELECT 1/0;")
    with pytest.raises(MigrationError, match="0001_one failed and was rolled back: division"):
        migrate(postgres_database, folder=tmp_path)
    write(tmp_path, "0001_one.sql", "CREATE TABLE one (n int)")
    assert migrate(postgres_database, folder=tmp_path) == [1]


def test_a_lower_number_that_comes_later_is_applied(postgres_database: str, tmp_path: Path) -> None:
    write(tmp_path, "0050_late.sql", "CREATE TABLE late (n int)")
    assert migrate(postgres_database, folder=tmp_path) == [50]
    write(tmp_path, "0002_early.sql", "CREATE TABLE early (n int)")
    assert migrate(postgres_database, folder=tmp_path) == [2]


def test_a_newer_database_is_left_alone(postgres_database: str, tmp_path: Path) -> None:
    write(tmp_path, "0001_one.sql", "CREATE TABLE one (n int)")
    write(tmp_path, "0002_two.sql", "CREATE TABLE two (n int)")
    migrate(postgres_database, folder=tmp_path)
    (tmp_path / "0002_two.sql").unlink()
    assert migrate(postgres_database, folder=tmp_path) == []


def test_misnamed_files_are_refused(postgres_database: str, tmp_path: Path) -> None:
    write(tmp_path, "notes.txt", "not a migration")
    write(tmp_path, "1_short.sql", "")
    with pytest.raises(MigrationError, match="name it NNNN_name"):
        migrate(postgres_database, folder=tmp_path)
    (tmp_path / "1_short.sql").unlink()
    write(tmp_path, "0001_one.sql", "")
    write(tmp_path, "0001_two.sql", "")
    with pytest.raises(MigrationError, match="same number"):
        migrate(postgres_database, folder=tmp_path)


def test_an_unreachable_database_is_no_migration_error() -> None:
    with pytest.raises(psycopg.OperationalError):
        migrate("postgresql://127.0.0.1:1/none?connect_timeout=1")
