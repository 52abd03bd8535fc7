"""What the operator is told."""

from __future__ import annotations

from typing import Any

import pytest

from support.instance_api import OPERATOR, SERVICE, Api, device, eventually
from support.instance_site import Site, volume

pytestmark = pytest.mark.services


async def state(api: Api, since: int = 0) -> dict[str, Any]:
    answer = await api.http.get("/internal/v1/state", headers=OPERATOR, params={"since": since})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def _age(api: Api, seconds: int) -> None:
    async with api.instance.pool.connection() as connection:
        await connection.execute(
            "UPDATE edge_devices SET last_seen = last_seen - make_interval(secs => %s)", (seconds,)
        )


async def test_state_says_how_license_devices_metering_and_triton_stand(api: Api) -> None:
    await eventually(lambda: len(api.instance.license.first_devices) == 3)
    body = await state(api)
    assert body["license"]["mode"] == "active"
    assert body["license"]["sequence"] == 7
    assert body["license"]["seatsSequence"] == 7
    assert body["license"]["keySetNumber"] == 1
    assert body["deviceUse"] == {"used": 4, "limit": 50}
    assert body["cameraUse"] == {"used": 3, "limit": None}
    assert body["metering"]["backlog"] == 0
    assert body["triton"]["ready"] is False
    assert {item["hardwareId"] for item in body["devices"]} == {"hw-1", "hw-2", "hw-3", "hw-4"}
    assert not any(item["online"] for item in body["devices"])


async def test_only_changes_after_a_revision_are_told(api: Api) -> None:
    await eventually(lambda: len(api.instance.license.first_devices) == 3)
    first = (await state(api))["revision"]
    for _ in range(3):
        await api.http.post("/api/v1/license/heartbeat", headers=device("hw-1"))
    second = await state(api, first)
    assert [(item["hardwareId"], item["online"]) for item in second["devices"]] == [("hw-1", True)]
    assert second["revision"] > first
    await api.http.post("/api/v1/license/heartbeat", headers=device("hw-1"))
    quiet = await state(api, second["revision"])
    assert (quiet["devices"], quiet["revision"]) == ([], second["revision"])
    await _age(api, 89)
    assert (await state(api, second["revision"]))["devices"] == []
    await _age(api, 2)
    third = await state(api, second["revision"])
    assert [(item["hardwareId"], item["online"]) for item in third["devices"]] == [("hw-1", False)]
    await api.http.post("/api/v1/license/heartbeat", headers=device("hw-1"))
    fourth = await state(api, third["revision"])
    assert [(item["hardwareId"], item["online"]) for item in fourth["devices"]] == [("hw-1", True)]


async def test_a_revision_of_another_database_tells_everything(api: Api) -> None:
    await eventually(lambda: len(api.instance.license.first_devices) == 3)
    assert len((await state(api, 2**62))["devices"]) == 4


async def test_devices_come_and_go_with_their_secret(api: Api, site: Site) -> None:
    site.add_device("hw-5")
    answer = await api.http.post("/api/v1/license/heartbeat", headers=device("hw-5"))
    if answer.status_code == 401:
        # Within the second in which unknown tokens are not looked up again.
        await eventually(lambda: len(api.instance.credentials.devices) == 5)
        answer = await api.http.post("/api/v1/license/heartbeat", headers=device("hw-5"))
    assert answer.status_code == 200
    await eventually(lambda: len(api.instance.credentials.devices) == 5)
    assert (await state(api))["deviceUse"]["used"] == 5
    volume(site.root / "devices", {"devices.json": "[]"})

    async def gone() -> bool:
        return (await state(api))["devices"] == []

    await eventually(gone)
    refused = await api.http.post("/api/v1/license/heartbeat", headers=device("hw-5"))
    assert refused.status_code == 401


async def test_bad_questions(api: Api) -> None:
    for since in ("-1", "x", str(2**70)):
        answer = await api.http.get("/internal/v1/state", headers=OPERATOR, params={"since": since})
        assert answer.status_code == 422
    assert (await api.http.get("/internal/v1/state", headers=SERVICE)).status_code == 403
