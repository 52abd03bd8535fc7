"""The journal of imports from old edge databases. It commits with the rows it tells of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.store.sqlite_rows import Connection
from brinkbyte.store.telemetry import RETENTION_LOCK

MODULUS: Final = 1 << 128
_IMPORT_LOCK: Final = "brinkbyte.sqlite_import"
_RUNNING, _FINISHED = "running", "finished"
_ROLLING_BACK, _ROLLED_BACK = "rolling_back", "rolled_back"


@dataclass(frozen=True)
class Import:
    """An import that has begun.

    Attributes:
        source: name of the old database.
        source_sha256: of the backup that the newest run read.
        status: running, finished, rolling_back or rolled_back.
        hardware_id: device of rows that name none.
    """

    id: UUID
    source: str
    source_sha256: str
    status: str
    hardware_id: str
    started_at: datetime

    @property
    def finished(self) -> bool:
        """Whether its last run came to its end."""
        return self.status == _FINISHED

    @property
    def rolling_back(self) -> bool:
        """Whether it is being taken back."""
        return self.status == _ROLLING_BACK


@dataclass(frozen=True)
class Progress:
    """How far an import has come in one table.

    Attributes:
        last_rowid: of the last row that was read, None before the first.
        last_row_hash: of that row as it was read.
        existing: rows that were there before, with the same content.
        conflicts: rows whose key was there before with other content, which stays.
        checksum: sum of the hashes of rows written and existing, modulo 2^128.
    """

    name: str
    last_rowid: int | None = None
    last_row_hash: str = ""
    rows_read: int = 0
    written: int = 0
    existing: int = 0
    conflicts: int = 0
    rejected: int = 0
    checksum: int = 0

    def plus(self, *, rowid: int, row_hash: str, checksum: int, **counts: int) -> Progress:
        """Return what it is after another chunk of rows."""
        grown = {name: getattr(self, name) + count for name, count in counts.items()}
        return replace(
            self,
            last_rowid=rowid,
            last_row_hash=row_hash,
            checksum=(self.checksum + checksum) % MODULUS,
            **grown,
        )


@dataclass(frozen=True)
class Reject:
    """An old row that was not carried over.

    Attributes:
        raw: its values as ASCII JSON.
    """

    table: str
    rowid: int
    reason: str
    message: str
    raw: str


class Journal:
    """The journal of one tenant.

    Args:
        conn: autocommit; everything but looking up is done inside the caller's transaction.
        tenant_id: whose instance it is.
    """

    def __init__(self, conn: Connection, tenant_id: str) -> None:
        self._conn = conn
        self.tenant_id = tenant_id

    def lock(self) -> None:
        """Be the only one that imports, and keep retention from dropping days meanwhile.

        Raises:
            PermanentError: ``SchemaTooOld``.
            TemporaryError: ``ImportRunning``.
        """
        ready = self._conn.execute("SELECT to_regclass('sqlite_import_rejects')").fetchone()
        if ready is None or ready[0] is None:
            raise PermanentError(
                "the instance's schema is older than this program; run `brinkbyte instance "
                "migrate` first",
                reason="SchemaTooOld",
            )
        got = self._conn.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (_IMPORT_LOCK,)
        ).fetchone()
        if got is None or not got[0]:
            raise TemporaryError(
                "another import is at work in this database; wait for it to end",
                reason="ImportRunning",
            )
        self._conn.execute(
            "SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", (RETENTION_LOCK,)
        )

    def find(self, source: str) -> Import | None:
        """Return the import of a source that was not taken back, None when there is none."""
        row = self._conn.execute(
            "SELECT id, source, source_sha256, status, hardware_id, started_at FROM sqlite_imports "
            "WHERE tenant_id = %s AND source = %s AND status <> %s",
            (self.tenant_id, source, _ROLLED_BACK),
        ).fetchone()
        return None if row is None else Import(*row)

    def sources(self) -> list[str]:
        """Return the names of the sources whose imports were not taken back."""
        rows = self._conn.execute(
            "SELECT source FROM sqlite_imports WHERE tenant_id = %s AND status <> %s ORDER BY 1",
            (self.tenant_id, _ROLLED_BACK),
        )
        return [row[0] for row in rows]

    def begin(self, source: str, sha256: str, hardware_id: str) -> Import:
        """Begin an import, or go on with the one that there is."""
        self._conn.execute(
            "INSERT INTO sqlite_imports AS held "
            "(tenant_id, id, source, source_sha256, status, hardware_id) "
            "VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, source) WHERE status <> 'rolled_back' DO UPDATE "
            "SET source_sha256 = excluded.source_sha256, status = excluded.status",
            (self.tenant_id, uuid7(), source, sha256, _RUNNING, hardware_id),
        )
        found = self.find(source)
        if found is None:
            raise RuntimeError("the import that was just begun is not there")
        return found

    def set_status(self, import_id: UUID, status: str) -> None:
        """Change the status: finished, rolling_back or rolled_back."""
        self._conn.execute(
            "UPDATE sqlite_imports SET status = %s, "
            "finished_at = CASE WHEN %s IN ('finished', 'rolled_back') THEN now() END "
            "WHERE tenant_id = %s AND id = %s",
            (status, status, self.tenant_id, import_id),
        )

    def progress(self, import_id: UUID) -> dict[str, Progress]:
        """Return how far each table has come."""
        rows = self._conn.execute(
            "SELECT name, last_rowid, last_row_hash, rows_read, written, existing, conflicts, "
            "rejected, checksum FROM sqlite_import_tables WHERE tenant_id = %s AND import_id = %s",
            (self.tenant_id, import_id),
        )
        return {row[0]: replace(Progress(*row), checksum=int(row[8])) for row in rows}

    def note_progress(self, import_id: UUID, progress: Progress) -> None:
        """Keep how far a table has come."""
        self._conn.execute(
            "INSERT INTO sqlite_import_tables (tenant_id, import_id, name, last_rowid, "
            "last_row_hash, rows_read, written, existing, conflicts, rejected, checksum) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, import_id, name) DO UPDATE SET "
            "last_rowid = excluded.last_rowid, last_row_hash = excluded.last_row_hash, "
            "rows_read = excluded.rows_read, written = excluded.written, "
            "existing = excluded.existing, conflicts = excluded.conflicts, "
            "rejected = excluded.rejected, checksum = excluded.checksum",
            (
                self.tenant_id,
                import_id,
                progress.name,
                progress.last_rowid,
                progress.last_row_hash,
                progress.rows_read,
                progress.written,
                progress.existing,
                progress.conflicts,
                progress.rejected,
                progress.checksum,
            ),
        )

    def note_days(self, import_id: UUID, name: str, days: Mapping[date, tuple[int, int]]) -> None:
        """Add rows written, as day → (count, sum of hashes)."""
        self._conn.cursor().executemany(
            "INSERT INTO sqlite_import_days AS held "
            "(tenant_id, import_id, name, day, rows, checksum) VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, import_id, name, day) DO UPDATE "
            "SET rows = held.rows + excluded.rows, "
            "checksum = mod(held.checksum + excluded.checksum, 2::numeric ^ 128)",
            [
                (self.tenant_id, import_id, name, day, count, checksum % MODULUS)
                for day, (count, checksum) in sorted(days.items())
            ],
        )

    def days(self, import_id: UUID, name: str) -> list[tuple[date, int, int]]:
        """Return the days written to, with count and sum of hashes."""
        rows = self._conn.execute(
            "SELECT day, rows, checksum FROM sqlite_import_days "
            "WHERE tenant_id = %s AND import_id = %s AND name = %s ORDER BY day",
            (self.tenant_id, import_id, name),
        )
        return [(day, count, int(checksum)) for day, count, checksum in rows]

    def days_to_sum(self, import_id: UUID) -> list[date]:
        """Return the days that have had events since their hours were summed."""
        rows = self._conn.execute(
            "SELECT day FROM sqlite_import_days WHERE tenant_id = %s AND import_id = %s "
            "AND name = 'telemetry_events' AND summed <> rows ORDER BY day",
            (self.tenant_id, import_id),
        )
        return [row[0] for row in rows]

    def note_summed(self, import_id: UUID, day: date) -> None:
        """Keep that a day's hours are summed."""
        self._conn.execute(
            "UPDATE sqlite_import_days SET summed = rows WHERE tenant_id = %s AND import_id = %s "
            "AND name = 'telemetry_events' AND day = %s",
            (self.tenant_id, import_id, day),
        )

    def forget_day(self, import_id: UUID, name: str, day: date) -> None:
        """Forget a day whose rows are gone, or stay for good."""
        self._conn.execute(
            "DELETE FROM sqlite_import_days "
            "WHERE tenant_id = %s AND import_id = %s AND name = %s AND day = %s",
            (self.tenant_id, import_id, name, day),
        )

    def note_rows(
        self, import_id: UUID, name: str, rows: Sequence[tuple[Sequence[str], UUID, bool]]
    ) -> int:
        """Keep key, hash and whether it was written, of rows.

        A key that the journal has already stays as it is: the old database had the row twice.

        Returns:
            The sum of the new ones' hashes.
        """
        noted = self._conn.execute(
            "INSERT INTO sqlite_import_rows (tenant_id, import_id, name, key, hash, written) "
            "SELECT %s, %s, %s, ARRAY(SELECT jsonb_array_elements_text(item->'key')), "
            "(item->>'hash')::uuid, (item->>'written')::boolean "
            "FROM jsonb_array_elements(%s) AS item ON CONFLICT DO NOTHING RETURNING hash",
            (
                self.tenant_id,
                import_id,
                name,
                Jsonb(
                    [
                        {"key": list(key), "hash": str(row_hash), "written": written}
                        for key, row_hash, written in rows
                    ]
                ),
            ),
        )
        total: int = sum(row[0].int for row in noted)
        return total % MODULUS

    def some_rows(
        self,
        import_id: UUID,
        name: str,
        count: int,
        *,
        after: Sequence[str] = (),
        prefix: tuple[int, int] | None = None,
    ) -> list[tuple[list[str], UUID, bool]]:
        """Return rows in order of their keys.

        Args:
            import_id: the import.
            name: of the table.
            count: at most so many.
            after: key of the last one that was returned.
            prefix: the key's first element is a whole number from the one to below the other.
        """
        span = sql.SQL("")
        arguments: list[Any] = [self.tenant_id, import_id, name, list(after)]
        if prefix is not None:
            span = sql.SQL("AND key[1]::bigint >= %s::bigint AND key[1]::bigint < %s::bigint ")
            arguments += prefix
        return self._conn.execute(
            sql.SQL(
                "SELECT key, hash, written FROM sqlite_import_rows WHERE tenant_id = %s "
                "AND import_id = %s AND name = %s AND key > %s::text[] {}ORDER BY key LIMIT %s"
            ).format(span),
            (*arguments, count),
        ).fetchall()

    def forget_rows(self, import_id: UUID, name: str, keys: Sequence[Sequence[str]]) -> None:
        """Forget rows that are gone, or stay for good."""
        self._conn.execute(
            "DELETE FROM sqlite_import_rows WHERE tenant_id = %s AND import_id = %s AND name = %s "
            "AND key IN (SELECT ARRAY(SELECT jsonb_array_elements_text(item)) "
            "FROM jsonb_array_elements(%s) AS item)",
            (self.tenant_id, import_id, name, Jsonb([list(key) for key in keys])),
        )

    def note_rejects(self, import_id: UUID, rejects: Iterable[Reject]) -> None:
        """Keep rows that were not carried over."""
        self._conn.cursor().executemany(
            "INSERT INTO sqlite_import_rejects "
            "(tenant_id, import_id, name, source_rowid, reason, message, raw) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                (self.tenant_id, import_id, one.table, one.rowid, one.reason, one.message, one.raw)
                for one in rejects
            ],
        )

    def retention(self) -> tuple[bool, int | None]:
        """Return whether the instance ever had a license, and how many days it keeps under it."""
        row = self._conn.execute(
            "SELECT (value->>'days')::integer FROM system_config "
            "WHERE tenant_id = %s AND key = 'retention'",
            (self.tenant_id,),
        ).fetchone()
        return (False, None) if row is None else (True, row[0])

    def rejects(self, import_id: UUID) -> Iterator[Reject]:
        """Yield the rows that were not carried over, in order; inside a transaction."""
        with self._conn.cursor("rejects") as cursor:
            cursor.execute(
                "SELECT name, source_rowid, reason, message, raw FROM sqlite_import_rejects "
                "WHERE tenant_id = %s AND import_id = %s ORDER BY name, source_rowid",
                (self.tenant_id, import_id),
            )
            for row in cursor:
                yield Reject(*row)

    def conflicts(self, import_id: UUID, name: str) -> set[int]:
        """Return the old rowids of a table whose keys were taken by other rows."""
        rows = self._conn.execute(
            "SELECT source_rowid FROM sqlite_import_rejects WHERE tenant_id = %s "
            "AND import_id = %s AND name = %s AND reason = 'Conflict'",
            (self.tenant_id, import_id, name),
        )
        return {row[0] for row in rows}
