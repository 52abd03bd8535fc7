from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.catalog import Terms, compile_entitlements, load_catalog
from brinkbyte.guards.answers import EntitlementEnforcementError
from brinkbyte.guards.quotas import Quota, period_end, quota_of
from brinkbyte.license.modes import UPGRADE_URL, decide_mode
from support.licensing import CUSTOMER, NOW, license_claims

pytestmark = pytest.mark.unit
CATALOG = load_catalog()
SEATS, TOKENS, CALLS = "platform.user_seats", "platform.llm_tokens", "vision.api_calls"
DECISION = decide_mode(license_claims(), now=NOW)


def quota(meter: str, **over: Any) -> Quota:
    return quota_of(CATALOG, license_claims(**over), meter, NOW)


def test_a_hard_limit_ends_at_what_is_included_and_a_gauge_has_no_period() -> None:
    found = quota(SEATS, plan="platform_free", quotas={SEATS: 3})
    assert (found.ending, found.counter.ceiling, found.warn_at) == ("hard", 3, None)
    assert (found.period_ends_at, found.counter.period_ends_at) == (None, None)
    assert found.counter.tenant_id == CUSTOMER


def test_a_soft_limit_warns_at_all_and_refuses_a_fifth_beyond_or_after_a_week() -> None:
    found = quota(TOKENS, plan="platform_free", quotas={TOKENS: 10_000})
    assert (found.ending, found.warn_at, found.counter.ceiling) == ("soft", 10_000, 12_000)
    assert found.counter.over_for == timedelta(days=7)


def test_overage_warns_and_has_no_end() -> None:
    found = quota(TOKENS, plan="platform_standard", quotas={TOKENS: 1_000_000})
    assert (found.ending, found.warn_at, found.counter.ceiling) == ("overage", 1_000_000, None)
    assert found.counter.over_for is None
    answer = found.answer(DECISION, Decimal(1_200_000))
    assert (answer.allowed, answer.warning, answer.remaining) == (True, True, 0)
    assert "charged" in answer.message


@pytest.mark.parametrize(
    ("packs", "ending"), [([], "soft"), (["integration.api_overage"], "overage")]
)
def test_a_pool_ends_as_the_packs_held_say(packs: list[str], ending: str) -> None:
    assert quota(CALLS, quotas={CALLS: 50_000}, tenantPacks=packs).ending == ending


@pytest.mark.parametrize(
    ("included", "ending"), [(1_000_000, "overage"), (10_000, "soft"), (77, "hard")]
)
def test_a_plan_the_license_does_not_name_is_known_by_its_allowance(
    included: int, ending: str
) -> None:
    assert quota(TOKENS, plan="professional", quotas={TOKENS: included}).ending == ending


def test_what_the_license_does_not_limit_is_unlimited() -> None:
    for quotas in ({}, {SEATS: None}):
        found = quota(SEATS, quotas=quotas)
        assert (found.ending, found.counter.included, found.counter.ceiling) == (None, None, None)
        answer = found.answer(DECISION, Decimal(10**9))
        assert (answer.allowed, answer.warning, answer.remaining) == (True, False, None)


@pytest.mark.parametrize("plan", ["free", "standard", "enterprise"])
def test_every_allowance_of_a_plan_ends_as_the_catalog_has_it(plan: str) -> None:
    """The signed quotas and the plan's name together tell what compiling the terms told."""
    entitled = compile_entitlements(CATALOG, Terms(plans={"platform": plan}))
    quotas = {name: a.included for name, a in entitled.allowances.items()}
    for meter, allowance in entitled.allowances.items():
        wanted = "overage" if allowance.overage else allowance.cap
        found = quota(meter, plan=entitled.plan, quotas=quotas).ending
        assert found == (wanted if allowance.included is not None else None)


def test_a_refusal_says_which_limit_how_much_is_used_and_where_to_upgrade() -> None:
    found = quota(
        TOKENS,
        plan="platform_free",
        quotas={TOKENS: 100},
        subscription={"status": "active", "currentPeriodEnd": NOW + 3600},
    )
    refused = found.refusal(DECISION, Decimal("119.5"), Decimal(2), NOW)
    with pytest.raises(EntitlementEnforcementError) as caught:
        refused.or_raise()
    error = caught.value
    assert (error.status, error.reason) == (429, "QuotaExceeded")
    assert error.headers == {"Retry-After": "3600"}
    assert error.details == {
        "entitlement": TOKENS,
        "mode": "active",
        "used": "119.5",
        "limit": 100,
        "remaining": 0,
        "upgradeUrl": UPGRADE_URL,
    }
    for part in (TOKENS, "119.5 of 100", UPGRADE_URL):
        assert part in error.message


def test_waiting_does_not_free_a_gauge() -> None:
    refused = quota(SEATS, plan="platform_free", quotas={SEATS: 3}).refusal(
        DECISION, Decimal(3), Decimal(1), NOW
    )
    assert (refused.status, refused.retry_after) == (402, None)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("signed", "now", "end"),
    [
        (None, "2026-02-14", "2026-03-01"),
        (None, "2026-12-31T23:59:59", "2027-01-01"),
        ("2026-02-14", "2026-02-13", "2026-02-14"),
        ("2026-02-14", "2026-02-14", "2026-03-14"),
        ("2026-01-31", "2026-02-01", "2026-02-28"),
        ("2026-01-31", "2026-02-28", "2026-03-31"),
    ],
)
def test_periods_end_with_the_subscriptions_or_with_the_month(
    signed: str | None, now: str, end: str
) -> None:
    given_end = None if signed is None else int(moment(signed).timestamp())
    assert period_end(given_end, int(moment(now).timestamp())) == moment(end)


@given(st.none() | st.integers(0, 2**32), st.integers(0, 2**32))
def test_the_period_ends_later_and_while_offline_within_a_month(
    signed: int | None, now: int
) -> None:
    end = int(period_end(signed, now).timestamp())
    assert end > now
    if signed is None or signed <= now:
        assert end - now <= 31 * 86_400
    else:
        assert end == signed


@pytest.mark.parametrize("rule", ["hard", "soft", "overage"])
def test_how_a_quota_ends_is_what_the_license_signs(rule: str) -> None:
    """Whatever the plan's name and allowance would make one think."""
    found = quota(
        TOKENS, plan="platform_standard", quotas={TOKENS: 1_000_000}, quotaRules={TOKENS: rule}
    )
    assert found.ending == rule
    assert found.counter.ceiling == {"hard": 1_000_000, "soft": 1_200_000, "overage": None}[rule]
    other = quota(TOKENS, plan="platform_free", quotas={TOKENS: 5}, quotaRules={CALLS: rule})
    assert other.ending == "soft"


def test_while_validation_is_off_a_quota_counts_on_and_warns() -> None:
    found = quota(SEATS, quotas={SEATS: 3}, flags={"licenseValidation": False})
    assert (found.ending, found.counter.ceiling, found.counter.over_for) == ("waived", None, None)
    answer = found.answer(DECISION, Decimal(9))
    assert (answer.allowed, answer.warning, answer.limit, answer.remaining) == (True, True, 3, 0)
    assert "switched validation off" in answer.message
    assert not found.answer(DECISION, Decimal(2)).warning
