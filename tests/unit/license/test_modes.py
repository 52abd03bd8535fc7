"""Modes as one table, and the offline clock that nobody gains by turning."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.license.claims import Revocation, TokenKind
from brinkbyte.license.clock import ClockState
from brinkbyte.license.modes import FULL_MODES, LicenseMode, decide_mode
from support.licensing import CUSTOMER, DAY, NOW, license_claims

pytestmark = pytest.mark.unit
EXP = NOW + 45 * DAY
CANCELED = {"status": "canceled", "currentPeriodEnd": None}


@pytest.mark.parametrize(
    ("over", "now", "mode", "reason"),
    [
        ({}, NOW, LicenseMode.ACTIVE, "LicenseValid"),
        ({}, EXP - 1, LicenseMode.ACTIVE, "LicenseValid"),
        ({}, EXP, LicenseMode.GRACE, "InGrace"),
        ({}, EXP + 7 * DAY - 1, LicenseMode.GRACE, "InGrace"),
        ({}, EXP + 7 * DAY, LicenseMode.EXPIRED, "LicenseExpired"),
        ({"graceSeconds": 0}, EXP, LicenseMode.EXPIRED, "LicenseExpired"),
        ({"trial": {"isActive": True, "endsAt": EXP}}, NOW, LicenseMode.TRIAL, "TrialActive"),
        (
            {"trial": {"isActive": True, "endsAt": EXP}, "graceSeconds": 0},
            EXP,
            LicenseMode.EXPIRED,
            "TrialEnded",
        ),
        ({"subscription": CANCELED}, EXP - 1, LicenseMode.ACTIVE, "LicenseValid"),
        # Grace never extends a cancellation, also where an older license still carries it.
        ({"subscription": CANCELED}, EXP, LicenseMode.EXPIRED, "LicenseExpired"),
        (
            {"subscription": {"status": "suspended", "currentPeriodEnd": None}},
            NOW,
            LicenseMode.SUSPENDED,
            "SubscriptionSuspended",
        ),
    ],
)
def test_mode_table(over: dict[str, Any], now: int, mode: LicenseMode, reason: str) -> None:
    decision = decide_mode(license_claims(**over), now=now)
    assert (decision.mode, decision.reason) == (mode, reason)
    assert decision.full == (mode in FULL_MODES)
    assert len(decision.message) > 10


def test_without_a_license_the_message_says_where_to_get_one() -> None:
    decision = decide_mode(None, now=NOW)
    assert decision.mode is LicenseMode.UNLICENSED
    assert "https://" in decision.message


@pytest.mark.parametrize(("up_to", "mode"), [(6, LicenseMode.ACTIVE), (7, LicenseMode.REVOKED)])
def test_a_revocation_counts_up_to_its_number(up_to: int, mode: LicenseMode) -> None:
    entry = Revocation(kind=TokenKind.LICENSE, subject=CUSTOMER, up_to=up_to)
    assert decide_mode(license_claims(), now=NOW, revocations=[entry]).mode is mode


def test_a_revocation_of_something_else_does_not_count() -> None:
    entries = [
        Revocation(kind=TokenKind.CAMERA, subject=CUSTOMER, up_to=99),
        Revocation(kind=TokenKind.LICENSE, subject="other", up_to=99),
    ]
    assert decide_mode(license_claims(), now=NOW, revocations=entries).mode is LicenseMode.ACTIVE


@given(st.integers(NOW, NOW + 100 * DAY), st.integers(0, 100 * DAY))
def test_time_alone_never_leads_back_to_more(now: int, later: int) -> None:
    order = [LicenseMode.ACTIVE, LicenseMode.GRACE, LicenseMode.EXPIRED]
    first = decide_mode(license_claims(), now=now).mode
    second = decide_mode(license_claims(), now=now + later).mode
    assert order.index(second) >= order.index(first)


@given(st.lists(st.tuples(st.integers(0, 10 * DAY), st.integers(-400 * DAY, 400 * DAY))))
def test_a_turned_clock_gains_nothing(steps: list[tuple[int, int]]) -> None:
    """However the wall clock jumps, the time we judge by is never before the time really run."""
    state = ClockState().taken_in(NOW)
    ran = 0
    for seconds, error in steps:
        state = state.ran(seconds)
        ran += seconds
        assert state.now(NOW + ran + error) >= NOW + ran


def test_a_forward_jump_ends_when_the_clock_is_right_again() -> None:
    state = ClockState().taken_in(NOW).ran(60)
    assert state.now(NOW + 400 * DAY) == NOW + 400 * DAY
    assert state.now(NOW + 60) == NOW + 60


def test_a_fresh_signed_time_starts_the_count_anew() -> None:
    state = ClockState().taken_in(NOW).ran(50 * DAY).taken_in(NOW + DAY)
    assert state == ClockState(signed_time=NOW + DAY, running_seconds=0)
    assert state.taken_in(NOW) == state
    assert state.ran(-5) == state
