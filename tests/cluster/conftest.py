"""One customer site on a real cluster, with a real billing API and a real operator beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from brinkbyte.resources.names import ENROLLMENT_SECRET_TYPE, ENROLLMENT_TOKEN_KEY
from stack import images
from stack.cluster import secret_manifest
from support.billing import CUSTOMER, DEFAULT_TERMS, remove_billing_api
from support.cluster import KubernetesCluster, cluster, eventually
from support.operator import OperatorProcess, release_with
from support.postgres import PostgresServer, postgres_server
from support.reachable import ReachableBillingApi, reachable_billing_api

__all__ = ["cluster", "postgres_server"]

NAMESPACE = "site"
SYSTEM = "brinkbyte-system"
API_VERSION = "vision.brinkbyte.io/v1alpha1"


@pytest.fixture(scope="package")
def billing(
    cluster: KubernetesCluster, postgres_server: PostgresServer
) -> Iterator[ReachableBillingApi]:
    api = reachable_billing_api(cluster, postgres_server)
    try:
        api.start()
        api.create_customer(CUSTOMER, DEFAULT_TERMS)
        yield api
    finally:
        remove_billing_api(api)


@pytest.fixture(scope="package")
def operator(
    cluster: KubernetesCluster,
    billing: ReachableBillingApi,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    """The operator, out of the cluster."""
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
    process.start()
    try:
        yield process
    finally:
        process.stop()


@dataclass
class Site:
    """A namespace with a Tenant, and how to make more."""

    cluster: KubernetesCluster
    billing: ReachableBillingApi
    operator: OperatorProcess
    namespace: str
    name: str = "acme"

    def tenant(
        self, *, customer: str = CUSTOMER, url: str | None = None, ca: bool = True, **spec: Any
    ) -> None:
        """Apply the Tenant, with the Secret of the billing API's CA unless told otherwise."""
        billing: dict[str, Any] = {
            "url": url or self.billing.url,
            "enrollmentSecretRef": {"name": "enrollment"},
        }
        if url is None:
            billing["caSecretRef"] = {"name": "billing-ca"}
            if ca:
                self.secret("billing-ca", {"ca.crt": self.billing.ca})
        self.apply("Tenant", self.name, customerId=customer, billing=billing, **spec)

    def secret(self, name: str, data: dict[str, bytes], *, kind: str = "Opaque") -> None:
        self.cluster.apply(secret_manifest(self.namespace, name, data, secret_type=kind))

    def device(self, name: str, **spec: Any) -> None:
        wanted = {"tenantRef": {"name": self.name}, "hardwareId": f"hw-{name}", **spec}
        self.apply("EdgeDevice", name, **wanted)

    def camera(self, name: str, device: str, **spec: Any) -> None:
        wanted = {
            "tenantRef": {"name": self.name},
            "cameraId": f"id-{name}",
            "deviceRef": {"name": device},
            **spec,
        }
        self.apply("CameraLicense", name, **wanted)

    def apply(self, kind: str, name: str, **spec: Any) -> None:
        self.cluster.apply(
            {
                "apiVersion": API_VERSION,
                "kind": kind,
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": spec,
            }
        )

    def enroll(self, token: str, *, kind: str = ENROLLMENT_SECRET_TYPE) -> None:
        self.secret("enrollment", {ENROLLMENT_TOKEN_KEY: token.encode()}, kind=kind)

    def condition(self, kind: str, name: str, which: str) -> tuple[str, str, str]:
        found = self.cluster.conditions(kind, self.namespace, name).get(which, {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def wait(
        self, kind: str, name: str, which: str, status: str, reason: str, *, seconds: float = 30
    ) -> str:
        """Wait for a condition and return its message."""
        eventually(
            f"{kind} {name}: {which} {status} {reason}",
            lambda: self.condition(kind, name, which)[:2] == (status, reason) or None,
            seconds=seconds,
        )
        return self.condition(kind, name, which)[2]

    def wait_ready(self, kind: str, name: str, *, seconds: float = 30) -> None:
        eventually(
            f"{kind} {name} is Ready",
            lambda: self.cluster.ready(kind, self.namespace, name),
            seconds=seconds,
        )


@pytest.fixture(scope="package")
def site(
    cluster: KubernetesCluster, billing: ReachableBillingApi, operator: OperatorProcess
) -> Iterator[Site]:
    """A Tenant that is Ready, two devices, three cameras."""
    cluster.namespace(NAMESPACE)
    made = Site(cluster, billing, operator, NAMESPACE)
    made.enroll(billing.enrollment_token())
    made.tenant()
    made.device("gate")
    made.device("dock")
    made.camera("entry", "gate", growthPacks=["retail"])
    made.camera("exit", "gate")
    made.camera("ramp", "dock", growthPacks=["advanced_analytics"])
    made.wait_ready("tenant", "acme", seconds=180)
    yield made
    if cluster.stays:
        # While the operator still runs: it lets the Tenant's finalizer go.
        cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=100s")
