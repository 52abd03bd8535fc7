"""A customer's resources on a cluster, and the operator that dies over them and comes back."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from brinkbyte.resources.names import (
    API_VERSION,
    CA_KEY,
    ENROLLMENT_SECRET_TYPE,
    ENROLLMENT_TOKEN_KEY,
)
from stack.cluster import secret_manifest
from support.campaign_plan import Tally
from support.cluster import KubernetesCluster, eventually
from support.operator import OperatorProcess
from support.reachable import ReachableBillingApi

POINTS: Final = (
    "enroll.key_stored",
    "enroll.answered",
    "inventory.sent",
    "inventory.answered",
    "issue.secret_written",
    "issue.status_written",
)
ENROLLING: Final = POINTS[:2]
TENANT: Final = "acme"
DEVICES: Final = ("gate", "dock")
_DEATH_SECONDS: Final = 180.0


@dataclass
class ClusterSite:
    """One customer in a namespace of its own.

    Attributes:
        cameras: names of the CameraLicenses applied so far.
    """

    cluster: KubernetesCluster
    billing: ReachableBillingApi
    namespace: str
    customer: str
    cameras: list[str] = field(default_factory=list)

    def apply(self) -> None:
        """Apply the Tenant with what it needs, two devices and a camera."""
        self.cluster.namespace(self.namespace)
        token = self.billing.enrollment_token(self.customer)
        self.cluster.apply(
            secret_manifest(
                self.namespace,
                "enrollment",
                {ENROLLMENT_TOKEN_KEY: token.encode()},
                secret_type=ENROLLMENT_SECRET_TYPE,
            ),
            secret_manifest(self.namespace, "billing-ca", {CA_KEY: self.billing.ca}),
            self._resource(
                "Tenant",
                TENANT,
                customerId=self.customer,
                billing={
                    "url": self.billing.url,
                    "enrollmentSecretRef": {"name": "enrollment"},
                    "caSecretRef": {"name": "billing-ca"},
                },
            ),
            *(
                self._resource(
                    "EdgeDevice", name, tenantRef={"name": TENANT}, hardwareId=f"hw-{name}"
                )
                for name in DEVICES
            ),
        )
        self.add_camera()

    def add_camera(self) -> None:
        """Apply one more CameraLicense."""
        name = f"camera-{len(self.cameras) + 1}"
        self.cluster.apply(
            self._resource(
                "CameraLicense",
                name,
                tenantRef={"name": TENANT},
                cameraId=f"id-{name}",
                deviceRef={"name": DEVICES[len(self.cameras) % len(DEVICES)]},
            )
        )
        self.cameras.append(name)

    def wait_ready(self) -> None:
        """Wait until all that was applied is Ready."""
        wanted = [
            *(("cameralicense", name) for name in self.cameras),
            *(("edgedevice", name) for name in DEVICES),
            ("tenant", TENANT),
        ]
        for kind, name in wanted:
            eventually(
                f"{kind} {name} is Ready",
                partial(self.cluster.ready, kind, self.namespace, name),
                seconds=240,
                every=1.0,
            )

    def remove(self) -> None:
        """Delete the namespace while the operator runs: it lets the Tenant's finalizer go."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--timeout=170s", timeout=180)

    def _resource(self, kind: str, name: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }


def die_at(operator: OperatorProcess, point: str, tally: Tally) -> None:
    """Start the operator with a failpoint and see it die there; there is work for it already."""
    operator.stop()
    with contextlib.suppress(RuntimeError):  # dead before it answers: the exit code tells
        operator.start(BRINKBYTE_FAILPOINT=point)
    process = operator._process  # its exit code is the evidence
    assert process is not None
    with contextlib.suppress(subprocess.TimeoutExpired):  # told by the tally
        process.wait(timeout=_DEATH_SECONDS)
    tally.died("operator", point, process.returncode, log=operator.log)
    operator.wait_killed()
