"""Cameras, their components and zones, and what the license keeps out of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.instance_api import SERVICE, Api, eventually, running_app
from support.instance_site import Site

pytestmark = pytest.mark.services

FULL: dict[str, Any] = {
    "name": "Gate",
    "pipeline": {
        "models": ["person", "trolley"],
        "analytics": ["counting"],
        "outputs": ["api"],
        "settings": {"fps": 5, "roi": [0.1, 0.9]},
    },
    "components": [
        {"name": "in", "kind": "source", "type": "rtsp", "settings": {"url": "rtsp://camera/1"}},
        {"name": "find", "kind": "processor", "type": "inference", "settings": {"model": "car"}},
        {"name": "count", "kind": "processor", "type": "counting", "settings": {}},
        {"name": "out", "kind": "sink", "type": "email", "settings": {"to": "a@example.com"}},
    ],
    "lineZones": [{"name": "door", "start": [0.1, 0.5], "end": [0.9, 0.5], "direction": "both"}],
    "polygonZones": [{"name": "hall", "points": [[0, 0], [1, 0], [1, 1]]}],
}


async def _post(api: Api, camera: str = "cam-1", **over: Any) -> Any:
    body = {"cameraId": camera, **FULL, **over}
    return await api.http.post("/api/v1/cameras", headers=SERVICE, json=body)


async def test_a_camera_is_created_read_replaced_listed_and_removed(api: Api) -> None:
    created = await _post(api)
    assert created.status_code == 201, created.text
    body = created.json()
    assert body["hardwareId"] == "hw-1"
    assert body["license"]["licensed"] is True
    for member in ("pipeline", "lineZones", "polygonZones"):
        assert body[member] == FULL[member]
    assert {item["name"] for item in body["components"]} == {"in", "find", "count", "out"}
    again = await _post(api)
    assert (again.status_code, again.json()["reason"]) == (409, "CameraExists")
    read = (await api.http.get("/api/v1/cameras/cam-1", headers=SERVICE)).json()
    assert read == body
    replaced = await api.http.put("/api/v1/cameras/cam-1", headers=SERVICE, json={"name": "Yard"})
    assert replaced.json()["components"] == []
    assert replaced.json()["updatedAt"] > body["updatedAt"]
    await _post(api, "cam-2", pipeline={}, components=[])
    page = (await api.http.get("/api/v1/cameras", headers=SERVICE, params={"limit": 1})).json()
    assert [camera["cameraId"] for camera in page["cameras"]] == ["cam-1"]
    rest = await api.http.get("/api/v1/cameras", headers=SERVICE, params={"after": page["next"]})
    assert [camera["cameraId"] for camera in rest.json()["cameras"]] == ["cam-2"]
    assert rest.json()["next"] is None
    assert (await api.http.delete("/api/v1/cameras/cam-1", headers=SERVICE)).status_code == 204
    gone = await api.http.get("/api/v1/cameras/cam-1", headers=SERVICE)
    assert (gone.status_code, gone.json()["reason"]) == (404, "CameraNotConfigured")
    assert (await api.http.delete("/api/v1/cameras/cam-1", headers=SERVICE)).status_code == 404
    assert (
        await api.http.put("/api/v1/cameras/cam-1", headers=SERVICE, json={})
    ).status_code == 404


async def test_parts_are_added_replaced_and_removed_by_name(api: Api) -> None:
    await _post(api, components=[], lineZones=[], polygonZones=[])
    base = "/api/v1/cameras/cam-1"
    parts = {
        "components/beep": {"kind": "sink", "type": "api", "settings": {"a": 1}},
        "line-zones/fence": {"start": [0, 0], "end": [1, 1]},
        "polygon-zones/pool": {"points": [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]]},
    }
    for path, body in parts.items():
        for _ in range(2):
            answer = await api.http.put(f"{base}/{path}", headers=SERVICE, json=body)
            assert answer.status_code == 200, answer.text
        listed = await api.http.get(f"{base}/{path.split('/')[0]}", headers=SERVICE)
        assert len(listed.json()) == 1
        assert (await api.http.delete(f"{base}/{path}", headers=SERVICE)).status_code == 204
        assert (await api.http.delete(f"{base}/{path}", headers=SERVICE)).status_code == 404
        listed = await api.http.get(f"{base}/{path.split('/')[0]}", headers=SERVICE)
        assert listed.json() == []
    missing = "/api/v1/cameras/cam-2/line-zones/fence"
    answer = await api.http.put(missing, headers=SERVICE, json=parts["line-zones/fence"])
    assert answer.status_code == 404


async def test_parts_are_bounded_in_number(api: Api) -> None:
    zones = [{"name": f"z{n}", "start": [0, 0], "end": [1, 1]} for n in range(64)]
    assert (await _post(api, lineZones=zones)).status_code == 201
    path = "/api/v1/cameras/cam-1/line-zones"
    body = {"start": [0, 0], "end": [1, 1]}
    assert (await api.http.put(f"{path}/z0", headers=SERVICE, json=body)).status_code == 200
    answer = await api.http.put(f"{path}/z64", headers=SERVICE, json=body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "TooMany")


@pytest.mark.parametrize(
    ("over", "reason", "packs"),
    [
        ({"pipeline": {"models": ["boat"]}}, "ModelNotLicensed", ["waterways"]),
        ({"pipeline": {"analytics": ["near_miss"]}}, "AnalyticNotLicensed", ["advanced_analytics"]),
        ({"pipeline": {"outputs": ["sms"]}}, "OutputNotLicensed", ["integration.sms"]),
        (
            {
                "components": [
                    {
                        "name": "x",
                        "kind": "processor",
                        "type": "inference",
                        "settings": {"model": "boat"},
                    }
                ]
            },
            "ModelNotLicensed",
            ["waterways"],
        ),
        (
            {"components": [{"name": "x", "kind": "processor", "type": "near_miss"}]},
            "AnalyticNotLicensed",
            ["advanced_analytics"],
        ),
        (
            {"components": [{"name": "x", "kind": "sink", "type": "sms"}]},
            "OutputNotLicensed",
            ["integration.sms"],
        ),
    ],
)
async def test_what_the_license_lacks_is_refused_with_the_cure(
    api: Api, over: dict[str, Any], reason: str, packs: list[str]
) -> None:
    answer = await _post(api, **over)
    assert answer.status_code == 402
    problem = answer.json()
    assert problem["reason"] == reason
    assert problem["packs"] == packs
    assert problem["upgradeUrl"] in problem["detail"]
    page = (await api.http.get("/api/v1/cameras", headers=SERVICE)).json()
    assert page["cameras"] == []


async def test_parts_are_checked_like_the_whole(api: Api) -> None:
    await _post(api)
    path = "/api/v1/cameras/cam-1/components/x"
    body = {"kind": "sink", "type": "sms"}
    answer = await api.http.put(path, headers=SERVICE, json=body)
    assert (answer.status_code, answer.json()["reason"]) == (402, "OutputNotLicensed")
    unknown = await api.http.put(path, headers=SERVICE, json={"kind": "sink", "type": "fax"})
    assert (unknown.status_code, unknown.json()["reason"]) == (422, "UnknownOutput")


async def test_a_camera_without_a_seat_is_refused(api: Api) -> None:
    answer = await _post(api, "cam-9")
    assert (answer.status_code, answer.json()["reason"]) == (402, "CameraNotLicensed")


async def test_outside_a_valid_license_the_refusal_is_403(site: Site) -> None:
    site.install(subscription={"status": "suspended", "currentPeriodEnd": None})
    async with running_app(site) as api:
        answer = await _post(api, "cam-4")
        assert (answer.status_code, answer.json()["reason"]) == (403, "SubscriptionSuspended")
        # On one of the first three devices the base models go on, a pack's model does not.
        answer = await _post(api, pipeline={"models": ["trolley"]}, components=[])
        assert (answer.status_code, answer.json()["reason"]) == (403, "ModelNotLicensed")
        assert answer.json()["licenseReason"] == "SubscriptionSuspended"
        answer = await _post(api, pipeline={"models": ["person"]}, components=[])
        assert answer.status_code == 201


async def test_unlicensed_cameras_count_by_the_device_they_are_configured_on(site: Site) -> None:
    async with running_app(site) as api:
        await eventually(lambda: len(api.instance.license.first_devices) == 3)
        body = {"pipeline": {"models": ["person"]}, "components": [], "hardwareId": "hw-1"}
        assert (await _post(api, "mine", **body)).status_code == 201
        fourth = await _post(api, "other", **{**body, "hardwareId": "hw-4"})
        assert (fourth.status_code, fourth.json()["reason"]) == (403, "NoLicense")


@pytest.mark.parametrize(
    "over",
    [
        {"cameraId": "a b"},
        {"cameraId": "x" * 129},
        {"name": "n\x00"},
        {"unknown": 1},
        {"pipeline": {"models": ["x"] * 65}},
        {"pipeline": {"settings": {"a": "x" * 9000}}},
        {"pipeline": {"settings": {"a": "\x00"}}},
        {"pipeline": {"settings": {"a": "\ud800"}}},
        {"pipeline": {"settings": {"a": float("inf")}}},
        {"components": [{"name": "x", "kind": "wire", "type": "y"}]},
        {"components": [{"name": "x", "kind": "processor", "type": "inference"}]},
        {"components": [{"name": "x", "kind": "sink", "type": "api"}] * 2},
        {"lineZones": [{"name": "x", "start": [0, 0], "end": [0, 0]}]},
        {"lineZones": [{"name": "x", "start": [0, 0], "end": [0, 1.5]}]},
        {"lineZones": [{"name": "x", "start": [0], "end": [0, 1]}]},
        {"polygonZones": [{"name": "x", "points": [[0, 0], [1, 1]]}]},
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(
    api: Api, over: dict[str, Any]
) -> None:
    content = json.dumps({"cameraId": "cam-1", **over})
    answer = await api.http.post("/api/v1/cameras", headers=SERVICE, content=content)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith("body")
    assert (await api.http.get("/api/v1/cameras", headers=SERVICE)).json()["cameras"] == []
