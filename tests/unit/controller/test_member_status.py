"""Status of devices and cameras: every condition and what takes it away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brinkbyte.controller.member_status import (
    CameraView,
    DeviceView,
    camera_status,
    device_status,
    fits,
)
from brinkbyte.controller.status import Seen
from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.license.wire import CameraResult, DeviceResult, Use
from brinkbyte.resources.state import DeviceState
from support.licensing import DAY, NOW, camera_claims
from support.plans import camera, device

AT = datetime.fromtimestamp(NOW, UTC)
UNREACHABLE = TemporaryError("no route", reason="BillingUnreachable")
REVOKED = PermanentError("x", reason="CredentialRevoked")
REGISTERED = DeviceResult(hardware_id="SN-0001", status="registered")
FULL = DeviceResult(
    hardware_id="SN-0001",
    status="refused",
    reason="QuotaExceeded",
    message="The plan is full",
    use=Use(used=50, limit=50),
)


def device_words(**parts: Any) -> dict[str, tuple[str, str]]:
    view = DeviceView(**{"device": device(), "now": AT, "asked": True, **parts})
    return {each.type: (each.status, each.reason) for each in device_status(view).conditions}


@pytest.mark.parametrize(
    ("parts", "registered"),
    [
        ({"result": REGISTERED}, ("True", "Registered")),
        ({"result": REGISTERED, "error": UNREACHABLE}, ("True", "Registered")),
        ({"result": FULL}, ("False", "QuotaExceeded")),
        ({"error": UNREACHABLE}, ("Unknown", "BillingUnreachable")),
        (
            {"error": PermanentError("x", reason="CredentialRevoked")},
            ("Unknown", "CredentialRevoked"),
        ),
        ({}, ("Unknown", "Pending")),
        ({"blocked": Seen(False, "TenantNotFound", "x")}, ("False", "TenantNotFound")),
    ],
)
def test_a_device_is_ready_when_it_is_registered(
    parts: dict[str, Any], registered: tuple[str, str]
) -> None:
    found = device_words(**parts)
    assert found["Registered"] == registered
    assert found["Ready"] == registered


@pytest.mark.parametrize(
    ("online", "shown"),
    [
        (None, ("Unknown", "NeverSeen")),
        (DeviceState(hardware_id="a", online=True, last_seen=NOW), ("True", "HeartbeatReceived")),
        (DeviceState(hardware_id="a", online=False, last_seen=NOW), ("False", "HeartbeatMissing")),
        (DeviceState(hardware_id="a", online=False), ("Unknown", "NeverSeen")),
    ],
)
def test_online_never_gates_ready(online: DeviceState | None, shown: tuple[str, str]) -> None:
    found = device_words(result=REGISTERED, online=online)
    assert found["Online"] == shown
    assert found["Ready"][0] == "True"


def test_a_refusal_shows_used_and_limit() -> None:
    status = device_status(DeviceView(device=device(), now=AT, result=FULL))
    assert status.usage is not None
    assert status.usage.summary == "50/50"
    assert "50 of 50 used" in status.conditions[0].message


def test_a_registered_device_stays_registered_over_a_restart_without_a_line() -> None:
    status = device_status(DeviceView(device=device(), now=AT, result=REGISTERED))
    before = device().model_copy(update={"status": status})
    assert device_words(device=before, error=UNREACHABLE)["Ready"] == ("True", "Registered")
    changed = device({"generation": 2}).model_copy(update={"status": status})
    found = device_words(device=changed, error=UNREACHABLE)
    assert found["Ready"] == ("Unknown", "BillingUnreachable")


def test_a_new_token_is_shown_until_the_device_uses_it() -> None:
    rotated = device_status(DeviceView(device=device(), now=AT, result=REGISTERED, rotated=True))
    assert rotated.conditions[1].reason == "CredentialRotated"
    before = device().model_copy(update={"status": rotated})
    old = DeviceState(hardware_id="a", online=True, last_seen=NOW - 5)
    assert device_words(device=before, online=old)["Online"][1] == "CredentialRotated"
    new = DeviceState(hardware_id="a", online=True, last_seen=NOW + 5)
    assert device_words(device=before, online=new)["Online"] == ("True", "HeartbeatReceived")


def camera_view(**parts: Any) -> CameraView:
    return CameraView(
        **{
            "camera": camera(cameraId="cam-1"),
            "now": AT,
            "hardware_id": "hw-1",
            **parts,
        }
    )


def camera_words(**parts: Any) -> tuple[str, str]:
    conditions = camera_status(camera_view(**parts)).conditions
    assert [each.type for each in conditions] == ["Issued", "Ready"]
    assert conditions[0].status == conditions[1].status
    return conditions[0].status, conditions[0].reason


REFUSED = CameraResult(
    camera_id="cam-1",
    status="refused",
    reason="QuotaExceeded",
    message="All seats are taken",
    use=Use(used=10, limit=10),
)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"claims": camera_claims()}, ("True", "Issued")),
        ({"claims": camera_claims(), "error": UNREACHABLE}, ("True", "Issued")),
        ({"claims": camera_claims(), "result": REFUSED}, ("False", "QuotaExceeded")),
        ({"result": REFUSED}, ("False", "QuotaExceeded")),
        ({"error": UNREACHABLE}, ("Unknown", "BillingUnreachable")),
        ({}, ("Unknown", "Pending")),
        (
            {"claims": camera_claims(hardwareId="hw-2"), "error": UNREACHABLE},
            ("Unknown", "BillingUnreachable"),
        ),
        ({"claims": camera_claims(), "revoked": True}, ("False", "LicenseRevoked")),
        (
            {"claims": camera_claims(), "now": AT + timedelta(seconds=46 * DAY)},
            ("True", "Issued"),
        ),
        (
            {"claims": camera_claims(), "now": AT + timedelta(seconds=60 * DAY)},
            ("False", "LicenseExpired"),
        ),
        (
            {"claims": camera_claims(), "conflict": PermanentError("x", reason="NameConflict")},
            ("False", "NameConflict"),
        ),
        ({"blocked": Seen(False, "DeviceNotFound", "x")}, ("False", "DeviceNotFound")),
    ],
)
def test_a_camera_is_ready_when_its_secret_is_current(
    parts: dict[str, Any], shown: tuple[str, str]
) -> None:
    assert camera_words(**parts) == shown


def test_an_issued_camera_shows_what_it_may_do() -> None:
    status = camera_status(camera_view(claims=camera_claims()))
    assert status.seat == "seat-1"
    assert status.sequence == 3
    assert status.features is not None
    assert status.features.models == ("person",)
    assert status.secret_ref is not None
    assert status.secret_ref.name == "cam-1-bcl-license"
    assert status.valid_until == AT + timedelta(days=45)


def test_a_refused_camera_shows_used_and_limit() -> None:
    status = camera_status(camera_view(result=REFUSED))
    assert status.usage is not None
    assert status.usage.summary == "10/10"
    assert status.headline is not None
    assert "10 of 10 used" in status.headline.message


def test_a_refusal_stands_over_a_restart_until_the_line_is_back() -> None:
    refused = camera_status(camera_view(result=REFUSED))
    before = camera(cameraId="cam-1").model_copy(update={"status": refused})
    assert camera_words(camera=before, error=UNREACHABLE) == ("False", "QuotaExceeded")


@pytest.mark.parametrize(
    ("over", "hardware_id", "good"),
    [
        ({}, "hw-1", True),
        ({"growthPacks": []}, "hw-1", False),
        ({"mode": "trial"}, "hw-1", False),
        ({}, "hw-2", False),
        ({"cameraId": "cam-2"}, "hw-1", False),
    ],
)
def test_a_token_fits_what_the_spec_asks(
    over: dict[str, Any], hardware_id: str, good: bool
) -> None:
    assert fits(camera(cameraId="cam-1").spec, hardware_id, camera_claims(**over)) is good
