"""A license that the vendor has switched offline use off for."""

from __future__ import annotations

from typing import Any

import pytest

from brinkbyte.license.confirmation import confirmed_until
from brinkbyte.license.modes import UPGRADE_URL, ModeDecision, decide_mode
from support.licensing import DAY, NOW, license_claims

pytestmark = pytest.mark.unit
HOUR = 3600


def decided(after: int, **over: Any) -> ModeDecision:
    claims = license_claims(**{"flags": {"offlineMode": False}, **over})
    return decide_mode(claims, now=NOW + after)


def test_an_hour_beyond_a_refresh_that_did_not_come_changes_nothing() -> None:
    # Signed anew at each refresh: the line died right before the next one.
    assert decided(2 * HOUR) == decided(0)
    assert decided(0).mode == "active"


def test_then_it_holds_no_longer_and_says_what_to_do() -> None:
    end = confirmed_until(license_claims())
    assert NOW + 2 * HOUR < end < NOW + 3 * HOUR
    assert decided(end - NOW - 1).full
    lost = decided(end - NOW)
    assert (lost.mode, lost.reason, lost.full) == ("expired", "LicenseUnconfirmed", False)
    assert UPGRADE_URL in lost.message
    assert "nothing is deleted" in lost.message
    # Signed anew, it is in force again.
    fresh = license_claims(flags={"offlineMode": False}, iat=end, licenseSequence=8)
    assert decide_mode(fresh, now=end).full


def test_a_slower_refresh_has_its_hour_too() -> None:
    assert decided(5 * HOUR, refreshAfter=4 * HOUR).full
    assert not decided(6 * HOUR, refreshAfter=4 * HOUR).full


@pytest.mark.parametrize("after", [0, 30 * DAY, 45 * DAY])
def test_with_offline_use_nothing_of_it_counts(after: int) -> None:
    assert decided(after, flags={}).full
    assert decided(after, flags={"offlineMode": True}).full


def test_there_is_no_grace_without_a_confirmation_and_other_reasons_come_first() -> None:
    assert decided(46 * DAY).reason == "LicenseUnconfirmed"
    assert decided(53 * DAY).reason == "LicenseExpired"
    suspended = {"subscription": {"status": "suspended", "currentPeriodEnd": None}}
    assert decided(3 * HOUR, **suspended).reason == "SubscriptionSuspended"
