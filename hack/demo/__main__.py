"""Run the demo: ``python -m demo``; ``DEMO_KUBECONFIG`` names a cluster that is there already."""

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
    NAMESPACE,
    TENANT,
    Condition,
    apply_example,
    create_customer,
    hand_over,
    run_reporter,
    wait_online,
    wait_ready,
)
from stack.forward import PortForward
from stack.ledger import Comparison, compare, verified_receipts
from stack.release import admin_json, install_billing, install_operator
from stack.tools import BUILD, StepError, step
from stack.traffic import Device, Outcome, Replay, plan_day
from stack.trust import development_trust

CLUSTER: Final = "brinkbyte-demo"
OBJECTS: Final = 8  # one tenant, two devices, five cameras
CALLS: Final = int(os.environ.get("DEMO_CALLS", "1500"))
SEED: Final = int(os.environ.get("DEMO_SEED", "20261120"))


def cluster_for_demo() -> Cluster:
    """Return the user's cluster, or one of our own."""
    given = os.environ.get("DEMO_KUBECONFIG")
    if given:
        return Cluster(Path(given))
    cluster = Cluster.create(CLUSTER, BUILD / "kubeconfig")
    cluster.load_images()
    return cluster


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
    """Return the folder of what this cluster's instance answered; a new cluster has a new one."""
    return BUILD / "demo" / str(cluster.get("namespace", "kube-system")["metadata"]["uid"])


def replay(cluster: Cluster, number: int) -> Outcome:
    """Replay a day through the instance's public endpoints."""
    calls = plan_day(devices_of(cluster), seed=SEED + number, calls=CALLS, infer_every=25)
    with PortForward(
        cluster, NAMESPACE, f"{TENANT}{names.INSTANCE_SUFFIX}", names.INSTANCE_PORT
    ) as forward:
        sender = Replay(lambda: forward.url, records(cluster) / f"answered-{number}.txt")
        return asyncio.run(sender.run(calls))


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
    console.print(
        f"Look around: kubectl --kubeconfig {cluster.kubeconfig} get btn,bed,bcl -A -o wide\n"
        "Remove it: make demo-down"
    )


def run() -> bool:
    """Run the demo and tell whether everything is as it should be."""
    cluster = cluster_for_demo()
    install_billing(cluster)
    install_operator(cluster)
    with step("the customer: subscription, enrollment token, manifests"):
        create_customer(cluster)
        hand_over(cluster)
        apply_example(cluster)
    with step("everything Ready"):
        wait_ready(cluster, objects=OBJECTS)
    number = int(time.time())
    with step(f"a day of {CALLS} camera events and API calls, seed {SEED}"):
        outcome = replay(cluster, number)
    for key, why in list(outcome.refused.items())[:5]:
        print(f"   refused {key}: {why}", file=sys.stderr)
    with step("the devices online"):
        wait_online(cluster, devices=2)
    with step("the reporter: seal, send, verify receipts"):
        run_reporter(cluster, f"demo-report-{number}")
    conditions = wait_ready(cluster, objects=OBJECTS)
    keys = vendor_keys(cluster)
    rows = licenses(cluster, keys)
    # Earlier runs of the demo wrote down what they were answered, too.
    for record in records(cluster).glob("answered-*.txt"):
        outcome.answered |= set(record.read_text().split())
    ledger = admin_json(cluster, "ledger", "--customer", CUSTOMER, "--json")
    receipts = verified_receipts(ledger["batches"], keys.keys, now=int(time.time()))
    compared = compare(outcome, ledger["events"], receipts)
    show(cluster, conditions, rows, compared, len(receipts))
    return (
        compared.exact
        and not outcome.refused
        and compared.answered > 0
        and all(row["verified"] for row in rows)
    )


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
