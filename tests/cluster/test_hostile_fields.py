"""A customer who is cluster-admin edits every field and every Secret: nothing is gained by it.

Whatever is edited, cameras, models and devices stay within the newest signed tokens, and every call
that was answered is in the vendor's ledger.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from brinkbyte.license.claims import LicenseClaims, SeatsClaims
from brinkbyte.license.keys import load_roots, verify_key_set
from brinkbyte.license.seats import SeatList, merge_grants, unpack_seats
from brinkbyte.license.tokens import verify
from brinkbyte.resources import names
from stack.customer import run_reporter
from stack.forward import PortForward
from stack.tools import StepError
from support.billing import CUSTOMER, DEFAULT_TERMS
from support.campaign_plan import soaking, some
from support.cluster import eventually
from support.hostile_fields import Admin, Field, fields, mutations, secret_patch

from .conftest import Site
from .test_workloads import kill

pytestmark = pytest.mark.cluster
CAMERAS: Final = ("id-entry", "id-exit", "id-ramp", "id-none", "hostile")
OBJECTS: Final = {
    "tenant": ("acme",),
    "edgedevice": ("gate", "dock"),
    "cameralicense": ("entry", "exit", "ramp"),
}
OTHER: Final = "umbrella"


@dataclass
class Attacked:
    """The site under attack: what is signed for it, and what its API gives."""

    site: Site
    admin: Admin
    forward: PortForward
    bearer: str
    service: str
    device: str
    models: dict[str, set[str]] = field(default_factory=dict)
    devices: int = 0
    answered: set[str] = field(default_factory=set)

    def note_signed(self) -> None:
        """Add what the vendor's newest tokens allow to what may be allowed from now on."""
        api = self.site.billing
        answer = httpx.get(
            f"{api.url}/api/v1/instance/tokens",
            headers={"Authorization": f"Bearer {self.bearer}"},
            verify=False,
            timeout=10,
        )
        body, now = answer.raise_for_status().json(), int(time.time())
        roots = load_roots(api.roots.read_bytes())
        keys = verify_key_set(json.dumps(body["keySet"]), roots, now=now).keys
        license_ = verify(body["license"], LicenseClaims, keys, now=now)
        seats: SeatList = unpack_seats(verify(body["seats"], SeatsClaims, keys, now=now))
        self.devices = max(self.devices, license_.features.max_devices or 0)
        for camera in seats.seats:
            granted = seats.grant_of(camera, now=now)
            if granted is not None:
                whole = merge_grants([granted, license_.grant])
                self.models.setdefault(camera, set()).update(
                    [*whole.models, *whole.analytics, *whole.outputs]
                )

    def ask(self, method: str, path: str, token: str, **more: Any) -> httpx.Response | None:
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        try:
            return httpx.request(
                method, self.forward.url + path, headers=headers, timeout=10, **more
            )
        except httpx.HTTPError:
            return None

    def check(self, what: str) -> None:
        """Whatever is answered is within what was signed; a call that is answered is metered."""
        self.note_signed()
        found = self.ask("GET", "/api/v1/license", self.service)
        if found is not None and found.status_code == 200:
            most = found.json()["usage"]["devices"]["max"]
            assert most is not None, what
            assert most <= self.devices, what
        for camera in CAMERAS:
            found = self.ask("POST", f"/api/v1/license/validate/{camera}", self.service)
            if found is None or found.status_code != 200 or not found.json()["valid"]:
                continue
            body = found.json()
            given = {*body["models"], *body["analytics"], *body["outputs"]}
            assert given <= self.models.get(camera, set()), (what, camera)
        key = str(uuid4())
        event = {"occurredAt": datetime.now(UTC).isoformat(), "kind": "detection"}
        found = self.ask(
            "POST",
            "/api/v1/telemetry",
            self.device,
            headers={"Idempotency-Key": key},
            json={"cameraId": "id-entry", "events": [event]},
        )
        if found is not None and found.status_code == 201:
            self.answered.add(key)

    def serves(self) -> bool:
        """Whether everything is as before the attack."""
        self.service = token(self.site, "acme" + names.ACCESS_SUFFIX, names.SERVICE_TOKEN_KEY)
        self.device = token(self.site, "gate" + names.DEVICE_TOKEN_SUFFIX, names.DEVICE_TOKEN_KEY)
        found = self.ask("GET", "/api/v1/license", self.service)
        before = len(self.answered)
        self.check("healed")
        return (
            found is not None
            and found.status_code == 200
            and found.json()["mode"] == "active"
            and len(self.answered) > before
        )


def report(site: Site, *, retries: int = 1) -> None:
    name = f"report-{uuid4().hex[:8]}"
    run_reporter(site.cluster, name, namespace=site.namespace, retries=retries)


def token(site: Site, secret: str, key: str) -> str:
    return site.cluster.secret(site.namespace, secret).get(key, b"").decode()


@pytest.fixture(scope="module")
def attacked(site: Site) -> Iterator[Attacked]:
    """The site with what an attack needs."""
    service = site.name + names.INSTANCE_SUFFIX
    admin = Admin(site.cluster, site.namespace)
    with PortForward(site.cluster, site.namespace, service, names.INSTANCE_PORT) as forward:
        made = Attacked(
            site,
            admin,
            forward,
            token(site, "acme" + names.IDENTITY_SUFFIX, names.CREDENTIAL_KEY),
            token(site, "acme" + names.ACCESS_SUFFIX, names.SERVICE_TOKEN_KEY),
            token(site, "gate" + names.DEVICE_TOKEN_SUFFIX, names.DEVICE_TOKEN_KEY),
        )
        eventually("the site serves", made.serves, seconds=60)
        yield made
    admin.close()


