"""A Tenant without a line: its key pair, its request, and what a bundle changes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from brinkbyte.controller import air_gap, instance_poll
from brinkbyte.controller.asking import Asking
from brinkbyte.controller.context import TenantMemory
from brinkbyte.controller.documents import CameraTokens
from brinkbyte.controller.enrollment import end_instance, load_identity, save_identity
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.licenses import ensure_documents
from brinkbyte.controller.member_pass import Device
from brinkbyte.controller.queue import Key
from brinkbyte.kit.errors import BrinkByteError, PermanentError
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.request import SiteRequest, read_request
from brinkbyte.license.tokens import sign
from brinkbyte.resources.bundles import to_secrets
from brinkbyte.resources.tenant import Tenant
from support.bundles import bundle_text, content
from support.licensing import CUSTOMER, INSTANCE, NOW, license_claims, vendor
from support.memory_cluster import MemoryCluster
from support.plans import a_pass, camera_body, device, tenant

SYSTEM = "brinkbyte-system"
OF_ANOTHER_CLUSTER = bundle_text(
    content(
        license=sign(
            license_claims(clusterFingerprint="cluster-2"), vendor().keys[TokenKind.LICENSE]
        )
    ),
    bundleSequence=9,
)


def island(**spec: Any) -> Tenant:
    found = tenant(
        {"name": "acme", "namespace": "acme", "uid": "uid-acme"},
        customerId=CUSTOMER,
        license={"bundleSecretRef": {"name": "bundle"}},
        **spec,
    )
    return found.model_copy(update={"spec": found.spec.model_copy(update={"billing": None})})


class World:
    """A cluster, a clock, and what is remembered of the Tenant."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.tenant = island()
        self.now = NOW
        self.restart()

    def restart(self) -> None:
        self.memory = TenantMemory(Asking(lambda: 0.0), Asking(lambda: 0.0))

    @property
    def ctx(self) -> Any:
        async def fingerprint() -> str:
            return "cluster-1"

        return SimpleNamespace(
            cluster=self.cluster,
            settings=SimpleNamespace(operator_namespace=SYSTEM),
            roots=SimpleNamespace(keys=vendor().roots),
            now=self.now,
            add=lambda *_: None,
            camera_tokens=CameraTokens(),
            cluster_fingerprint=fingerprint,
        )

    async def own_key(self) -> None:
        """Give the Tenant the key pair that the pretended vendor's bundles are for."""
        identity = Identity(
            uid="uid-acme",
            namespace="acme",
            name="acme",
            customer_id=CUSTOMER,
            private_key=vendor().instance_key.to_pem().decode(),
        )
        await save_identity(self.ctx, identity)

    async def reconcile(self) -> str:
        """Return the reason of what is wrong, if something is."""
        try:
            await air_gap.ensure_identity(self.ctx, self.tenant, self.memory)
        except PermanentError as error:
            return error.reason
        return ""

    async def obtain(self) -> BrinkByteError | None:
        """Run the licensing part of a pass over one device and one camera."""
        at = datetime.fromtimestamp(self.now, UTC)
        gate = Device({}, device({"name": "gate"}, hardwareId="hw-1", managementTier="basic"))
        spec: dict[str, Any] = {"cameraId": "cam-1", "growthPacks": ["retail"], "mode": "base"}
        spec |= {"tenantRef": {"name": "acme"}, "deviceRef": {"name": "gate"}}
        entry = camera_body({"name": "entry", "namespace": "acme"}, **spec)
        run = a_pass(at, [gate], [entry])
        identity = await load_identity(self.ctx, "uid-acme")
        assert identity is not None
        live = await self.cluster.get("Secret", "acme", "acme-btn-license")
        documents = await ensure_documents(self.ctx, self.tenant, identity, self.memory, live)
        _news, failed = await air_gap.obtain_licenses(
            self.ctx,
            run,
            (),
            tenant=self.tenant,
            identity=identity,
            memory=self.memory,
            documents=documents,
            license_live=live,
        )
        return failed

    async def request(self, *devices: Device) -> SiteRequest:
        at = datetime.fromtimestamp(self.now, UTC)
        live = await self.cluster.get("Secret", "acme", "acme-btn-request")
        run = a_pass(at, devices, secrets=[live] if live else [])
        await air_gap.write_request(self.ctx, run, tenant=self.tenant, memory=self.memory)
        assert run.errors == []
        return read_request(self.cluster.data("acme", "acme-btn-request")["request.json"], now=NOW)


@pytest.fixture
def world() -> World:
    return World()


