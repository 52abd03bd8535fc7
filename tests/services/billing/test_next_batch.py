"""While the licenses of some cameras are written, the billing API is asked about the next."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from brinkbyte.controller import enrollment, gathering, inventory, members
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import BillingClients, Context, TenantMemory
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.queue import Key
from brinkbyte.license.keys import load_roots
from brinkbyte.license.wire import InventoryRequest
from brinkbyte.resources.names import CAMERA_LICENSE_SUFFIX, ENROLLMENT_SECRET_TYPE
from brinkbyte.resources.tenant import Tenant
from support.billing import CUSTOMER, BillingApi
from support.instance_api import eventually
from support.memory_cluster import MemoryCluster
from support.plans import camera_body, device_body, tenant_body

pytestmark = pytest.mark.services
KEY = Key("Members", "acme", "acme")


class SlowCluster(MemoryCluster):
    """A cluster that writes the Secrets of cameras once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.let.set()

    async def apply(self, desired: Object, *, live: Object | None) -> Object:
        if desired["metadata"]["name"].endswith(CAMERA_LICENSE_SUFFIX):
            await self.let.wait()
        return await super().apply(desired, live=live)

    async def apply_status(self, live: Object, status: Object) -> Object:
        meta = live["metadata"]
        found = self.objects[live["kind"], meta["namespace"], meta["name"]]
        return copy.deepcopy(self.put(found | {"status": status}))


class World:
    """A Tenant with a line, its cluster, and the inventories that were sent.

    Attributes:
        asked: of each inventory whether it was complete, and the cameras in it with what they hold.
    """

    def __init__(self, ctx: Context, cluster: SlowCluster) -> None:
        self.ctx, self.cluster = ctx, cluster
        self.asked: list[tuple[bool, dict[str, int]]] = []

    def camera(self, number: int) -> None:
        """Add a camera as the watch would."""
        name = f"cam-{number}"
        spec: dict[str, Any] = {"cameraId": name, "mode": "base", "growthPacks": []}
        spec |= {"tenantRef": {"name": "acme"}, "deviceRef": {"name": "gate"}}
        body = camera_body({"name": name, "namespace": "acme", "uid": f"uid-{name}"}, **spec)
        self.ctx.roster.take("ADDED", self.cluster.put(body), matters=True)

    async def held_up(self, count: int) -> TenantMemory:
        """Have so many come, and the first of them wait to be written; return what is known."""
        for number in range(1, count + 1):
            self.camera(number)
        self.cluster.let.clear()
        await members.reconcile(self.ctx, KEY)
        return self.ctx.tenant("acme", "acme")

    @property
    def licensed(self) -> set[str]:
        """Names of the cameras whose Secret is there."""
        return {
            name.removesuffix(CAMERA_LICENSE_SUFFIX)
            for kind, _, name in self.cluster.objects
            if kind == "Secret" and name.endswith(CAMERA_LICENSE_SUFFIX)
        }


