"""Every refusal says why and where to upgrade, in every mode of the license."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from brinkbyte.license.claims import CameraMode
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.license.seats import Seat
from services.instance.test_telemetry import batch
from support.instance_api import SERVICE, Api, device, running_app
from support.instance_site import Site
from support.licensing import CUSTOMER, DAY

pytestmark = pytest.mark.services
CAMERAS = "/api/v1/cameras"
MODES: dict[str, dict[str, Any]] = {
    "active": {},
    "trial": {"trial": {"isActive": True, "endsAt": int(time.time()) + DAY}},
    "grace": {"start": int(time.time()) - 46 * DAY},
    "expired": {"start": int(time.time()) - 60 * DAY},
    "revoked": {"entries": [{"kind": "license", "subject": CUSTOMER, "upTo": 7}]},
    "suspended": {"subscription": {"status": "suspended", "currentPeriodEnd": None}},
    "unlicensed": {"only": ()},
}
FULL = ("active", "trial", "grace")


async def refused_calls(api: Api) -> list[httpx.Response]:
    """Ask for everything that the license lacks."""
    http = api.http
    boat = {"hardwareId": "hw-4", "pipeline": {"models": ["boat"]}}
    component = {"kind": "sink", "type": "sms", "settings": {}}
    sent = batch("cam-4", count=1)
    answers = [
        await http.post(CAMERAS, headers=SERVICE, json={"cameraId": "cam-4", **boat}),
        await http.post(CAMERAS, headers=SERVICE, json={"cameraId": "cam-9"}),
        await http.put(f"{CAMERAS}/cam-4", headers=SERVICE, json=boat),
        await http.put(f"{CAMERAS}/cam-9/components/out", headers=SERVICE, json=component),
        await http.post("/api/v1/telemetry", headers=device("hw-4"), json=batch("cam-9", count=1)),
        await http.post(
            f"{CAMERAS}/cam-4/infer", params={"model": "boat"}, headers=device("hw-4"), content=b"x"
        ),
    ]
    if api.instance.license.policy().decision.full:
        return answers
    since = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    return [
        *answers,
        await http.post("/api/v1/telemetry", headers=device("hw-4"), json=sent),
        await http.get("/api/v1/telemetry/aggregates", headers=SERVICE, params={"since": since}),
    ]


@pytest.mark.parametrize("mode", MODES)
async def test_a_refusal_names_reason_mode_and_where_to_upgrade(site: Site, mode: str) -> None:
    site.install(**MODES[mode])
    async with running_app(site) as api:
        assert api.instance.license.policy().decision.mode == mode
        answers = await refused_calls(api)
        views = [
            (await api.http.get(path, headers=SERVICE)).json()
            for path in ("/api/v1/license", "/api/v1/license/status", "/api/v1/entitlements")
        ]
        validated = await api.http.post("/api/v1/license/validate/cam-9", headers=SERVICE)
    for answer in answers:
        body = answer.json()
        if body["reason"] == "CameraNotConfigured":
            continue  # nothing that a license would change
        assert answer.status_code == (402 if mode in FULL else 403) or body["reason"] in {
            "ModelNotLicensed", "HistoryNotLicensed"
        }, body  # fmt: skip
        assert body["upgradeUrl"] == UPGRADE_URL, body
        assert UPGRADE_URL in body["detail"], body
        assert body["mode"] == mode
        assert body["reason"][0].isupper()
    assert {view["upgradeUrl"] for view in views} == {UPGRADE_URL}
    body = validated.json()
    assert (body["valid"], body["upgradeUrl"]) == (False, UPGRADE_URL)
    assert UPGRADE_URL in body["message"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"only": ("jwks.json", "license.jwt")}, "SeatsMissing"),
        ({"entries": [{"kind": "seats", "subject": CUSTOMER, "upTo": 7}]}, "SeatsRevoked"),
        (
            {"seats": [Seat("cam-4", "hw-4", CameraMode.TRIAL, (), int(time.time()) - 5)]},
            "SeatEnded",
        ),
        ({"seats": []}, "CameraNotLicensed"),
    ],
)
async def test_what_is_wrong_with_a_seat_says_it_too(
    site: Site, made: dict[str, Any], reason: str
) -> None:
    site.install(**made)
    async with running_app(site) as api:
        sent = batch("cam-4", count=1)
        answer = await api.http.post("/api/v1/telemetry", headers=device("hw-4"), json=sent)
    body = answer.json()
    assert (answer.status_code, body["reason"]) == (402, reason)
    assert body["upgradeUrl"] == UPGRADE_URL
    assert UPGRADE_URL in body["detail"]
