from __future__ import annotations

import pytest

from brinkbyte.instance.services.retention import (
    NOTICE_SECONDS,
    RetentionState,
    allowed_days,
    decide_retention,
)

pytestmark = pytest.mark.unit
NOW = 1_800_000_000
YEAR = RetentionState(days=365)


@pytest.mark.parametrize(
    ("licensed", "wanted", "days"),
    [(365, None, 365), (365, 30, 30), (30, 365, 30), (None, 20, 20), (None, None, None), (0, 5, 1)],
)
def test_the_lower_of_license_and_wish(
    licensed: int | None, wanted: int | None, days: int | None
) -> None:
    assert allowed_days(licensed, wanted) == days


def test_a_rise_counts_at_once() -> None:
    assert decide_retention(YEAR, full=True, allowed=730, now=NOW) == RetentionState(days=730)
    assert decide_retention(YEAR, full=True, allowed=None, now=NOW) == RetentionState(days=None)
    assert decide_retention(None, full=True, allowed=30, now=NOW) == RetentionState(days=30)


def test_a_cut_waits_ninety_days_from_its_announcement() -> None:
    announced = decide_retention(YEAR, full=True, allowed=30, now=NOW)
    assert announced == RetentionState(days=365, announced_days=30, announced_at=NOW)
    just_before = NOW + NOTICE_SECONDS - 1
    assert decide_retention(announced, full=True, allowed=30, now=just_before) == announced
    after = decide_retention(announced, full=True, allowed=30, now=NOW + NOTICE_SECONDS)
    assert after == RetentionState(days=30)


def test_a_deeper_cut_is_announced_anew_and_a_withdrawn_one_forgotten() -> None:
    announced = decide_retention(YEAR, full=True, allowed=30, now=NOW)
    deeper = decide_retention(announced, full=True, allowed=7, now=NOW + 10)
    assert deeper == RetentionState(days=365, announced_days=7, announced_at=NOW + 10)
    assert decide_retention(deeper, full=True, allowed=365, now=NOW + 20) == YEAR


def test_from_no_limit_to_one_is_a_cut() -> None:
    forever = RetentionState(days=None)
    assert decide_retention(forever, full=True, allowed=30, now=NOW) == RetentionState(
        days=None, announced_days=30, announced_at=NOW
    )


def test_without_a_license_in_force_nothing_moves() -> None:
    announced = decide_retention(YEAR, full=True, allowed=30, now=NOW)
    later = NOW + 2 * NOTICE_SECONDS
    assert decide_retention(announced, full=False, allowed=7, now=later) == announced
    assert decide_retention(None, full=False, allowed=7, now=later) is None
