"""Run the demo: ``python -m demo``.

``DEMO_KUBECONFIG`` names a cluster that is there already, ``DEMO_IMAGE`` our image in a registry
that it pulls from.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from brinkbyte.license.claims import CameraClaims, LicenseClaims
from brinkbyte.license.keys import KeySet, load_roots, verify_key_set
from brinkbyte.license.tokens import TokenError, verify
from brinkbyte.resources import names
from demo.tables import conditions_table, cost_table, licenses_table, metering_table
from stack.cluster import Cluster
from stack.customer import (
    CUSTOMER,
    KINDS,
    NAMESPACE,
    TENANT,
    Condition,
    apply_example,
    create_customer,
    hand_over,
    run_reporter,
    settled,
    wait_ready,
)
from stack.forward import PortForward
from stack.ledger import Comparison, compare, verified_receipts
from stack.release import (
    BILLING,
    BILLING_NAMESPACE,
    OPERATOR,
    OPERATOR_NAMESPACE,
    admin_json,
    image_values,
    install_billing,
    install_operator,
)
from stack.tools import BUILD, StepError, step, tool
from stack.traffic import Device, Outcome, Replay, beat, plan_day, remembered
from stack.trust import development_trust

CLUSTER: Final = "brinkbyte-demo"
OBJECTS: Final = 8  # one tenant, two devices, five cameras
CALLS: Final = int(os.environ.get("DEMO_CALLS", "1500"))
SEED: Final = int(os.environ.get("DEMO_SEED", "20261120"))


def cluster_for_demo() -> tuple[Cluster, str | None]:
    """Return the user's cluster and our image in its registry, or a cluster of our own.

    Raises:
        StepError: the user's cluster is named, but no image with a tag.
    """
    given, image = os.environ.get("DEMO_KUBECONFIG"), os.environ.get("DEMO_IMAGE")
    if given:
        if not image:
            raise StepError(
                "DEMO_IMAGE is not set: name our image in a registry that the cluster pulls from, "
                "as repository:tag; README.md says how to build it"
            )
        image_values(image)  # refuses a name without a tag before anything is made
        return Cluster(Path(given)), image
    cluster = Cluster.create(CLUSTER, BUILD / "kubeconfig", reuse=True)
    cluster.load_images()
    return cluster, None


def devices_of(cluster: Cluster) -> list[Device]:
    """Return the devices with the credentials that the operator made for them."""
    cameras: dict[str, list[str]] = {}
    for item in cluster.get("cameralicenses", namespace=NAMESPACE)["items"]:
        spec = item["spec"]
        cameras.setdefault(spec["deviceRef"]["name"], []).append(spec["cameraId"])
    found = []
    for item in cluster.get("edgedevices", namespace=NAMESPACE)["items"]:
        name = item["metadata"]["name"]
        secret = cluster.secret(NAMESPACE, name + names.DEVICE_TOKEN_SUFFIX)
        token = secret[names.DEVICE_TOKEN_KEY].decode()
        found.append(Device(item["spec"]["hardwareId"], token, tuple(sorted(cameras[name]))))
    return found


def records(cluster: Cluster) -> Path:
    """Return the folder of what was sent; it is of this ledger, which goes with its namespace."""
    return BUILD / "demo" / str(cluster.get("namespace", BILLING_NAMESPACE)["metadata"]["uid"])


def replay(cluster: Cluster, number: int) -> Outcome:
    """Replay a day through the instance's public endpoints."""
    calls = plan_day(devices_of(cluster), seed=SEED + number, calls=CALLS, infer_every=25)
    with instance(cluster) as forward:
        sender = Replay(lambda: forward.url, records(cluster) / f"answered-{number}.txt")
        return asyncio.run(sender.run(calls))


def instance(cluster: Cluster) -> PortForward:
    """Return a way to the instance's Service."""
    service = f"{TENANT}{names.INSTANCE_SUFFIX}"
    return PortForward(cluster, NAMESPACE, service, names.INSTANCE_PORT)


def everything_true(cluster: Cluster) -> list[Condition]:
    """Return all conditions, each True if it comes to be within 90 seconds."""
    # The replay's own heartbeats may be too long ago by now.
    with instance(cluster) as forward:
        asyncio.run(beat(lambda: forward.url, devices_of(cluster)))
        return settled(cluster)


def vendor_keys(cluster: Cluster) -> KeySet:
    """Return the vendor's keys out of the tenant's Secret, verified against the root of trust."""
    secret = cluster.secret(NAMESPACE, TENANT + names.LICENSE_SUFFIX)
    roots = load_roots(development_trust().roots.read_text())
    return verify_key_set(secret[names.KEY_SET_KEY], roots, now=int(time.time()))


def licenses(cluster: Cluster, keys: KeySet) -> list[dict[str, Any]]:
    """Verify every license Secret offline, as a customer would."""
    now = int(time.time())
    secret = cluster.secret(NAMESPACE, TENANT + names.LICENSE_SUFFIX)
    rows = [license_row(secret[names.LICENSE_KEY], keys, TENANT + names.LICENSE_SUFFIX, now)]
    for item in cluster.get("cameralicenses", namespace=NAMESPACE)["items"]:
        name = item["spec"].get("secretName") or (
            item["metadata"]["name"] + names.CAMERA_LICENSE_SUFFIX
        )
        token = cluster.secret(NAMESPACE, name)[names.CAMERA_TOKEN_KEY]
        rows.append(license_row(token, keys, name, now))
    return rows


