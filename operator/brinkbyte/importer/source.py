"""The old database: opened for reading only, backed up, looked over, read row by row."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

from brinkbyte.importer.old import BOOKKEEPING, PLUMBING, TABLES, OldTable
from brinkbyte.importer.values import Old
from brinkbyte.kit.errors import InvalidInputError, TemporaryError
from brinkbyte.kit.failpoints import failpoint

Row: TypeAlias = tuple[Old, ...]
_MAGIC: Final = b"SQLite format 3\0"
_PAGES_AT_ONCE: Final = 4096
_BLOCK: Final = 1 << 20
_BUSY_SECONDS: Final = 10.0
_FIRST_ROWID: Final = -(2**63)


@dataclass(frozen=True)
class Backup:
    """A copy of the old database, whole and on disk."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class FoundTable:
    """An old table as it is in this file.

    Attributes:
        actual: its name there.
        columns: of each field, None where there is none.
        extra: columns that nobody knows.
        rows: how many.
        keyed: whether it has rowids; one without is read in one go.
    """

    table: OldTable
    actual: str
    columns: dict[str, str | None]
    extra: tuple[str, ...]
    rows: int
    keyed: bool

    @property
    def missing(self) -> list[str]:
        """Fields that every row needs and this table does not have."""
        return [name for name in self.table.required if self.columns[name] is None]


