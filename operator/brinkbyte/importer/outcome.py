"""What an import comes to, table by table, and who is told how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

from brinkbyte.store.sqlite_journal import MODULUS, Import, Progress


class Shown(Protocol):
    """Who is told how far the work has come."""

    def begin(self, name: str, rows: int, done: int) -> None:
        """Begin a table of so many rows, of which so many were done before."""

    def advance(self, rows: int) -> None:
        """So many more rows are done."""


@dataclass
class Comparison:
    """A table of the old database beside the instance's.

    Attributes:
        rows: of the old table.
        found: rows of the import that the instance has.
        checksum: of those; None: not compared, as people may have changed them since.
        gone: rows of days that retention has dropped since.
        gone_checksum: of those, as they were written.
    """

    table: str
    rows: int
    progress: Progress
    found: int = 0
    checksum: int | None = None
    gone: int = 0
    gone_checksum: int = 0

    @property
    def equal(self) -> bool:
        """Whether every old row is accounted for, and what was carried over is there unchanged."""
        done = self.progress
        if done.written + done.existing + done.conflicts + done.rejected != done.rows_read:
            return False
        expected = (done.checksum - self.gone_checksum) % MODULUS
        return self.checksum is None or self.checksum == expected


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        began: the import; None after a dry run.
        new_rows: rows that this run read.
        sums_added: hourly sums made from imported events.
        sums_kept: hours that had a sum before, which stays without the imported events.
        first_day: of the events and thumbnails that were carried over.
        kept_days: how long the instance keeps them; None: for ever.
    """

    began: Import | None
    tables: list[Comparison] = field(default_factory=list)
    new_rows: int = 0
    sums_added: int = 0
    sums_kept: int = 0
    first_day: date | None = None
    kept_days: int | None = None
    compared: bool = False

    @property
    def equal(self) -> bool:
        """Whether both databases have the same, what was set aside left out."""
        return all(table.equal for table in self.tables)

    def past_retention(self, today: date) -> bool:
        """Tell whether the next run of retention drops some of what was carried over."""
        if self.first_day is None or self.kept_days is None:
            return False
        return self.first_day < today - timedelta(days=self.kept_days)

    @property
    def set_aside(self) -> int:
        """Rows that were not carried over."""
        return sum(one.progress.rejected + one.progress.conflicts for one in self.tables)
