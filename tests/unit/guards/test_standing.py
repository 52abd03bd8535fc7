from __future__ import annotations

from typing import Any

import pytest

from brinkbyte.catalog import load_catalog
from brinkbyte.guards.standing import Standing, known_features, stand
from brinkbyte.license.documents import Snapshot
from brinkbyte.license.modes import UPGRADE_URL
from support.licensing import CUSTOMER, DAY, NOW, license_claims, revocations_claims

pytestmark = pytest.mark.unit
CATALOG = load_catalog()


def standing(now: int = NOW, entries: list[dict[str, Any]] | None = None, **over: Any) -> Standing:
    revocations = revocations_claims(entries) if entries is not None else None
    return stand(Snapshot(license=license_claims(**over), revocations=revocations), now, CATALOG)


def test_a_plan_has_its_flags_and_what_the_tenants_packs_add() -> None:
    features = standing(tenantPacks=["intelligence", "integration.sms"]).features
    held = {name for name, answer in features.items() if answer.allowed}
    assert held == {
        "canExportData", "hasAdvancedAlerts", "hasApiAccess", "hasMqttAccess",
        "intelligence", "integration.sms",
        "analyst_seat_full", "premium_connectors", "automated_reports",
    }  # fmt: skip
    assert set(features) == known_features(CATALOG)


def test_a_feature_that_the_plan_lacks_names_plan_feature_and_where_to_upgrade() -> None:
    answer = standing().features["hasCustomBranding"]
    assert (answer.allowed, answer.reason, answer.status) == (False, "FeatureNotLicensed", 402)
    for part in ("professional", "hasCustomBranding", UPGRADE_URL):
        assert part in answer.message


@pytest.mark.parametrize(
    ("made", "reason", "mode"),
    [
        ({"now": NOW + 60 * DAY}, "LicenseExpired", "expired"),
        (
            {"entries": [{"kind": "license", "subject": CUSTOMER, "upTo": 7}]},
            "LicenseRevoked",
            "revoked",
        ),
        (
            {"subscription": {"status": "suspended", "currentPeriodEnd": None}},
            "SubscriptionSuspended",
            "suspended",
        ),
        (
            {"now": NOW + 45 * DAY, "graceSeconds": 0, "trial": {"isActive": True, "endsAt": NOW}},
            "TrialEnded",
            "expired",
        ),
    ],
)
def test_out_of_force_nothing_passes_and_the_reason_is_the_licenses(
    made: dict[str, Any], reason: str, mode: str
) -> None:
    found = standing(**made)
    for answer in (found.subscription, found.features["canExportData"]):
        assert (answer.allowed, answer.reason, answer.mode.value) == (False, reason, mode)
        assert answer.status == 403
        assert UPGRADE_URL in answer.message
    assert "canExportData" in found.features["canExportData"].message


def test_without_a_license_nothing_passes() -> None:
    found = stand(Snapshot(), NOW, CATALOG)
    assert found.subscription.reason == "NoLicense"
    assert not any(answer.allowed for answer in found.features.values())


@pytest.mark.parametrize("at", [NOW, NOW + 45 * DAY - 1, NOW + 45 * DAY, NOW + 52 * DAY - 1])
def test_trial_and_grace_pass(at: int) -> None:
    assert standing(at).subscription.allowed
    assert standing(at).features["canExportData"].allowed
    assert standing(trial={"isActive": True, "endsAt": NOW + DAY}).subscription.allowed


def test_it_holds_until_the_license_or_its_grace_ends() -> None:
    assert (standing().since, standing().until) == (NOW, NOW + 45 * DAY)
    assert standing(NOW + 45 * DAY).until == NOW + 52 * DAY
    assert standing(NOW + 52 * DAY).until > NOW + 10_000 * DAY


def test_while_validation_is_off_a_feature_passes_with_what_it_would_say() -> None:
    found = standing(flags={"licenseValidation": False}).features
    lacking = found["hasCustomBranding"]
    assert (lacking.allowed, lacking.warning, lacking.reason) == (True, True, "FeatureNotLicensed")
    assert "switched validation off" in lacking.message
    assert not found["canExportData"].warning
    # Of a license that is not in force it does not count.
    assert not standing(NOW + 60 * DAY, flags={"licenseValidation": False}).subscription.allowed


def test_without_offline_use_it_is_judged_anew_when_the_confirmation_ends() -> None:
    flags = {"offlineMode": False}
    held = standing(flags=flags)
    assert NOW + 2 * 3600 < held.until < NOW + 3 * 3600
    assert standing(held.until, flags=flags).subscription.reason == "LicenseUnconfirmed"
