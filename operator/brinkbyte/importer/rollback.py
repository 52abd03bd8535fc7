"""The way back: takes out exactly what an import wrote and nobody has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from brinkbyte.importer.canonical import FORMS, RowHash, as_uuid
from brinkbyte.importer.ids import TABLE_NUMBERS, RowIds
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.store import sqlite_rows as store
from brinkbyte.store.sqlite_journal import MODULUS, Import, Journal
from brinkbyte.store.sqlite_rows import Connection
from brinkbyte.store.sqlite_targets import TARGETS

SUMS: Final = "telemetry_sums"
"""The journal's name for hourly sums that were made from imported events."""
_ROWS_AT_ONCE: Final = 1000
# Parts before their cameras.
_JOURNALED: Final = (
    SUMS,
    "telemetry_aggregates",
    "polygon_zones",
    "line_zones",
    "camera_components",
    "cameras",
    "config",
)


@dataclass
class Removed:
    """What became of the rows that an import had written.

    Attributes:
        removed: rows by table.
        gone: rows that were not there any more, by table.
        kept: what was changed since and stays, for people to read.
    """

    removed: dict[str, int] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)

    def add(self, name: str, *, removed: int = 0, gone: int = 0) -> None:
        """Count rows of a table."""
        if removed:
            self.removed[name] = self.removed.get(name, 0) + removed
        if gone:
            self.gone[name] = self.gone.get(name, 0) + gone


def roll_back(conn: Connection, journal: Journal, began: Import) -> Removed:
    """Take an import back; killed anywhere, the next call goes on.

    Rows that were there before are not touched. Of a partitioned table a day goes as a whole or,
    when any of its imported rows was changed, not at all; a row of another table that was changed
    since stays, and so does a camera with parts that the import did not write.
    """
    journal.set_status(began.id, "rolling_back")
    failpoint("import.rollback.begun")
    result = Removed()
    for name in TABLE_NUMBERS:
        for day, rows, checksum in journal.days(began.id, name):
            with conn.transaction():
                _take_day(conn, journal, began, (name, day, rows, checksum), result)
                failpoint("import.rollback.before_commit")
            failpoint("import.rollback.committed")
    for name in _JOURNALED:
        while True:
            with conn.transaction():
                left = remove_journaled(conn, journal, began.id, name, result=result)
                failpoint("import.rollback.before_commit")
            failpoint("import.rollback.committed")
            if not left:
                break
    journal.set_status(began.id, "rolled_back")
    failpoint("import.rollback.done")
    return result


def _take_day(
    conn: Connection,
    journal: Journal,
    began: Import,
    noted: tuple[str, date, int, int],
    result: Removed,
) -> None:
    name, day, rows, checksum = noted
    span = RowIds(journal.tenant_id, began.source, name).span
    target = TARGETS[name]
    hashed = RowHash(name, target.types)
    found = total = 0
    for row in store.read_span(conn, target, journal.tenant_id, span, day=day):
        found, total = found + 1, total + hashed(row)
    if not found:
        # Retention was here.
        result.add(name, gone=rows)
    elif (found, total % MODULUS) == (rows, checksum):
        result.add(name, removed=store.delete_span(conn, target, journal.tenant_id, span, day))
    else:
        result.kept.append(
            f"{name} of {day}: {found} of {rows} imported rows are there, and not as they were "
            "written; all stay"
        )
    journal.forget_day(began.id, name, day)


def remove_journaled(
    conn: Connection,
    journal: Journal,
    import_id: UUID,
    name: str,
    *,
    within: tuple[int, int] | None = None,
    result: Removed | None = None,
) -> int:
    """Take out rows that the journal names, inside the caller's transaction.

    Args:
        conn: the caller's.
        journal: of the tenant.
        import_id: the import.
        name: the journal's name of the table.
        within: all rows whose key begins with a number from the one to below the other; without
            it, the next thousand.
        result: counts what became of them.

    Returns:
        How many rows of the journal were dealt with; none when there are no more.
    """
    target = TARGETS["telemetry_aggregates" if name == SUMS else name]
    hashed = RowHash(name, target.types)
    forms = [FORMS[kind] for kind in target.types[: target.key]]
    counted = result or Removed()
    dealt = 0
    while rows := journal.some_rows(import_id, name, _ROWS_AT_ONCE, prefix=within):
        keys = [key for key, _, written in rows if written]
        hashes = {tuple(key): row_hash for key, row_hash, written in rows if written}
        with_parts = (
            store.cameras_with_parts(conn, journal.tenant_id) if name == "cameras" else set[str]()
        )
        gone = set(hashes)
        removable: list[list[str]] = []
        for row in store.lock_rows(conn, target, journal.tenant_id, keys) if keys else ():
            key = [form(value) for form, value in zip(forms, row, strict=False)]
            gone.discard(tuple(key))
            if as_uuid(hashed(row)) != hashes[tuple(key)]:
                counted.kept.append(f"{name} {_said(row[: target.key])}: changed since, stays")
            elif key[0] in with_parts:
                counted.kept.append(f"{name} {key[0]}: has parts of others, stays")
            else:
                removable.append(key)
        if removable:
            store.delete_rows(conn, target, journal.tenant_id, removable)
        counted.add(name, removed=len(removable), gone=len(gone))
        journal.forget_rows(import_id, name, [key for key, *_ in rows])
        dealt += len(rows)
        if within is None:
            break
    return dealt


def _said(key: Sequence[Any]) -> str:
    return " ".join(
        f"{part:%Y-%m-%dT%H:%MZ}" if isinstance(part, datetime) else str(part) for part in key
    )
