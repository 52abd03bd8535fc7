"""Who stands in the way of the next step of a key rotation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.licenses.rotation import KeyState
from brinkbyte.billing.rollout.service import (
    GRACE_SECONDS,
    HELD_SECONDS,
    IN_TOUCH_SECONDS,
    Rollout,
    assess,
    refuse_retirement,
    refuse_switch,
)
from brinkbyte.kit.errors import PermanentError

pytestmark = pytest.mark.unit
NOW = 1_800_000_000
DAY = 86_400
_KEYS: Any = {"old": None, "new": None}
PUBLISHED = KeyState(2, NOW + 800 * DAY, _KEYS, frozenset({"new"}), {}, {"old": 1, "new": 2})
OVERLAP = KeyState(2, NOW + 800 * DAY, _KEYS, frozenset(), {"old": NOW}, {"old": 1, "new": 2})
SETTLED = KeyState(3, NOW + 800 * DAY, {"new": None}, frozenset(), {}, {"new": 2})  # type: ignore[dict-item]


def at(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def row(
    number: int | None = 2,
    *,
    contact: int | None = NOW - 60,
    created: int = NOW - 400 * DAY,
    bundle: int | None = None,
    signed: tuple[str, ...] = (),
    until: int | None = None,
) -> dict[str, Any]:
    return {
        "tenant_id": "acme",
        "instance_id": "inst-1",
        "name": "ns.acme",
        "created_at": at(created),
        "seen_key_set_number": number,
        "contact_at": at(contact),
        "bundle_key_set_number": bundle,
        "bundle_key_ids": list(signed),
        "bundle_expires_at": at(until),
    }


def held(key: str, until: int, tenant: str = "acme") -> dict[str, Any]:
    return {"tenant_id": tenant, "key_id": key, "ends_at": at(until)}


def reason_of(check: Callable[[Rollout], None], rollout: Rollout) -> str:
    refusal: PermanentError | None = None
    try:
        check(rollout)
    except PermanentError as error:
        refusal = error
    if refusal is None:
        return ""
    assert "acme (inst-1)" in refusal.message
    assert "--force" in refusal.message
    return refusal.reason


@pytest.mark.parametrize(
    ("seen", "waits"),
    [
        (row(2), False),
        (row(3), False),
        (row(1), True),
        (row(None), True),
        # Out of touch: it gets the set with its first answer.
        (row(1, contact=NOW - IN_TOUCH_SECONDS), False),
        (row(None, contact=None), False),
        # Behind an air gap the last bundle counts.
        (row(None, contact=None, bundle=2, until=NOW + DAY), False),
        (row(1, bundle=2, until=NOW + DAY), False),
    ],
)
def test_switching_waits_for_who_is_in_touch_and_has_not_seen_the_set(
    seen: dict[str, Any], waits: bool
) -> None:
    rollout = assess(PUBLISHED, [seen], now=NOW)
    assert reason_of(refuse_switch, rollout) == ("NotSeenYet" if waits else "")


@pytest.mark.parametrize(
    ("seen", "signed", "until"),
    [
        (row(2), [], None),
        # What an old key signed is in use until its end and grace.
        (row(2), [held("old", NOW + DAY)], NOW + DAY + GRACE_SECONDS),
        (row(2), [held("old", NOW - GRACE_SECONDS)], None),
        (row(2), [held("old", NOW - GRACE_SECONDS + 1)], NOW + 1),
        (row(2), [held("new", NOW + 40 * DAY)], None),
        (row(2), [held("old", NOW + DAY, tenant="other")], None),
        # Who has not seen the set holds something from before it.
        (row(1), [], NOW - 60 + HELD_SECONDS),
        (row(1, contact=NOW - HELD_SECONDS), [], None),
        (row(None, contact=None, created=NOW - DAY), [], NOW - DAY + HELD_SECONDS),
        (row(None, contact=None), [], None),
        # A bundle is good until its own end, whoever has long been silent.
        (
            row(None, contact=None, bundle=1, signed=("old",), until=NOW + 300 * DAY),
            [],
            NOW + 300 * DAY + GRACE_SECONDS,
        ),
        (
            row(None, contact=None, bundle=2, signed=("old",), until=NOW + 9 * DAY),
            [],
            NOW + 9 * DAY + GRACE_SECONDS,
        ),
        (row(None, contact=None, bundle=2, signed=("new",), until=NOW + 9 * DAY), [], None),
    ],
)
def test_an_old_key_is_needed_as_long_as_something_it_signed_may_be_held(
    seen: dict[str, Any], signed: list[dict[str, Any]], until: int | None
) -> None:
    rollout = assess(OVERLAP, [seen], signed, now=NOW)
    assert [each.needs_until for each in rollout.instances] == [until]
    assert reason_of(refuse_retirement, rollout) == ("" if until is None else "OldKeyNeeded")
    # Without a retired key nobody needs one.
    assert assess(SETTLED, [seen], signed, now=NOW).needing == []


def test_a_refusal_names_twenty_and_counts_the_rest() -> None:
    rows = [{**row(1), "instance_id": f"inst-{n}"} for n in range(1, 26)]
    with pytest.raises(PermanentError, match=r"25 of 26 live .*inst-20\) and 5 more") as caught:
        refuse_switch(assess(PUBLISHED, [*rows, row(2)], now=NOW))
    assert "inst-21" not in caught.value.message


rows = st.builds(
    row,
    st.none() | st.integers(0, 4),
    contact=st.none() | st.integers(NOW - 100 * DAY, NOW),
    created=st.integers(NOW - 100 * DAY, NOW),
    bundle=st.none() | st.integers(1, 4),
    signed=st.sampled_from([(), ("old",), ("new",), ("new", "old")]),
    until=st.none() | st.integers(NOW - 100 * DAY, NOW + 400 * DAY),
)


@given(st.lists(rows, max_size=6), st.sampled_from([PUBLISHED, OVERLAP, SETTLED]))
def test_every_instance_is_counted_once_and_time_alone_ends_every_need(
    found: list[dict[str, Any]], keys: KeyState
) -> None:
    rollout = assess(keys, found, now=NOW)
    assert rollout.seen + len(rollout.lacking) == len(found)
    assert set(rollout.waiting) <= set(rollout.lacking)
    assert all(each.key_set_number >= keys.target for each in rollout.instances if each.seen)
    assert assess(keys, found, now=NOW + 430 * DAY).needing == []
