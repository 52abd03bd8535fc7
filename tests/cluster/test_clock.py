"""Two months without the line: every mode on the Tenant and at the instance, nothing deleted.

Billing API, operator and instance run under a clock of their own (libfaketime); the cluster's and
its database's stay as they are. The line between cluster and billing API dies just before the
license would have been renewed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from brinkbyte.resources import names
from stack.forward import PortForward
from stack.tools import StepError
from support.billing import DEFAULT_TERMS, remove_billing_api
from support.campaign_plan import soaking
from support.cluster import KubernetesCluster, eventually
from support.faketime import CLOCK_KEY, Clock, image_with_clock, load_image
from support.operator import OperatorProcess, release_with
from support.postgres import PostgresServer
from support.reachable import ReachableBillingApi, reachable_billing_api

from .conftest import Site

pytestmark = pytest.mark.cluster

NAMESPACE: Final = "clock"
CUSTOMER: Final = "tempus"
DAY: Final = 86_400
TICK: Final = 900
"""A little before or after: longer than the test takes."""
RENEWED_AT: Final = 14 * DAY
"""When less than 31 of the 45 days are left."""
COUNTS: Final = """
WITH counted AS (
    SELECT relname, query_to_xml(
        format('SELECT count(*) AS c FROM %s', oid::regclass), false, true, ''
    ) AS answer
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
)
SELECT json_object_agg(relname, (xpath('/row/c/text()', answer))[1]::text) FROM counted
"""
"""Partitions are counted by their parent: one that goes meanwhile is then no error."""


@dataclass
class Clocked:
    """A site whose programs are under one clock."""

    site: Site
    clock: Clock
    forward: PortForward
    name: str = "acme"

    def move(self, seconds: int) -> None:
        """Set the clock of everything; pods see it when they start."""
        self.clock.set(seconds)
        self.site.cluster.patch(
            "secret",
            NAMESPACE,
            self.name + names.ACCESS_SUFFIX,
            {"stringData": {CLOCK_KEY: f"+{seconds}"}},
        )

    def restart(self, *more: str) -> None:
        """Restart operator and instance, and other components that are named."""
        self.site.operator.stop()
        components = ",".join(["instance", *more])
        pods = (
            "pods", "--namespace", NAMESPACE,
            "--selector", f"{names.LABEL_COMPONENT} in ({components})",
        )  # fmt: skip
        self.site.cluster.kubectl("delete", *pods, "--grace-period=0", "--force")
        self.site.operator.start(**self.clock.environment)

    def shows(self, mode: str, status: str, *reasons: str) -> None:
        """Wait for a mode in ``GET /api/v1/license`` and on the Tenant."""
        eventually(
            f"the instance is in mode {mode}",
            lambda: (self.license() or {}).get("mode") == mode,
            seconds=240,
            every=0.5,
        )

        def on_tenant() -> bool:
            found = self.site.cluster.get("tenant", self.name, namespace=NAMESPACE) or {}
            held = found.get("status", {}).get("license", {}).get("mode")
            valid = self.site.condition("tenant", self.name, "LicenseValid")
            return held == mode and valid[0] == status and valid[1] in reasons

        eventually(f"the Tenant shows {mode}, {status} {reasons}", on_tenant, seconds=240)

    def license(self) -> dict[str, Any] | None:
        """What the instance answers; None while no pod does."""
        secret = self.site.cluster.secret(NAMESPACE, self.name + names.ACCESS_SUFFIX)
        token = secret[names.SERVICE_TOKEN_KEY].decode()
        try:
            answer = httpx.get(
                f"{self.forward.url}/api/v1/license",
                headers={"Authorization": f"Bearer {token}"},
                timeout=5,
            )
        except httpx.HTTPError:
            return None
        return dict(answer.json()) if answer.status_code == 200 else None

    def sees(self, count: int) -> None:
        """Let the device send what its camera saw."""
        secret = self.site.cluster.secret(NAMESPACE, "gate" + names.DEVICE_TOKEN_SUFFIX)
        headers = {
            "Authorization": f"Bearer {secret[names.DEVICE_TOKEN_KEY].decode()}",
            "Idempotency-Key": str(uuid4()),
        }
        start = datetime.now(UTC) - timedelta(hours=1)
        events = [
            {"occurredAt": (start + timedelta(seconds=n)).isoformat(), "kind": "detection"}
            for n in range(count)
        ]

        def kept() -> bool:
            answer = httpx.post(
                f"{self.forward.url}/api/v1/telemetry",
                headers=headers,
                json={"cameraId": "id-entry", "events": events},
                timeout=10,
            )
            return answer.status_code == 201

        eventually("telemetry is kept", kept, seconds=240)

    def rows(self) -> dict[str, int]:
        """Return the number of rows of every table of the instance."""
        secret = self.name + names.POSTGRES_SUFFIX
        dsn = self.site.cluster.secret(NAMESPACE, secret)[names.POSTGRES_DSN_KEY].decode()
        ask = (
            "exec", "--namespace", NAMESPACE, f"{secret}-0", "--container", "postgres", "--",
            "psql", dsn, "--tuples-only", "--no-align", "--command", COUNTS,
        )  # fmt: skip

        def counted() -> str:
            try:
                return self.site.cluster.kubectl(*ask)
            except StepError:
                return ""

        # The instance answers from what it holds while its database still starts.
        text = eventually("PostgreSQL answers", counted, seconds=240)
        return {table: int(count) for table, count in json.loads(text).items()}


@contextmanager
def resting(operator: OperatorProcess) -> Iterator[None]:
    """Let another operator have the cluster for a while."""
    operator.stop()
    try:
        yield
    finally:
        operator.start()


@pytest.fixture
def clocked(
    cluster: KubernetesCluster,
    operator: OperatorProcess,
    postgres_server: PostgresServer,
    tmp_path: Path,
) -> Iterator[Clocked]:
    """A site of its own, with a billing API and an operator of its own."""
    image = image_with_clock()
    load_image(cluster.name, image)
    api: ReachableBillingApi = reachable_billing_api(cluster, postgres_server)
    clock = Clock(tmp_path / "clock")
    clock.set(0)
    own = OperatorProcess(
        source=release_with(api.roots, tmp_path / "source"),
        kubeconfig=cluster.kubeconfig,
        directory=tmp_path,
        environment={**operator.environment, "BRINKBYTE_WATCH_NAMESPACES": NAMESPACE},
    )
    cluster.namespace(NAMESPACE)
    site = Site(cluster, api, own, NAMESPACE)
    with resting(operator):
        try:
            api.start(**clock.environment)
            api.create_customer(CUSTOMER, DEFAULT_TERMS)
            own.start(**clock.environment)
            site.enroll(api.enrollment_token(CUSTOMER))
            site.tenant(customer=CUSTOMER, instance={"image": image})
            site.device("gate")
            site.camera("entry", "gate", growthPacks=["retail"])
            site.wait_ready("tenant", "acme", seconds=180)
            site.wait_ready("cameralicense", "entry", seconds=240)
            service = "acme" + names.INSTANCE_SUFFIX
            with PortForward(cluster, NAMESPACE, service, names.INSTANCE_PORT) as forward:
                yield Clocked(site, clock, forward)
            # While its operator and billing API still run: they let the Tenant go.
            cluster.kubectl("delete", "tenant", "acme", "--namespace", NAMESPACE, "--timeout=60s")
            cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        finally:
            own.stop()
            remove_billing_api(api)


VALID: Final = ("LicenseValid", "DevelopmentTrustRoot", "BillingUnreachable")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_months_without_the_line_show_every_mode_and_delete_nothing(clocked: Clocked) -> None:
    site, billing = clocked.site, clocked.site.billing
    clocked.shows("active", "True", *VALID)
    clocked.sees(50)
    before = clocked.rows()
    assert before["telemetry_events"] == 50
    held = site.cluster.secret(NAMESPACE, "acme" + names.LICENSE_SUFFIX)[names.LICENSE_KEY]

    # The line dies one tick before the license would have been renewed.
    clocked.move(RENEWED_AT - TICK)
    site.operator.stop()
    site.operator.start(**clocked.clock.environment)
    clocked.shows("active", "True", *VALID)
    billing.stop()
    assert site.cluster.secret(NAMESPACE, "acme" + names.LICENSE_SUFFIX)[names.LICENSE_KEY] == held

    for seconds, mode, status, reasons in (
        (RENEWED_AT + 30 * DAY - TICK, "active", "True", VALID),
        (45 * DAY + TICK, "grace", "True", ("InGrace",)),
        (52 * DAY + TICK, "expired", "False", ("LicenseExpired",)),
    ):
        clocked.move(seconds)
        clocked.restart(*(["postgres", "redis"] if mode == "expired" else []))
        clocked.shows(mode, status, *reasons)

    after = clocked.rows()
    # The caches of what is signed follow the mode; nothing else may lose a row.
    lost = {table for table, count in before.items() if after.get(table, 0) < count}
    assert lost <= {"feature_entitlements", "camera_licenses", "growth_pack_features"}
    assert after["telemetry_events"] == 50
    eventually(
        "the Tenant is Ready again",
        lambda: site.cluster.ready("tenant", NAMESPACE, "acme"),
        seconds=240,
    )

    # The line is back: the vendor's clock has gone on as well.
    billing.start(**clocked.clock.environment)
    clocked.shows("active", "True", *VALID)
    answer = clocked.license()
    assert answer is not None
    assert answer["usage"]["devices"]["max"] == 50
    if not soaking():
        return

    billing.set_terms(CUSTOMER, DEFAULT_TERMS, status="trialing", trial_days=90)
    clocked.restart()
    clocked.shows("trial", "True", "TrialActive")
    billing.set_terms(CUSTOMER, DEFAULT_TERMS, status="suspended")
    clocked.restart()
    clocked.shows("suspended", "False", "SubscriptionSuspended")
    billing.set_terms(CUSTOMER, DEFAULT_TERMS, status="active")
    billing.administer(lambda admin: admin.revoke(CUSTOMER, reason="a test"))
    clocked.restart()
    clocked.shows("revoked", "False", "LicenseRevoked")
    assert clocked.rows()["telemetry_events"] == 50
