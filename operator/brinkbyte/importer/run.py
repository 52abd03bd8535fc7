"""One import: read, convert, write, add sums, compare. Killed anywhere, the next run goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from brinkbyte.importer.canonical import FORMS, RowHash, as_uuid, raw_hash, raw_text
from brinkbyte.importer.convert import Chunk, Converter, convert_chunk
from brinkbyte.importer.ids import TABLE_NUMBERS, RowIds
from brinkbyte.importer.outcome import Comparison, Outcome, Shown
from brinkbyte.importer.rollback import SUMS, remove_journaled
from brinkbyte.importer.source import FoundTable, OldDatabase
from brinkbyte.kit.errors import InvalidInputError, PermanentError, TemporaryError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.modes import UNLICENSED_RETENTION_DAYS
from brinkbyte.store import sqlite_rows as store
from brinkbyte.store.sqlite_journal import MODULUS, Journal, Progress, Reject
from brinkbyte.store.sqlite_rows import Connection
from brinkbyte.store.sqlite_targets import TARGETS, Target

CONFLICT: Final = "Conflict"
_CLOCK_AHEAD: Final = timedelta(days=1)
_AGGREGATES: Final = TARGETS["telemetry_aggregates"]


@contextmanager
def connection(dsn: str) -> Iterator[Connection]:
    """Open a connection and make its temporary tables.

    Raises:
        TemporaryError: the database does not answer, or went away; ``DatabaseUnavailable``.
    """
    try:
        with psycopg.connect(
            dsn,
            autocommit=True,
            application_name="brinkbyte-migrate-sqlite",
            connect_timeout=10,
            options="-c timezone=UTC",
        ) as conn:
            store.prepare(conn)
            yield conn
    except psycopg.OperationalError as error:
        raise TemporaryError(
            f"the instance's database does not answer ({str(error).splitlines()[0]}); run the "
            "command again when it does, it goes on where it was",
            reason="DatabaseUnavailable",
        ) from None


def check_shape(old: OldDatabase) -> None:
    """Refuse an old database with tables that have rows and could not be read.

    Raises:
        InvalidInputError: ``UnknownShape``.
    """
    if not old.found:
        raise InvalidInputError(
            f"{old.backup.path} has none of the old service's tables; name its database file",
            reason="UnknownShape",
        )
    for found in old.found:
        if found.rows and found.missing:
            looked = "; ".join(
                f"{name}: {', '.join(found.table.fields[name])}" for name in found.missing
            )
            raise InvalidInputError(
                f"table {found.actual} has {found.rows} rows and lacks a column ({looked}); rename "
                "its column in a copy of the file, or drop the table there",
                reason="UnknownShape",
            )


class ImportRun:
    """One run.

    Args:
        conn: autocommit, see :func:`connection`; the caller holds the journal's lock.
        journal: of the tenant.
        old: the backup, opened.
        source: name of the old database.
        hardware_id: device of rows that name none.
        now: rows later than a day from here have a broken time.
        shown: is told how far it has come.
    """

    def __init__(
        self,
        conn: Connection,
        journal: Journal,
        old: OldDatabase,
        *,
        source: str,
        hardware_id: str,
        now: datetime,
        shown: Shown,
    ) -> None:
        self._conn = conn
        self._journal = journal
        self._old = old
        self._source = source
        self._hardware_id = hardware_id
        self._now = now
        self._shown = shown
        self._tenant = journal.tenant_id

    def check(self) -> tuple[Outcome, Iterator[Reject]]:
        """Convert and compare everything, write nothing; the rejects come as they are found."""
        outcome = Outcome(began=None)
        return outcome, self._check(outcome)

    def _check(self, outcome: Outcome) -> Iterator[Reject]:
        converter = self._converter()
        for found in self._old.found:
            self._shown.begin(found.actual, found.rows, 0)
            progress = Progress(found.table.name)
            for chunk in self._old.rows(found):
                done = convert_chunk(converter, found, chunk)
                with self._conn.transaction():
                    rejects, *_, progress = self._judge(found, done, progress, write=False)
                self._shown.advance(len(chunk))
                yield from rejects
            outcome.new_rows += progress.rows_read
            outcome.tables.append(Comparison(found.table.name, found.rows, progress))

    def run(self) -> Outcome:
        """Carry over what is not yet, add the sums, compare.

        Raises:
            PermanentError: ``OtherSource``: this is not the database that the import began with.
        """
        known = self._journal.find(self._source)
        if known is not None:
            if known.rolling_back:
                raise PermanentError(
                    f"the import of {self._source!r} is being taken back; end that first, with "
                    "--rollback",
                    reason="RollingBack",
                )
            # As it was begun: all rows of an import are read alike.
            self._hardware_id = known.hardware_id
        before = self._journal.progress(known.id) if known else {}
        self._check_same_source(before)
        began = self._journal.begin(self._source, self._old.backup.sha256, self._hardware_id)
        failpoint("import.begun")
        outcome = Outcome(began)
        converter = self._converter()
        for found in self._old.found:
            progress = self._carry_over(began.id, found, converter, before)
            outcome.new_rows += (
                progress.rows_read - before.get(progress.name, Progress("")).rows_read
            )
        outcome.sums_added, outcome.sums_kept = self._add_sums(began.id)
        days = [day for name in TABLE_NUMBERS for day, *_ in self._journal.days(began.id, name)]
        outcome.first_day = min(days, default=None)
        licensed, kept = self._journal.retention()
        outcome.kept_days = kept if licensed else UNLICENSED_RETENTION_DAYS
        self._compare(began.id, outcome, again=known is not None and known.finished)
        if outcome.equal:
            self._journal.set_status(began.id, "finished")
            failpoint("import.finished")
        return outcome

    def _converter(self) -> Converter:
        made = Converter(
            self._tenant,
            self._source,
            hardware_id=self._hardware_id,
            latest=self._now + _CLOCK_AHEAD,
        )
        cameras, parts = store.configured(self._conn, self._tenant)
        made.cameras.update(cameras)
        for table, camera, name in parts:
            made.parts[table, camera].add(name)
        return made

    def _check_same_source(self, before: dict[str, Progress]) -> None:
        for found in self._old.found:
            done = before.get(found.table.name)
            if done is None or done.last_rowid is None or not found.keyed:
                continue
            row = self._old.row(found, done.last_rowid)
            if row is None or raw_hash(row) != done.last_row_hash:
                raise PermanentError(
                    f"row {done.last_rowid} of {found.actual} is not what the import of "
                    f"{self._source!r} read: this is another database, or its rows were changed or "
                    "renumbered; give another one its own --source-name, or take the import back "
                    "with --rollback first",
                    reason="OtherSource",
                )

    def _carry_over(
        self,
        import_id: UUID,
        found: FoundTable,
        converter: Converter,
        before: dict[str, Progress],
    ) -> Progress:
        name = found.table.name
        progress = before.get(name, Progress(name))
        self._shown.begin(found.actual, found.rows, progress.rows_read)
        if not found.keyed and progress.last_rowid is not None:
            return progress
        for chunk in self._old.rows(found, after=progress.last_rowid):
            done = convert_chunk(converter, found, chunk)
            with self._conn.transaction():
                rejects, rows, days, progress = self._judge(found, done, progress, write=True)
                target = TARGETS[name]
                if target.by_day:
                    self._journal.note_days(import_id, name, days)
                else:
                    noted = self._journal.note_rows(import_id, name, rows)
                    progress = progress.plus(
                        rowid=chunk[-1][0], row_hash=progress.last_row_hash, checksum=noted
                    )
                self._journal.note_rejects(import_id, rejects)
                self._journal.note_progress(import_id, progress)
                failpoint("import.chunk.before_commit")
            failpoint("import.chunk.committed")
            self._shown.advance(len(chunk))
        return progress

    def _judge(
        self, found: FoundTable, done: Chunk, progress: Progress, *, write: bool
    ) -> tuple[
        list[Reject],
        list[tuple[Sequence[str], UUID, bool]],
        dict[date, tuple[int, int]],
        Progress,
    ]:
        """Write a chunk's rows, or only look what became of them.

        Returns:
            What is set aside, rows for the journal, days for the journal, and the new progress,
            without the checksum of a table whose rows are journaled.
        """
        target = TARGETS[found.table.name]
        rejects = list(done.rejects)
        written: set[tuple[Any, ...]] = set()
        taken: dict[int, bool] = {}
        if done.rows:
            if target.by_day and write:
                store.ensure_days(self._conn, target, {row[0].date() for _, row, _ in done.rows})
            store.stage(self._conn, target, ((rowid, row) for rowid, row, _ in done.rows))
            if write:
                written = set(store.insert_staged(self._conn, target, self._tenant))
            if len(written) < len(done.rows):
                taken = store.compare_staged(self._conn, target, self._tenant)
        counts = {"written": 0, "existing": 0, "conflicts": 0}
        rows: list[tuple[Sequence[str], UUID, bool]] = []
        days: dict[date, list[int]] = defaultdict(lambda: [0, 0])
        checksum = 0
        hashed = RowHash(target.name, target.types)
        key_forms = [FORMS[kind] for kind in target.types[: target.key]]
        for rowid, row, raw in done.rows:
            key = row[: target.key]
            if key in written or (not write and rowid not in taken):
                written.discard(key)
                counts["written"] += 1
                new = True
            elif taken[rowid]:
                counts["existing"] += 1
                new = False
            else:
                counts["conflicts"] += 1
                message = "the instance has another row of this key, which stays as it is"
                rejects.append(Reject(target.name, rowid, CONFLICT, message, raw_text(raw)))
                continue
            row_hash = hashed(row)
            if target.by_day:
                checksum += row_hash
                if new:
                    day = days[row[0].date()]
                    day[0] += 1
                    day[1] += row_hash
            else:
                texts = [form(value) for form, value in zip(key_forms, key, strict=True)]
                rows.append((texts, as_uuid(row_hash), new))
        progress = progress.plus(
            rowid=done.last_rowid,
            row_hash=raw_hash(done.last_row),
            checksum=checksum,
            rows_read=done.read,
            rejected=len(done.rejects),
            **counts,
        )
        return (
            rejects,
            rows,
            {day: (count, total) for day, (count, total) in days.items()},
            progress,
        )

    def _add_sums(self, import_id: UUID) -> tuple[int, int]:
        """Sum the hours of days that have got events, where there is no sum yet."""
        days = self._journal.days_to_sum(import_id)
        self._shown.begin("hourly sums of imported days", len(days), 0)
        span = RowIds(self._tenant, self._source, "telemetry_events").span
        hashed = RowHash(SUMS, _AGGREGATES.types)
        added = kept = 0
        for day in days:
            with self._conn.transaction():
                # Summed before, and then more of the day came: made anew.
                remove_journaled(
                    self._conn, self._journal, import_id, SUMS, within=_microseconds(day)
                )
                rows, stay = store.add_sums(self._conn, self._tenant, span, day)
                keys = [
                    [form(value) for form, value in zip(_SUM_KEY, row, strict=False)]
                    for row in rows
                ]
                self._journal.note_rows(
                    import_id,
                    SUMS,
                    [
                        (key, as_uuid(hashed(row)), True)
                        for key, row in zip(keys, rows, strict=True)
                    ],
                )
                self._journal.note_summed(import_id, day)
                failpoint("import.sums.before_commit")
            failpoint("import.sums.committed")
            added, kept = added + len(rows), kept + stay
            self._shown.advance(1)
        return added, kept

    def _compare(self, import_id: UUID, outcome: Outcome, *, again: bool) -> None:
        """Read back what was carried over, and compare counts and checksums.

        Args:
            import_id: the import.
            outcome: gets the tables.
            again: it was compared before, and what people may change they may have changed.
        """
        progress = self._journal.progress(import_id)
        for found in self._old.found:
            name = found.table.name
            target = TARGETS[name]
            compared = Comparison(name, found.rows, progress.get(name, Progress(name)))
            outcome.tables.append(compared)
            if again and not target.by_day:
                continue
            done = compared.progress
            self._shown.begin(f"comparing {found.actual}", done.written + done.existing, 0)
            hashed = RowHash(target.name, target.types)
            checksum = 0
            with self._conn.transaction():
                for row in self._carried(import_id, target):
                    compared.found, checksum = compared.found + 1, checksum + hashed(row)
                    if compared.found % 1000 == 0:
                        self._shown.advance(1000)
            compared.checksum = checksum % MODULUS
            if target.by_day:
                days = self._journal.days(import_id, name)
                gone = store.missing_days(self._conn, target, [day for day, *_ in days])
                for day, rows, day_checksum in days:
                    if day in gone:
                        compared.gone += rows
                        compared.gone_checksum += day_checksum
        outcome.compared = True

    def _carried(self, import_id: UUID, target: Target) -> Iterator[Sequence[Any]]:
        if not target.by_day:
            yield from store.read_journaled(
                self._conn, target, self._tenant, import_id, target.name
            )
            return
        ids = RowIds(self._tenant, self._source, target.name)
        others = {ids(rowid) for rowid in self._journal.conflicts(import_id, target.name)}
        for row in store.read_span(self._conn, target, self._tenant, ids.span):
            if row[1] not in others:
                yield row


_SUM_KEY: Final = [FORMS[kind] for kind in _AGGREGATES.types[: _AGGREGATES.key]]


def _microseconds(day: date) -> tuple[int, int]:
    begin = datetime.combine(day, time(), UTC)
    first = int(begin.timestamp()) * 1_000_000
    return first, first + 86_400_000_000
