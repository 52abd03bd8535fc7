"""Measure on a running cluster with both charts installed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench import reference
from stack import customer as customers
from stack.cluster import Cluster, list_of
from stack.release import BILLING_URL
from stack.tools import StepError, spawn, wait_for

PATIENCE: Final = 300.0
NAMESPACE: Final = "bench"
CUSTOMER: Final = "bench"
BARE_NAMESPACE: Final = "bench-bare"
TERMS: Final[dict[str, Any]] = {
    "plans": {},
    "quantities": {"vision.base_seat": 20_000, "vision.device.basic": 10},
    "overrides": {},
}


@dataclass(frozen=True)
class Burst:
    """Seconds of a burst of objects.

    Attributes:
        creating: from the first create's start to the last one's end.
        after: from the last create to the moment the last object is ready.
    """

    creating: float
    after: float

    @property
    def total(self) -> float:
        """First create to last ready."""
        return self.creating + self.after


def metadata(name: str, namespace: str) -> dict[str, str]:
    """Return an object's metadata."""
    return {"name": name, "namespace": namespace}


def tenant() -> dict[str, Any]:
    """Return the benchmark's Tenant."""
    return {
        "apiVersion": "vision.brinkbyte.io/v1alpha1",
        "kind": "Tenant",
        "metadata": metadata("bench", NAMESPACE),
        "spec": {
            "customerId": CUSTOMER,
            "billing": {
                "url": BILLING_URL,
                "enrollmentSecretRef": {"name": "enrollment"},
                "caSecretRef": {"name": "billing-ca"},
            },
            "postgres": {"storage": {"size": "1Gi"}},
        },
    }


def device() -> dict[str, Any]:
    """Return the device that all cameras hang on."""
    return {
        "apiVersion": "vision.brinkbyte.io/v1alpha1",
        "kind": "EdgeDevice",
        "metadata": metadata("edge", NAMESPACE),
        "spec": {"tenantRef": {"name": "bench"}, "hardwareId": "hw-bench"},
    }


def camera(number: int) -> dict[str, Any]:
    """Return one of the cameras."""
    return {
        "apiVersion": "vision.brinkbyte.io/v1alpha1",
        "kind": "CameraLicense",
        "metadata": metadata(f"cam-{number:05}", NAMESPACE),
        "spec": {
            "tenantRef": {"name": "bench"},
            "cameraId": f"cam-{number:05}",
            "deviceRef": {"name": "edge"},
        },
    }


def bare(number: int) -> dict[str, Any]:
    """Return one of the reference's objects."""
    return {
        "apiVersion": f"{reference.GROUP}/v1",
        "kind": "Bare",
        "metadata": metadata(f"bare-{number:05}", BARE_NAMESPACE),
        "spec": {},
    }


def tenant_to_ready(cluster: Cluster) -> float:
    """Return the seconds from a Tenant's apply to its Ready, images present."""
    customers.create_customer(cluster, CUSTOMER, terms=TERMS)
    customers.hand_over(cluster, NAMESPACE, CUSTOMER)
    cluster.apply(device())
    started = time.monotonic()
    cluster.apply(tenant())
    wait_for("the Tenant to be Ready", lambda: is_ready(cluster, "tenants", "bench"), timeout=180)
    return time.monotonic() - started


def statefulset_to_ready(cluster: Cluster) -> float:
    """Return the seconds of the reference: a bare pod with a volume on the same node, ready.

    What no operator can be faster than: schedule, provision, start, probe.
    """
    cluster.namespace(BARE_NAMESPACE)
    manifest = cluster.get("statefulset", "bench-btn-postgres", namespace=NAMESPACE)
    manifest["metadata"] = metadata("postgres", BARE_NAMESPACE)
    manifest.pop("status", None)
    secret = cluster.get("secret", "bench-btn-postgres", namespace=NAMESPACE)
    secret["metadata"] = metadata("bench-btn-postgres", BARE_NAMESPACE)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(
            manifest["spec"]["template"]["spec"].get("serviceAccountName", "unused"),
            BARE_NAMESPACE,
        ),
    }
    started = time.monotonic()
    cluster.apply(account, secret, manifest)

    def ready() -> bool:
        found = cluster.get("statefulset", "postgres", namespace=BARE_NAMESPACE)
        return bool(found.get("status", {}).get("readyReplicas"))

    wait_for("the bare StatefulSet", ready, timeout=120)
    seconds = time.monotonic() - started
    cluster.kubectl("delete", "statefulset", "postgres", "--namespace", BARE_NAMESPACE)
    cluster.kubectl("delete", "pvc", "--all", "--namespace", BARE_NAMESPACE, "--wait=false")
    return seconds


