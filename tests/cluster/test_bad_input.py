"""What can be wrong: shown on the right object with what to do, and healed once it is right."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator

import psycopg
import pytest

from brinkbyte.resources.names import CAMERA_TOKEN_KEY
from support.billing import DEFAULT_TERMS, new_billing_api, remove_billing_api
from support.campaign_plan import some
from support.cluster import KubernetesCluster, eventually
from support.operator import OperatorProcess
from support.postgres import PostgresServer
from support.reachable import ReachableBillingApi

from .conftest import SYSTEM, Site

pytestmark = pytest.mark.cluster
OTHER = "globex"


@pytest.fixture
def bare(
    cluster: KubernetesCluster, billing: ReachableBillingApi, operator: OperatorProcess, site: Site
) -> Iterator[Site]:
    """A namespace without anything; Tenants in it are paused, so that they run no pods."""
    name = f"bare-{time.monotonic_ns() % 10**9}"
    cluster.namespace(name)
    yield Site(cluster, billing, operator, name, name="small")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def customer(billing: ReachableBillingApi) -> str:
    billing.create_customer(OTHER, DEFAULT_TERMS)
    return OTHER


def poke(site: Site) -> None:
    """Make the operator look now instead of in a while."""
    site.cluster.kubectl(
        "annotate", "tenant", site.name, "--namespace", site.namespace, "--overwrite",
        f"example.com/poked={time.monotonic_ns()}",
    )  # fmt: skip


def test_an_enrollment_that_cannot_work_says_why_and_heals(bare: Site, customer: str) -> None:
    bare.tenant(customer=customer, paused=True, ca=False)
    message = bare.wait("tenant", "small", "LicenseValid", "False", "EnrollmentSecretMissing")
    assert "kubectl create secret generic enrollment" in message
    bare.enroll("x" * 32, kind="Opaque")
    poke(bare)
    bare.wait("tenant", "small", "LicenseValid", "False", "EnrollmentSecretWrongType")
    bare.cluster.delete_object("secret", bare.namespace, "enrollment")
    bare.enroll("never-issued-by-anybody")
    poke(bare)
    bare.wait("tenant", "small", "LicenseValid", "False", "CaSecretMissing")
    bare.tenant(customer=customer, paused=True)
    bare.wait("tenant", "small", "LicenseValid", "False", "EnrollmentInvalid")
    bare.enroll(bare.billing.enrollment_token(customer, ttl=1))
    time.sleep(1.5)
    poke(bare)
    bare.wait("tenant", "small", "LicenseValid", "False", "EnrollmentExpired")
    bare.device("door")
    bare.wait("edgedevice", "door", "Ready", "Unknown", "TenantNotEnrolled")
    eventually(
        "an Event tells it, too",
        lambda: "EnrollmentExpired" in bare.cluster.events(bare.namespace, "small"),
        seconds=10,
    )
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    # Nobody pokes: Secrets that users refer to are read again within a minute.
    eventually(
        "the license is valid",
        lambda: bare.condition("tenant", "small", "LicenseValid")[0] == "True",
        seconds=60,
    )
    bare.wait_ready("edgedevice", "door")


def test_the_token_of_another_customer_is_refused(bare: Site, customer: str) -> None:
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    bare.tenant(customer="initech", paused=True)
    status, reason, message = eventually(
        "refused",
        lambda: (
            found if (found := bare.condition("tenant", "small", "LicenseValid"))[0] == "False"
            else None
        ),
        seconds=20,
    )  # fmt: skip
    assert reason in {"CustomerMismatch", "UnknownCustomer"}, (status, reason, message)


def test_a_second_live_tenant_of_a_customer_is_refused(bare: Site) -> None:
    bare.enroll(bare.billing.enrollment_token("acme"))
    bare.tenant(customer="acme", paused=True)
    bare.wait("tenant", "small", "LicenseValid", "False", "InstanceExists")


def test_a_billing_api_of_the_customers_own_is_not_believed(
    bare: Site, customer: str, postgres_server: PostgresServer
) -> None:
    own = new_billing_api(postgres_server)
    try:
        own.start()
        own.create_customer(customer, DEFAULT_TERMS)
        bare.enroll(own.enrollment_token(customer))
        bare.tenant(customer=customer, paused=True, url=own.url)
        bare.wait("tenant", "small", "LicenseValid", "False", "UntrustedKeySet")
        assert "enroll" not in own.log or "POST /api/v1/enrollments" not in own.log
    finally:
        remove_billing_api(own)
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    bare.tenant(customer=customer, paused=True)
    eventually(
        "the license is valid",
        lambda: bare.condition("tenant", "small", "LicenseValid")[0] == "True",
        seconds=30,
    )


def test_cameras_that_cannot_be_licensed_say_why_and_heal(site: Site) -> None:
    site.camera("lost", "nowhere")
    site.wait("cameralicense", "lost", "Ready", "False", "DeviceNotFound")
    site.camera("odd", "gate", growthPacks=["no_such_pack"])
    site.wait("cameralicense", "odd", "Ready", "False", "UnknownPack")
    site.camera("twin", "gate", cameraId="id-entry")
    site.wait("cameralicense", "twin", "Ready", "False", "CameraConflict")
    site.camera("alien", "gate", tenantRef={"name": "nobody"})
    site.wait("cameralicense", "alien", "Ready", "False", "TenantNotFound")
    site.secret("theirs", {"keep": b"me"})
    site.camera("taken", "gate", secretName="theirs")
    site.wait("cameralicense", "taken", "Ready", "False", "NameConflict")
    assert site.cluster.secret(site.namespace, "theirs") == {"keep": b"me"}
    site.device("nowhere")
    site.wait_ready("cameralicense", "lost")
    site.camera("odd", "gate", growthPacks=[])
    site.wait_ready("cameralicense", "odd")
    site.cluster.delete_object("secret", site.namespace, "theirs")
    site.wait_ready("cameralicense", "taken", seconds=40)
    names = ["lost", "odd", "twin", "alien", "taken"]
    site.cluster.kubectl("delete", "cameralicense", "--namespace", site.namespace, *names)
    site.cluster.delete_object("edgedevice", site.namespace, "nowhere", wait=True)


def test_a_full_plan_shows_used_and_limit_and_heals_when_more_is_bought(site: Site) -> None:
    site.camera("second", "gate", growthPacks=["retail"])
    site.wait_ready("cameralicense", "second")
    site.camera("third", "gate", growthPacks=["retail"])
    message = site.wait("cameralicense", "third", "Ready", "False", "QuotaExceeded")
    assert "2" in message
    live = site.cluster.get("cameralicense", "third", namespace=site.namespace)
    assert live["status"]["usage"]["summary"] == "2/2"
    more = {**DEFAULT_TERMS["quantities"], "vision.pack.retail": 3}
    site.billing.set_terms("acme", {**DEFAULT_TERMS, "quantities": more})
    site.wait_ready("cameralicense", "third", seconds=45)
    site.cluster.kubectl(
        "delete", "cameralicense", "--namespace", site.namespace, "second", "third"
    )


def test_a_lost_line_takes_nothing_away_and_what_is_new_waits(site: Site) -> None:
    site.wait_ready("tenant", "acme")
    site.billing.stop()
    try:
        site.camera("new", "gate")
        site.wait("cameralicense", "new", "Ready", "Unknown", "BillingUnreachable", seconds=40)
        site.wait("tenant", "acme", "LicenseValid", "True", "BillingUnreachable")
        assert site.cluster.ready("tenant", site.namespace, "acme")
        assert site.cluster.ready("cameralicense", site.namespace, "entry")
        site.operator.stop()
        site.operator.start()
        time.sleep(5)
        assert site.cluster.ready("cameralicense", site.namespace, "entry")
        assert site.cluster.ready("edgedevice", site.namespace, "gate")
    finally:
        site.billing.start()
    site.wait_ready("cameralicense", "new", seconds=90)
    eventually(
        "the line is back",
        lambda: site.condition("tenant", "acme", "LicenseValid")[1] == "DevelopmentTrustRoot",
        seconds=90,
    )
    site.cluster.delete_object("cameralicense", site.namespace, "new")


def test_a_camera_moves_with_its_seat_and_a_deleted_one_frees_it(site: Site) -> None:
    site.camera("mover", "gate")
    site.wait_ready("cameralicense", "mover")
    before = site.cluster.get("cameralicense", "mover", namespace=site.namespace)["status"]
    site.camera("mover", "dock")
    site.wait_ready("cameralicense", "mover")
    after = site.cluster.get("cameralicense", "mover", namespace=site.namespace)["status"]
    assert after["seat"] == before["seat"]
    assert after["hardwareId"] == "hw-dock"
    assert after["sequence"] > before["sequence"]
    site.cluster.delete_object("cameralicense", site.namespace, "mover")
    eventually(
        "its Secret is gone",
        lambda: not site.cluster.secret(site.namespace, "mover-bcl-license"),
        seconds=20,
    )


def test_a_forged_camera_token_is_told_and_replaced(site: Site) -> None:
    name = "ramp-bcl-license"
    before = site.cluster.secret(site.namespace, name)[CAMERA_TOKEN_KEY]
    head, body, signature = before.decode().split(".")
    forged = f"{head}.{body}.{signature[::-1]}".encode()
    data = {CAMERA_TOKEN_KEY: base64.b64encode(forged).decode()}
    site.cluster.patch("secret", site.namespace, name, {"data": data})

    def replaced() -> bool:
        return site.cluster.secret(site.namespace, name).get(CAMERA_TOKEN_KEY) not in {forged, None}

    eventually("another token", replaced, seconds=5)
    site.wait_ready("cameralicense", "ramp")
    eventually(
        "an Event",
        lambda: {"BadSignature", "Malformed"} & set(site.cluster.events(site.namespace, "ramp")),
        seconds=10,
    )


def test_a_child_that_is_somebody_elses_is_named_and_left_alone(bare: Site, customer: str) -> None:
    bare.secret("small-btn-license", {"keep": b"me"})
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    metadata = {"name": "small-btn-reporter", "namespace": bare.namespace}
    bare.cluster.apply({**account, "metadata": metadata})
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    bare.tenant(customer=customer, paused=True)
    message = bare.wait("tenant", "small", "LicenseValid", "False", "NameConflict")
    assert "small-btn-license" in message
    message = bare.wait("tenant", "small", "MeteringHealthy", "False", "NameConflict")
    assert "small-btn-reporter" in message
    assert bare.cluster.secret(bare.namespace, "small-btn-license") == {"keep": b"me"}
    bare.cluster.delete_object("secret", bare.namespace, "small-btn-license")
    bare.cluster.delete_object("serviceaccount", bare.namespace, "small-btn-reporter")
    eventually(
        "the license is valid",
        lambda: bare.condition("tenant", "small", "LicenseValid")[0] == "True",
        seconds=40,
    )
    eventually(
        "metering is as it should be",
        lambda: bare.condition("tenant", "small", "MeteringHealthy")[1] != "NameConflict",
        seconds=40,
    )


@pytest.fixture
def silence(site: Site) -> Iterator[None]:
    """A line that takes every call and never answers."""
    site.billing.stop()
    try:
        with socket.create_server(("0.0.0.0", site.billing.port)):
            yield
    finally:
        site.billing.start()
    site.wait_ready("cameralicense", "new", seconds=90)
    site.cluster.delete_object("cameralicense", site.namespace, "new")


@pytest.mark.usefixtures("silence")
def test_a_line_that_is_dead_silent_holds_up_no_repair(site: Site) -> None:
    site.camera("new", "gate")
    site.wait("cameralicense", "new", "Ready", "Unknown", "BillingUnreachable", seconds=60)

    def headline() -> str:
        shown = site.cluster.get("tenant", "acme", namespace=site.namespace)["status"]
        return str(shown["headline"]["reason"])

    eventually("get tells", lambda: headline() == "BillingUnreachable", seconds=20)
    for name in ("gate-bed-token", "acme-btn-devices", "acme-btn-redis"):
        site.cluster.delete_object("secret", site.namespace, name)
        eventually(
            f"{name} is back",
            lambda name=name: site.cluster.secret(site.namespace, name),
            seconds=5,
        )
    assert site.cluster.ready("cameralicense", site.namespace, "entry")


POINTS = [
    "enroll.key_stored",
    "enroll.answered",
    "inventory.sent",
    "inventory.answered",
    "issue.secret_written",
    "issue.status_written",
]


@pytest.mark.soak
@pytest.mark.parametrize("point", some(POINTS, 3))
def test_killed_at_any_point_a_restart_finishes(bare: Site, customer: str, point: str) -> None:
    bare.operator.stop()
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    bare.tenant(customer=customer, paused=True)
    bare.device("door")
    bare.camera("peep", "door")
    bare.operator.start(BRINKBYTE_FAILPOINT=f"{point}:1")
    bare.operator.wait_killed()
    bare.operator.start()
    bare.wait_ready("cameralicense", "peep", seconds=60)
    bare.wait_ready("edgedevice", "door")
    listed = bare.billing.administer(lambda admin: admin.list_instances())
    live = [each for each in listed if each["tenant_id"] == customer and each["ended_at"] is None]
    assert len(live) == 1


def seats(site: Site, customer: str) -> int:
    """Return how many seats a customer holds, out of the billing API's database."""
    with psycopg.connect(site.billing.server.dsn(site.billing.database)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM seats WHERE tenant_id = %s AND held_until IS NULL", (customer,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def records(site: Site) -> list[str]:
    found = site.cluster.get("secret", namespace=SYSTEM) or {"items": []}
    return [each["metadata"]["name"] for each in found["items"]]


def test_a_namespace_goes_with_the_billing_api_down_and_seats_are_freed_later(
    bare: Site, customer: str
) -> None:
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    bare.tenant(customer=customer, paused=True)
    bare.device("door")
    bare.camera("peep", "door")
    bare.wait_ready("cameralicense", "peep", seconds=40)
    uid = bare.cluster.get("tenant", "small", namespace=bare.namespace)["metadata"]["uid"]
    bare.billing.stop()
    try:
        bare.cluster.kubectl("delete", "namespace", bare.namespace, "--timeout=60s", timeout=90)
        assert f"btn-{uid}" in records(bare)
        assert seats(bare, customer) == 1
        bare.operator.stop()
        bare.operator.start()
        time.sleep(2)
        assert f"btn-{uid}" in records(bare), "a restart does not forget it"
    finally:
        bare.billing.start()
    eventually("the record is gone", lambda: f"btn-{uid}" not in records(bare), seconds=90)
    assert seats(bare, customer) == 0
    bare.cluster.namespace(bare.namespace)
