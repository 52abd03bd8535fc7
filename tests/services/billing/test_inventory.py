"""Inventory: devices against the limit, seats by SKU, moves, holds, conflicts, deltas."""

from __future__ import annotations

import jwt
import pytest

from brinkbyte.license.claims import CameraClaims, LicenseClaims
from brinkbyte.license.tokens import verify
from services.billing.answers import enrolled, seats_of, statuses, terms
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device
from support.billing import CUSTOMER, DEFAULT_TERMS


async def test_first_inventory_issues_verifiable_licenses(acme: Site, billing: Billing) -> None:
    cameras = [camera(1, growthPacks=["retail"]), camera(2)]
    answer = await acme.inventory([device(1)], cameras)
    now = billing.clock.now
    assert statuses(answer) == [("issued", "Issued")] * 2
    assert answer["deviceUse"] == {"used": 1, "limit": 50}
    assert answer["cameraUse"] == {"used": 2, "limit": 10}
    license_ = verify(
        answer["license"], LicenseClaims, billing.keys, now=now, audience=acme.instance_id
    )
    assert (license_.plan, license_.features.max_devices) == ("professional", 50)
    assert license_.cnf.jkt == acme.key.kid
    assert license_.quotas["vision.api_calls"] == 500_000
    token = verify(
        answer["cameras"][0]["token"],
        CameraClaims,
        billing.keys,
        now=now,
        audience=acme.instance_id,
    )
    assert token.growth_packs == ("retail",)
    assert {"trolley", "person"} <= set(token.grant.models)
    assert token.seat == answer["cameras"][0]["seat"]
    listed = seats_of(answer, billing)
    assert token.seats_sequence == listed.sequence
    assert set(listed.seats) == {"cam-1", "cam-2"}
    assert listed.claims.devices == ("hw-1",)
    grant = listed.grant_of("cam-1", now=now)
    assert grant == token.grant


async def test_same_inventory_again_changes_nothing(acme: Site, billing: Billing) -> None:
    sent = [device(1)], [camera(1, growthPacks=["retail"]), camera(2)]
    first = await acme.inventory(*sent)
    held = {
        "licenseSequence": jwt.decode(first["license"], options={"verify_signature": False})[
            "licenseSequence"
        ],
        "seatsSequence": seats_of(first, billing).sequence,
        "keySetNumber": 1,
    }
    before = billing.query("SELECT xmin, * FROM seats ORDER BY camera_id")
    again = await acme.inventory(*sent, held=held)
    assert statuses(again) == [("unchanged", "Issued")] * 2
    assert all(c["token"] is None for c in again["cameras"])
    assert again["revision"] == first["revision"]
    assert [again[k] for k in ("license", "seats", "revocations", "keySet")] == [None] * 4
    assert billing.query("SELECT xmin, * FROM seats ORDER BY camera_id") == before


async def test_lost_answer_is_given_again(acme: Site) -> None:
    first = await acme.inventory([device(1)], [camera(1)])
    acme.held_cameras.clear()
    again = await acme.inventory([device(1)], [camera(1)])
    assert again["cameras"][0] == first["cameras"][0]
    assert again["license"] == first["license"]


async def test_devices_beyond_the_limit_are_refused_in_order_of_creation(
    billing: Billing,
) -> None:
    site = await enrolled(billing, terms(device__basic=2))
    devices = [device(3), device(1), device(2)]
    answer = await site.inventory(devices)
    found = {d["hardwareId"]: d for d in answer["devices"]}
    assert [d["hardwareId"] for d in answer["devices"]] == ["hw-3", "hw-1", "hw-2"]
    assert found["hw-3"]["reason"] == "QuotaExceeded"
    assert found["hw-3"]["use"] == {"used": 2, "limit": 2}
    assert "vision.device.basic" in found["hw-3"]["message"]
    assert {found["hw-1"]["status"], found["hw-2"]["status"]} == {"registered"}
    # One goes: the waiting one takes its place.
    answer = await site.inventory([device(3), device(2)])
    assert [d["status"] for d in answer["devices"]] == ["registered"] * 2


