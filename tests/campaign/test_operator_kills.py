"""The operator killed at each of its points while a customer comes up: all is there once."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brinkbyte.license.claims import CameraClaims, LicenseClaims
from brinkbyte.license.keys import load_roots, verify_key_set
from brinkbyte.license.tokens import verify
from brinkbyte.resources import names
from stack import images
from support.billing import DEFAULT_TERMS, remove_billing_api
from support.campaign_operator import ENROLLING, POINTS, TENANT, ClusterSite, die_at
from support.campaign_plan import Tally, campaign_seed, soaking
from support.cluster import KubernetesCluster
from support.operator import OperatorProcess, release_with
from support.postgres import PostgresServer
from support.reachable import ReachableBillingApi, reachable_billing_api

SYSTEM = "brinkbyte-system"
CONTROLLER = Path(__file__).resolve().parents[2] / "operator" / "brinkbyte" / "controller"
ROUNDS = 3 if soaking() else 1


@pytest.fixture(scope="module")
def billing(
    cluster: KubernetesCluster, postgres_server: PostgresServer
) -> Iterator[ReachableBillingApi]:
    api = reachable_billing_api(cluster, postgres_server)
    try:
        api.start()
        yield api
    finally:
        remove_billing_api(api)


# Of the module, not the session: two operators on one cluster would work against each other.
@pytest.fixture(scope="module")
def operator(
    cluster: KubernetesCluster,
    billing: ReachableBillingApi,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    """The operator beside the cluster; not started."""
    cluster.namespace(SYSTEM)
    directory: Path = tmp_path_factory.mktemp("operator")
    process = OperatorProcess(
        source=release_with(billing.roots, directory / "source"),
        kubeconfig=cluster.kubeconfig,
        directory=directory,
        environment={
            # Somebody's own cluster may hold an image under another name.
            "BRINKBYTE_INSTANCE_IMAGE": os.environ.get("BRINKBYTE_INSTANCE_IMAGE")
            or images.project_image(),
            "BRINKBYTE_DEFAULT_POSTGRES_IMAGE": images.LOCAL_POSTGRES,
            "BRINKBYTE_DEFAULT_REDIS_IMAGE": images.LOCAL_REDIS,
            "BRINKBYTE_DEFAULT_TRITON_IMAGE": images.LOCAL_TRITON,
        },
    )
    yield process
    process.stop()


@pytest.mark.unit
def test_every_point_of_the_operator_is_here() -> None:
    found: set[str] = set()
    for path in CONTROLLER.rglob("*.py"):
        found.update(re.findall(r'failpoint\("([^"]+)"\)', path.read_text()))
    assert found == set(POINTS)


@pytest.mark.cluster
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_operator_killed_at_every_point(
    cluster: KubernetesCluster, billing: ReachableBillingApi, operator: OperatorProcess
) -> None:
    seed = campaign_seed()
    numbers = random.Random(seed)
    tally = Tally("operator-kills", seed)
    for number in range(1, ROUNDS + 1):
        site = ClusterSite(cluster, billing, f"kills-{number}", f"kills-{number}")
        billing.create_customer(site.customer, DEFAULT_TERMS)
        operator.stop()  # the last round's, which would do the work before it is to die
        site.apply()
        later = [point for point in POINTS if point not in ENROLLING]
        numbers.shuffle(later)
        for point in ENROLLING:
            die_at(operator, point, tally)
        for point in later:
            die_at(operator, point, tally)
            site.add_camera()
        operator.start()
        site.wait_ready()
        assert_right(site)
        site.remove()
    tally.publish(rounds=ROUNDS)
    assert tally.points == dict.fromkeys(POINTS, ROUNDS)


def assert_right(site: ClusterSite) -> None:
    """One live instance, a seat for each CameraLicense, and every token the vendor's."""
    (instance,) = rows(site, "SELECT * FROM instances WHERE tenant_id = %s")
    assert instance["ended_at"] is None
    live = site.cluster.get("tenant", TENANT, namespace=site.namespace)
    assert live["status"]["instanceId"] == instance["instance_id"]
    seats = rows(site, "SELECT * FROM seats WHERE tenant_id = %s AND held_until IS NULL")
    assert {row["camera_id"] for row in seats} == {f"id-{name}" for name in site.cameras}
    assert len({row["seat_id"] for row in seats}) == len(seats) == len(site.cameras)
    seat_of = {row["camera_id"]: row["seat_id"] for row in seats}
    now = int(time.time())
    held = site.cluster.secret(site.namespace, TENANT + names.LICENSE_SUFFIX)
    roots = load_roots(site.billing.roots.read_bytes())
    keys = verify_key_set(held[names.KEY_SET_KEY], roots, now=now).keys
    audience = instance["instance_id"]
    claims = verify(held[names.LICENSE_KEY], LicenseClaims, keys, now=now, audience=audience)
    assert claims.customer_id == site.customer
    for name in site.cameras:
        secret = site.cluster.secret(site.namespace, name + names.CAMERA_LICENSE_SUFFIX)
        token = secret[names.CAMERA_TOKEN_KEY]
        camera = verify(token, CameraClaims, keys, now=now, audience=audience)
        assert camera.seat == seat_of[camera.camera_id]
        assert camera.camera_id == f"id-{name}"
    records = json.loads(
        site.cluster.kubectl("get", "secrets", "--namespace", SYSTEM, "--output", "json")
    )["items"]
    uid = live["metadata"]["uid"]
    assert [each["metadata"]["name"] for each in records].count(f"btn-{uid}") == 1


def rows(site: ClusterSite, statement: str) -> list[dict[str, Any]]:
    """Run a statement with the customer on the billing database, as the superuser."""
    dsn = site.billing.server.dsn(site.billing.database)
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(statement, (site.customer,)).fetchall()
