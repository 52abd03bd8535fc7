"""Tokens on request: sequences, hard ends, renewal, revocation, key rotation, questions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brinkbyte.billing.licenses.keys import make_signing_keys
from brinkbyte.license.claims import LicenseClaims, RevocationsClaims, SeatsClaims
from brinkbyte.license.keys import load_roots, verify_key_set
from brinkbyte.license.modes import LicenseMode, decide_mode
from brinkbyte.license.tokens import verify
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, reason
from support.billing import CUSTOMER, DEFAULT_TERMS

DAY = 86_400


async def held_of(site: Site, billing: Billing, **before: int) -> dict[str, int]:
    """Fetch everything newer and return what is held now."""
    answer = await site.tokens(**before)
    held = {"keySetNumber": 1, **before}
    if answer.status_code == 304:
        return held
    body = answer.json()
    now = billing.clock.now
    if body["license"]:
        claims = verify(body["license"], LicenseClaims, billing.keys, now=now)
        held["licenseSequence"] = claims.license_sequence
    if body["seats"]:
        held["seatsSequence"] = verify(
            body["seats"], SeatsClaims, billing.keys, now=now
        ).seats_sequence
    if body["revocations"]:
        held["revocationSequence"] = verify(
            body["revocations"], RevocationsClaims, billing.keys, now=now
        ).revocation_sequence
    return held


async def license_of(site: Site, billing: Billing, **held: int) -> LicenseClaims:
    answer = await site.tokens(**held)
    assert answer.status_code == 200, answer.text
    return verify(
        answer.json()["license"],
        LicenseClaims,
        billing.keys,
        now=billing.clock.now,
        audience=site.instance_id,
    )


async def test_nothing_newer_is_304_and_writes_nothing(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    before = billing.query("SELECT xmin, * FROM licenses ORDER BY kind")
    answer = await acme.tokens(**held)
    assert (answer.status_code, answer.content) == (304, b"")
    billing.clock.advance(days=13)
    assert (await acme.tokens(**held)).status_code == 304
    assert billing.query("SELECT xmin, * FROM licenses ORDER BY kind") == before


async def test_only_what_is_newer_comes_back(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    await acme.inventory([device(1)], [camera(1)])
    body = (await acme.tokens(**held)).json()
    assert body["seats"]
    assert [body[k] for k in ("license", "revocations", "keySet")] == [None] * 3


async def test_license_lasts_45_days_and_is_renewed_below_31(acme: Site, billing: Billing) -> None:
    first = await license_of(acme, billing)
    assert first.exp == first.iat + 45 * DAY
    assert (first.refresh_after, first.grace_seconds) == (3600, 7 * DAY)
    held = await held_of(acme, billing)
    billing.clock.advance(days=14, seconds=-60)
    assert (await acme.tokens(**held)).status_code == 304
    billing.clock.advance(seconds=120)
    second = await license_of(acme, billing, **held)
    assert second.exp == second.iat + 45 * DAY
    assert second.license_sequence > first.license_sequence
    # The line may die right before a renewal and 30 days are still left.
    assert first.exp - (second.iat - 60) >= 30 * DAY


async def test_changed_terms_are_a_new_license_at_once(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    more = {**DEFAULT_TERMS["quantities"], "vision.base_seat": 11}
    await billing.buy(CUSTOMER, {**DEFAULT_TERMS, "quantities": more})
    claims = await license_of(acme, billing, **held)
    assert claims.quotas["vision.api_calls"] == 550_000


async def test_flags_are_signed_claims(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    billing.query("UPDATE billing_customers SET flags = '{\"offline_mode\": false}'")
    claims = await license_of(acme, billing, **held)
    assert not claims.flags.offline_mode
    assert claims.flags.license_validation


async def test_trial_has_a_hard_end_and_no_grace(billing: Billing) -> None:
    await billing.customer(CUSTOMER, {"plans": {"fleet": "trial"}})
    site = await billing.site()
    claims = await license_of(site, billing)
    assert claims.trial.is_active
    assert claims.trial.ends_at == claims.exp
    assert claims.exp == pytest.approx(billing.clock.now + 14 * DAY, abs=5)
    assert claims.grace_seconds == 0
    assert decide_mode(claims, now=billing.clock.now).mode is LicenseMode.TRIAL
    held = await held_of(site, billing)
    # Asking again and again never extends it; setting it again neither.
    billing.clock.advance(days=10)
    await billing.buy(CUSTOMER, {"plans": {"fleet": "trial"}})
    assert (await site.tokens(**held)).status_code == 304
    billing.clock.advance(days=5)
    assert (await site.tokens(**held)).status_code == 304
    # Buying makes it active.
    await billing.buy(CUSTOMER, DEFAULT_TERMS)
    bought = await license_of(site, billing, **held)
    assert not bought.trial.is_active
    assert bought.grace_seconds == 7 * DAY


async def test_given_trial_days_win(billing: Billing) -> None:
    await billing.customer(CUSTOMER, DEFAULT_TERMS, trial_days=30)
    claims = await license_of(await billing.site(), billing)
    assert claims.trial.is_active
    assert claims.exp == pytest.approx(billing.clock.now + 30 * DAY, abs=5)


async def test_cancellation_ends_at_its_hard_end_without_grace(
    acme: Site, billing: Billing
) -> None:
    held = await held_of(acme, billing)
    end = billing.clock.now + 3 * DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="canceled", hard_end=end)
    claims = await license_of(acme, billing, **held)
    assert (claims.exp, claims.grace_seconds) == (end, 0)
    billing.clock.advance(days=4)
    assert (await acme.call("GET", "/api/v1/instance/tokens")).json()["license"] is not None
    assert decide_mode(claims, now=billing.clock.now).mode is LicenseMode.EXPIRED


async def test_unpaid_invoice_ends_with_grace(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    end = billing.clock.now + 14 * DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="past_due", hard_end=end)
    claims = await license_of(acme, billing, **held)
    assert (claims.exp, claims.grace_seconds) == (end, 7 * DAY)


async def test_suspension_is_told_in_the_license(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    claims = await license_of(acme, billing, **held)
    assert decide_mode(claims, now=billing.clock.now).mode is LicenseMode.SUSPENDED


async def test_restored_database_never_falls_behind_the_field(acme: Site, billing: Billing) -> None:
    """The field holds newer numbers than the restored database: all is cut anew, above them."""
    first = await acme.inventory([device(1)], [camera(1)])
    held = await held_of(acme, billing)
    old = billing.query("SELECT camera_sequence FROM seats")[0]["camera_sequence"]
    billing.query("UPDATE licenses SET sequence = sequence - 1000")
    billing.query("UPDATE seats SET camera_sequence = camera_sequence - 1000")
    billing.clock.advance(seconds=1)
    again = await acme.inventory([device(1)], [camera(1)], held=held)
    assert again["license"]
    assert again["seats"]
    assert again["cameras"][0]["status"] == "issued"
    assert acme.held_cameras["cam-1"] > old
    assert first["cameras"][0]["seat"] == again["cameras"][0]["seat"]
    newer = await held_of(acme, billing)
    assert newer["licenseSequence"] > held["licenseSequence"]
    assert newer["seatsSequence"] > held["seatsSequence"]


async def test_claimed_numbers_from_the_future_change_nothing(acme: Site, billing: Billing) -> None:
    await held_of(acme, billing)
    before = billing.query("SELECT * FROM licenses ORDER BY kind")
    far = 2**53 - 1
    answer = await acme.tokens(
        licenseSequence=far, seatsSequence=far, revocationSequence=far, keySetNumber=far
    )
    assert answer.status_code == 304
    assert billing.query("SELECT * FROM licenses ORDER BY kind") == before


@pytest.mark.parametrize("value", ["-1", "x", str(2**53), "1e3", ""])
async def test_numbers_in_the_query_are_checked(acme: Site, value: str) -> None:
    answer = await acme.call("GET", f"/api/v1/instance/tokens?licenseSequence={value}")
    assert reason(answer) == (422, "InvalidRequest")


async def test_revoked_license_is_revoked_until_taken_back(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    async with billing.admin() as admin:
        await admin.revoke(CUSTOMER, reason="fraud")
    body = (await acme.tokens(**held)).json()
    now = billing.clock.now
    listed = verify(body["revocations"], RevocationsClaims, billing.keys, now=now)
    claims = verify(body["license"], LicenseClaims, billing.keys, now=now)
    assert claims.revocation_sequence == listed.revocation_sequence
    mode = decide_mode(claims, now=now, revocations=listed.entries)
    assert mode.mode is LicenseMode.REVOKED
    refused = await acme.inventory([device(1)], [camera(1)])
    assert refused["cameras"][0]["reason"] == "SubscriptionInactive"
    held = await held_of(acme, billing)
    async with billing.admin() as admin:
        await admin.revoke(CUSTOMER, reason="settled", undo=True)
    body = (await acme.tokens(**held)).json()
    listed = verify(body["revocations"], RevocationsClaims, billing.keys, now=now)
    assert listed.entries == ()
    # Renewing the list alone does not cut the license anew.
    held = await held_of(acme, billing)
    billing.clock.advance(days=15)
    body = (await acme.tokens(**held)).json()
    renewed = verify(body["revocations"], RevocationsClaims, billing.keys, now=billing.clock.now)
    assert renewed.revocation_sequence > listed.revocation_sequence
    claims = verify(body["license"], LicenseClaims, billing.keys, now=billing.clock.now)
    assert claims.revocation_sequence == listed.revocation_sequence


async def test_taking_back_what_is_not_revoked_is_refused(billing: Billing) -> None:
    await billing.customer()
    async with billing.admin() as admin:
        with pytest.raises(Exception, match="not revoked"):
            await admin.revoke(CUSTOMER, reason="", undo=True)


async def test_rotated_signing_keys_come_along_with_their_set(
    acme: Site, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await license_of(acme, billing)
    held = await held_of(acme, billing)
    old_token = (await acme.tokens()).json()["license"]
    root = (billing.directory / "root" / "root.pem").read_bytes()
    assert make_signing_keys(billing.directory / "keys", root) == 2
    monkeypatch.setattr("brinkbyte.billing.licenses.keys._RELOAD_SECONDS", 0.0)
    body = (await acme.tokens(**held)).json()
    assert body["license"] is None
    roots = load_roots((billing.directory / "root" / "roots.json").read_bytes())
    keys = verify_key_set(json.dumps(body["keySet"]), roots, now=billing.clock.now)
    assert keys.number == 2
    # What the old keys signed still verifies under the new set.
    verify(old_token, LicenseClaims, keys.keys, now=billing.clock.now)
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    fresh = (await acme.tokens(**held)).json()["license"]
    claims = verify(fresh, LicenseClaims, keys.keys, now=billing.clock.now)
    assert claims.license_sequence > old.license_sequence
    assert (await billing.http.get("/api/v1/keys")).json() == body["keySet"]
    beat = {"version": "1", "clusterFingerprint": "c", "licenseSequence": claims.license_sequence}
    answer = await acme.call("POST", "/api/v1/heartbeat", json={**beat, "keySetNumber": 1})
    assert answer.json()["refresh"] is True


async def test_broken_key_rotation_keeps_the_old_keys_in_force(
    acme: Site, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await held_of(acme, billing)
    (billing.directory / "keys" / "license.pem").write_text("half a file")
    monkeypatch.setattr("brinkbyte.billing.licenses.keys._RELOAD_SECONDS", 0.0)
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    assert (await license_of(acme, billing, **held)).subscription.status == "suspended"


async def test_heartbeat_is_stored_and_says_when_to_refresh(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    beat: dict[str, Any] = {
        "version": "0.1.0",
        "clusterFingerprint": "cluster-1",
        "devicesOnline": 3,
        "backlog": 7,
        "keySetNumber": 1,
        "licenseSequence": held["licenseSequence"],
    }
    answer = await acme.call("POST", "/api/v1/heartbeat", json=beat)
    assert answer.json()["refresh"] is False
    row = billing.query("SELECT * FROM instances")[0]
    assert (row["devices_online"], row["backlog"]) == (3, 7)
    assert int(row["last_seen_at"].timestamp()) == pytest.approx(billing.clock.now, abs=5)
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    answer = await acme.call("POST", "/api/v1/heartbeat", json=beat)
    assert answer.json()["refresh"] is True
    stale = {**beat, "licenseSequence": 0}
    assert (await acme.call("POST", "/api/v1/heartbeat", json=stale)).json()["refresh"] is True


# First-generation validation and entitlement questions.


async def validate(site: Site, **change: str) -> dict[str, Any]:
    body = {"camera_id": "cam-1", "tenant_id": CUSTOMER, "device_id": "hw-1", **change}
    answer = await site.call("POST", "/api/v1/licenses/validate", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_validate_answers_in_the_first_generations_shape(
    acme: Site, billing: Billing
) -> None:
    await acme.inventory([device(1)], [camera(1, growthPacks=["retail"])])
    answer = await validate(acme)
    assert answer["is_valid"] is True
    assert answer["license_mode"] == "active"
    assert answer["enabled_growth_packs"] == ["integration.api_overage", "retail"]
    assert answer["valid_until"].endswith("+00:00")
    assert answer["cameras_allowed"] == 10


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"camera_id": "cam-9"}, "NoSeat"), ({"device_id": "hw-2"}, "OtherDevice")],
)
async def test_validate_says_why_not(acme: Site, change: dict[str, str], expected: str) -> None:
    await acme.inventory([device(1)], [camera(1)])
    answer = await validate(acme, **change)
    assert (answer["is_valid"], answer["reason"]) == (False, expected)
    assert answer["valid_until"] is None
    assert answer["enabled_growth_packs"] == []


async def test_validate_for_another_customer_is_refused(acme: Site) -> None:
    body = {"camera_id": "cam-1", "tenant_id": "other", "device_id": "hw-1"}
    answer = await acme.call("POST", "/api/v1/licenses/validate", json=body)
    assert reason(answer) == (403, "CustomerMismatch")


async def test_validate_follows_the_standing(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1)])
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    assert (await validate(acme))["license_mode"] == "suspended"
    end = billing.clock.now - 10
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="canceled", hard_end=end)
    answer = await validate(acme)
    assert (answer["license_mode"], answer["is_valid"]) == ("expired", False)
    async with billing.admin() as admin:
        await admin.revoke(CUSTOMER, reason="x")
    assert (await validate(acme))["license_mode"] == "revoked"


async def ask(site: Site, **body: Any) -> dict[str, Any]:
    answer = await site.call("POST", "/api/v1/entitlements/check", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_entitlements_follow_the_cameras_packs(acme: Site) -> None:
    await acme.inventory([device(1)], [camera(1, growthPacks=["retail"]), camera(2)])
    assert (await ask(acme, kind="model", name="trolley", cameraId="cam-1"))["allowed"]
    refused = await ask(acme, kind="model", name="trolley", cameraId="cam-2")
    assert (refused["allowed"], refused["reason"]) == (False, "NotLicensed")
    assert refused["upgradeUrl"].startswith("https://")
    assert (await ask(acme, kind="analytic", name="counting", cameraId="cam-2"))["allowed"]
    assert (await ask(acme, kind="output", name="webhook"))["allowed"]
    assert (await ask(acme, kind="model", name="person", cameraId="cam-9"))["reason"] == "NoSeat"


async def test_meter_questions_count_what_is_left(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event(quantity="1500")], billing.keys)
    answer = await ask(acme, kind="meter", name="vision.api_calls")
    assert (answer["used"], answer["limit"], answer["remaining"]) == (1500, 500_000, 498_500)
    # LLM tokens have a soft cap: refused from 120 % on.
    await acme.report([acme.event(meter="vision.llm_tokens", quantity="2999999")], billing.keys)
    assert (await ask(acme, kind="meter", name="vision.llm_tokens"))["allowed"]
    over = await ask(acme, kind="meter", name="vision.llm_tokens", quantity=2)
    assert (over["allowed"], over["reason"]) == (False, "QuotaExceeded")
    assert (await ask(acme, kind="meter", name="vision.agent_executions"))["allowed"]
    assert (await ask(acme, kind="meter", name="nonsense"))["reason"] == "UnknownMeter"


async def test_questions_out_of_good_standing_are_refused(acme: Site, billing: Billing) -> None:
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    answer = await ask(acme, kind="output", name="webhook")
    assert (answer["allowed"], answer["reason"]) == (False, "SubscriptionInactive")
