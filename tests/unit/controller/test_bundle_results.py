"""What a bundle says of devices and cameras as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from brinkbyte.controller.bundle_results import judge
from brinkbyte.controller.context import InventoryMemory
from brinkbyte.controller.documents import Documents
from brinkbyte.controller.member_pass import Device
from brinkbyte.controller.roster import HeldToken
from brinkbyte.license.bundle import Bundle, read_bundle
from brinkbyte.license.claims import CameraClaims
from brinkbyte.license.seats import Seat
from support.bundles import bundle_text, content
from support.licensing import NOW, camera_claims, seats_claims, vendor
from support.plans import a_pass, camera_body, device

CLAIMS = camera_claims()
GATE = Device({}, device({"name": "gate"}, hardwareId="hw-1", managementTier="basic"))
DOCK = Device({}, device({"name": "dock"}, hardwareId="hw-2", managementTier="basic"))


@dataclass
class Entry:
    """A camera: as it is in the cluster, its device, the token in its Secret."""

    live: dict[str, Any]
    on: Device
    claims: CameraClaims | None

    @property
    def camera_id(self) -> str:
        return str(self.live["spec"]["cameraId"])


def entry(*, on: Device = GATE, claims: CameraClaims | None = None, **spec: Any) -> Entry:
    wanted = {"cameraId": "cam-1", "growthPacks": ["retail"], "mode": "base", **spec}
    wanted |= {"tenantRef": {"name": "acme"}, "deviceRef": {"name": on.model.name}}
    return Entry(camera_body({"name": "entry", "namespace": "acme"}, **wanted), on, claims)


def bundle(**over: Any) -> Bundle:
    return read_bundle(bundle_text(content(**over)), vendor().roots, now=NOW)


def judged(
    made: Bundle | None, *, devices: tuple[Device, ...] = (GATE,), cameras: tuple[Entry, ...] = ()
) -> InventoryMemory:
    known = InventoryMemory()
    there = {id(each): each for each in (*devices, *(found.on for found in cameras))}
    at = datetime.fromtimestamp(NOW, UTC)
    run = a_pass(at, there.values(), (each.live for each in cameras))
    for each in cameras:
        if each.claims is not None:
            run.crew.members["entry"].held = HeldToken.of(each.claims)
    seats = seats_claims([Seat("cam-1", "hw-1", CLAIMS.mode, ("retail",))])
    judge(run, known, Documents(seats=seats), made, verified=lambda _token: CLAIMS)
    return known


def words(result: Any) -> tuple[str, str]:
    return result.status, result.reason


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (entry(), ("issued", "Issued")),
        # Moved, or with other packs or another mode, it is not what was asked for.
        (entry(on=DOCK), ("refused", "NotInBundle")),
        (entry(growthPacks=["retail", "mining"]), ("refused", "NotInBundle")),
        (entry(growthPacks=[]), ("refused", "NotInBundle")),
        (entry(mode="trial"), ("refused", "NotInBundle")),
        (entry(cameraId="cam-2"), ("refused", "NotInBundle")),
    ],
)
def test_a_camera_is_licensed_as_it_was_asked_for(found: Entry, expected: tuple[str, str]) -> None:
    result = judged(bundle(), cameras=(found,)).camera_results[found.camera_id]
    assert words(result) == expected
    if expected[0] == "refused":
        assert "brinkbyte license request" in result.message


def test_a_refusal_is_shown_while_it_is_about_what_is_asked() -> None:
    made = bundle(
        cameras=[
            {
                "camera_id": "cam-1",
                "status": "refused",
                "reason": "QuotaExceeded",
                "message": "full",
                "use": {"used": 10, "limit": 10},
            }
        ],
        asked_cameras=[
            {
                "camera_id": "cam-1",
                "hardware_id": "hw-1",
                "mode": "base",
                "growth_packs": ["retail"],
            }
        ],
    )
    result = judged(made, cameras=(entry(),)).camera_results["cam-1"]
    assert words(result) == ("refused", "QuotaExceeded")
    assert result.use is not None
    assert (result.use.used, result.use.limit) == (10, 10)
    changed = judged(made, cameras=(entry(growthPacks=[]),)).camera_results["cam-1"]
    assert words(changed) == ("refused", "NotInBundle")


def test_without_the_bundle_what_it_gave_goes_on() -> None:
    kept = judged(None, cameras=(entry(claims=CLAIMS),), devices=(GATE, DOCK))
    assert kept.camera_results == {}
    assert words(kept.device_results["hw-1"]) == ("registered", "Registered")
    assert words(kept.device_results["hw-2"]) == ("refused", "NotInBundle")
    new = judged(None, cameras=(entry(),))
    assert words(new.camera_results["cam-1"]) == ("refused", "NotInBundle")


def test_a_token_that_a_newer_bundle_no_longer_names_counts_for_nothing() -> None:
    made = bundle(cameras=[])
    result = judged(made, cameras=(entry(claims=CLAIMS),)).camera_results["cam-1"]
    assert words(result) == ("refused", "NotInBundle")


def test_devices_are_those_of_the_bundle_in_the_tier_that_was_asked() -> None:
    managed = Device({}, device({"name": "gate"}, hardwareId="hw-1", managementTier="managed"))
    assert words(judged(bundle()).device_results["hw-1"]) == ("registered", "Registered")
    for made, each in ((bundle(), managed), (bundle(), DOCK), (bundle(devices=[]), GATE)):
        hardware_id = each.model.spec.hardware_id
        result = judged(made, devices=(each,)).device_results[hardware_id]
        assert words(result) == ("refused", "NotInBundle")
    full = {"hardware_id": "hw-1", "status": "refused", "reason": "QuotaExceeded"}
    refused = judged(bundle(devices=[full])).device_results["hw-1"]
    assert words(refused) == ("refused", "QuotaExceeded")