@pytest.fixture
async def world(billing_api: BillingApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    cluster, billing = SlowCluster(), BillingClients()
    stubs: Any = SimpleNamespace(
        settings=SimpleNamespace(operator_namespace="brinkbyte-system"),
        events=SimpleNamespace(emit=lambda *_: None),
        roots=SimpleNamespace(keys=load_roots(billing_api.roots.read_bytes())),
        cluster=cluster,
    )
    ctx = Context(
        settings=stubs.settings, cluster=stubs.cluster, metrics=Metrics(), events=stubs.events,
        roots=stubs.roots, billing=billing, http=httpx.AsyncClient(), add=lambda *_: None,
    )  # fmt: skip
    made, send = World(ctx, cluster), inventory.send
    ctx.fingerprint = "cluster-1"

    async def sent(client: Any, request: InventoryRequest) -> Any:
        held = {each.camera_id: each.held_sequence for each in request.cameras}
        made.asked.append((request.base_revision is None, held))
        return await send(client, request)

    monkeypatch.setattr(inventory, "send", sent)
    monkeypatch.setattr(members, "_BATCH", 2)
    site = tenant_body(
        {"name": "acme", "namespace": "acme"},
        customerId=CUSTOMER,
        billing={"url": billing_api.url, "enrollmentSecretRef": {"name": "enrollment"}},
    )
    cluster.put(site)
    cluster.put(device_body({"name": "gate", "namespace": "acme"}, tenantRef={"name": "acme"}))
    secret = cluster.secret("acme", "enrollment", token=billing_api.enrollment_token())
    secret["type"] = ENROLLMENT_SECRET_TYPE
    memory = ctx.tenant("acme", "acme")
    await enrollment.ensure_identity(ctx, Tenant.parse(site), memory, lambda: None)
    await members.reconcile(ctx, KEY)
    assert made.asked == [(True, {})]
    yield made
    memory.drop()
    await ctx.http.aclose()
    await billing.close()


async def test_the_next_are_asked_about_while_some_are_written(world: World) -> None:
    memory = await world.held_up(5)
    assert memory.writing.names == {"cam-1", "cam-2"}
    second = asyncio.create_task(members.reconcile(world.ctx, KEY))
    await eventually(lambda: "cam-4" in memory.inventory.camera_results)
    assert world.licensed == set()
    assert not second.done()
    world.cluster.let.set()
    await second
    assert world.licensed >= {"cam-1", "cam-2"}
    assert memory.writing.names == {"cam-3", "cam-4"}
    await members.reconcile(world.ctx, KEY)
    assert not memory.writing.going
    assert world.licensed == {f"cam-{number}" for number in range(1, 6)}
    # Each was asked about once: what is being written is not missing.
    assert [sorted(cameras) for _, cameras in world.asked[1:]] == [
        ["cam-1", "cam-2"], ["cam-3", "cam-4"], ["cam-5"],
    ]  # fmt: skip


async def test_the_complete_set_is_told_when_all_is_written(world: World) -> None:
    """Else it would say of cameras whose tokens are here that they hold none."""
    memory = await world.held_up(3)
    memory.inventory.revision = None
    second = asyncio.create_task(members.reconcile(world.ctx, KEY))
    await asyncio.sleep(0.2)
    assert len(world.asked) == 2
    world.cluster.let.set()
    await second
    complete, held = world.asked[2]
    assert complete
    assert held.keys() == {"cam-1", "cam-2", "cam-3"}
    assert held["cam-1"] > 0
    assert held["cam-2"] > 0
    assert world.licensed == {"cam-1", "cam-2", "cam-3"}


def gather_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_SECONDS", 100.0)
    monkeypatch.setattr(gathering, "_QUIET_SECONDS", 1_000.0)


async def waits(world: World) -> float:
    """Return in how many seconds a pass wants to come back."""
    wait = await members.reconcile(world.ctx, KEY)
    assert wait is not None
    return wait


async def test_newcomers_of_a_crowd_wait_for_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each one's event calls for a pass; the billing API decides all seats at each."""
    gather_for_long(monkeypatch)
    for number in range(1, 4):
        world.camera(number)
    await members.reconcile(world.ctx, KEY)
    asked = len(world.asked)
    assert 200 < await waits(world) <= 300
    assert len(world.asked) == asked
    world.ctx.tenant("acme", "acme").crew.gathering.until = 0.0
    await members.reconcile(world.ctx, KEY)
    # The last pass left no news: who comes alone waits for nobody.
    world.camera(4)
    await members.reconcile(world.ctx, KEY)
    assert world.licensed == {f"cam-{number}" for number in range(1, 5)}


async def test_a_secret_that_somebody_deletes_waits_for_no_crowd(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.camera(9)
    await members.reconcile(world.ctx, KEY)
    assert world.licensed == {"cam-9"}
    gather_for_long(monkeypatch)
    for number in range(1, 6):
        world.camera(number)
    await members.reconcile(world.ctx, KEY)
    assert await waits(world) > 200
    secret = world.cluster.objects.pop(("Secret", "acme", f"cam-9{CAMERA_LICENSE_SUFFIX}"))
    world.ctx.roster.take("DELETED", secret, matters=True)
    await members.reconcile(world.ctx, KEY)
    # Before those that were there earlier; then the crowd waits again.
    assert sorted(world.asked[-1][1]) == ["cam-3", "cam-9"]
    assert await waits(world) > 200
    await world.ctx.tenant("acme", "acme").writing.over()
    assert "cam-9" in world.licensed


async def test_a_secret_that_goes_while_its_batch_is_written_comes_back(world: World) -> None:
    """What is being written is not asked about: but nothing was there to be written any more."""
    world.camera(1)
    await members.reconcile(world.ctx, KEY)
    roster, where = world.ctx.roster, ("Secret", "acme", f"cam-1{CAMERA_LICENSE_SUFFIX}")
    crew = roster.crew("acme", "acme")
    roster.take("MODIFIED", world.cluster.put(world.cluster.objects[where]), matters=True)
    for number in (2, 3, 4):
        world.camera(number)
    await members.reconcile(world.ctx, KEY)
    memory = world.ctx.tenant("acme", "acme")
    assert memory.writing.names == {"cam-1", "cam-2"}
    roster.take("DELETED", world.cluster.objects.pop(where), matters=True)
    while crew.news:
        await members.reconcile(world.ctx, KEY)
    await memory.writing.over()
    assert world.licensed == {f"cam-{number}" for number in range(1, 5)}
