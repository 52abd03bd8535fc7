"""Old values as what they mean, whatever type SQLite let in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.importer import values
from brinkbyte.importer.values import Unreadable

pytestmark = pytest.mark.unit
AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
LATEST = datetime(2027, 1, 1, tzinfo=UTC)
OLD = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary(),
    st.text(st.characters(codec=None)),
)  # fmt: skip
SECONDS = AT.timestamp()


def read(value: Any) -> datetime:
    return values.time(value, "at", latest=LATEST)


@pytest.mark.parametrize(
    "value",
    [
        SECONDS, str(SECONDS), int(SECONDS * 1000), str(int(SECONDS * 1000)),
        int(SECONDS * 1000) * 1000, f"{int(SECONDS * 1_000_000)}".encode(),
        "2026-03-01T12:30:15.250Z", "2026-03-01 12:30:15.250", " 2026-03-01T13:30:15.25+01:00 ",
        b"2026-03-01T12:30:15.250000",
    ],
)  # fmt: skip
def test_times_in_every_form_are_one_instant(value: Any) -> None:
    assert read(value) == AT


def test_julian_days_and_dates() -> None:
    assert abs(read(2461101.0) - datetime(2026, 3, 1, 12, tzinfo=UTC)) < timedelta(milliseconds=1)
    assert read("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)


@given(st.datetimes(datetime(2000, 1, 2), datetime(2026, 12, 31)))  # noqa: DTZ001
def test_whole_units_lose_nothing(moment: datetime) -> None:
    at = moment.replace(tzinfo=UTC)
    microseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert read(microseconds) == at
    assert read(str(microseconds)) == at
    assert read(microseconds // 1000) == at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert read(at.isoformat()) == at


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "Missing"), ("", "Missing"), ("soon", "NotATime"), (float("nan"), "NotATime"),
        (float("inf"), "NotATime"), (2**62, "NotATime"), (0, "TimeOutOfRange"),
        (-1, "TimeOutOfRange"), (4102444800, "TimeOutOfRange"), ("9999-12-31", "TimeOutOfRange"),
        ("0001-01-01T00:00:00+14:00", "NotATime"), (b"\xff", "NotText"), ("1e400", "NotATime"),
    ],
)  # fmt: skip
def test_what_is_no_time_says_why(value: Any, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read(value)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, True), ("TRUE", True), (b"yes", True), ("on", True), (1.0, True), (0, False),
     ("f", False), ("Off", False), (None, True), ("", True)],
)  # fmt: skip
def test_booleans(value: Any, expected: bool) -> None:
    assert values.boolean(value, "b", default=True) is expected


@pytest.mark.parametrize("value", [2, "maybe", -1])
def test_no_booleans(value: Any) -> None:
    with pytest.raises(Unreadable, match="neither true nor false"):
        values.boolean(value, "b", default=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.5", 0.5), (" -1e3 ", -1000.0), (".5", 0.5), ("5.", 5.0), (b"7", 7.0), (3, 3.0),
     (None, None), ("", None)],
)  # fmt: skip
def test_numbers(value: Any, expected: float | None) -> None:
    assert values.number(value, "n") == expected


@pytest.mark.parametrize("value", ["nan", "inf", "1,5", "0x10", "1_0", float("inf"), "1e999"])
def test_no_numbers(value: Any) -> None:
    with pytest.raises(Unreadable) as refused:
        values.number(value, "n")
    assert refused.value.reason == "NotANumber"


def test_whole_numbers() -> None:
    assert values.integer(2**62, "n") == 2**62
    assert values.integer("12", "n") == 12
    assert values.integer(None, "n") is None
    for bad in (1.5, "1.5", 1e300):
        with pytest.raises(Unreadable):
            values.integer(bad, "n")


def test_text_of_numbers_and_blobs() -> None:
    assert values.text(7, "t") == "7"
    assert values.text(7.0, "t") == "7"
    assert values.text(7.5, "t") == "7.5"
    assert values.text("Straße".encode(), "t") == "Straße"
    assert values.text("a\nb", "t", printable=False) == "a\nb"
    for bad in ("a\nb", "a\0", "\udcff", b"\xff", "x" * 201):
        with pytest.raises(Unreadable):
            values.text(bad, "t")


@pytest.mark.parametrize("value", ["front door", "", None, "-x", "x" * 129, "ä b"])
def test_no_identifiers(value: Any) -> None:
    with pytest.raises(Unreadable):
        values.identifier(value, "camera_id")


def test_identifiers_and_names() -> None:
    assert values.identifier(" cam-1 ", "camera_id") == "cam-1"
    assert values.identifier(17, "camera_id") == "17"
    assert values.word("line.crossing", "kind") == "line.crossing"
    for bad in ("1st", "two words", None, "x" * 65):
        with pytest.raises(Unreadable):
            values.word(bad, "kind")


@pytest.mark.parametrize(
    "value",
    ["{", '{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": "\\u0000"}', '{"\\ud800": 1}',
     "[" * 40 + "]" * 40, '{"a": 1' + "0" * 400 + "}", "[" * 100_000],
)  # fmt: skip
def test_json_that_could_not_be_kept_is_refused(value: str) -> None:
    with pytest.raises(Unreadable) as refused:
        values.json_value(value, "data")
    assert refused.value.reason == "NotJson"


def test_json_objects() -> None:
    assert values.json_object(None, "data") == {}
    assert values.json_object(" ", "data") == {}
    assert values.json_object(b'{"a": [1, {"b": null}]}', "data") == {"a": [1, {"b": None}]}
    for bad in ("[]", "1", 5):
        with pytest.raises(Unreadable, match="no object"):
            values.json_object(bad, "data")
    deepest = "[" * 32 + "]" * 32
    assert values.json_value(deepest, "data") == json.loads(deepest)


@given(OLD)
def test_whatever_a_column_holds_is_read_or_refused(value: Any) -> None:
    for reader in (
        lambda: values.text(value, "c"), lambda: values.identifier(value, "c"),
        lambda: values.word(value, "c"), lambda: values.number(value, "c"),
        lambda: values.integer(value, "c"), lambda: values.share(value, "c"),
        lambda: values.boolean(value, "c", default=False), lambda: read(value),
        lambda: values.json_value(value, "c"), lambda: values.json_object(value, "c"),
    ):  # fmt: skip
        try:
            found = reader()
        except Unreadable:
            pass
        else:
            # Whatever is read can be kept as JSON or text.
            if isinstance(found, str):
                assert "\0" not in found
                found.encode()
