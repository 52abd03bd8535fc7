"""Limits of a period: what fits, what is said, how each one ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.quotas.cache import Snapshot, _read, _written
from brinkbyte.billing.quotas.limits import Limit, Quota, limits_of, plain, verdict
from brinkbyte.billing.subscriptions.standing import Standing
from brinkbyte.catalog import Catalog, Terms, compile_entitlements, load_catalog
from brinkbyte.license.claims import SubscriptionStatus

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
amounts = st.integers(0, 10**6).map(Decimal)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(None)


def quota(limit: Limit, used: int | Decimal, over_since: datetime | None = None) -> Quota:
    return Quota(limit, START, END, Decimal(used), over_since)


def test_limits_follow_the_price_list(catalog: Catalog) -> None:
    free = limits_of(catalog, compile_entitlements(catalog, Terms(plans={"platform": "free"})))
    assert set(free) == set(catalog.meters)
    calls = free["platform.api_calls"]
    assert (calls.ending, calls.included, calls.ceiling) == ("soft", 1000, 1200)
    assert calls.over_for == timedelta(days=7)
    seats = free["platform.user_seats"]
    assert (seats.ending, seats.ceiling, seats.gauge) == ("hard", 3, True)
    assert free["vision.api_calls"].ending == "not_bought"
    assert free["fleet.api_calls"].ending == "unlimited"
    assert free["vision.sms"].ending == "unlimited"
    high = limits_of(
        catalog, compile_entitlements(catalog, Terms(plans={"platform": "enterprise"}))
    )
    assert (high["platform.api_calls"].ending, high["platform.api_calls"].ceiling) == (
        "overage",
        None,
    )
    assert (high["platform.user_seats"].ending, high["platform.user_seats"].included) == (
        "unlimited",
        None,
    )


@given(included=amounts, used=amounts, quantity=amounts)
def test_a_hard_limit_is_never_passed(included: Decimal, used: Decimal, quantity: Decimal) -> None:
    found = verdict(quota(Limit("m", False, included, "hard", included), used), quantity, NOW)
    assert found.allowed == (used + quantity <= included)
    assert found.remaining == max(Decimal(0), included - used)
    if not found.allowed:
        assert found.reason == "QuotaExceeded"
        assert "https://" in found.message


@given(included=amounts, used=amounts, quantity=amounts, hours=st.integers(0, 400))
def test_a_soft_limit_ends_at_its_ceiling_or_after_its_days(
    included: Decimal, used: Decimal, quantity: Decimal, hours: int
) -> None:
    limit = Limit("m", False, included, "soft", included * 120 / 100, timedelta(days=7))
    since = NOW - timedelta(hours=hours) if used > included else None
    after = used + quantity
    late = since is not None and hours >= 7 * 24 and after > included
    found = verdict(quota(limit, used, since), quantity, NOW)
    assert found.allowed == (after <= included * 120 / 100 and not late)
    assert found.warning == (found.allowed and after > 0 and after >= included)


@given(used=amounts, quantity=amounts)
def test_overage_never_refuses_and_says_so(used: Decimal, quantity: Decimal) -> None:
    found = verdict(quota(Limit("m", False, Decimal(1000), "overage"), used), quantity, NOW)
    assert found.allowed
    assert ("charged" in found.message) == (used + quantity >= 1000)


@given(st.decimals(min_value=0, max_value=10**15, places=9, allow_nan=False, allow_infinity=False))
def test_quantities_are_plain_decimal_text(value: Decimal) -> None:
    text = plain(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert not text.endswith(".")
    assert "." not in text or not text.endswith("0")


@given(
    included=st.none() | amounts,
    used=amounts,
    over=st.none() | st.integers(0, 10**6),
    gauge=st.booleans(),
)
def test_a_snapshot_comes_back_from_the_cache_as_it_was(
    included: Decimal | None, used: Decimal, over: int | None, gauge: bool
) -> None:
    since = None if over is None else START + timedelta(seconds=over)
    limit = Limit("m", gauge, included, "soft", included, timedelta(days=7))
    standing = Standing("s", Terms(), SubscriptionStatus.ACTIVE, None, None, 5, 7)
    found = Snapshot(Quota(limit, START, END, used, since), standing)
    now = int(NOW.timestamp())
    assert _read(_written(found, now), "m", now + 2) == found
    assert _read(_written(found, now), "m", now + 3) is None
    assert _read(_written(found, now), "m", now - 1) is None
    late = int(END.timestamp())
    assert _read(_written(found, late), "m", late) is None
