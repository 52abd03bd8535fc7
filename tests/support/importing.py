"""Runs ``brinkbyte migrate sqlite`` for tests, and shows what a database holds afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from support import programs

_MODULE = "brinkbyte.cli.main"
REPOSITORY = Path(__file__).resolve().parents[2]
CUSTOMER = "acme"
TABLES = {
    "config": "key, value",
    "cameras": "camera_id, name, hardware_id, enabled, pipeline",
    "camera_components": "camera_id, name, kind, type, settings",
    "line_zones": "camera_id, name, start_x, start_y, end_x, end_y, direction",
    "polygon_zones": "camera_id, name, points",
    "telemetry_events": "occurred_at, id, camera_id, hardware_id, kind, label, track_id, zone, "
    "score, attributes",
    "frames": "occurred_at, id, camera_id, hardware_id, media_type, width, height, thumbnail",
    "telemetry_aggregates": "bucket, camera_id, kind, label, events, score_sum, scored",
}
JOURNAL = ("sqlite_import_tables", "sqlite_import_days", "sqlite_import_rows")


def contents(dsn: str, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the tables that an import writes into."""
    found = {}
    with psycopg.connect(dsn) as connection:
        for table in tables or TABLES:
            query = f"SELECT tenant_id, {TABLES[table]} FROM {table}"
            found[table] = sorted(connection.execute(query.encode()).fetchall(), key=repr)
    return found


def counts(dsn: str) -> dict[str, int]:
    """Return rows by table."""
    found = {}
    with psycopg.connect(dsn) as connection:
        for table in TABLES:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            found[table] = row[0] if row else -1
    return found


@dataclass
class Run:
    """A run that has ended."""

    code: int
    output: str


@dataclass
class Importer:
    """Imports one file into one database, in processes of their own."""

    source: Path
    dsn: str
    folder: Path

    def __call__(self, *arguments: str, failpoint: str = "") -> Run:
        """Run the command to its end."""
        self._log.unlink(missing_ok=True)
        program = programs.start(
            _MODULE,
            *self._arguments(*arguments),
            environment={**self._environment, "BRINKBYTE_FAILPOINT": failpoint},
            cwd=self.folder,
            log=self._log,
        )
        return Run(program.wait(), self._log.read_text())

    def measured(self) -> tuple[Run, int]:
        """Run it as Python starts it; also return its largest resident set, bytes."""
        with self._log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, *self._arguments()],
                env=self._environment, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        return Run(process.returncode, self._log.read_text()), usage.ru_maxrss * 1024

    @property
    def _log(self) -> Path:
        self.folder.mkdir(exist_ok=True)
        return self.folder / "output"

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "BRINKBYTE_CUSTOMER_ID": CUSTOMER,
            "BRINKBYTE_DATABASE_URL": self.dsn,
            "PYTHONPATH": str(REPOSITORY / "operator"),
            "COLUMNS": "200",
        }

    def _arguments(self, *more: str) -> list[str]:
        return ["migrate", "sqlite", str(self.source), "--folder", str(self.folder), *more]

    @property
    def rejects(self) -> list[dict[str, Any]]:
        """What was set aside."""
        lines = (self.folder / "rejects.jsonl").read_text("ascii").splitlines()
        return [json.loads(line) for line in lines]

    @property
    def report(self) -> Any:
        """The summary for programs."""
        return json.loads((self.folder / "report.json").read_text())
