"""A customer: what the vendor does to have one, and what the customer applies."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from brinkbyte.resources.names import ENROLLMENT_SECRET_TYPE, ENROLLMENT_TOKEN_KEY
from stack.cluster import Cluster, secret_manifest
from stack.release import BILLING, BILLING_NAMESPACE, admin, admin_json
from stack.tools import ROOT, StepError, wait_for

EXAMPLE: Final = ROOT / "examples" / "customer"
CUSTOMER: Final = "acme-logistics"
NAMESPACE: Final = "acme"
TENANT: Final = "acme"
_START_DELAY: Final = "BRINKBYTE_REPORT_DELAY_SEED"
"""Spreads the reporters of a fleet over seconds; nobody waits for a fleet here."""
KINDS: Final = ("tenants", "edgedevices", "cameralicenses")

TERMS: Final[dict[str, Any]] = {
    "plans": {},
    "quantities": {
        "vision.base_seat": 5,
        "vision.device.managed": 1,
        "vision.device.basic": 1,
        "vision.pack.advanced_analytics": 2,
        "vision.pack.advanced_vehicles": 2,
        "vision.pack.active_transport": 1,
        "vision.pack.retail": 1,
        "vision.integration.api_overage": 1,
    },
    # These packs have no list price: each customer's own is agreed with sales.
    "overrides": {
        "vision.pack.advanced_vehicles.price": "25",
        "vision.pack.active_transport.price": "15",
        "vision.pack.retail.price": "18",
    },
}
"""What the demo's customer has bought."""


@dataclass(frozen=True)
class Condition:
    """One condition of one object."""

    kind: str
    name: str
    type: str
    status: str
    reason: str
    message: str


def create_customer(cluster: Cluster, customer: str = CUSTOMER, *, terms: Any = None) -> None:
    """Create a customer with its subscription; nothing happens when it is there already."""
    admin(cluster, "customer", "create", "--id", customer, "--name", "Acme Logistics")
    admin(
        cluster, "subscription", "set", "--customer", customer, "--terms", "/dev/stdin",
        stdin=json.dumps(terms or TERMS),
    )  # fmt: skip


def enrollment_token(cluster: Cluster, customer: str = CUSTOMER) -> str:
    """Return a fresh one-time enrollment token."""
    answer = admin_json(cluster, "enrollment", "create", "--customer", customer, "--output", "json")
    return str(answer["token"])


def hand_over(cluster: Cluster, namespace: str = NAMESPACE, customer: str = CUSTOMER) -> None:
    """Put the enrollment token and the billing API's CA into the customer's namespace."""
    cluster.namespace(namespace)
    token = enrollment_token(cluster, customer)
    authority = cluster.secret(BILLING_NAMESPACE, f"{BILLING}-tls")["ca.crt"]
    cluster.apply(
        secret_manifest(
            namespace,
            "enrollment",
            {ENROLLMENT_TOKEN_KEY: token.encode()},
            secret_type=ENROLLMENT_SECRET_TYPE,
        ),
        secret_manifest(namespace, "billing-ca", {"ca.crt": authority}),
    )


def apply_example(cluster: Cluster, folder: Path = EXAMPLE) -> None:
    """Apply the customer's manifests as the README says."""
    cluster.kubectl("apply", "--filename", folder)


def conditions(cluster: Cluster, namespace: str = NAMESPACE) -> list[Condition]:
    """Return every condition of every object of ours in a namespace."""
    found: list[Condition] = []
    for kind in KINDS:
        for item in (cluster.get(kind, namespace=namespace) or {}).get("items", []):
            found.extend(
                Condition(
                    item["kind"],
                    item["metadata"]["name"],
                    condition["type"],
                    condition["status"],
                    condition["reason"],
                    condition.get("message", ""),
                )
                for condition in item.get("status", {}).get("conditions", [])
            )
    return found


def wait_ready(
    cluster: Cluster, namespace: str = NAMESPACE, *, objects: int, timeout: float = 240
) -> list[Condition]:
    """Wait until so many objects are Ready and return all conditions.

    Raises:
        StepError: not in time; the message lists what is not ready and why.
    """

    def ready() -> list[Condition] | None:
        found = conditions(cluster, namespace)
        done = [one for one in found if one.type == "Ready" and one.status == "True"]
        return found if len(done) >= objects else None

    try:
        return wait_for(f"{objects} objects to be Ready", ready, timeout=timeout)
    except StepError as error:
        lines = [
            f"{one.kind}/{one.name} {one.type}={one.status} {one.reason}: {one.message}"
            for one in conditions(cluster, namespace)
            if one.status != "True"
        ]
        pods = cluster.kubectl("get", "pods", "--namespace", namespace, "--output", "wide")
        raise StepError("\n".join([str(error), *lines, pods])) from None


def settled(
    cluster: Cluster, namespace: str = NAMESPACE, *, timeout: float = 90
) -> list[Condition]:
    """Return all conditions once every one of them is True, or as they are after the timeout."""
    end = time.monotonic() + timeout
    while True:
        found = conditions(cluster, namespace)
        if all(one.status == "True" for one in found) or time.monotonic() > end:
            return found
        time.sleep(1)


def run_reporter(
    cluster: Cluster, name: str, *, namespace: str = NAMESPACE, retries: int = 1
) -> None:
    """Start the reporter's Job now, without waiting for its minute or its turn, and see its end.

    Raises:
        StepError: it failed as often as it was tried, or did not end; with what it wrote.
    """
    job = json.loads(
        cluster.kubectl(
            "create",
            "job",
            name,
            f"--from=cronjob/{TENANT}-btn-reporter",
            "--namespace",
            namespace,
            "--dry-run=client",
            "--output",
            "json",
        )
    )
    # Owned by the CronJob it would count as history, and could be gone before we looked.
    job["metadata"].pop("ownerReferences", None)
    job["spec"]["backoffLimit"] = retries
    for container in job["spec"]["template"]["spec"]["containers"]:
        container["env"] = [one for one in container["env"] if one["name"] != _START_DELAY]
    cluster.apply(job)

    def ended() -> str | None:
        status = cluster.get("job", name, namespace=namespace).get("status", {})
        found = {one["type"] for one in status.get("conditions", []) if one["status"] == "True"}
        return next((end for end in ("Complete", "Failed") if end in found), None)

    try:
        if wait_for(f"job/{name} to end", ended, timeout=110) == "Failed":
            raise StepError(f"job/{name} failed")
    except StepError as error:
        logs = cluster.kubectl("logs", f"job/{name}", "--namespace", namespace, "--tail=20")
        raise StepError(f"{error}\n{logs}") from None
