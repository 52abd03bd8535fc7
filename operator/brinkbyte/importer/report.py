"""What a person sees of an import: progress, the summary, and the files in its folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table

from brinkbyte.importer.outcome import Outcome
from brinkbyte.importer.rollback import Removed
from brinkbyte.importer.source import OldDatabase
from brinkbyte.store.sqlite_journal import Reject

REJECTS: Final = "rejects.jsonl"
REPORT: Final = "report.json"


class Bars:
    """Progress bars, one a table; on a terminal only."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, name: str, rows: int, done: int) -> None:
        """Begin a table of so many rows, of which so many were done before."""
        if self._task is not None:
            self._progress.update(self._task, visible=True)
        self._task = self._progress.add_task(name, total=rows, completed=min(done, rows))

    def advance(self, rows: int) -> None:
        """So many more rows are done."""
        if self._task is not None:
            self._progress.advance(self._task, rows)

    def pages(self, done: int, total: int) -> None:
        """So many pages of the backup are done."""
        if self._task is None:
            self.begin("backup, pages", total, 0)
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)


@contextmanager
def bars(console: Console) -> Iterator[Bars]:
    """Show progress until the block ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bars(progress)


def write_rejects(path: Path, rejects: Iterable[Reject]) -> Counter[tuple[str, str]]:
    """Write one line of JSON a row that was set aside, and count them by table and reason.

    The file is written under another name and moved: it is there whole or not at all.
    """
    counts: Counter[tuple[str, str]] = Counter()
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="ascii") as file:
        for one in rejects:
            head = {
                "table": one.table,
                "rowid": one.rowid,
                "reason": one.reason,
                "message": one.message,
            }
            # The raw values are JSON already.
            file.write(f'{json.dumps(head)[:-1]}, "values": {one.raw}}}\n')
            counts[one.table, one.reason] += 1
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    return counts


def write_report(path: Path, content: dict[str, Any]) -> None:
    """Write the summary for programs."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def summary(outcome: Outcome, old: OldDatabase, counts: Counter[tuple[str, str]]) -> dict[str, Any]:
    """Return what a run came to, for programs."""
    return {
        "source": outcome.began.source if outcome.began else None,
        "import": str(outcome.began.id) if outcome.began else None,
        "backup": {"path": str(old.backup.path), "sha256": old.backup.sha256},
        "equal": outcome.equal if outcome.compared else None,
        "newRows": outcome.new_rows,
        "tables": {
            one.table: {
                "rows": one.rows,
                "read": one.progress.rows_read,
                "written": one.progress.written,
                "existing": one.progress.existing,
                "conflicts": one.progress.conflicts,
                "rejected": one.progress.rejected,
                "sourceChecksum": f"{one.progress.checksum:032x}",
                "targetRows": one.found,
                "targetChecksum": None if one.checksum is None else f"{one.checksum:032x}",
                "goneSince": one.gone,
                "equal": one.equal,
            }
            for one in outcome.tables
        },
        "setAside": [
            {"table": table, "reason": reason, "rows": rows}
            for (table, reason), rows in sorted(counts.items())
        ],
        "sums": {"added": outcome.sums_added, "kept": outcome.sums_kept},
        "notCarried": {
            "tables": old.unknown,
            "columns": {
                found.actual: list(found.extra)
                for found in old.found
                if found.extra and not found.table.folded
            },
        },
    }


def show(console: Console, outcome: Outcome, said: dict[str, Any], folder: Path) -> None:
    """Draw the summary."""
    dry = not outcome.compared
    table = Table()
    table.add_column("table", no_wrap=True)
    for name in ("rows", "would be written" if dry else "written", "before", "conflicts", "broken"):
        table.add_column(name, justify="right")
    table.add_column("checksum")
    for one in outcome.tables:
        done = one.progress
        if one.checksum is None:
            verdict = "not compared" if dry else "compared before"
        else:
            verdict = "[green]equal[/]" if one.equal else "[red]differs[/]"
        if one.gone:
            verdict += f", {one.gone} past their retention"
        table.add_row(
            one.table, str(one.rows), str(done.written), str(done.existing), str(done.conflicts),
            str(done.rejected), verdict,
        )  # fmt: skip
    console.print(table)
    for one in said["setAside"]:
        console.print(f"[yellow]{one['table']}: {one['rows']} rows set aside: {one['reason']}[/]")
    if said["setAside"]:
        console.print(f"each with its values in {folder / REJECTS}")
    if outcome.sums_added or outcome.sums_kept:
        console.print(
            f"hourly sums made from imported events: {outcome.sums_added}"
            + (
                f"; [yellow]{outcome.sums_kept} hours had a sum before and keep it[/]"
                if outcome.sums_kept
                else ""
            )
        )
    if outcome.past_retention(datetime.now(UTC).date()):
        console.print(
            f"[yellow]the oldest day is {outcome.first_day}, and this instance keeps "
            f"{outcome.kept_days} days: what is older goes with the next hourly run, unless its "
            "license is not in force. The backup has it[/]"
        )
    for name, rows in said["notCarried"]["tables"].items():
        console.print(f"[yellow]table {name} ({rows} rows) is none of the old service's[/]")
    for name, columns in said["notCarried"]["columns"].items():
        console.print(f"[yellow]columns of {name} not carried over: {', '.join(columns)}[/]")


def show_removed(console: Console, removed: Removed) -> None:
    """Draw what a rollback came to."""
    table = Table("table", "rows removed", "gone before")
    for name in sorted({*removed.removed, *removed.gone}):
        table.add_row(name, str(removed.removed.get(name, 0)), str(removed.gone.get(name, 0)))
    console.print(table)
    for line in removed.kept:
        console.print(f"[yellow]kept: {line}[/]", highlight=False)
