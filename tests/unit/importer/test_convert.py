"""Rows of the old tables as the instance's, and the form in which both are compared."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.importer.canonical import RowHash, json_text, raw_hash, raw_text
from brinkbyte.importer.convert import MAX_PARTS, Converter, media_type
from brinkbyte.importer.ids import RowIds
from brinkbyte.importer.old import TABLES
from brinkbyte.importer.source import FoundTable
from brinkbyte.importer.values import Unreadable
from brinkbyte.store.sqlite_journal import MODULUS
from brinkbyte.store.sqlite_targets import TARGETS

pytestmark = pytest.mark.unit
NOW = datetime(2026, 11, 1, tzinfo=UTC)
FOUND = {
    table.name: FoundTable(
        table, table.name, {name: name for name in table.fields}, ("surplus",), 1, True
    )
    for table in TABLES
}
MANY = json.dumps(dict.fromkeys(map(str, range(65))))
OLD = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20),
    st.binary(max_size=20), st.sampled_from(["cam-1", "{}", "[[0,0],[1,0],[1,1]]", "source",
                                             "1772323200", "0.5", "detection", "both"]),
)  # fmt: skip


def converter() -> Converter:
    made = Converter("acme", "box", hardware_id="hw-0", latest=NOW)
    made.cameras["cam-1"] = "hw-1"
    return made


def convert(table: str, *row: Any, surplus: Any = None) -> tuple[Any, ...]:
    return converter().convert(FOUND[table], 1, (*row, surplus))


@given(st.sampled_from(sorted(FOUND)), st.data())
def test_any_row_is_converted_to_what_the_target_takes_or_refused(
    table: str, data: st.DataObject
) -> None:
    row = [data.draw(OLD) for _ in FOUND[table].columns]
    try:
        new = convert(table, *row, surplus=data.draw(OLD))
    except Unreadable:
        return
    target = TARGETS[table]
    assert len(new) == len(target.columns)
    # Everything has a canonical form, and a hash of it.
    assert 0 <= RowHash(table, target.types)(new) < MODULUS


def test_every_target_column_has_its_old_table() -> None:
    assert set(TARGETS) == set(FOUND)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("cam-1", "n", "source", "rtsp", "[]"), "NotAnObject"),
        (("cam-1", "n", "source", "two words", "{}"), "NotAName"),
        (("cam-1", "n", "pump", "rtsp", "{}"), "NotAKind"),
        (("cam-2", "n", "source", "rtsp", "{}"), "NoCamera"),
        (("cam-1", "n", "processor", "inference", '{"model": 5}'), "NoModel"),
        (("cam-1", "n", "source", "rtsp", json.dumps({"x": "y" * 9000})), "TooLong"),
        (("cam-1", "n", "source", "rtsp", MANY), "TooLong"),
    ],
)  # fmt: skip
def test_components_that_the_instance_could_not_show_are_refused(
    row: tuple[Any, ...], reason: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        convert("camera_components", *row)
    assert refused.value.reason == reason


def test_a_camera_has_so_many_parts_and_the_same_one_counts_once() -> None:
    made = converter()
    for number in range(MAX_PARTS):
        made.convert(
            FOUND["camera_components"], number, ("cam-1", f"n{number}", "source", "r", None, None)
        )
    again = made.convert(FOUND["camera_components"], 99, ("cam-1", "n0", "source", "r", None, None))
    assert again[1] == "n0"
    with pytest.raises(Unreadable, match="of these already"):
        made.convert(FOUND["camera_components"], 100, ("cam-1", "more", "source", "r", None, None))


def test_pipelines_take_the_instances_form() -> None:
    given_pipeline = json.dumps(
        {"models": ["person"], "settings": {"a": 1}, "fps": 5, "analytics": ["counting"]}
    )
    new = convert("cameras", "cam-7", None, None, None, given_pipeline, surplus=b"\x01")
    assert new == (
        "cam-7", "", None, True,
        {"models": ["person"], "analytics": ["counting"], "outputs": [],
         "settings": {"a": 1, "fps": 5, "surplus": "AQ=="}},
    )  # fmt: skip
    for bad in ('{"models": "person"}', '{"models": [null]}', '{"outputs": ["two words"]}'):
        with pytest.raises(Unreadable):
            convert("cameras", "cam-7", None, None, None, bad)


def test_lines_from_points_and_directions() -> None:
    line = convert(
        "line_zones", "cam-1", None, None, None, None, None, '[[0, 0], {"x": 1, "y": "0.5"}]', "OUT"
    )
    assert line == ("cam-1", "line-1", 0.0, 0.0, 1.0, 0.5, "backward")
    for points in ("[[0,0]]", "[[0,0],[1]]", "[[0,0],[true,1]]", '{"a": 1}', "[[0,0],5]"):
        with pytest.raises(Unreadable):
            convert("line_zones", "cam-1", "n", None, None, None, None, points, None)
    with pytest.raises(Unreadable, match="is not known"):
        convert("line_zones", "cam-1", "n", 0, 0, 1, 1, None, "sideways")


def test_sums_from_means_and_counts() -> None:
    row = ("2026-03-01T05:00:00Z", "hour", "cam-1", "detection", None, "10")
    hour = datetime(2026, 3, 1, 5, tzinfo=UTC)
    assert convert("telemetry_aggregates", *row, None, None, 0.5) == (
        hour, "cam-1", "detection", "", 10, 5.0, 10,
    )  # fmt: skip
    assert convert("telemetry_aggregates", *row, 4.5, 9, None)[4:] == (10, 4.5, 9)
    assert convert("telemetry_aggregates", *row, None, None, None)[4:] == (10, 0.0, 0)
    for bad in (
        ("2026-03-01T05:00:00Z", "day", "cam-1", "detection", None, 1, None, None, None),
        ("2026-03-01T05:00:00Z", None, "cam-1", "detection", None, -1, None, None, None),
        ("2026-03-01T05:00:00Z", None, "cam-1", "detection", None, None, None, None, None),
    ):
        with pytest.raises(Unreadable):
            convert("telemetry_aggregates", *bad)


def test_pictures_are_known_by_their_first_bytes() -> None:
    assert media_type(b"RIFF1234WEBPVP8 ") == "image/webp"
    assert media_type(b"BM1234") == "image/bmp"
    assert media_type(b"P6 1 1 255 abc") == "image/x-portable-pixmap"
    assert media_type(b"??") == "application/octet-stream"
    with pytest.raises(Unreadable, match="1048576 fit"):
        convert("frames", "cam-1", None, 1772323200, None, None, b"x" * (2**20 + 1))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=50))
def test_ids_are_of_one_range_and_no_two_rows_share_one(rowids: list[int]) -> None:
    ids = RowIds("acme", "box", "telemetry_events")
    made = [ids(rowid) for rowid in rowids]
    assert len(set(made)) == len(rowids)
    assert [ids(rowid) for rowid in rowids] == made
    first, last = ids.span
    assert all(first <= one <= last for one in made)
    assert all((one.version, one.variant) == (8, "specified in RFC 4122") for one in made)
    others = (
        RowIds("acme", "box", "frames"),
        RowIds("acme", "box-2", "telemetry_events"),
        RowIds("other", "box", "telemetry_events"),
    )
    for other in others:
        low, high = other.span
        assert high < first or low > last


ROWS = st.lists(
    st.tuples(
        st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        st.uuids(), st.text(max_size=3), st.text(max_size=3), st.text(max_size=3),
        st.text(max_size=3), st.none() | st.text(max_size=3), st.none() | st.text(max_size=3),
        st.none() | st.floats(0, 1, width=32), st.dictionaries(st.text(max_size=2), st.integers()),
    ),
    max_size=8,
)  # fmt: skip


@given(ROWS, st.randoms(use_true_random=False))
def test_a_sum_of_hashes_does_not_know_an_order_and_knows_every_change(
    rows: list[Any], order: random.Random
) -> None:
    hashed = RowHash("telemetry_events", TARGETS["telemetry_events"].types)
    total = sum(map(hashed, rows)) % MODULUS
    shuffled = rows[:]
    order.shuffle(shuffled)
    assert sum(map(hashed, shuffled)) % MODULUS == total
    if rows:
        # The same row twice does not cancel out, and one more or less shows.
        assert sum(map(hashed, [*rows, rows[0]])) % MODULUS != total
        assert sum(map(hashed, rows[1:])) % MODULUS != total
        changed = (*rows[0][:2], rows[0][2] + "x", *rows[0][3:])
        assert sum(map(hashed, [changed, *rows[1:]])) % MODULUS != total


def test_the_forms_of_equal_values_are_equal() -> None:
    hashed = RowHash("t", ("timestamptz", "double precision", "jsonb"))
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    assert hashed((NOW, 0.0, {"a": 1, "b": 2})) == hashed((elsewhere, -0.0, {"b": 2, "a": 1}))
    assert hashed((NOW, None, "")) != hashed((NOW, None, None))
    assert json_text({"b": 1e20, "a": -0.0}) == json_text({"a": 0.0, "b": 10**20})
    assert json_text([10**15]) == "[1000000000000000]"


def test_raw_values_can_be_had_back() -> None:
    row = (1, 0.1, float("inf"), "ä", "\udcff", b"\x00\xff", None)
    text = raw_text(row)
    assert text.isascii()
    assert json.loads(text) == [
        1, {"real": "0.1"}, {"real": "inf"}, "ä", {"text_hex": "ff"}, {"hex": "00ff"}, None,
    ]  # fmt: skip
    assert raw_hash(row) != raw_hash((*row[:-1], 0))


def test_ids_as_they_are() -> None:
    """They are in customers' databases: they never change."""
    assert RowIds("acme", "edge-old-1", "telemetry_events")(1) == UUID(
        "303cb065-e923-8004-8000-000000000001"
    )
