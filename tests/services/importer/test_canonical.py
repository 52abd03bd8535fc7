"""A row that went through PostgreSQL has the hash that it had before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brinkbyte.importer.canonical import RowHash
from brinkbyte.importer.values import Unreadable, check_json
from brinkbyte.store import sqlite_rows
from brinkbyte.store.sqlite_targets import TARGETS

pytestmark = pytest.mark.services
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
WHOLE = st.integers(0, 2**53)
DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(st.tuples(TIMES, TEXT, TEXT, TEXT, WHOLE, DOUBLE, WHOLE), min_size=1, max_size=5)
EVENTS = st.lists(
    st.tuples(
        TIMES, st.uuids(), TEXT, TEXT, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT,
        st.none() | st.floats(0, 1, width=32), st.dictionaries(TEXT, JSON, max_size=3),
    ),
    min_size=1, max_size=5,
)  # fmt: skip
CONFIG = st.lists(st.tuples(TEXT, JSON), min_size=1, max_size=5)
FRAMES = st.lists(
    st.tuples(
        TIMES, st.uuids(), TEXT, TEXT, TEXT, st.none() | st.integers(1, 2**31 - 1),
        st.none() | st.integers(1, 9), st.binary(max_size=50),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("table", "rows"),
    [("telemetry_events", EVENTS), ("telemetry_aggregates", ROWS), ("config", CONFIG),
     ("frames", FRAMES)],
)  # fmt: skip
def test_rows_come_back_with_their_hashes(
    table: str, rows: st.SearchStrategy[list[Any]], database: str
) -> None:
    target = TARGETS[table]
    hashed = RowHash(table, target.types)
    names = ", ".join(name for name, _ in target.columns)
    query = f"SELECT {names} FROM staging_{table} ORDER BY source_rowid"
    with psycopg.connect(database, autocommit=True, options="-c timezone=UTC") as connection:
        sqlite_rows.prepare(connection)

        @settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
        @given(rows)
        def check(some: list[Any]) -> None:
            try:
                for row in some:
                    check_json([part for part in row if isinstance(part, dict | list | str)], "row")
            except Unreadable:
                return
            with connection.transaction():
                sqlite_rows.stage(connection, target, enumerate(some))
                found = connection.cursor(binary=True).execute(query.encode()).fetchall()
            assert list(map(hashed, found)) == list(map(hashed, some))

        check()