async def test_registered_devices_stay_when_an_older_one_appears(billing: Billing) -> None:
    site = await enrolled(billing, terms(device__basic=1))
    await site.inventory([device(5)])
    answer = await site.inventory([device(1), device(5)])
    assert [d["status"] for d in answer["devices"]] == ["refused", "registered"]


async def test_tiers_count_apart_when_devices_are_bought(billing: Billing) -> None:
    site = await enrolled(billing, terms(device__basic=1, device__managed=1))
    answer = await site.inventory([device(1), device(2), device(3, managementTier="managed")])
    assert [d["status"] for d in answer["devices"]] == ["registered", "refused", "registered"]
    assert answer["deviceUse"] == {"used": 2, "limit": 2}


async def test_fleet_plan_sets_the_device_limit(acme: Site) -> None:
    answer = await acme.inventory([device(n) for n in range(51)])
    assert [d["status"] for d in answer["devices"]].count("registered") == 50


async def test_without_a_subscription_three_devices_and_no_seat(billing: Billing) -> None:
    await billing.customer()
    site = await billing.site()
    answer = await site.inventory([device(n) for n in range(4)], [camera(1, hardwareId="hw-0")])
    assert [d["status"] for d in answer["devices"]] == ["registered"] * 3 + ["refused"]
    assert statuses(answer) == [("refused", "SubscriptionInactive")]
    assert answer["license"] is None


async def test_two_resources_with_one_hardware_id_conflict(acme: Site) -> None:
    answer = await acme.inventory([device(1), device(2, hardwareId="hw-1")])
    assert [(d["status"], d["reason"]) for d in answer["devices"]] == [
        ("registered", "Registered"),
        ("refused", "DeviceConflict"),
    ]
    assert "device-1" in answer["devices"][1]["message"]


async def test_full_plan_refuses_with_used_and_limit(billing: Billing) -> None:
    site = await enrolled(billing, terms(base_seat=2, device__basic=1))
    answer = await site.inventory([device(1)], [camera(n) for n in (3, 1, 2)])
    assert statuses(answer) == [
        ("refused", "QuotaExceeded"),
        ("issued", "Issued"),
        ("issued", "Issued"),
    ]
    refused = answer["cameras"][0]
    assert (refused["use"], refused["sku"]) == ({"used": 2, "limit": 2}, "vision.base_seat")
    assert "https://" in refused["message"]
    # It heals by itself once more is bought.
    await billing.buy(CUSTOMER, terms(base_seat=3, device__basic=1))
    answer = await site.inventory([device(1)], [camera(n) for n in (3, 1, 2)])
    assert [s for s, _ in statuses(answer)] == ["issued", "unchanged", "unchanged"]


async def test_pack_quantity_is_counted_per_camera(acme: Site) -> None:
    cameras = [camera(n, growthPacks=["retail"]) for n in (1, 2, 3)]
    answer = await acme.inventory([device(1)], cameras)
    refused = answer["cameras"][2]
    assert (refused["status"], refused["sku"]) == ("refused", "vision.pack.retail")
    assert refused["use"] == {"used": 2, "limit": 2}


@pytest.mark.parametrize(
    ("pack", "expected"),
    [
        ("nonsense", "UnknownPack"),
        ("integration", "UnknownPack"),
        ("mining", "QuotaExceeded"),
        ("intelligence", "QuotaExceeded"),
    ],
)
async def test_pack_that_is_unknown_or_not_bought_is_refused(
    acme: Site, pack: str, expected: str
) -> None:
    answer = await acme.inventory([device(1)], [camera(1, growthPacks=[pack])])
    assert statuses(answer) == [("refused", expected)]
    assert pack in answer["cameras"][0]["message"]


async def test_bought_tenant_pack_may_be_named_on_a_camera(acme: Site) -> None:
    answer = await acme.inventory([device(1)], [camera(1, growthPacks=["integration.api_overage"])])
    assert statuses(answer) == [("issued", "Issued")]


async def test_refused_change_leaves_the_seat_as_it_was(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1)])
    answer = await acme.inventory([device(1)], [camera(1, growthPacks=["mining"])])
    assert statuses(answer) == [("refused", "QuotaExceeded")]
    assert answer["cameraUse"]["used"] == 1
    assert seats_of(answer, billing).seats["cam-1"].packs == ()