def tries(attacked: Attacked, each: Field) -> bool:
    """Patch one field with the first value that is taken; tell whether any was."""
    name = OBJECTS[each.kind][0]
    return any(
        attacked.admin.edit(each.kind, name, each.patch(value), part=each.part)
        for value in each.values()
    )


def specs(site: Site) -> dict[tuple[str, str], Any]:
    return {
        (kind, name): site.cluster.get(kind, name, namespace=site.namespace)["spec"]
        for kind, listed in OBJECTS.items()
        for name in listed
    }


def put_back(attacked: Attacked, before: dict[tuple[str, str], Any]) -> None:
    for (kind, name), spec in before.items():
        patch = [{"op": "replace", "path": "/spec", "value": spec}]
        assert attacked.admin.edit(kind, name, patch)


@pytest.mark.soak
def test_no_field_of_any_resource_gains_anything(attacked: Attacked) -> None:
    site = attacked.site
    before = specs(site)
    found = [each for kind in OBJECTS for each in fields(site.cluster, kind)]
    assert {each.part for each in found} == {"spec", "status"}
    taken = []
    for each in found:
        if each.restarts and not soaking():
            continue
        taken += [str(each)] if tries(attacked, each) else []
        if soaking():
            attacked.check(str(each))
            put_back(attacked, before)
            if each.restarts:
                eventually(f"{each}: healed", attacked.serves, seconds=240, every=2.0)
    # Most of what was tried was let in by the API server: the rest is up to us.
    assert len(taken) > 20, taken
    end = time.monotonic() + 8
    while time.monotonic() < end:
        attacked.check(f"all of {taken}")
        time.sleep(1)
    put_back(attacked, before)
    eventually("the site is as it was", attacked.serves, seconds=120, every=1.0)


@pytest.fixture
def others(site: Site, attacked: Attacked) -> Iterator[dict[str, dict[str, bytes]]]:
    """Secrets of another customer's Tenant of the same name, which runs no pods."""
    site.billing.create_customer(OTHER, DEFAULT_TERMS)
    site.cluster.namespace(OTHER)
    other = Site(site.cluster, site.billing, site.operator, OTHER)
    other.enroll(site.billing.enrollment_token(OTHER))
    other.tenant(customer=OTHER, paused=True)
    other.device("gate")
    other.camera("entry", "gate", growthPacks=["retail"])
    other.wait_ready("cameralicense", "entry", seconds=60)
    yield attacked.admin.secrets(OTHER)
    # Other tests count what an operator with nothing to do writes.
    site.cluster.kubectl("delete", "namespace", OTHER, "--timeout=120s")


def while_nobody_repairs(
    attacked: Attacked,
    held: dict[str, dict[str, bytes]],
    others: dict[str, dict[str, bytes]],
) -> None:
    """Stop the operator, put in what another customer has, and start the instance with it."""
    site, tried = attacked.site, 0
    site.operator.stop()
    try:
        for suffix in (names.LICENSE_SUFFIX, names.DEVICES_SUFFIX, names.IDENTITY_SUFFIX):
            name = site.name + suffix
            values = mutations(held[name], others[name])["another customer's"]
            tried += len(values)
            assert attacked.admin.edit("secret", name, secret_patch(values))
        assert tried > 5
        kill(site, "instance")
        for _ in range(5):
            attacked.check("another customer's Secrets at the start")
            time.sleep(1)
        # The use of one is not billed to the other, whose contract may be the cheaper one.
        with pytest.raises(StepError, match="OtherCustomer"):
            report(site, retries=0)
        assert not site.billing.ledger(OTHER)["batches"]
    finally:
        site.operator.start()
    eventually("the operator has repaired it", attacked.serves, seconds=120, every=1.0)


@pytest.mark.soak
def test_no_key_of_any_secret_gains_anything(
    attacked: Attacked, others: dict[str, dict[str, bytes]]
) -> None:
    site = attacked.site
    held = attacked.admin.secrets()
    assert {"acme" + names.LICENSE_SUFFIX, "acme" + names.IDENTITY_SUFFIX} <= set(held)
    while_nobody_repairs(attacked, held, others)
    ways = some(mutations({"a": b"b"}, {}), 3)
    for way in ways:
        for name, data in held.items():
            values = mutations(data, others.get(name, {}))[way]
            for part in [{key: value} for key, value in values.items()] if soaking() else [values]:
                attacked.admin.edit("secret", name, secret_patch(part))
                if soaking():
                    attacked.check(f"{name}: {way}: {sorted(part)}")
        attacked.check(way)
        if way == ways[-1] or soaking():
            eventually(f"{way}: healed", attacked.serves, seconds=180, every=1.0)
    site.wait_ready("tenant", "acme", seconds=120)


@pytest.mark.soak
def test_every_call_that_was_answered_meanwhile_is_in_the_vendors_ledger(
    attacked: Attacked,
) -> None:
    site = attacked.site
    eventually("the site serves", attacked.serves, seconds=60)

    def reported() -> bool:
        report(site)
        ledger = site.billing.ledger(CUSTOMER)
        return attacked.answered <= {event["key"] for event in ledger["events"]}

    # With the next report, or the one after it.
    eventually("all that was answered is in the ledger", reported, seconds=150, every=2.0)