def license_row(token: bytes, keys: KeySet, secret: str, now: int) -> dict[str, Any]:
    """Return one row of the license table."""
    row: dict[str, Any] = {"secret": secret, "subject": "", "grants": "", "exp": 0, "problem": ""}
    try:
        if secret.endswith(names.LICENSE_SUFFIX):
            tenant = verify(token, LicenseClaims, keys.keys, now=now)
            grants = f"plan {tenant.plan}, devices {tenant.features.max_devices}"
            return row | {"subject": tenant.customer_id, "grants": grants, "exp": tenant.exp,
                          "verified": True}  # fmt: skip
        camera = verify(token, CameraClaims, keys.keys, now=now)
    except TokenError as error:
        return row | {"verified": False, "problem": error.reason}
    packs = ", ".join(camera.growth_packs) or "base"
    return row | {"subject": f"{camera.camera_id} on {camera.hardware_id}",
                  "grants": f"{packs}: {len(camera.grant.models)} models",
                  "exp": camera.exp, "verified": True}  # fmt: skip


def show(
    cluster: Cluster,
    conditions: list[Condition],
    rows: list[dict[str, Any]],
    compared: Comparison,
    receipts: int,
) -> None:
    """Print the tables that end the demo."""
    console = Console(width=int(os.environ.get("COLUMNS", "150")), highlight=False)
    console.print(conditions_table(conditions))
    console.print(licenses_table(rows))
    console.print(metering_table(compared, receipts))
    cost = admin_json(cluster, "cost", "--customer", CUSTOMER, "--output", "json")
    console.print(cost_table(cost["lines"], cost["total"]))
    kubectl = f"{tool('kubectl')} --kubeconfig {cluster.kubeconfig}"
    print(f"Look around: {kubectl} get btn,bed,bcl -A -o wide")
    if cluster.name is not None:
        print("Remove it: make demo-down")
        return
    helm = f"{tool('helm')} --kubeconfig {cluster.kubeconfig}"
    print(
        "Remove it, in this order:\n"
        f"  {kubectl} delete namespace {NAMESPACE}\n"
        f"  {helm} uninstall {OPERATOR} --namespace {OPERATOR_NAMESPACE}\n"
        f"  {helm} uninstall {BILLING} --namespace {BILLING_NAMESPACE}\n"
        f"  {kubectl} delete namespace {OPERATOR_NAMESPACE} {BILLING_NAMESPACE}\n"
        f"  {kubectl} delete crd {' '.join(f'{kind}.{names.GROUP}' for kind in KINDS)}"
    )


def faults(
    conditions: list[Condition],
    rows: list[dict[str, Any]],
    outcome: Outcome,
    compared: Comparison,
) -> list[str]:
    """Return in words what is not as it should be.

    Args:
        conditions: of every object.
        rows: of the license table.
        outcome: of this run's calls.
        compared: the ledger against all runs.
    """
    found = [
        f"{one.kind}/{one.name}: {one.type} is {one.status}, {one.reason}: {one.message}"
        for one in conditions
        if one.status != "True"
    ]
    found += [f"{row['secret']}: {row['problem']}" for row in rows if not row["verified"]]
    found += [f"refused {key}: {why}" for key, why in list(outcome.refused.items())[:5]]
    answered, unanswered = len(outcome.answered), len(outcome.unanswered)
    if answered + unanswered != CALLS or not answered or unanswered * 100 > CALLS:
        found.append(
            f"{CALLS} calls: {answered} answered 2xx, {len(outcome.refused)} refused, {unanswered} "
            "without an answer; at most 1 % may go without, none may be refused"
        )
    for name in ("lost", "doubled", "invented", "unreceipted"):
        keys: frozenset[str] = getattr(compared, name)
        if keys:
            found.append(f"{len(keys)} {name}, such as {min(keys)}")
    return found


def run() -> bool:
    """Run the demo and tell whether everything is as it should be."""
    cluster, image = cluster_for_demo()
    install_billing(cluster, image=image)
    install_operator(cluster, image=image)
    with step("the customer: subscription, enrollment token, manifests"):
        create_customer(cluster)
        hand_over(cluster)
        apply_example(cluster)
    with step("everything Ready"):
        wait_ready(cluster, objects=OBJECTS)
    number = int(time.time())
    with step(f"a day of {CALLS} camera events and API calls, seed {SEED}"):
        outcome = replay(cluster, number)
    with step("the reporter: seal, send, verify receipts"):
        run_reporter(cluster, f"demo-report-{number}")
    with step("every condition True"):
        conditions = everything_true(cluster)
    keys = vendor_keys(cluster)
    rows = licenses(cluster, keys)
    ledger = admin_json(cluster, "ledger", "--customer", CUSTOMER, "--json")
    receipts = verified_receipts(ledger["batches"], keys.keys, now=int(time.time()))
    # The ledger has the events of earlier runs, too, and these wrote down what they sent.
    compared = compare(remembered(records(cluster)), ledger["events"], receipts)
    show(cluster, conditions, rows, compared, len(receipts))
    wrong = faults(conditions, rows, outcome, compared)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return not wrong


def main() -> None:
    """Exit 0 when every key, license and condition is as it should be."""
    started = time.monotonic()
    try:
        good = run()
    except StepError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"demo {'complete' if good else 'FAILED'} in {time.monotonic() - started:.0f} s")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
