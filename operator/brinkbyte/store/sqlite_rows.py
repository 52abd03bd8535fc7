"""Rows of an import from an old edge database: written, read back, and taken out again.

Every function works inside the caller's transaction, in which the journal
(:mod:`brinkbyte.store.sqlite_journal`) is written too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from brinkbyte.store.sqlite_targets import TARGETS, Target

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Span: TypeAlias = tuple[UUID, UUID]
_READ_ROWS: Final = 2000


def prepare(conn: Connection) -> None:
    """Make the connection's temporary tables."""
    for target in TARGETS.values():
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
            for name, kind in target.columns
        )
        conn.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE {} (source_rowid bigint, {}) ON COMMIT DELETE ROWS"
            ).format(target.staging, columns)
        )


def stage(conn: Connection, target: Target, rows: Iterable[tuple[int, Sequence[Any]]]) -> None:
    """Copy rows with their old rowids into the temporary table, which the commit empties."""
    json_at = [index for index, kind in enumerate(target.types) if kind == "jsonb"]
    statement = sql.SQL("COPY {} (source_rowid, {}) FROM STDIN (FORMAT BINARY)").format(
        target.staging, target.names
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["bigint", *target.types])
        for rowid, row in rows:
            values = [rowid, *row]
            for index in json_at:
                values[index + 1] = Jsonb(values[index + 1])
            copy.write_row(values)


def ensure_days(conn: Connection, target: Target, days: Iterable[date]) -> None:
    """Make the partitions of these days (UTC) where they are missing."""
    conn.execute(
        "SELECT ensure_day_partition(%s, day) FROM unnest(%s::timestamptz[]) AS day ORDER BY day",
        (target.name, [_midnight(day) for day in sorted(days)]),
    )


def missing_days(conn: Connection, target: Target, days: Sequence[date]) -> set[date]:
    """Return which of these days have no partition, as their time is over."""
    rows = conn.execute(
        "SELECT day FROM unnest(%s::date[]) AS day "
        "WHERE to_regclass(%s || '_' || to_char(day, 'YYYYMMDD')) IS NULL",
        (list(days), target.name),
    )
    return {row[0] for row in rows}


def insert_staged(conn: Connection, target: Target, tenant_id: str) -> list[tuple[Any, ...]]:
    """Write the staged rows whose key is free, the lowest rowid first; return the keys written."""
    return (
        conn.cursor(binary=True)
        .execute(
            sql.SQL(
                "INSERT INTO {table} (tenant_id, {names}) SELECT %s, {names} FROM {staging} "
                "ORDER BY source_rowid ON CONFLICT DO NOTHING RETURNING {keys}"
            ).format(
                table=sql.Identifier(target.name),
                names=target.names,
                staging=target.staging,
                keys=target.keys,
            ),
            (tenant_id,),
        )
        .fetchall()
    )


def compare_staged(conn: Connection, target: Target, tenant_id: str) -> dict[int, bool]:
    """Return rowid → whether all is equal, of the staged rows whose key is taken."""
    rest = sql.SQL(", ")
    held, given = (
        rest.join(sql.Identifier(alias, name) for name, _ in target.columns)
        for alias in ("held", "given")
    )
    keys = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("held", name), sql.Identifier("given", name))
        for name, _ in target.columns[: target.key]
    )
    found = conn.execute(
        sql.SQL(
            "SELECT source_rowid, ROW({held}) IS NOT DISTINCT FROM ROW({given}) "
            "FROM {staging} AS given JOIN {table} AS held ON held.tenant_id = %s AND {keys}"
        ).format(
            held=held,
            given=given,
            staging=target.staging,
            table=sql.Identifier(target.name),
            keys=keys,
        ),
        (tenant_id,),
    )
    return dict(found.fetchall())