async def test_added_and_dropped_packs_are_issued_anew(acme: Site, billing: Billing) -> None:
    first = await acme.inventory([device(1)], [camera(1)])
    for packs in (["retail"], []):
        answer = await acme.inventory([device(1)], [camera(1, growthPacks=packs)])
        assert statuses(answer) == [("issued", "Issued")]
        assert answer["cameras"][0]["seat"] == first["cameras"][0]["seat"]
        assert seats_of(answer, billing).seats["cam-1"].packs == tuple(packs)


async def test_holder_of_a_pack_keeps_it_when_an_older_camera_wants_it(acme: Site) -> None:
    await acme.inventory([device(1)], [camera(1)])
    holders = [camera(2, growthPacks=["retail"]), camera(3, growthPacks=["retail"])]
    await acme.inventory([device(1)], [camera(1), *holders])
    answer = await acme.inventory([device(1)], [camera(1, growthPacks=["retail"]), *holders])
    assert [s for s, _ in statuses(answer)] == ["refused", "unchanged", "unchanged"]


async def test_camera_claimed_by_two_devices_is_a_conflict_for_the_later(
    acme: Site, billing: Billing
) -> None:
    later = camera(2, cameraId="cam-1", hardwareId="hw-2")
    answer = await acme.inventory([device(1), device(2)], [later, camera(1)])
    assert statuses(answer) == [("refused", "CameraConflict"), ("issued", "Issued")]
    assert "camera-1" in answer["cameras"][0]["message"]
    assert seats_of(answer, billing).seats["cam-1"].hardware_id == "hw-1"
    # The holder keeps it also against one that says it is older.
    older = camera(0, cameraId="cam-1", hardwareId="hw-2", name="older")
    answer = await acme.inventory([device(1), device(2)], [older, camera(1)])
    assert statuses(answer) == [("refused", "CameraConflict"), ("unchanged", "Issued")]
    answer = await acme.inventory([device(1), device(2)], [older])
    assert statuses(answer) == [("issued", "Issued")]


async def test_moving_keeps_the_seat_and_writes_history(acme: Site, billing: Billing) -> None:
    first = await acme.inventory([device(1), device(2)], [camera(1)])
    moved = await acme.inventory([device(1), device(2)], [camera(1, hardwareId="hw-2")])
    assert moved["cameras"][0]["status"] == "issued"
    assert moved["cameras"][0]["seat"] == first["cameras"][0]["seat"]
    assert seats_of(moved, billing).seats["cam-1"].hardware_id == "hw-2"
    history = billing.query("SELECT action, hardware_id FROM seat_history ORDER BY id")
    assert [(h["action"], h["hardware_id"]) for h in history] == [
        ("taken", "hw-1"),
        ("moved", "hw-2"),
    ]


async def test_camera_on_a_missing_or_refused_device_is_refused(billing: Billing) -> None:
    site = await enrolled(billing, terms(base_seat=5, device__basic=1))
    cameras = [camera(1, hardwareId="hw-9"), camera(2, hardwareId="hw-2")]
    answer = await site.inventory([device(1), device(2)], cameras)
    assert statuses(answer) == [("refused", "DeviceNotRegistered")] * 2
    assert "not declared" in answer["cameras"][0]["message"]
    assert "refused" in answer["cameras"][1]["message"]


async def test_seat_waits_ten_minutes_for_the_same_camera(billing: Billing) -> None:
    site = await enrolled(billing, terms(base_seat=1, device__basic=1))
    first = await site.inventory([device(1)], [camera(1)])
    gone = await site.inventory([device(1)], [])
    assert seats_of(gone, billing).seats == {}
    assert gone["cameraUse"] == {"used": 0, "limit": 1}
    refused = await site.inventory([device(1)], [camera(2)])
    assert statuses(refused) == [("refused", "QuotaExceeded")]
    billing.clock.advance(seconds=590)
    back = await site.inventory([device(1)], [camera(1, name="recreated", uid="new")])
    assert back["cameras"][0]["seat"] == first["cameras"][0]["seat"]
    assert back["cameras"][0]["status"] == "issued"
    await site.inventory([device(1)], [])
    billing.clock.advance(seconds=601)
    other = await site.inventory([device(1)], [camera(2)])
    assert statuses(other) == [("issued", "Issued")]
    actions = [h["action"] for h in billing.query("SELECT action FROM seat_history ORDER BY id")]
    assert actions == ["taken", "freed", "retaken", "freed", "taken"]