async def test_the_key_pair_comes_first_and_the_tenant_says_what_to_do(world: World) -> None:
    assert await world.reconcile() == "BundleMissing"
    made = await load_identity(world.ctx, "uid-acme")
    assert made is not None
    assert made.air_gap
    assert not made.enrolled
    world.restart()
    assert await world.reconcile() == "BundleMissing"
    assert await load_identity(world.ctx, "uid-acme") == made
    secret = made.to_identity_secret("cluster-1")
    assert secret["air-gap"] == "true"
    assert not secret.keys() & {"instance-id", "credential", "billing-url"}
    with pytest.raises(PermanentError, match="brinkbyte license request -n acme acme"):
        await air_gap.ensure_identity(world.ctx, world.tenant, world.memory)


async def test_a_lost_record_keeps_the_key_pair_that_has_asked(world: World) -> None:
    await world.reconcile()
    made = world.memory.identity
    assert made is not None
    owner = world.tenant.owner_reference()
    live = world.cluster.secret("acme", "acme-btn-identity")
    live["metadata"]["ownerReferences"] = [owner]
    for key, value in made.to_identity_secret("cluster-1").items():
        live["data"][key] = base64.b64encode(value.encode()).decode()
    del world.cluster.objects["Secret", SYSTEM, "btn-uid-acme"]
    world.restart()
    assert await world.reconcile() == "BundleMissing"
    assert world.memory.identity is not None
    assert world.memory.identity.private_key == made.private_key


async def test_a_request_is_signed_once_for_what_it_says(world: World) -> None:
    await world.reconcile()
    first = await world.request()
    for _ in range(2):
        world.now += 60
        world.restart()
        assert await world.request() == first
    gate = Device({}, device({"name": "gate"}, hardwareId="hw-1"))
    second = await world.request(gate)
    assert [each.hardware_id for each in second.inventory.devices] == ["hw-1"]
    # A clock that was set back does not make the newer request look like a former one.
    world.now -= 10_000
    third = await world.request()
    assert third.claims.iat > second.claims.iat > first.claims.iat


async def test_a_changed_request_is_put_right(world: World) -> None:
    await world.reconcile()
    first = await world.request()
    live = world.cluster.objects["Secret", "acme", "acme-btn-request"]
    live["data"]["request.json"] = "e30="
    assert await world.request() == first
    live = world.cluster.objects["Secret", "acme", "acme-btn-request"]
    live["data"]["request.json"] = "e30="
    world.restart()
    assert (await world.request()).claims.sub == CUSTOMER


async def test_a_site_that_gets_a_line_asks_over_it(world: World) -> None:
    await world.reconcile()
    await world.request()
    world.tenant = tenant({"name": "acme", "namespace": "acme", "uid": "uid-acme"})
    live = world.cluster.objects["Secret", "acme", "acme-btn-request"]
    run = a_pass(datetime.now(UTC), secrets=[live])
    await air_gap.write_request(world.ctx, run, tenant=world.tenant, memory=world.memory)
    assert ("Secret", "acme", "acme-btn-request") not in world.cluster.objects


async def test_a_bundle_says_which_instance_this_is(world: World) -> None:
    await world.own_key()
    world.cluster.secret("acme", "bundle", bundle_json=bundle_text())
    assert await world.reconcile() == ""
    known = await load_identity(world.ctx, "uid-acme")
    assert known is not None
    assert known.enrolled
    assert (known.instance_id, known.bundle_sequence, known.credential) == (INSTANCE, 5, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (bundle_text(bundleSequence=4), "BundleOutdated"),
        (bundle_text(bundleSequence=9)[:-200], "Malformed"),
        (bundle_text(bundleSequence=9, cnf={"jkt": "k" * 43}), "WrongKey"),
        (bundle_text(bundleSequence=9, customerId="other"), "CustomerMismatch"),
        (OF_ANOTHER_CLUSTER, "WrongCluster"),
        (None, "BundleMissing"),
    ],
)
async def test_a_bad_bundle_changes_nothing(world: World, text: str | None, reason: str) -> None:
    await world.own_key()
    world.cluster.secret("acme", "bundle", bundle_json=bundle_text())
    await world.reconcile()
    before = await load_identity(world.ctx, "uid-acme")
    if text is None:
        del world.cluster.objects["Secret", "acme", "bundle"]
    else:
        world.cluster.secret("acme", "bundle", bundle_json=text)
    for _ in range(2):
        assert await world.reconcile() == reason
        assert world.memory.identity == before
        assert await load_identity(world.ctx, "uid-acme") == before
        world.restart()
    world.cluster.secret("acme", "bundle", bundle_json=bundle_text(bundleSequence=10))
    assert await world.reconcile() == ""


async def test_a_bundle_in_parts_is_read_once_all_are_there(world: World) -> None:
    await world.own_key()
    made = to_secrets("bundle", bundle_text(content(server_time=NOW + 1)), part_bytes=2000)
    assert len(made.parts) > 1
    world.cluster.secret("acme", "bundle", **made.head)
    assert await world.reconcile() == "BundleMissing"
    for name, data in made.parts.items():
        world.cluster.secret("acme", name, bundle_json=data["bundle.json"])
    assert await world.reconcile() == ""
    world.cluster.secret("acme", "bundle", password="x")
    assert await world.reconcile() == "BundleMissing"


