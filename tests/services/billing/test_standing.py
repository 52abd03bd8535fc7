"""What a cancellation, an unpaid invoice or less bought does to a site, operator or not."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import LicenseClaims, TokenKind
from brinkbyte.license.documents import Snapshot, Verifier
from brinkbyte.license.keys import load_roots
from brinkbyte.license.modes import LicenseMode, decide_mode
from brinkbyte.license.tokens import verify
from services.billing.answers import enrolled, seats_of, statuses, terms
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, reason
from support.billing import CUSTOMER, DEFAULT_TERMS

DAY = 86_400


async def tokens_of(site: Site, **held: int) -> dict[str, Any]:
    answer = await site.tokens(**held)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def license_in(answer: dict[str, Any], billing: Billing) -> LicenseClaims:
    return verify(
        answer["license"], LicenseClaims, billing.keys, now=billing.clock.now, check_expiry=False
    )


def hard_end(billing: Billing) -> int:
    return int(billing.query("SELECT hard_end FROM subscriptions")[0]["hard_end"].timestamp())


async def test_cancellation_without_an_end_ends_with_the_day(acme: Site, billing: Billing) -> None:
    end = (billing.clock.now // DAY + 1) * DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="canceled")
    claims = license_in(await tokens_of(acme), billing)
    assert (claims.exp, claims.grace_seconds) == (end, 0)
    assert decide_mode(claims, now=end - 1).full
    assert decide_mode(claims, now=end).mode is LicenseMode.EXPIRED
    # Canceling it again another day changes nothing.
    billing.clock.advance(days=3)
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="canceled")
    assert hard_end(billing) == end
    answer = await acme.inventory([device(1)], [camera(1)])
    assert statuses(answer) == [("refused", "SubscriptionInactive")]


async def test_cancellation_never_lasts_longer_than_what_it_ends(
    acme: Site, billing: Billing
) -> None:
    end = billing.clock.now - DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="past_due", hard_end=end)
    claims = license_in(await tokens_of(acme), billing)
    assert decide_mode(claims, now=billing.clock.now).mode is LicenseMode.GRACE
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="canceled")
    assert hard_end(billing) == end
    # Grace ends with it: the license says so though its end is past.
    claims = license_in(await tokens_of(acme), billing)
    assert (claims.exp, claims.grace_seconds) == (end, 0)


async def test_end_in_the_past_is_told_once(acme: Site, billing: Billing) -> None:
    first = await tokens_of(acme)
    held = license_in(first, billing).license_sequence
    end = billing.clock.now - 9 * DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, hard_end=end)
    second = await tokens_of(acme, licenseSequence=held, keySetNumber=1)
    claims = license_in(second, billing)
    assert claims.exp == end
    assert claims.license_sequence > held
    # What holds the old one takes the new one in, though it has ended.
    roots = load_roots((billing.directory / "root" / "roots.json").read_bytes())
    keys = (billing.directory / "keys" / "jwks.json").read_text()
    snapshot = Snapshot()
    for answer in (first, second):
        documents = {TokenKind.KEY_SET: keys, TokenKind.LICENSE: answer["license"]}
        taken = Verifier(roots, acme.instance_id, CUSTOMER).take_in(
            snapshot, documents, now=billing.clock.now
        )
        assert taken.refused == ()
        snapshot = taken.snapshot
    assert snapshot.license == claims
    assert decide_mode(snapshot.license, now=billing.clock.now).mode is LicenseMode.EXPIRED
    numbers = {"licenseSequence": claims.license_sequence, "keySetNumber": 1}
    numbers["seatsSequence"] = seats_in(second)
    assert (await acme.tokens(**numbers)).status_code == 304
    assert (await acme.tokens(**numbers)).status_code == 304


def seats_in(answer: dict[str, Any]) -> int:
    claims = jwt.decode(answer["seats"], options={"verify_signature": False})
    return int(claims["seatsSequence"])


async def test_end_that_comes_nearer_is_told_though_nothing_else_changes(
    acme: Site, billing: Billing
) -> None:
    claims = license_in(await tokens_of(acme), billing)
    end = billing.clock.now + 20 * DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, hard_end=end)
    told = license_in(await tokens_of(acme, licenseSequence=claims.license_sequence), billing)
    assert told.exp == end


async def test_trial_plan_beside_what_is_paid_for_is_refused(billing: Billing) -> None:
    await billing.customer()
    mixed = {"plans": {"fleet": "trial"}, "quantities": {"vision.base_seat": 10}}
    with pytest.raises(ProblemError, match=r"vision\.base_seat.*choose a plan") as refused:
        await billing.buy(CUSTOMER, mixed)
    assert refused.value.reason == "InvalidTerms"
    free = {"plans": {"fleet": "trial"}, "quantities": {"vision.trial_seat": 2}}
    await billing.buy(CUSTOMER, free)


async def test_unpaid_customer_keeps_everything_through_grace(billing: Billing) -> None:
    bought = terms(base_seat=3, device__basic=4)
    site = await enrolled(billing, bought)
    devices = [device(n) for n in (1, 2, 3, 4)]
    first = await site.inventory(devices, [camera(1, growthPacks=[]), camera(2)])
    end = billing.clock.now + DAY
    await billing.buy(CUSTOMER, bought, status="past_due", hard_end=end)
    billing.clock.advance(days=3)
    answer = await site.inventory(
        [*devices, device(5)], [camera(1), camera(2, hardwareId="hw-2"), camera(3)]
    )
    assert [d["status"] for d in answer["devices"]] == ["registered"] * 4 + ["refused"]
    assert answer["devices"][4]["reason"] == "SubscriptionInactive"
    assert [s for s, _ in statuses(answer)] == ["issued", "issued", "refused"]
    assert statuses(answer)[2] == ("refused", "SubscriptionInactive")
    assert [c["seat"] for c in answer["cameras"][:2]] == [c["seat"] for c in first["cameras"]]
    body = {"camera_id": "cam-1", "tenant_id": CUSTOMER, "device_id": "hw-1"}
    asked = (await site.call("POST", "/api/v1/licenses/validate", json=body)).json()
    assert (asked["is_valid"], asked["license_mode"]) == (True, "grace")
    claims = license_in(await tokens_of(site), billing)
    assert decide_mode(claims, now=billing.clock.now).mode is LicenseMode.GRACE
    # A camera made anew within ten minutes finds its seat.
    await site.inventory(devices, [camera(2, hardwareId="hw-2")])
    back = await site.inventory(devices, [camera(1), camera(2, hardwareId="hw-2")])
    assert back["cameras"][0]["seat"] == first["cameras"][0]["seat"]
    billing.clock.advance(days=6)
    over = await site.inventory(devices, [camera(1)])
    assert statuses(over) == [("refused", "SubscriptionInactive")]
    assert [d["status"] for d in over["devices"]].count("registered") == 3
    asked = (await site.call("POST", "/api/v1/licenses/validate", json=body)).json()
    assert (asked["is_valid"], asked["license_mode"]) == (False, "expired")


async def test_grace_extends_no_cancellation(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1)])
    end = billing.clock.now + DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="canceled", hard_end=end)
    billing.clock.advance(days=1, seconds=5)
    answer = await acme.inventory([device(1)], [camera(1)])
    assert answer["cameras"][0]["status"] == "refused"


async def test_grace_extends_no_trial(billing: Billing) -> None:
    tried = {"plans": {"fleet": "trial"}, "quantities": {"vision.trial_seat": 1}}
    site = await enrolled(billing, tried, trial_days=1)
    first = await site.inventory([device(1)], [camera(1, mode="trial")])
    assert first["cameras"][0]["status"] == "issued"
    billing.clock.advance(days=1, seconds=5)
    answer = await site.inventory([device(1)], [camera(1, mode="trial")])
    assert statuses(answer) == [("refused", "TrialEnded")]


async def test_trial_of_what_is_paid_for_becomes_paid_at_its_end(billing: Billing) -> None:
    site = await enrolled(billing, DEFAULT_TERMS, trial_days=1)
    assert license_in(await tokens_of(site), billing).trial.is_active
    billing.clock.advance(days=1, seconds=5)
    # Nobody but time has changed anything.
    claims = license_in(await tokens_of(site), billing)
    assert (claims.trial.is_active, claims.subscription.status) == (False, "active")
    assert claims.exp == claims.iat + 45 * DAY


async def test_downgrade_shrinks_the_seat_list_without_an_inventory(
    acme: Site, billing: Billing
) -> None:
    first = await acme.inventory([device(1)], [camera(n) for n in (1, 2, 3)])
    held = seats_in(first)
    less = {**DEFAULT_TERMS["quantities"], "vision.base_seat": 1}
    await billing.buy(CUSTOMER, {**DEFAULT_TERMS, "quantities": less})
    # What is paid for stays until the next period, then the list shrinks by itself.
    assert len(seats_of(await tokens_of(acme), billing).seats) == 3
    billing.clock.advance(days=31)
    await acme.rotate()
    answer = await tokens_of(acme, seatsSequence=held)
    assert set(seats_of(answer, billing).seats) == {"cam-1"}
    assert seats_in(await tokens_of(acme)) == seats_in(answer)
    # The operator learns of it: its next delta is sent back for the complete set.
    assert reason(await acme.put([], [], baseRevision=first["revision"])) == (
        409,
        "RevisionMismatch",
    )
    again = await acme.inventory([device(1)], [camera(n) for n in (1, 2, 3)])
    # Issued anew, as a month has passed.
    assert [s for s, _ in statuses(again)] == ["issued", "refused", "refused"]
    rows = billing.query("SELECT actor FROM audit_log WHERE action = 'inventory.changed'")
    assert "server" in {row["actor"] for row in rows}


async def test_waiting_camera_gets_its_seat_once_more_is_bought(
    acme: Site, billing: Billing
) -> None:
    await acme.inventory([device(1)], [camera(n) for n in range(1, 12)])
    more = {**DEFAULT_TERMS["quantities"], "vision.base_seat": 11}
    await billing.buy(CUSTOMER, {**DEFAULT_TERMS, "quantities": more})
    answer = await tokens_of(acme)
    assert len(seats_of(answer, billing).seats) == 11
    again = await acme.inventory([device(1)], [camera(n) for n in range(1, 12)])
    assert statuses(again)[10] == ("issued", "Issued")


async def test_revoked_camera_is_out_without_an_inventory(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1), camera(2)])
    async with billing.admin() as admin:
        await admin.revoke(CUSTOMER, camera_id="cam-1", reason="stolen")
    body = {"camera_id": "cam-1", "tenant_id": CUSTOMER, "device_id": "hw-1"}
    asked = (await acme.call("POST", "/api/v1/licenses/validate", json=body)).json()
    assert (asked["is_valid"], asked["reason"]) == (False, "Revoked")
    question = {"kind": "model", "name": "person", "cameraId": "cam-1"}
    answer = (await acme.call("POST", "/api/v1/entitlements/check", json=question)).json()
    assert (answer["allowed"], answer["reason"]) == (False, "Revoked")
    assert set(seats_of(await tokens_of(acme), billing).seats) == {"cam-2"}


async def test_tenant_with_trial_seats_alone_has_the_base_names(billing: Billing) -> None:
    site = await enrolled(billing, terms(trial_seat=1, device__basic=1))
    question = {"kind": "model", "name": "person"}
    answer = (await site.call("POST", "/api/v1/entitlements/check", json=question)).json()
    assert answer["allowed"]


async def test_device_that_wants_another_tier_takes_it_from_nobody(billing: Billing) -> None:
    bought = terms(base_seat=2, device__basic=1, device__managed=1)
    site = await enrolled(billing, bought)
    await site.inventory([device(1), device(2, managementTier="managed")])
    wants = [device(1, managementTier="managed"), device(2, managementTier="managed")]
    cameras = [camera(1), camera(2, hardwareId="hw-2")]
    for _ in range(2):
        answer = await site.inventory(wants, cameras)
        assert [d["status"] for d in answer["devices"]] == ["refused", "registered"]
        assert answer["devices"][0]["reason"] == "QuotaExceeded"
        assert "stays registered as basic" in answer["devices"][0]["message"]
        assert answer["deviceUse"] == {"used": 2, "limit": 2}
        assert {c["status"] for c in answer["cameras"]} <= {"issued", "unchanged"}
    row = billing.query("SELECT * FROM devices WHERE name = 'device-1'")[0]
    assert (row["management_tier"], row["registered_tier"]) == ("managed", "basic")
    # Its basic place is still its own.
    answer = await site.inventory([*wants, device(3)])
    assert answer["devices"][2]["reason"] == "QuotaExceeded"
    await billing.buy(CUSTOMER, terms(base_seat=2, device__basic=1, device__managed=2))
    answer = await site.inventory([*wants, device(3)])
    assert [d["status"] for d in answer["devices"]] == ["registered"] * 3