def read_span(
    conn: Connection, target: Target, tenant_id: str, span: Span, *, day: date | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a range of ids, of one day or all, a few at a time."""
    condition = sql.SQL("")
    arguments: list[Any] = [tenant_id, *span]
    if day is not None:
        condition = sql.SQL(" AND occurred_at >= %s AND occurred_at < %s")
        arguments += [_midnight(day), _midnight(day + timedelta(days=1))]
    with conn.cursor("span_of_ids", binary=True) as cursor:
        cursor.itersize = _READ_ROWS
        cursor.execute(
            sql.SQL("SELECT {} FROM {} WHERE tenant_id = %s AND id BETWEEN %s AND %s{}").format(
                target.names, sql.Identifier(target.name), condition
            ),
            arguments,
        )
        yield from cursor


def delete_span(conn: Connection, target: Target, tenant_id: str, span: Span, day: date) -> int:
    """Delete a day's rows of a range of ids and return how many went."""
    return conn.execute(
        sql.SQL(
            "DELETE FROM {} WHERE tenant_id = %s AND id BETWEEN %s AND %s "
            "AND occurred_at >= %s AND occurred_at < %s"
        ).format(sql.Identifier(target.name)),
        (tenant_id, *span, _midnight(day), _midnight(day + timedelta(days=1))),
    ).rowcount


def read_journaled(
    conn: Connection, target: Target, tenant_id: str, import_id: UUID, name: str
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that the journal names and that are still there, a few at a time."""
    with conn.cursor("journaled_rows", binary=True) as cursor:
        cursor.itersize = _READ_ROWS
        cursor.execute(
            sql.SQL(
                "SELECT {} FROM sqlite_import_rows AS journal JOIN {} AS held "
                "ON held.tenant_id = journal.tenant_id AND {} "
                "WHERE journal.tenant_id = %s AND import_id = %s AND journal.name = %s"
            ).format(_of_held(target), sql.Identifier(target.name), target.matches("journal")),
            (tenant_id, import_id, name),
        )
        yield from cursor


def lock_rows(
    conn: Connection, target: Target, tenant_id: str, keys: Sequence[Sequence[str]]
) -> list[tuple[Any, ...]]:
    """Return the rows of these keys, locked until the transaction ends."""
    return (
        conn.cursor(binary=True)
        .execute(
            sql.SQL(
                "SELECT {} FROM {} AS held JOIN ({}) AS wanted ON {} "
                "WHERE held.tenant_id = %s FOR UPDATE OF held"
            ).format(
                _of_held(target), sql.Identifier(target.name), _KEYS, target.matches("wanted")
            ),
            (Jsonb(keys), tenant_id),
        )
        .fetchall()
    )


def delete_rows(
    conn: Connection, target: Target, tenant_id: str, keys: Sequence[Sequence[str]]
) -> None:
    """Delete the rows of these keys."""
    conn.execute(
        sql.SQL(
            "DELETE FROM {} AS held USING ({}) AS wanted WHERE held.tenant_id = %s AND {}"
        ).format(sql.Identifier(target.name), _KEYS, target.matches("wanted")),
        (Jsonb(keys), tenant_id),
    )


def cameras_with_parts(conn: Connection, tenant_id: str) -> set[str]:
    """Return the cameras that have components or zones."""
    rows = conn.execute(
        "SELECT camera_id FROM camera_components WHERE tenant_id = %(tenant)s UNION "
        "SELECT camera_id FROM line_zones WHERE tenant_id = %(tenant)s UNION "
        "SELECT camera_id FROM polygon_zones WHERE tenant_id = %(tenant)s",
        {"tenant": tenant_id},
    )
    return {row[0] for row in rows}


def configured(
    conn: Connection, tenant_id: str
) -> tuple[dict[str, str | None], list[tuple[str, str, str]]]:
    """Return the cameras with their devices, and (table, camera, name) of their parts."""
    cameras = conn.execute(
        "SELECT camera_id, hardware_id FROM cameras WHERE tenant_id = %s", (tenant_id,)
    ).fetchall()
    parts: list[Any] = []
    for name in ("camera_components", "line_zones", "polygon_zones"):
        parts += conn.execute(
            sql.SQL("SELECT {}, camera_id, name FROM {} WHERE tenant_id = %s").format(
                sql.Literal(name), sql.Identifier(name)
            ),
            (tenant_id,),
        ).fetchall()
    return dict(cameras), parts


def add_sums(
    conn: Connection, tenant_id: str, span: Span, day: date
) -> tuple[list[tuple[Any, ...]], int]:
    """Add a day's hourly sums of imported events where there is no such sum yet.

    Returns:
        The rows written, and how many sums were there before and stay as they are.
    """
    cursor = conn.cursor(binary=True).execute(
        "WITH found AS MATERIALIZED ("
        "  SELECT date_trunc('hour', occurred_at, 'UTC') AS bucket, camera_id, kind, label,"
        "      count(*) AS events, coalesce(sum(score::float8), 0) AS score_sum,"
        "      count(score) AS scored"
        "  FROM telemetry_events WHERE tenant_id = %(tenant)s"
        "    AND id BETWEEN %(first)s AND %(last)s"
        "    AND occurred_at >= %(day)s AND occurred_at < %(next)s GROUP BY 1, 2, 3, 4"
        "), put AS ("
        "  INSERT INTO telemetry_aggregates"
        "    (tenant_id, bucket, camera_id, kind, label, events, score_sum, scored)"
        "  SELECT %(tenant)s, * FROM found ON CONFLICT DO NOTHING"
        "  RETURNING bucket, camera_id, kind, label, events, score_sum, scored"
        ") SELECT put.*, total FROM (SELECT count(*) AS total FROM found) AS counted"
        "  LEFT JOIN put ON true",
        {
            "tenant": tenant_id,
            "first": span[0],
            "last": span[1],
            "day": _midnight(day),
            "next": _midnight(day + timedelta(days=1)),
        },
    )
    rows = cursor.fetchall()
    written = [row[:-1] for row in rows if row[0] is not None]
    return written, rows[0][-1] - len(written)


_KEYS: Final = sql.SQL(
    "SELECT ARRAY(SELECT jsonb_array_elements_text(item)) AS key "
    "FROM jsonb_array_elements(%s) AS item"
)


def _of_held(target: Target) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier("held", name) for name, _ in target.columns)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
