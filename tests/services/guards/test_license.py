"""Which license is in force, and how it comes into force and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from brinkbyte.guards import EntitlementEnforcementError, Guards, check_entitlement_or_raise
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.resources.state import DeviceCredential
from brinkbyte.store.devices import sync_devices
from services.guards.conftest import FREE, SEATS, TOKENS, Opened
from support.instance_api import eventually
from support.instance_site import Site, documents, volume
from support.licensing import CUSTOMER, DAY

pytestmark = pytest.mark.services
Query = Callable[..., list[Any]]


@pytest.mark.parametrize(
    ("made", "mode", "reason"),
    [
        ({"days": 1, "start": -60 * DAY}, "expired", "LicenseExpired"),
        (
            {"entries": [{"kind": "license", "subject": CUSTOMER, "upTo": 7}]},
            "revoked",
            "LicenseRevoked",
        ),
        (
            {"subscription": {"status": "suspended", "currentPeriodEnd": None}},
            "suspended",
            "SubscriptionSuspended",
        ),
        ({"only": ()}, "unlicensed", "NoLicense"),
    ],
)
async def test_out_of_force_nothing_is_counted_or_recorded(
    site: Site, opened: Opened, query: Query, made: dict[str, Any], mode: str, reason: str
) -> None:
    if "start" in made:
        made = {**made, "start": int(time.time()) + made["start"]}
    site.install(**{**FREE, **made})
    async with opened() as guards:
        answer = await guards.enforcer.check_and_record(TOKENS)
        assert not guards.subscription().allowed
        with pytest.raises(EntitlementEnforcementError) as caught:
            await check_entitlement_or_raise(SEATS)
        devices = await guards.device_limit()
    assert (answer.allowed, answer.mode.value, answer.reason) == (False, mode, reason)
    assert UPGRADE_URL in answer.message
    assert TOKENS in answer.message
    assert (caught.value.status, caught.value.reason) == (403, reason)
    assert (devices.allowed, devices.limit) == (True, 3)
    assert query("SELECT 1 FROM usage_events") == query("SELECT 1 FROM entitlement_counters") == []


async def test_a_trial_counts_like_a_plan(site: Site, opened: Opened) -> None:
    site.install(**FREE, trial={"isActive": True, "endsAt": int(time.time()) + DAY})
    async with opened() as guards:
        answer = await guards.enforcer.check_and_record(TOKENS)
    assert (answer.allowed, answer.mode.value, answer.remaining) == (True, "trial", 9)


async def test_another_license_is_in_force_without_a_restart(
    site: Site, guards: Guards, query: Query
) -> None:
    enforcer = guards.enforcer
    assert not (await enforcer.check_and_record(SEATS, 4)).allowed
    assert not guards.feature("hasCustomBranding").allowed
    features = {
        "maxDevices": None, "dataRetentionDays": 365, "canExportData": True,
        "hasAdvancedAlerts": True, "hasApiAccess": True, "hasMqttAccess": True,
        "hasCustomBranding": True,
    }  # fmt: skip
    site.install(sequence=8, plan="platform_enterprise", quotas={SEATS: None}, features=features)
    await eventually(lambda: guards.feature("hasCustomBranding").allowed)
    answer = await enforcer.check_and_record(SEATS, 4)
    assert (answer.allowed, answer.limit, answer.remaining) == (True, None, None)
    # An older one does not come back, and a broken one changes nothing.
    site.install(sequence=7, **FREE)
    site.install(sequence=9, raw={"license.jwt": "broken"})
    await asyncio.sleep(0.2)
    assert guards.feature("hasCustomBranding").allowed
    site.install(sequence=10, entries=[{"kind": "license", "subject": CUSTOMER, "upTo": 10}])
    await eventually(lambda: not guards.subscription().allowed)
    assert (await enforcer.check_and_record(SEATS)).reason == "LicenseRevoked"


async def test_what_the_instance_kept_is_found_and_verified(
    site: Site, opened: Opened, query: Query
) -> None:
    """A license that only the instance's own request brought lies in the database."""
    names = {
        TokenKind.KEY_SET: "jwks.json",
        TokenKind.LICENSE: "license.jwt",
    }

    def keep(sequence: int, **over: Any) -> None:
        files = documents(sequence=sequence, **over)
        for kind, name in names.items():
            query(
                "INSERT INTO license_documents (tenant_id, kind, sequence, document, source) "
                "VALUES (%s, %s, %s, %s, 'billing') ON CONFLICT (tenant_id, kind) DO UPDATE "
                "SET sequence = excluded.sequence, document = excluded.document",
                CUSTOMER, kind.value, sequence, over.get("forged") or files[name],
            )  # fmt: skip

    volume(site.root / "license", {})
    keep(7, **FREE)
    async with opened() as guards:
        assert (await guards.enforcer.check(TOKENS)).limit == 10
        keep(8, **{**FREE, "quotas": {TOKENS: 20}})
        await eventually(lambda: guards.license.snapshot.sequence(TokenKind.LICENSE) == 8)
        assert (await guards.enforcer.check(TOKENS)).limit == 20
        query("UPDATE license_documents SET document = 'forged', sequence = 9")
        await asyncio.sleep(0.3)
        assert (await guards.enforcer.check(TOKENS)).limit == 20


async def test_turning_the_clock_back_gains_nothing(
    site: Site, opened: Opened, query: Query
) -> None:
    """The instance's offline clock, kept in the database, counts here too."""
    site.install(**FREE, start=int(time.time()) - 40 * DAY)
    newest = int(time.time()) - 40 * DAY
    query(
        "INSERT INTO system_config (tenant_id, key, value) VALUES (%s, 'clock', "
        "jsonb_build_object('signedTime', %s::bigint, 'runningSeconds', %s::bigint))",
        CUSTOMER, newest, 60 * DAY,
    )  # fmt: skip
    async with opened() as guards:
        assert guards.subscription().reason == "LicenseExpired"


async def test_the_device_limit_counts_the_devices_registered(site: Site, guards: Guards) -> None:
    site.install(sequence=8, features={
        "maxDevices": 4, "dataRetentionDays": 365, "canExportData": True,
        "hasAdvancedAlerts": True, "hasApiAccess": True, "hasMqttAccess": True,
        "hasCustomBranding": False,
    })  # fmt: skip
    await eventually(lambda: guards.license.standing.policy.max_devices == 4)
    assert (await guards.device_limit()).remaining == 4
    devices = [DeviceCredential.model_validate(device) for device in site.devices]
    async with guards.enforcer._pool.connection() as connection:
        await sync_devices(connection, CUSTOMER, devices)
    refused = await guards.device_limit()
    assert (refused.allowed, refused.used, refused.limit) == (False, 4, 4)
    assert "4 of 4 devices" in refused.message
    assert UPGRADE_URL in refused.message
