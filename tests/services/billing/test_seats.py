"""Camera seats with their history: in bulk, moved, released late, tried once, claimed twice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from services.billing.answers import enrolled, seats_of, statuses, terms
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device
from support.billing import CUSTOMER

DAY = 86_400
SEATS = f"/api/v1/admin/customers/{CUSTOMER}/seats"


async def shown(vendor: httpx.AsyncClient, camera_id: str = "") -> dict[str, Any]:
    answer = await vendor.get(f"{SEATS}/{camera_id}" if camera_id else SEATS)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_seats_are_issued_in_bulk_and_refused_beyond_with_used_and_limit(
    billing: Billing, vendor: httpx.AsyncClient
) -> None:
    site = await enrolled(billing, terms(base_seat=150, device__basic=1))
    cameras = [camera(n) for n in range(1, 161)]
    answer = await site.inventory([device(1)], cameras)
    found = statuses(answer)
    assert found[:150] == [("issued", "Issued")] * 150
    assert found[150:] == [("refused", "QuotaExceeded")] * 10
    assert {json.dumps(c["use"]) for c in answer["cameras"][150:]} == {
        json.dumps({"used": 150, "limit": 150})
    }
    assert len(seats_of(answer, billing).seats) == 150
    listed = await shown(vendor)
    assert listed["base"] == {"used": 150, "limit": 150}
    assert len(listed["seats"]) == len(listed["history"]) == 150


async def test_moves_between_devices_are_history_with_who_from_and_to(
    acme: Site, billing: Billing, vendor: httpx.AsyncClient, run: Any
) -> None:
    devices = [device(1), device(2), device(3)]
    first = await acme.inventory(devices, [camera(1), camera(2)])
    moments = []
    for target in ("hw-2", "hw-3"):
        billing.clock.advance(hours=1)
        moments.append(billing.clock.now)
        moved = await acme.inventory(devices, [camera(1, hardwareId=target), camera(2)])
        assert moved["cameras"][0]["seat"] == first["cameras"][0]["seat"]
    found = await shown(vendor, "cam-1")
    assert [s["hardwareId"] for s in found["seats"]] == ["hw-3"]
    assert [(h["action"], h["fromHardwareId"], h["hardwareId"]) for h in found["history"]] == [
        ("taken", None, "hw-1"),
        ("moved", "hw-1", "hw-2"),
        ("moved", "hw-2", "hw-3"),
    ]
    assert {h["actor"] for h in found["history"]} == {f"instance:{acme.instance_id}"}
    assert {h["seat"] for h in found["history"]} == {first["cameras"][0]["seat"]}
    assert [h["at"] for h in found["history"][1:]] == pytest.approx(moments, abs=5)
    out = await asyncio.to_thread(
        run, "admin", "seats", "--customer", CUSTOMER, "--camera", "cam-1", "-o", "json"
    )
    assert json.loads(out)["history"] == found["history"]
    out = await asyncio.to_thread(run, "admin", "seats", "--customer", CUSTOMER)
    assert "2 of 10 used" in out
    assert "moved" in out


async def test_a_camera_deleted_while_the_line_was_down_is_freed_when_it_is_back(
    billing: Billing, vendor: httpx.AsyncClient
) -> None:
    site = await enrolled(billing, terms(base_seat=1, device__basic=1))
    await site.inventory([device(1)], [camera(1)])
    # 20 days without a call: the seat is held, whatever was deleted meanwhile.
    billing.clock.advance(days=20)
    assert (await shown(vendor))["base"]["used"] == 1
    back = await site.inventory([device(1)], [])
    assert seats_of(back, billing).seats == {}
    found = await shown(vendor)
    assert found["base"]["used"] == 0
    assert found["seats"][0]["heldUntil"] == pytest.approx(billing.clock.now + 600, abs=5)
    freed = found["history"][-1]
    assert (freed["action"], freed["reason"], freed["hardwareId"]) == ("freed", "Removed", "hw-1")
    assert freed["at"] == pytest.approx(billing.clock.now, abs=5)
    billing.clock.advance(seconds=601)
    again = await site.inventory([device(1)], [camera(2)])
    assert statuses(again) == [("issued", "Issued")]


async def test_an_ended_instance_frees_its_seats_with_the_reason(
    acme: Site, billing: Billing, vendor: httpx.AsyncClient
) -> None:
    await acme.inventory([device(1)], [camera(1)])
    assert (await acme.call("DELETE", "/api/v1/instance")).status_code == 204
    last = (await shown(vendor, "cam-1"))["history"][-1]
    assert (last["action"], last["reason"]) == ("freed", "Deleted")
    assert last["actor"] == f"instance:{acme.instance_id}"


# Trials.


async def test_a_camera_is_tried_once_whatever_its_resource_is_called(
    billing: Billing, vendor: httpx.AsyncClient
) -> None:
    """Two trial seats of which one was never used: the tried camera does not get the other."""
    site = await enrolled(billing, terms(trial_seat=2, device__basic=1))
    first = await site.inventory([device(1)], [camera(1, mode="trial")])
    until = seats_of(first, billing).seats["cam-1"].until
    assert until == pytest.approx(billing.clock.now + 90 * DAY, abs=5)
    billing.clock.advance(days=50)
    await site.rotate()
    billing.clock.advance(days=41)
    for again in (
        camera(1, mode="trial"),
        camera(1, mode="trial", name="renamed", uid="another"),
    ):
        assert statuses(await site.inventory([device(1)], [again])) == [("refused", "TrialEnded")]
        await site.inventory([device(1)], [])
        billing.clock.advance(seconds=601)
        assert statuses(await site.inventory([device(1)], [again])) == [("refused", "TrialEnded")]
    # The other seat is for another camera.
    other = await site.inventory([device(1)], [camera(2, mode="trial")])
    assert statuses(other) == [("issued", "Issued")]
    found = await shown(vendor)
    assert found["trial"] == {"used": 1, "limit": 2}
    assert {t["cameraId"]: t["until"] for t in found["trials"]}["cam-1"] == until


async def test_another_trial_seat_gives_a_camera_no_more_days(
    billing: Billing, vendor: httpx.AsyncClient
) -> None:
    site = await enrolled(billing, terms(trial_seat=2, device__basic=1))
    first = await site.inventory([device(1)], [camera(1, mode="trial")])
    until = seats_of(first, billing).seats["cam-1"].until
    billing.clock.advance(days=40)
    # Its seat goes to another camera, and it takes the one that nobody has used.
    await site.inventory([device(1)], [])
    billing.clock.advance(seconds=601)
    await site.inventory([device(1)], [camera(2, mode="trial")])
    back = await site.inventory([device(1)], [camera(2, mode="trial"), camera(1, mode="trial")])
    assert statuses(back)[1] == ("issued", "Issued")
    assert seats_of(back, billing).seats["cam-1"].until == until


async def test_trials_survive_an_instance_that_is_enrolled_anew(billing: Billing) -> None:
    site = await enrolled(billing, terms(trial_seat=2, device__basic=1))
    await site.inventory([device(1)], [camera(1, mode="trial")])
    billing.clock.advance(days=91)
    fresh = await billing.site(replace=True)
    answer = await fresh.inventory([device(1)], [camera(1, mode="trial")])
    assert statuses(answer) == [("refused", "TrialEnded")]


async def test_of_two_devices_that_claim_a_camera_the_older_license_wins(
    acme: Site, billing: Billing
) -> None:
    """In whatever order they are sent; the other is told who has it, and where."""
    older = camera(1)
    later = camera(2, cameraId="cam-1", hardwareId="hw-2")
    for sent in ([older, later], [later, older]):
        answer = await acme.inventory([device(1), device(2)], sent)
        found = {
            sent[n]["name"]: (c["reason"], c["message"]) for n, c in enumerate(answer["cameras"])
        }
        assert found["camera-1"][0] == "Issued"
        assert found["camera-2"][0] == "CameraConflict"
        assert "camera-1 on hw-1" in found["camera-2"][1]
        assert (
            seats_of(await acme.inventory([device(1), device(2)], sent, held={}), billing)
            .seats["cam-1"]
            .hardware_id
            == "hw-1"
        )
