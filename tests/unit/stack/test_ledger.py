"""The ledger against what the generator was told, key by key."""

from __future__ import annotations

from typing import Any

import pytest

from stack.ledger import Comparison, compare
from stack.traffic import Outcome

pytestmark = pytest.mark.unit

RECEIPTS = {("e1", 1)}


def event(key: str | None, *, number: int = 1, event_id: str = "") -> dict[str, Any]:
    return {"id": event_id or f"id-{key}", "key": key, "epoch": "e1", "batchNo": number}


def compared(*events: dict[str, Any]) -> Comparison:
    """Compare with a run that was told 2xx for a and b, 422 for c, and nothing for d and e."""
    outcome = Outcome({"a", "b"}, {"c": "422"}, {"d", "e"})
    return compare(outcome, events, RECEIPTS)


def test_what_was_answered_and_what_may_be_there_is_exact() -> None:
    found = compared(event("a"), event("b"), event("d"))
    assert found.exact
    assert (found.answered, found.in_ledger, found.unanswered_in_ledger) == (2, 3, 1)


def test_an_answered_key_without_an_event_is_lost() -> None:
    found = compared(event("a"))
    assert found.lost == {"b"}
    assert not found.exact


@pytest.mark.parametrize("key", ["a", "d"])
def test_a_key_of_two_events_is_doubled(key: str) -> None:
    found = compared(event("a"), event("b"), event("d"), event(key, event_id="again"))
    assert found.doubled == {key}
    assert not found.exact


@pytest.mark.parametrize("key", ["c", "x"])
def test_a_key_that_was_refused_or_never_sent_is_invented(key: str) -> None:
    found = compared(event("a"), event("b"), event(key))
    assert found.invented == {key}
    assert not found.exact


@pytest.mark.parametrize("key", [None, ""])
def test_an_event_without_a_key_is_invented_under_its_own_id(key: str | None) -> None:
    found = compared(event("a"), event("b"), event(key, event_id="nobody-asked"))
    assert found.invented == {"nobody-asked"}
    assert (found.in_ledger, found.exact) == (3, False)


def test_an_event_outside_every_verified_receipt_is_named() -> None:
    found = compared(event("a"), event("b", number=2), event(None, number=2, event_id="i"))
    assert found.unreceipted == {"b", "i"}
    assert not found.exact


def snapshot(meter: str, day: str, *, number: int = 1) -> dict[str, Any]:
    return {
        **event(f"snapshot {day} {meter}", number=number),
        "meter": meter,
        "attributes": {"snapshot": day},
    }


def test_a_sites_own_snapshots_are_neither_invented_nor_counted() -> None:
    days = [snapshot(m, d) for m in ("vision.cameras", "vision.storage_gb") for d in ("1", "2")]
    found = compared(event("a"), event("b"), *days)
    assert found.exact
    assert (found.answered, found.in_ledger) == (2, 2)


def test_a_snapshot_that_is_there_twice_or_under_no_receipt_is_named() -> None:
    twice = snapshot("vision.cameras", "1")
    loose = snapshot("vision.cameras", "2", number=2)
    found = compared(event("a"), event("b"), twice, twice, loose)
    assert found.doubled == {"snapshot 1 vision.cameras"}
    assert found.unreceipted == {"snapshot 2 vision.cameras"}


def test_what_only_says_that_it_is_a_snapshot_is_invented() -> None:
    false = {**snapshot("vision.cameras", "1"), "key": "x"}
    assert compared(event("a"), event("b"), false).invented == {"x"}