def is_ready(cluster: Cluster, kind: str, name: str, namespace: str = NAMESPACE) -> bool:
    """Tell whether an object's Ready condition is True."""
    conditions = (cluster.get(kind, name, namespace=namespace) or {}).get("status", {})
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in conditions.get("conditions", [])
    )


def burst(
    cluster: Cluster,
    kind: str,
    make: Callable[[int], dict[str, Any]],
    *,
    namespace: str,
    ready_path: str,
    count: int,
) -> Burst:
    """Create objects as fast as kubectl can and watch until all are ready.

    Args:
        cluster: where.
        kind: plural and group.
        make: builds the n-th object.
        namespace: its namespace.
        ready_path: JSONPath that prints a line with ``True`` or ``true`` per ready object.
        count: how many.

    Raises:
        StepError: not all could be created, or not all became ready within ``PATIENCE`` seconds.
    """
    objects = [make(number) for number in range(count)]
    waiting = {each["metadata"]["name"] for each in objects}
    ready: dict[str, float] = {}
    over = threading.Event()
    watches: list[subprocess.Popen[str]] = []

    def follow() -> None:
        # The API server ends the watch of whom it finds too slow; a new one says what there is.
        while not over.is_set():
            watch = spawn(
                cluster.command(
                    "get", kind, "--namespace", namespace, "--watch", "--output",
                    f"jsonpath={{.metadata.name}} {{{ready_path}}}{{'\\n'}}",
                ),
                stdout=subprocess.PIPE,
            )  # fmt: skip
            watches.append(watch)
            for line in watch.stdout or ():
                name, _, value = line.strip().partition(" ")
                if value.lower() == "true" and name in waiting:
                    ready.setdefault(name, time.monotonic())
                    if len(ready) == count:
                        over.set()
                        break
            over.wait(0.2)

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    try:
        started = time.monotonic()
        cluster.kubectl(
            "create", "--filename", "-", "--namespace", namespace,
            stdin=json.dumps(list_of(objects)), timeout=PATIENCE,
        )  # fmt: skip
        created = time.monotonic()
        over.wait(started + PATIENCE - created)
        if len(ready) < count:
            raise StepError(f"only {len(ready)} of {count} {kind} are ready after {PATIENCE:.0f} s")
        return Burst(created - started, max(0.0, max(ready.values()) - created))
    finally:
        over.set()
        while reader.is_alive():
            for watch in watches:
                watch.kill()
            reader.join(1.0)
        for watch in watches:
            watch.kill()
            watch.communicate()


@contextmanager
def bare_handler(cluster: Cluster) -> Iterator[None]:
    """Run the reference handler, warmed up, while the block runs."""
    cluster.apply(reference.CRD)
    cluster.namespace(BARE_NAMESPACE)
    cluster.kubectl(
        "wait", "crd", f"{reference.PLURAL}.{reference.GROUP}", "--for=condition=Established"
    )
    process = spawn(
        [sys.executable, "-m", "bench.reference", cluster.kubeconfig, BARE_NAMESPACE],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    kind, first = f"{reference.PLURAL}.{reference.GROUP}", bare(99_999)
    name = first["metadata"]["name"]
    try:
        cluster.apply(first)
        wait_for(
            "the reference handler",
            lambda: cluster.get(kind, name, namespace=BARE_NAMESPACE).get("status"),
            timeout=60,
        )
        cluster.kubectl("delete", kind, name, "--namespace", BARE_NAMESPACE)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)
