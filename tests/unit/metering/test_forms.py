"""Events spelled without a model are the bytes and the rules of the model."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from brinkbyte.kit.canonical import canonical_json
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.events import UsageEvent, quantity_text
from brinkbyte.metering.forms import event_form

pytestmark = pytest.mark.unit
ID = str(uuid7())
# NUL is the one character that the model lets into a key or an attribute, and the ledger does not.
_TEXT = st.text(st.characters(exclude_characters="\0"), max_size=420)
_NAMES = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.]{0,70}\Z") | _TEXT
_QUANTITIES = st.integers(-5, 10**16) | st.decimals(-1, 10**16, places=10) | st.decimals(0, 50)


@given(
    meter=_TEXT | st.just("vision.api_calls"),
    quantity=_QUANTITIES,
    key=st.none() | _TEXT,
    camera_id=st.none() | _TEXT,
    hardware_id=st.none() | _TEXT,
    attributes=st.dictionaries(_NAMES, _TEXT, max_size=18),
)
def test_bytes_and_rules_are_the_models(
    meter: str, quantity: Decimal | int, attributes: dict[str, str], **names: Any
) -> None:
    try:
        event = UsageEvent(
            id=ID, meter=meter, quantity=quantity_text(quantity), attributes=attributes, **names
        )
        wanted: str | None = canonical_json(event.to_wire()).decode()  # type: ignore[arg-type]
    except (ValidationError, ValueError, ArithmeticError):
        wanted = None
    try:
        found = event_form(meter, quantity, attributes=attributes, **names).text(ID)
    except (ValueError, ArithmeticError):
        found = None
    assert found == wanted


@pytest.mark.parametrize("over", [{"key": "a\0"}, {"camera_id": "\0"}, {"attributes": {"a": "\0"}}])
def test_what_the_ledger_cannot_hold_is_refused_before_it_is_recorded(over: Any) -> None:
    with pytest.raises(ValueError, match="NUL"):
        event_form("vision.api_calls", 1, **over)


@pytest.mark.parametrize("over", [{"camera_id": 7}, {"attributes": {"a": 1}}, {"key": b"k"}])
def test_what_is_no_text_is_refused(over: Any) -> None:
    with pytest.raises(ValueError, match="text"):
        event_form("vision.api_calls", 1, **over)