async def test_nothing_of_a_former_line_speaks_for_the_instance_any_more(world: World) -> None:
    identity = Identity(
        uid="uid-acme",
        namespace="acme",
        name="acme",
        customer_id=CUSTOMER,
        private_key=vendor().instance_key.to_pem().decode(),
        instance_id=INSTANCE,
        credential="bbi_x",
        billing_url="https://billing",
        ca="pem",
    )
    await save_identity(world.ctx, identity)
    assert await world.reconcile() == "BundleMissing"
    known = await load_identity(world.ctx, "uid-acme")
    assert known is not None
    assert known.enrolled
    assert (known.credential, known.billing_url, known.ca) == ("", "", "")
    assert known.instance_id == INSTANCE


async def test_the_secret_is_looked_at_at_least_every_minute(world: World) -> None:
    await world.own_key()
    await world.reconcile()
    world.memory.bundle_secret = air_gap.bundle_secret(world.tenant)
    woken: list[Key] = []
    ctx = world.ctx
    ctx.add, ctx.monotonic = lambda key, _delay: woken.append(key), lambda: world.now
    ctx.tenants = {("acme", "acme"): world.memory}
    key = Key("State", "acme", "acme")
    await instance_poll.reconcile(ctx, key)
    assert woken == []
    for text in ("first", "second"):
        world.cluster.secret("acme", "bundle", bundle_json=text)
        world.now += 60
        await instance_poll.reconcile(ctx, key)
        assert woken.pop() == Key("Tenant", "acme", "acme")
        world.now += 60
        await instance_poll.reconcile(ctx, key)
        assert woken == []
    assert instance_poll.REFERENCES_SECONDS + instance_poll.PERIOD_SECONDS < 60


async def test_licenses_come_out_of_the_bundle_and_stay_without_it(world: World) -> None:
    await world.own_key()
    world.cluster.secret("acme", "bundle", bundle_json=bundle_text())
    await world.reconcile()
    # The pass over the members may come first after a restart: it reads the bundle itself.
    world.restart()
    failed = await world.obtain()
    assert failed is None
    held = world.cluster.data("acme", "acme-btn-license")
    assert held.keys() == {"jwks.json", "license.jwt", "seats.jws"}
    assert world.memory.documents.license is not None
    assert world.memory.inventory.camera_results["cam-1"].status == "issued"
    assert world.memory.inventory.device_results["hw-1"].status == "registered"
    answer = world.memory.inventory.answer
    assert answer is not None
    assert (answer.camera_use.used, answer.camera_use.limit) == (1, 10)
    # Again nothing is written; without the Secret what it gave stays, and a new start knows it.
    written = list(world.cluster.written)
    del world.cluster.objects["Secret", "acme", "bundle"]
    world.restart()
    failed = await world.obtain()
    assert failed is None
    assert world.cluster.written == written
    assert world.memory.documents.license is not None
    assert world.memory.inventory.device_results["hw-1"].status == "registered"
    # The license Secret is made again from what the operator holds.
    del world.cluster.objects["Secret", "acme", "acme-btn-license"]
    await world.obtain()
    assert world.cluster.data("acme", "acme-btn-license") == held


async def test_an_instance_of_a_newer_bundle_waits_for_its_identity(world: World) -> None:
    await world.own_key()
    world.cluster.secret("acme", "bundle", bundle_json=bundle_text())
    await world.obtain()
    assert world.memory.inventory.camera_results["cam-1"].reason == "NotInBundle"
    assert ("Secret", "acme", "acme-btn-license") not in world.cluster.objects


async def test_a_tenant_that_goes_asks_nobody(world: World) -> None:
    await world.own_key()
    world.cluster.secret("acme", "bundle", bundle_json=bundle_text())
    await world.reconcile()
    assert world.memory.identity is not None
    # There is no billing client here: asking would fail.
    await end_instance(world.ctx, world.memory.identity)
    assert await load_identity(world.ctx, "uid-acme") is None


async def test_a_lost_key_pair_needs_a_new_bundle(world: World) -> None:
    await world.own_key()
    world.cluster.secret("acme", "bundle", bundle_json=bundle_text())
    await world.reconcile()
    del world.cluster.objects["Secret", SYSTEM, "btn-uid-acme"]
    for _ in range(2):
        assert await world.reconcile() == "WrongKey"
        assert world.memory.identity is not None
        assert not world.memory.identity.enrolled
    assert (await world.request()).public_key.kid == world.memory.identity.key.kid
