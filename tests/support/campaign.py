"""The whole product on the test cluster, as the charts and the example manifests install it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from brinkbyte.resources import names
from demo.__main__ import OBJECTS, devices_of, vendor_keys
from stack.customer import (
    CUSTOMER,
    NAMESPACE,
    TENANT,
    apply_example,
    create_customer,
    hand_over,
    run_reporter,
    wait_ready,
)
from stack.forward import PortForward
from stack.release import (
    BILLING,
    BILLING_NAMESPACE,
    OPERATOR,
    OPERATOR_NAMESPACE,
    admin_json,
    install_billing,
    install_operator,
)
from stack.tools import StepError, wait_for
from support.cluster import KubernetesCluster

__all__ = [
    "CUSTOMER",
    "NAMESPACE",
    "OBJECTS",
    "TENANT",
    "Component",
    "Pod",
    "admin_json",
    "delete_pod",
    "devices_of",
    "pods",
    "run_reporter",
    "stacked",
    "start_reporter",
    "url_of",
    "vendor_keys",
    "wait_ready",
    "wait_replaced",
]

_WITHIN: Final = 180.0
_DELAY: Final = "BRINKBYTE_REPORT_DELAY_SEED"


@dataclass(frozen=True)
class Component:
    """What a pod is of: its namespace, how its name begins, and how it does not."""

    name: str
    namespace: str
    prefix: str
    others: tuple[str, ...] = ()

    def owns(self, pod: str) -> bool:
        """Tell whether a pod of this name is one of it."""
        return pod.startswith(self.prefix) and not pod.startswith(self.others)


@dataclass(frozen=True)
class Pod:
    """A pod as it was listed."""

    namespace: str
    name: str
    uid: str
    phase: str
    ready: bool


# Of the module, not the session: the tests of the operator beside the cluster run one of their own,
# and two operators on one cluster would work against each other.
@pytest.fixture(scope="module")
def stacked(cluster: KubernetesCluster) -> Iterator[KubernetesCluster]:
    """Both Helm releases and the example customer, everything Ready; removed afterwards."""
    try:
        install_billing(cluster)
        # The fixture of the cluster has applied the definitions.
        install_operator(cluster, values={"crds.enabled": "false"})
        create_customer(cluster)
        hand_over(cluster)
        apply_example(cluster)
        wait_ready(cluster, objects=OBJECTS)
        yield cluster
    finally:
        remove_stack(cluster)


def remove_stack(cluster: KubernetesCluster) -> None:
    """Remove the customer while its operator runs, then both releases."""
    cluster.kubectl(
        "delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=200s", timeout=210
    )
    for release, namespace in ((OPERATOR, OPERATOR_NAMESPACE), (BILLING, BILLING_NAMESPACE)):
        cluster.helm("uninstall", release, "--namespace", namespace, "--ignore-not-found")
        cluster.kubectl(
            "delete", "namespace", namespace, "--ignore-not-found", "--timeout=200s", timeout=210
        )


def url_of(forward: PortForward) -> str:
    """Return where a forwarded Service is now, with an error that a client knows how to retry."""
    try:
        return forward.url
    except StepError as error:
        raise httpx.ConnectError(str(error)) from None


def pods(cluster: KubernetesCluster, component: Component) -> list[Pod]:
    """Return a component's pods that are not on their way out."""
    listed: list[dict[str, Any]] = cluster.get("pods", namespace=component.namespace)["items"]
    found = []
    for item in listed:
        meta, status = item["metadata"], item["status"]
        if not component.owns(meta["name"]) or "deletionTimestamp" in meta:
            continue
        conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
        found.append(
            Pod(
                meta["namespace"],
                meta["name"],
                meta["uid"],
                status.get("phase", ""),
                conditions.get("Ready") == "True",
            )
        )
    return found


def delete_pod(cluster: KubernetesCluster, pod: Pod) -> bool:
    """Delete a pod without any grace; False: it had ended before."""
    found = cluster.get("pod", pod.name, namespace=pod.namespace)
    if not found or found["metadata"]["uid"] != pod.uid or found["status"]["phase"] != "Running":
        return False
    cluster.kubectl(
        "delete", "pod", pod.name, "--namespace", pod.namespace, "--grace-period=0", "--force"
    )
    return True


def start_reporter(cluster: KubernetesCluster, job: str) -> None:
    """Start the reporter's Job as the CronJob would, but at once: a pod that waits does no work."""
    printed = cluster.kubectl(
        "create", "job", job, f"--from=cronjob/{TENANT}{names.REPORTER_SUFFIX}",
        "--namespace", NAMESPACE, "--dry-run=client", "--output", "json",
    )  # fmt: skip
    made = json.loads(printed)
    made["metadata"].pop("ownerReferences", None)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["env"] = [each for each in container["env"] if each["name"] != _DELAY]
    cluster.apply(made)


def wait_replaced(cluster: KubernetesCluster, component: Component, gone: Pod) -> None:
    """Wait until another pod of the component is ready."""
    wait_for(
        f"another {component.name} pod than {gone.name} to be ready",
        lambda: any(pod.ready and pod.uid != gone.uid for pod in pods(cluster, component)),
        timeout=_WITHIN,
    )
