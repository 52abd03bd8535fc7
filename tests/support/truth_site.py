"""One customer of the ledger's campaign: disks that come and go, programs that are killed."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from support import programs
from support.metering_site import Site
from support.postgres import PostgresServer
from support.truth_line import Line
from support.truth_oracle import DiskView, Truth

BATCH_EVENTS: Final = 40
DEADLINE_SECONDS: Final = 40
_STATE: Final = """
SELECT event.id::text, event.event,
       event.epoch IS NOT NULL AND (batch.epoch IS NULL OR batch.acknowledged_at IS NOT NULL)
FROM usage_events AS event LEFT JOIN usage_batches AS batch USING (epoch, batch_no)
"""


class Database:
    """Copies and ends of a server's databases; all it made can be dropped."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.made: set[str] = set()

    def copy(self, template: str) -> str:
        """Copy a database that nobody is connected to any more; ends who is left."""
        for _ in range(50):
            self.disconnect(template)
            try:
                name = self.server.create_database(template=template, prefix="truth")
            except psycopg.errors.ObjectInUse:
                time.sleep(0.05)
            else:
                self.made.add(name)
                return name
        raise AssertionError(f"somebody stays connected to {template}")

    def disconnect(self, name: str) -> None:
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )

    def drop(self, name: str) -> None:
        self.server.drop_database(name)
        self.made.discard(name)

    def drop_all(self) -> None:
        for name in sorted(self.made):
            self.drop(name)


def view(dsn: str) -> DiskView:
    """Read an instance's database in one snapshot."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        rows = connection.execute(_STATE).fetchall()
        receipts = connection.execute("SELECT chain_hash, receipt FROM usage_batches").fetchall()
    return DiskView(
        {row[0]: json.loads(row[1]) for row in rows},
        {row[0] for row in rows if row[2]},
        dict(receipts),
    )


@dataclass
class Disk:
    """An instance's database with the programs that run on it; ``codes``: how reporters ended."""

    name: str
    site: Site
    databases: Database
    numbers: random.Random
    records: Path
    backups: list[str] = field(default_factory=list)
    generator: programs.Program | None = None
    reporters: list[programs.Program] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    _runs: int = 0

    @property
    def database(self) -> str:
        return self.site.dsn.rpartition("/")[2]

    @property
    def log(self) -> str:
        path = self.site.root / "reporter.log"
        return path.read_text() if path.exists() else ""

    def generate(self, failpoint: str = "") -> None:
        """Start the generator, unless it runs."""
        if self.generator is not None and self.generator.poll() is None:
            return
        self._runs += 1
        record = self.records / f"{self.name}-{self._runs}.jsonl"
        seed = str(self.numbers.randrange(2**31))
        self.generator = programs.start(
            "support.truth_generator",
            self.site.dsn,
            str(record),
            seed,
            cwd=self.site.root,
            log=self.site.root / "generator.log",
            environment=self.site.environment(failpoint),
        )

    def speak(self) -> None:
        """Wait until something new was recorded here: a silent disk tells the vendor nothing."""
        self.kill_generator()
        self.generate()
        record = self.records / f"{self.name}-{self._runs}.jsonl"
        deadline = time.monotonic() + 30
        while not record.exists() or b'{"ok"' not in record.read_bytes():
            assert time.monotonic() < deadline, (self.site.root / "generator.log").read_text()
            time.sleep(0.02)

    def report(self, failpoint: str = "", *arguments: str) -> programs.Program:
        """Start a reporter and do not wait for it."""
        self._collect()
        reporter = programs.start(
            "support.metering_launcher",
            str(self.site.root / "roots.json"),
            *("usage", "report", "--deadline-seconds", str(DEADLINE_SECONDS), *arguments),
            cwd=self.site.root,
            log=self.site.root / "reporter.log",
            environment=self.site.environment(failpoint),
        )
        self.reporters.append(reporter)
        return reporter

    def kill_generator(self) -> None:
        if self.generator is not None:
            self.generator.kill()
            self.generator.wait(20)
            self.generator = None

    def kill_reporters(self) -> int:
        """Kill what runs; returns how many did."""
        killed = 0
        for reporter in self.reporters:
            if reporter.poll() is None:
                reporter.kill()
                killed += 1
            reporter.wait(20)
        self._collect()
        return killed

    def _collect(self) -> None:
        """Keep the exit codes of the reporters that have ended."""
        for reporter in self.reporters:
            if reporter.poll() is not None:
                self.codes[reporter.returncode] += 1
        self.reporters = [each for each in self.reporters if each.returncode is None]

    def silence(self) -> None:
        """Kill everything that writes to this disk, and wait until the last session is over."""
        self.kill_generator()
        self.kill_reporters()
        self.databases.disconnect(self.database)

    def view(self) -> DiskView:
        return view(self.site.dsn)

    def back_up(self) -> None:
        """Copy the database as it is; three copies are kept."""
        self.silence()
        self.backups.append(self.databases.copy(self.database))
        while len(self.backups) > 3:
            self.databases.drop(self.backups.pop(0))

    def replace(self, template: str) -> None:
        """Lose the disk; go on with a copy of something else."""
        old = self.database
        self.site.dsn = self.databases.server.dsn(self.databases.copy(template))
        self.databases.drop(old)


@dataclass
class Customer:
    """A customer: one line, one disk, sometimes a clone of it."""

    name: str
    instance: str
    line: Line
    root: Path
    disks: list[Disk]
    truth: Truth = field(default_factory=Truth)
    clones: int = 0

    def files(self) -> Iterator[Path]:
        yield from sorted((self.root / "records").glob("*.jsonl"))

    def clone(self, disk: Disk) -> Disk:
        """Let a copy of a disk go on beside it, with the same identity."""
        disk.silence()
        self.clones += 1
        root = self.root / f"clone-{self.clones}"
        shutil.copytree(disk.site.root, root, ignore=shutil.ignore_patterns("*.log"))
        copied = disk.databases.copy(disk.database)
        site = Site(root, disk.databases.server.dsn(copied), BATCH_EVENTS)
        numbers = random.Random(disk.numbers.randrange(2**31))
        made = Disk(f"{self.name}-clone-{self.clones}", site, disk.databases, numbers, disk.records)
        self.disks.append(made)
        return made