async def test_license_from_before_the_seat_was_free_is_not_handed_out_again(
    acme: Site, billing: Billing
) -> None:
    first = await acme.inventory([device(1)], [camera(1)])
    freed = await acme.inventory([device(1)], [])
    back = await acme.inventory([device(1)], [camera(1)])
    assert back["cameras"][0]["token"] != first["cameras"][0]["token"]
    claims = verify(back["cameras"][0]["token"], CameraClaims, billing.keys, now=billing.clock.now)
    assert claims.seats_sequence > seats_of(freed, billing).sequence


async def test_device_that_goes_and_comes_back_finds_its_seats(acme: Site) -> None:
    first = await acme.inventory([device(1)], [camera(1)])
    gone = await acme.inventory([], [camera(1)])
    assert statuses(gone) == [("refused", "DeviceNotRegistered")]
    back = await acme.inventory([device(1)], [camera(1)])
    assert back["cameras"][0]["seat"] == first["cameras"][0]["seat"]


async def test_downgrade_keeps_the_longest_holders(billing: Billing) -> None:
    site = await enrolled(billing, terms(base_seat=3, device__basic=1))
    for n in (3, 1, 2):
        held = [c["camera_id"] for c in billing.query("SELECT camera_id FROM seats")]
        await site.inventory([device(1)], [*(camera(int(c[4:])) for c in held), camera(n)])
        billing.clock.advance(seconds=5)
    await billing.buy(CUSTOMER, terms(base_seat=1, device__basic=1), at_once=True)
    answer = await site.inventory([device(1)], [camera(1), camera(2), camera(3)])
    assert [s for s, _ in statuses(answer)] == ["refused", "refused", "unchanged"]
    assert set(seats_of(answer, billing).seats) == {"cam-3"}


async def test_fewer_packs_leave_the_camera_with_its_base_license(
    acme: Site, billing: Billing
) -> None:
    await acme.inventory([device(1)], [camera(1, growthPacks=["retail"])])
    less = {**DEFAULT_TERMS, "quantities": {**DEFAULT_TERMS["quantities"], "vision.pack.retail": 0}}
    await billing.buy(CUSTOMER, less, at_once=True)
    answer = await acme.inventory([device(1)], [camera(1, growthPacks=["retail"])])
    assert statuses(answer) == [("refused", "QuotaExceeded")]
    assert seats_of(answer, billing).seats["cam-1"].packs == ()


async def test_suspended_customer_keeps_seats_but_gets_nothing_new(
    acme: Site, billing: Billing
) -> None:
    first = await acme.inventory([device(1)], [camera(1)])
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    answer = await acme.inventory([device(1)], [camera(1), camera(2)])
    assert statuses(answer) == [("refused", "SubscriptionInactive")] * 2
    license_ = verify(answer["license"], LicenseClaims, billing.keys, now=billing.clock.now)
    assert license_.subscription.status == "suspended"
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="active")
    healed = await acme.inventory([device(1)], [camera(1), camera(2)])
    assert [s for s, _ in statuses(healed)] == ["unchanged", "issued"]
    assert healed["cameras"][0]["seat"] == first["cameras"][0]["seat"]


async def test_camera_removed_while_suspended_is_freed(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1), camera(2)])
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    answer = await acme.inventory([device(1)], [camera(2)])
    assert answer["cameraUse"]["used"] == 1


async def test_ended_trial_is_refused_with_its_reason(billing: Billing) -> None:
    bought = {"plans": {"fleet": "trial"}, "quantities": {"vision.trial_seat": 2}}
    site = await enrolled(billing, bought)
    assert statuses(await site.inventory([device(1)], [camera(1, mode="trial")])) == [
        ("issued", "Issued")
    ]
    billing.clock.advance(days=14, seconds=5)
    answer = await site.inventory([device(1)], [camera(1, mode="trial")])
    assert statuses(answer) == [("refused", "TrialEnded")]
