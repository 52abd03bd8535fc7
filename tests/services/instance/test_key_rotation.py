"""A rotation of signing keys at a real billing API, seen from a real instance that is away."""

from __future__ import annotations

import asyncio

import pytest

from brinkbyte.instance.background import Background
from brinkbyte.license.claims import CameraMode, TokenKind
from brinkbyte.license.keys import load_roots
from brinkbyte.license.wire import InventoryCamera, InventoryDevice, InventoryRequest
from support.billing import BillingApi, billing_api
from support.instance_api import OPERATOR, SERVICE, Api, eventually, running_app
from support.instance_enrolled import client_of, connected, enrolled
from support.instance_site import Site
from support.licensing import CUSTOMER

__all__ = ["billing_api", "connected", "enrolled"]
pytestmark = pytest.mark.services


def camera_inventory(cluster: str) -> InventoryRequest:
    return InventoryRequest(
        cluster_fingerprint=cluster,
        devices=(
            InventoryDevice(
                hardware_id="hw-1", name="ns.edge-1", uid="u-1", management_tier="basic",
                created_at=1_700_000_000,
            ),
        ),
        cameras=(
            InventoryCamera(
                camera_id="cam-1", name="ns.cam-1", uid="u-cam-1", hardware_id="hw-1",
                mode=CameraMode.BASE, created_at=1_700_000_000,
            ),
        ),
    )  # fmt: skip


async def valid(api: Api) -> bool:
    answer = await api.http.post("/api/v1/license/validate/cam-1", headers=SERVICE)
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["valid"])


def keys(billing: BillingApi, step: str, *more: str) -> str:
    root = ("--root", str(billing.root_pem)) if step in ("publish", "retire") else ()
    return billing.run("keys", step, "--dir", str(billing.keys), *root, *more)


async def test_an_instance_that_was_offline_for_a_whole_rotation_comes_back_without_a_failure(
    connected: Api, enrolled: Site, billing_api: BillingApi
) -> None:
    """Published, switched and retired by force while it is away, as after a leaked key."""
    service = connected.instance.license
    async with client_of(enrolled, billing_api) as client:
        await client.put_inventory(camera_inventory("cluster-1"))
    await service.refresh()
    await eventually(lambda: service.policy().decision.mode == "active")
    assert await valid(connected)
    before = service.snapshot.held
    # The line goes down; the keys change; nothing of it reaches the instance.
    billing_api.stop()
    keys(billing_api, "publish")
    assert "passed over" in keys(billing_api, "switch", "--force")
    assert "passed over" in keys(billing_api, "retire", "--force")
    assert await service.refresh() is False
    assert await valid(connected)
    assert service.policy().decision.mode == "active"
    billing_api.start()
    # Its first ask brings set, license and seats together: no moment without any of them.
    seen: list[tuple[bool, str]] = []
    watching = asyncio.create_task(_watch(connected, seen))
    assert await service.refresh() is True
    watching.cancel()
    assert set(seen) <= {(True, "active")}
    assert service.last_refresh_error is None
    held = service.snapshot.held
    assert held.key_set_number == 3
    assert held.license_sequence > before.license_sequence
    assert held.seats_sequence > before.seats_sequence
    assert await valid(connected)
    # Also from what it has kept.
    roots = load_roots(billing_api.roots.read_text())
    billing_api.stop()
    async with running_app(enrolled, roots=roots) as restarted:
        assert await valid(restarted)
        assert restarted.instance.license.snapshot.sequence(TokenKind.KEY_SET) == 3


async def _watch(api: Api, seen: list[tuple[bool, str]]) -> None:
    while True:
        seen.append((await valid(api), api.instance.license.policy().decision.mode.value))
        await asyncio.sleep(0)


async def test_a_step_waits_for_an_instance_until_its_heartbeat_says_that_it_has_the_set(
    connected: Api, enrolled: Site, billing_api: BillingApi
) -> None:
    service = connected.instance.license
    await eventually(lambda: service.policy().decision.mode == "active")
    await Background(connected.instance).heartbeat()
    keys(billing_api, "publish")
    with pytest.raises(RuntimeError, match="NotSeenYet"):
        keys(billing_api, "switch")
    # The server looks at its keys every 10 seconds; the heartbeat is answered with "refresh".
    await eventually(lambda: _beat(connected), seconds=30)
    await Background(connected.instance).heartbeat()
    assert "1 of 1 live instances" in keys(billing_api, "status")
    assert "signs with the keys of set 2" in keys(billing_api, "switch")
    assert await service.refresh() is True


async def _beat(api: Api) -> bool:
    await Background(api.instance).heartbeat()
    return api.instance.license.snapshot.sequence(TokenKind.KEY_SET) == 2


async def test_a_suspected_clone_reaches_the_operator_through_the_instance(
    connected: Api, enrolled: Site, billing_api: BillingApi
) -> None:
    """And goes when the vendor has acknowledged it; the license never changes for it."""

    async def told() -> object:
        await Background(connected.instance).heartbeat()
        answer = await connected.http.get("/internal/v1/state", headers=OPERATOR)
        assert answer.status_code == 200, answer.text
        return answer.json()["cloneAlarm"]

    assert await told() is None
    async with client_of(enrolled, billing_api) as client:
        copied = await client.put_inventory(camera_inventory("cluster-2"))
        assert copied.clone_alarm is not None
        assert await told() == copied.clone_alarm.model_dump(mode="json")
        assert connected.instance.license.policy().decision.full
        (listed,) = billing_api.admin("clones", "list")
        assert {listed["firstParty"], listed["secondParty"]} == {"cluster-1", "cluster-2"}
        billing_api.admin("clones", "acknowledge", "--customer", CUSTOMER)
        assert await told() is None
