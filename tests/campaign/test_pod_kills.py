"""Pods of every component deleted without grace while traffic runs: nothing is lost or doubled."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from brinkbyte.kit.uuid7 import millisecond_of
from brinkbyte.license.keys import PublicJwk
from brinkbyte.resources import names
from stack.forward import PortForward
from stack.ledger import Comparison, compare, verified_receipts
from stack.release import BILLING, BILLING_NAMESPACE, OPERATOR, OPERATOR_NAMESPACE
from stack.tools import wait_for
from stack.traffic import Outcome
from support.campaign import (
    CUSTOMER,
    NAMESPACE,
    OBJECTS,
    TENANT,
    Component,
    Pod,
    admin_json,
    delete_pod,
    devices_of,
    pods,
    run_reporter,
    stacked,
    start_reporter,
    url_of,
    vendor_keys,
    wait_ready,
    wait_replaced,
)
from support.campaign_plan import Tally, campaign_seed, soaking
from support.campaign_traffic import Traffic
from support.cluster import KubernetesCluster

__all__ = ["stacked"]

API_CALLS = "vision.api_calls"
KILLS = 30 if soaking() else 6
REPORTER = Component("reporter", NAMESPACE, "kill-reporter-")
POSTGRES = Component("postgres", NAMESPACE, f"{TENANT}{names.POSTGRES_SUFFIX}-")
LEDGER = Component("ledger", BILLING_NAMESPACE, f"{BILLING}-postgres-")
"""The billing API's own database: killed in turn with the customer's."""
COMPONENTS = (
    Component("operator", OPERATOR_NAMESPACE, f"{OPERATOR}-"),
    Component("instance", NAMESPACE, f"{TENANT}{names.INSTANCE_SUFFIX}-"),
    POSTGRES,
    Component("redis", NAMESPACE, f"{TENANT}{names.REDIS_SUFFIX}-"),
    Component("billing", BILLING_NAMESPACE, f"{BILLING}-", (LEDGER.prefix, f"{BILLING}-admin-")),
    REPORTER,
)


def plan_pods(seed: int, kills: int) -> list[Component]:
    """Draw components: each as often as the others, in a random order.

    PostgreSQL is the customer's and the vendor's in turn, the customer's first.
    """
    drawn = []
    for number in range(kills):
        turn, place = divmod(number, len(COMPONENTS))
        component = COMPONENTS[place]
        drawn.append(LEDGER if component is POSTGRES and turn % 2 else component)
    random.Random(seed).shuffle(drawn)
    return drawn


@pytest.mark.unit
def test_the_plan_has_every_component_and_is_the_seeds() -> None:
    for seed in range(20):
        counts = Counter(component.name for component in plan_pods(seed, 30))
        assert counts.pop("postgres") == 3
        assert counts.pop("ledger") == 2
        assert set(counts.values()) == {5}
        assert len(counts) == 5
        assert plan_pods(seed, 6) == plan_pods(seed, 6)
        assert set(plan_pods(seed, 6)) == set(COMPONENTS)


@pytest.mark.cluster
@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not soaking(), reason="takes minutes: make soak")
def test_pods_deleted_while_traffic_runs(stacked: KubernetesCluster, tmp_path: Path) -> None:
    seed = campaign_seed()
    tally = Tally("pod-kills", seed)
    numbers = random.Random(seed)
    plan = plan_pods(seed, KILLS)
    service = TENANT + names.INSTANCE_SUFFIX
    with (
        PortForward(stacked, NAMESPACE, service, names.INSTANCE_PORT) as forward,
        Traffic(
            lambda: url_of(forward),
            devices_of(stacked),
            tmp_path / "answered.txt",
            seed=seed,
            rate=6.0,
        ) as traffic,
    ):
        wait_for("the first answers", lambda: traffic.answered > 20, timeout=120)
        for number, component in enumerate(plan):
            traffic.check()
            if component is REPORTER:
                kill_reporter(stacked, number, numbers)
            else:
                kill(stacked, component, numbers)
            tally.count(component.name, "pod deleted")
            went_on(traffic, component)
        wait_ready(stacked, objects=OBJECTS)
        outcome = traffic.finish()
    keys = vendor_keys(stacked)
    compared, ledger, receipts = reported(stacked, outcome, keys.keys)
    tally.publish(
        components=dict(Counter(str(each["process"]) for each in tally.kills)),
        answered=compared.answered,
        in_ledger=compared.in_ledger,
        unanswered=len(outcome.unanswered),
        unanswered_in_ledger=compared.unanswered_in_ledger,
        refused=len(outcome.refused),
        lost=len(compared.lost),
        doubled=len(compared.doubled),
        invented=len(compared.invented),
        unreceipted=len(compared.unreceipted),
        receipts=receipts,
        quarantined=len(ledger["quarantined"]),
    )
    assert [each["process"] for each in tally.kills] == [each.name for each in plan]
    assert outcome.refused == {}
    assert outcome.unanswered == set()
    assert compared.exact, compared
    assert compared.answered == compared.in_ledger > 20
    assert ledger["quarantined"] == []
    assert_sums(stacked, ledger["events"])
    wait_ready(stacked, objects=OBJECTS)


def went_on(traffic: Traffic, killed: Component) -> None:
    """See that calls are answered after a kill: without traffic it would prove nothing."""
    before = traffic.answered

    def answered() -> bool:
        traffic.check()
        return traffic.answered > before

    wait_for(f"answers after the kill of {killed.name}", answered, timeout=120)


def assert_sums(cluster: KubernetesCluster, events: list[dict[str, Any]]) -> None:
    """What the customer is to pay for is what the ledger has, event by event."""
    cost = admin_json(cluster, "cost", "--customer", CUSTOMER, "--output", "json")
    start = datetime.fromisoformat(cost["periodStart"]).timestamp() * 1000
    calls = [
        event
        for event in events
        if event["meter"] == API_CALLS and millisecond_of(UUID(event["id"])) >= start
    ]
    assert Decimal(cost["usage"][API_CALLS]) == len(calls)


def kill(cluster: KubernetesCluster, component: Component, numbers: random.Random) -> None:
    """Delete a ready pod of a component and wait for the one that takes its place."""
    time.sleep(numbers.uniform(0, 2))

    def deleted() -> Pod | None:
        found = [pod for pod in pods(cluster, component) if pod.ready]
        pod = numbers.choice(sorted(found, key=lambda pod: pod.name)) if found else None
        return pod if pod is not None and delete_pod(cluster, pod) else None

    pod = wait_for(f"a ready {component.name} pod to delete", deleted, timeout=180)
    wait_replaced(cluster, component, pod)


def kill_reporter(cluster: KubernetesCluster, number: int, numbers: random.Random) -> None:
    """Start the reporter's Job and delete its pod while it works; one that ended is no kill."""
    for attempt in range(12):
        job = f"{REPORTER.prefix}{number}-{attempt}"
        start_reporter(cluster, job)
        component = Component(REPORTER.name, NAMESPACE, f"{job}-")
        pod = wait_for(f"the pod of {job}", partial(started, cluster, component), timeout=120)
        # A second or two for the interpreter, as much again for what waits.
        time.sleep(numbers.uniform(0, 4))
        if delete_pod(cluster, pod):
            return
    raise AssertionError("no reporter pod could be deleted while it ran")


