"""Usage events: strict on the way in, one canonical text on the way out."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from brinkbyte.kit.canonical import canonical_json
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.events import MAX_QUANTITY, UsageEvent, quantity_text

pytestmark = pytest.mark.unit

_NANO = Decimal(10) ** -9
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
EVENTS = st.builds(
    UsageEvent,
    id=st.builds(lambda: str(uuid7())),
    meter=_TEXT,
    quantity=st.integers(0, 10**15 - 1).map(quantity_text),
    key=st.none() | _TEXT,
    camera_id=st.none() | _TEXT,
    hardware_id=st.none() | _TEXT,
    attributes=st.dictionaries(st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.]{0,9}\Z"), _TEXT, max_size=4),
)


def event(**over: object) -> UsageEvent:
    return UsageEvent.model_validate(
        {"id": str(uuid7()), "meter": "vision.api_calls", "quantity": "1", **over}
    )


@given(st.integers(0, int(MAX_QUANTITY / _NANO) - 1))
def test_quantity_text_round_trips_exactly(nanos: int) -> None:
    value = Decimal(nanos).scaleb(-9)
    text = quantity_text(value)
    assert Decimal(text) == value
    assert event(quantity=text).quantity == text
    assert quantity_text(Decimal(text)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (Decimal("0.000"), "0"),
        (Decimal("-0"), "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E-9"), "0.000000001"),
        (10**15 - 1, "999999999999999"),
    ],
)
def test_quantity_has_one_text(value: Decimal | int, text: str) -> None:
    assert quantity_text(value) == text


@pytest.mark.parametrize(
    "value", [-1, 10**15, Decimal("NaN"), Decimal("Infinity"), Decimal("1E-10")]
)
def test_quantity_out_of_bounds_is_refused(value: Decimal | int) -> None:
    with pytest.raises(ValueError, match="quantity"):
        quantity_text(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "01",
        "1.0",
        "1.",
        ".5",
        "1e3",
        "1,5",
        "٣",
        "1٣",
        "1.٣1",
        "0.0000000001",
        "1" * 16,
        " 1",
    ],
)
def test_only_the_canonical_text_of_a_quantity_is_taken(text: str) -> None:
    with pytest.raises(ValidationError):
        event(quantity=text)


@pytest.mark.parametrize(
    "over",
    [
        {"id": str(uuid4())},
        {"id": str(uuid7()).upper()},
        {"id": "1"},
        {"meter": ""},
        {"meter": "m" * 129},
        {"quantity": 1},
        {"key": ""},
        {"key": "k" * 201},
        {"camera_id": ""},
        {"attributes": {"1st": "x"}},
        {"attributes": {"a": "x" * 401}},
        {"attributes": {f"a{n}": "x" for n in range(17)}},
        {"attributes": {"a": 1}},
        {"somethingElse": "x"},
    ],
)
def test_a_malformed_event_is_refused(over: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        event(**over)


@given(EVENTS)
def test_event_round_trips_through_its_canonical_json(made: UsageEvent) -> None:
    text = canonical_json(made.to_wire())  # type: ignore[arg-type]  # text and dict of text
    assert UsageEvent.model_validate_json(text) == made
    assert UsageEvent.model_validate_json(text).content_hash == made.content_hash


def test_same_id_with_other_content_is_another_event() -> None:
    made = event()
    assert made.content_hash != made.model_copy(update={"quantity": "2"}).content_hash


def test_members_that_are_not_set_are_not_signed() -> None:
    assert set(event().to_wire()) == {"id", "meter", "quantity"}
    assert "cameraId" in event(camera_id="c").to_wire()
