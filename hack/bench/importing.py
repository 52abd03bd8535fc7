"""Measure ``brinkbyte migrate sqlite``, beside a plain COPY of the very same rows.

``python -m bench.importing`` measures these alone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.postgres import running_postgres
from brinkbyte.store import migrate
from stack.tools import StepError

ROWS: Final = 200_000
DAYS: Final = 30
START: Final = 1_772_323_200_000
"""The first row's time, Unix milliseconds."""


@dataclass(frozen=True)
class Figures:
    """Rows a second.

    Attributes:
        ours: the whole command: start, backup, rows, hourly sums, comparison.
        copy: COPY of the finished rows into an empty table of the same partitions and indexes.
    """

    ours: float
    copy: float


def importing() -> Figures:
    """Start a PostgreSQL and measure.

    Raises:
        StepError: there is no PostgreSQL, or the import failed.
    """
    with running_postgres() as uri, tempfile.TemporaryDirectory() as folder:
        migrate(uri)
        source = Path(folder, "edge.db")
        _build(source)
        started = time.perf_counter()
        done = subprocess.run(
            [
                sys.executable, "-m", "brinkbyte.cli.main", "migrate", "sqlite", str(source),
                "--folder", str(Path(folder, "import")),
            ],
            env={**os.environ, "BRINKBYTE_DATABASE_URL": uri, "BRINKBYTE_CUSTOMER_ID": "bench"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        ours = time.perf_counter() - started
        if done.returncode:
            raise StepError(f"the import failed: {done.stdout}{done.stderr}")
        return Figures(ROWS / ours, ROWS / _copy(uri))


def _build(path: Path) -> None:
    def rows() -> Iterator[tuple[Any, ...]]:
        step = DAYS * 86_400_000 // ROWS
        for number in range(ROWS):
            yield (
                f"cam-{number % 10}", "edge-1", START + number * step, "detection",
                ("person", "car")[number % 2], number, number % 100 / 100,
                json.dumps({"box": [number % 640, 2, 30, 40], "n": number}),
            )  # fmt: skip

    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE telemetry_events (id INTEGER PRIMARY KEY, camera_id TEXT, "
            "device_id TEXT, timestamp INTEGER, event_type TEXT, label TEXT, track_id INTEGER, "
            "confidence REAL, data TEXT)"
        )
        db.executemany("INSERT INTO telemetry_events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", rows())


def _copy(uri: str) -> float:
    """Return the seconds that a plain COPY of the imported rows takes."""
    with psycopg.connect(uri, autocommit=True) as connection:
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY (TABLE telemetry_events) TO STDOUT") as out,
        ):
            data = [bytes(block) for block in out]
        connection.execute("TRUNCATE telemetry_events")
        started = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("COPY telemetry_events FROM STDIN") as into:
            for block in data:
                into.write(block)
        taken = time.perf_counter() - started
        row = connection.execute("SELECT count(*) FROM telemetry_events").fetchone()
    if row is None or row[0] != ROWS:
        raise StepError(f"{row} rows were copied, not {ROWS}")
    return taken


if __name__ == "__main__":
    print(importing())