def started(cluster: KubernetesCluster, component: Component) -> Pod | None:
    """Return the component's first pod that is past Pending."""
    found = (pod for pod in pods(cluster, component) if pod.phase != "Pending")
    return next(found, None)


def reported(
    cluster: KubernetesCluster, outcome: Outcome, keys: Mapping[str, PublicJwk]
) -> tuple[Comparison, dict[str, Any], int]:
    """Run the reporter until everything is under a receipt; compare, and return the ledger."""
    for attempt in range(5):
        run_reporter(cluster, f"campaign-report-{attempt}")
        ledger = admin_json(cluster, "ledger", "--customer", CUSTOMER, "--json")
        receipts = verified_receipts(ledger["batches"], keys, now=int(time.time()))
        compared = compare(outcome, ledger["events"], receipts)
        if compared.exact:
            break
    return compared, ledger, len(receipts)


@pytest.mark.cluster
def test_after_an_uninstall_a_namespace_goes_at_once(stacked: KubernetesCluster) -> None:
    """The last of this file: it leaves no operator behind."""
    stacked.helm("uninstall", OPERATOR, "--namespace", OPERATOR_NAMESPACE, "--wait")
    tenant = stacked.get("tenant", TENANT, namespace=NAMESPACE)
    assert tenant["metadata"].get("finalizers", []) == []
    assert pods(stacked, Component("instance", NAMESPACE, f"{TENANT}{names.INSTANCE_SUFFIX}-"))
    stacked.kubectl("delete", "namespace", NAMESPACE, "--timeout=90s")