def check_file(path: Path) -> None:
    """Refuse what is no SQLite database.

    Raises:
        InvalidInputError: ``NoSource`` or ``NotSqlite``.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be read ({error.strerror}); name the old service's database file",
            reason="NoSource",
        ) from None
    if head != _MAGIC:
        raise InvalidInputError(
            f"{path} is no SQLite 3 database; name the old service's database file",
            reason="NotSqlite",
        )


def make_backup(
    source: Path, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> Backup:
    """Copy a database, with what is in its write-ahead log, and prove the copy.

    The copy is made under another name and moved when it is whole and on disk. It is named after
    its SHA-256, which lies beside it, too: a later backup replaces none of other content.

    Args:
        source: opened for reading only; a service may go on writing to it.
        folder: for the copy.
        progress: called with pages done and pages in all.

    Raises:
        InvalidInputError: ``DamagedSource``: the database fails its own check.
        TemporaryError: ``SourceBusy``: the old service holds it locked.
    """
    check_file(source)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "backup.sqlite.partial"
    partial.unlink(missing_ok=True)

    def advance(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)
        failpoint("import.backup.half")

    try:
        with closing(_open(source)) as old, closing(sqlite3.connect(partial)) as copy:
            old.backup(copy, pages=_PAGES_AT_ONCE, progress=advance)
            # One file, whatever the source had beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
            _check_integrity(copy, source)
    except sqlite3.DatabaseError as error:
        partial.unlink(missing_ok=True)
        raise _unreadable(source, error) from None
    except InvalidInputError:
        partial.unlink(missing_ok=True)
        raise
    digest = _digest_on_disk(partial)
    target = _backup_path(folder, digest)
    failpoint("import.backup.written")
    _write_on_disk(target.with_name(f"{target.name}.sha256"), f"{digest}  {target.name}\n")
    partial.rename(target)
    _sync_directory(folder)
    failpoint("import.backup.done")
    return Backup(target, digest)


def _backup_path(folder: Path, sha256: str) -> Path:
    return folder / f"backup-{sha256[:12]}.sqlite"


def open_backup(folder: Path, sha256: str) -> Backup | None:
    """Return a backup made earlier if it is still what it was, None otherwise."""
    path = _backup_path(folder, sha256)
    if not path.is_file() or _digest_on_disk(path) != sha256:
        return None
    return Backup(path, sha256)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn SQLite's errors while a file is read into ours.

    Raises:
        InvalidInputError: ``DamagedSource``.
        TemporaryError: ``SourceBusy``.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from None


class OldDatabase:
    """A backup, read.

    Args:
        backup: the file; nothing else writes to it.
    """

    def __init__(self, backup: Backup) -> None:
        self.backup = backup
        self._connection = _open(backup.path)
        tables = self._tables()
        self.found: tuple[FoundTable, ...] = tuple(self._find(tables))
        taken = {found.actual for found in self.found}
        self.unknown: dict[str, int] = {
            name: self._count(name)
            for name in tables
            if name not in taken and name.lower() not in BOOKKEEPING
        }
        self.version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(
        self, found: FoundTable, *, after: int | None = None
    ) -> Iterator[list[tuple[int, Row]]]:
        """Yield rows with their rowids, chunk by chunk, in order of the rowids.

        A row is the table's fields in their order, then the columns that nobody knows.

        Args:
            found: the table.
            after: rowid of the last row that is done, None: from the start.
        """
        columns = [
            "NULL" if name is None else _quoted(name)
            for name in (*found.columns.values(), *found.extra)
        ]
        listed, table = ", ".join(columns), _quoted(found.actual)
        if not found.keyed:
            rows = self._connection.execute(f"SELECT {listed} FROM {table}").fetchall()  # noqa: S608
            yield list(enumerate(rows, start=1))
            return
        # >= for the first of all rowids, which nothing is below of.
        statement = (
            f"SELECT rowid, {listed} FROM {table} WHERE rowid {'>=' if after is None else '>'} ? "  # noqa: S608
            "ORDER BY rowid LIMIT ?"
        )
        last = _FIRST_ROWID if after is None else after
        while True:
            chunk = self._connection.execute(statement, (last, found.table.chunk_rows)).fetchall()
            if not chunk:
                return
            yield [(row[0], row[1:]) for row in chunk]
            last = chunk[-1][0]
            statement = statement.replace("rowid >= ?", "rowid > ?")

    def row(self, found: FoundTable, rowid: int) -> Row | None:
        """Return one row as :meth:`rows` does, None when it is not there."""
        columns = ["NULL" if name is None else _quoted(name) for name in found.columns.values()]
        columns += [_quoted(name) for name in found.extra]
        row: Row | None = self._connection.execute(
            f"SELECT {', '.join(columns)} FROM {_quoted(found.actual)} WHERE rowid = ?",  # noqa: S608
            (rowid,),
        ).fetchone()
        return row

    def setting(self, *keys: str) -> str | None:
        """Return the first of these settings that the old configuration has."""
        for found in self.found:
            if found.table.name == "config" and not found.missing:
                key, value = (_quoted(str(found.columns[name])) for name in ("key", "value"))
                for wanted in keys:
                    row = self._connection.execute(
                        f"SELECT {value} FROM {_quoted(found.actual)} WHERE {key} = ?",  # noqa: S608
                        (wanted,),
                    ).fetchone()
                    if row is not None and isinstance(row[0], str) and row[0].strip():
                        return str(row[0]).strip().strip('"')
        return None

    def _tables(self) -> dict[str, bool]:
        """Return name → whether it has rowids, of every table that is a table."""
        rows = self._connection.execute("PRAGMA main.table_list").fetchall()
        return {
            str(row[1]): not row[4]
            for row in rows
            if row[2] == "table" and not str(row[1]).startswith("sqlite_")
        }

    def _find(self, tables: dict[str, bool]) -> Iterator[FoundTable]:
        by_name = {name.lower(): name for name in tables}
        for table in TABLES:
            names = [name for name in (table.name, *table.names) if name in by_name]
            if not names:
                continue
            actual = by_name[names[0]]
            present = {
                str(row[1]).lower(): str(row[1])
                for row in self._connection.execute(f"PRAGMA table_info({_quoted(actual)})")
            }
            columns = {
                field: next((present[name] for name in names if name in present), None)
                for field, names in table.fields.items()
            }
            used = set(columns.values())
            extra = tuple(
                name
                for lower, name in present.items()
                if name not in used and lower not in PLUMBING
            )
            yield FoundTable(table, actual, columns, extra, self._count(actual), tables[actual])

    def _count(self, table: str) -> int:
        row = self._connection.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()  # noqa: S608
        return int(row[0])


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_BUSY_SECONDS
    )
    # Text that is not UTF-8 is a broken row's, not the end of the import.
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _check_integrity(connection: sqlite3.Connection, source: Path) -> None:
    problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    if problems != ["ok"]:
        raise InvalidInputError(
            f"{source} is damaged: {problems[0]}; mend a copy with SQLite's own .recover and "
            "import that",
            reason="DamagedSource",
        )


def _unreadable(source: Path, error: sqlite3.DatabaseError) -> InvalidInputError | TemporaryError:
    if isinstance(error, sqlite3.OperationalError) and "lock" in str(error):
        return TemporaryError(
            f"{source} is locked by the old service; stop it, or try again", reason="SourceBusy"
        )
    if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
        return TemporaryError(
            f"the backup of {source} does not fit; make room, or name another --folder",
            reason="NoRoom",
        )
    return InvalidInputError(
        f"{source} cannot be read ({error}); mend a copy with SQLite's own .recover and import "
        "that",
        reason="DamagedSource",
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _digest_on_disk(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


def _write_on_disk(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
