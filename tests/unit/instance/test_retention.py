from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.instance.services.retention import (
    NOTICE_SECONDS,
    RetentionState,
    allowed_days,
    decide_retention,
    oldest_kept,
)

pytestmark = pytest.mark.unit
NOW = 1_800_000_000
DAY = 86_400
YEAR = RetentionState(days=365)


def decide(
    kept: RetentionState | None, *, full: bool, allowed: int | None, now: int
) -> RetentionState | None:
    """Decide, without the note of when the license was last in force: as if that were now."""
    decided = decide_retention(kept, full=full, allowed=allowed, now=now)
    return decided.model_copy(update={"in_force_at": None}) if decided else None


@pytest.mark.parametrize(
    ("licensed", "wanted", "days"),
    [(365, None, 365), (365, 30, 30), (30, 365, 30), (None, 20, 20), (None, None, None), (0, 5, 1)],
)
def test_the_lower_of_license_and_wish(
    licensed: int | None, wanted: int | None, days: int | None
) -> None:
    assert allowed_days(licensed, wanted) == days


def test_a_rise_counts_at_once() -> None:
    assert decide(YEAR, full=True, allowed=730, now=NOW) == RetentionState(days=730)
    assert decide(YEAR, full=True, allowed=None, now=NOW) == RetentionState(days=None)
    assert decide(None, full=True, allowed=30, now=NOW) == RetentionState(days=30)


def test_a_cut_waits_ninety_days_from_its_announcement() -> None:
    announced = decide(YEAR, full=True, allowed=30, now=NOW)
    assert announced == RetentionState(days=365, announced_days=30, announced_at=NOW)
    just_before = NOW + NOTICE_SECONDS - 1
    assert decide(announced, full=True, allowed=30, now=just_before) == announced
    after = decide(announced, full=True, allowed=30, now=NOW + NOTICE_SECONDS)
    assert after == RetentionState(days=30)


def test_a_deeper_cut_is_announced_anew_and_a_withdrawn_one_forgotten() -> None:
    announced = decide(YEAR, full=True, allowed=30, now=NOW)
    deeper = decide(announced, full=True, allowed=7, now=NOW + 10)
    assert deeper == RetentionState(days=365, announced_days=7, announced_at=NOW + 10)
    assert decide(deeper, full=True, allowed=365, now=NOW + 20) == YEAR


def test_from_no_limit_to_one_is_a_cut() -> None:
    forever = RetentionState(days=None)
    assert decide(forever, full=True, allowed=30, now=NOW) == RetentionState(
        days=None, announced_days=30, announced_at=NOW
    )


def test_without_a_license_in_force_nothing_moves_but_the_note_of_it() -> None:
    announced = decide(YEAR, full=True, allowed=30, now=NOW)
    assert announced is not None
    later = NOW + 2 * NOTICE_SECONDS
    frozen = decide(announced, full=False, allowed=7, now=later)
    assert frozen == announced.model_copy(update={"frozen_at": later})
    assert decide(frozen, full=False, allowed=7, now=later + DAY) == frozen
    assert decide(None, full=False, allowed=7, now=later) is None


def test_what_was_frozen_stays_ninety_days_after_the_license_is_back() -> None:
    frozen = decide(YEAR, full=False, allowed=7, now=NOW)
    back = NOW + 60 * DAY
    thawing = decide(frozen, full=True, allowed=365, now=back)
    assert thawing == RetentionState(days=365, frozen_at=NOW, thawed_at=back)
    at = datetime.fromtimestamp(back + 10, UTC)
    assert oldest_kept(thawing, at) == datetime.fromtimestamp(NOW - 365 * DAY, UTC)
    still = decide(thawing, full=True, allowed=365, now=back + NOTICE_SECONDS - 1)
    assert still == thawing
    over = decide(thawing, full=True, allowed=365, now=back + NOTICE_SECONDS)
    assert over == YEAR
    assert oldest_kept(over, at) == at - timedelta(days=365)


def test_frozen_again_while_it_thaws_keeps_the_first_horizon() -> None:
    thawing = RetentionState(days=365, frozen_at=NOW, thawed_at=NOW + 60 * DAY)
    again = decide(thawing, full=False, allowed=7, now=NOW + 70 * DAY)
    assert again == RetentionState(days=365, frozen_at=NOW)


def test_a_cut_that_was_announced_in_time_ends_the_thaw() -> None:
    announced = decide(YEAR, full=True, allowed=30, now=NOW)
    frozen = decide(announced, full=False, allowed=7, now=NOW + DAY)
    back = decide(frozen, full=True, allowed=30, now=NOW + NOTICE_SECONDS)
    assert back == RetentionState(days=30)
    early = decide(frozen, full=True, allowed=30, now=NOW + NOTICE_SECONDS - 1)
    assert early is not None
    assert early.days == 365
    assert early.cut_at == NOW + NOTICE_SECONDS


def test_a_clock_that_was_ahead_when_it_froze_holds_nothing_back() -> None:
    state = RetentionState(days=10, frozen_at=NOW + 1000 * DAY, thawed_at=NOW)
    now = datetime.fromtimestamp(NOW, UTC)
    assert oldest_kept(state, now) == now - timedelta(days=10)
    assert oldest_kept(RetentionState(days=None), now) is None


def test_frozen_is_counted_from_when_the_license_was_last_seen_in_force() -> None:
    """What the last run under it kept is kept, however long nobody looked."""
    seen = decide_retention(None, full=True, allowed=365, now=NOW)
    assert seen == RetentionState(days=365, in_force_at=NOW)
    # Not written every hour.
    assert decide_retention(seen, full=True, allowed=365, now=NOW + DAY - 1) == seen
    later = decide_retention(seen, full=True, allowed=365, now=NOW + DAY)
    assert later == RetentionState(days=365, in_force_at=NOW + DAY)
    frozen = decide_retention(later, full=False, allowed=7, now=NOW + 30 * DAY)
    assert frozen is not None
    assert frozen.frozen_at == NOW + DAY
    # A clock that was ahead and is right again.
    back = decide_retention(later, full=True, allowed=365, now=NOW - DAY)
    assert back == RetentionState(days=365, in_force_at=NOW - DAY)


LICENSES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([7, 30, 365, 730, None]), st.integers(0, 100)),
    max_size=30,
)


@given(LICENSES)
def test_nothing_is_lost_that_no_cut_announced_ninety_days_before(
    moves: list[tuple[bool, int | None, int]],
) -> None:
    """Whatever licenses come and go, what may be dropped never outruns the longest promise."""
    state: RetentionState | None = None
    now = NOW
    promised: list[tuple[int, float]] = []
    for full, allowed, days in moves:
        now += days * DAY
        state = decide_retention(state, full=full, allowed=allowed, now=now)
        if not full or state is None:
            continue
        promised.append((now, float("inf") if allowed is None else allowed))
        oldest = oldest_kept(state, datetime.fromtimestamp(now, UTC))
        if oldest is None:
            continue
        # A promise of the last ninety days still holds, unless nothing was promised before it.
        least = min(length for at, length in promised if now - at < NOTICE_SECONDS)
        assert (now - oldest.timestamp()) / DAY >= least
