"""The generated NetworkPolicies against a table of who may talk to whom, written by hand.

The evaluator follows the NetworkPolicy specification: a pod that any policy selects for a
direction lets through only what some rule of such a policy allows; both ends must agree; an
``ipBlock`` is for addresses outside the cluster.
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from brinkbyte.controller.children import network_policies
from brinkbyte.resources import names
from support.plans import plan, tenant

Policy = dict[str, Any]
SITE = "customer"


@dataclass(frozen=True)
class Peer:
    """A pod (with namespace and labels) or an address outside the cluster."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    address: str = ""


def component(name: str, *, of: str = "acme", namespace: str = SITE) -> Peer:
    labels = {names.LABEL_TENANT: of, names.LABEL_COMPONENT: name}
    return Peer(name if of == "acme" else f"{of}'s {name}", namespace, labels)


POSTGRES, REDIS, TRITON, INSTANCE, REPORTER = map(
    component, ("postgres", "redis", "triton", "instance", "reporter")
)
OPERATOR = Peer("operator", "brinkbyte-system", {"app.kubernetes.io/name": "brinkbyte-operator"})
NOT_OPERATOR = Peer("false operator", SITE, {"app.kubernetes.io/name": "brinkbyte-operator"})
NEIGHBOUR = component("instance", of="other")
INGRESS = Peer("ingress controller", "ingress", {"app.kubernetes.io/name": "nginx"})
STRANGER = Peer("stranger", SITE, {"app": "x"})
DNS = Peer("dns", "kube-system", {"k8s-app": "kube-dns"})
BILLING_POD = Peer("billing pod", "vendor", {"app.kubernetes.io/name": "brinkbyte-billing"})
DEVICE = Peer("device", address="203.0.113.7")
DEVICE_6 = Peer("device over IPv6", address="2001:db8::7")
INTERNET = Peer("internet", address="198.51.100.9")
EVERYBODY = [
    POSTGRES, REDIS, TRITON, INSTANCE, REPORTER, OPERATOR, NOT_OPERATOR, NEIGHBOUR, INGRESS,
    STRANGER, DNS, BILLING_POD, DEVICE, DEVICE_6, INTERNET,
]  # fmt: skip
PORTS = [
    ("TCP", port) for port in (53, 80, 443, 5432, 6379, 8000, 8001, 8002, 8080, 8443, 9443, 22)
] + [("UDP", 53), ("UDP", 443)]

# Who may talk to whom: by hand, from what each program does. Everything else is refused. Plain
# words stand for every peer; a policy cannot name the billing API's host, so its port is open.
ANY = "anybody"
ALWAYS = {
    ("instance", "postgres", "TCP", 5432),
    ("reporter", "postgres", "TCP", 5432),
    ("instance", "redis", "TCP", 6379),
    ("instance", "triton", "TCP", 8000),
    ("instance", "triton", "TCP", 8001),
    ("operator", "instance", "TCP", 8080),
    ("device", "instance", "TCP", 8080),
    ("device over IPv6", "instance", "TCP", 8080),
    ("internet", "instance", "TCP", 8080),
    ("instance", ANY, "TCP", 443),
    ("reporter", ANY, "TCP", 443),
    ("instance", ANY, "UDP", 53),
    ("instance", ANY, "TCP", 53),
    ("reporter", ANY, "UDP", 53),
    ("reporter", ANY, "TCP", 53),
}
WITH_INGRESS = {
    (pod.name, "instance", "TCP", 8080)
    for pod in EVERYBODY
    # Those of ours that may call nobody are held back by their own policy.
    if pod.namespace and pod not in (POSTGRES, REDIS, TRITON, INSTANCE, REPORTER)
}
OTHER_PORT = {("instance", ANY, "TCP", 9443), ("reporter", ANY, "TCP", 9443)}
BILLING_INSIDE = {
    (name, "billing pod", protocol, port)
    for name in ("instance", "reporter")
    for protocol, port in PORTS
    if protocol == "TCP"
}


def billing(url: str) -> dict[str, Any]:
    return {"url": url, "enrollmentSecretRef": {"name": "enrollment"}}


CASES = {
    "plain": (plan(), ALWAYS),
    "with an ingress": (
        plan(tenant(instance={"ingress": {"host": "a.example.com"}})),
        ALWAYS | WITH_INGRESS,
    ),
    "billing on another port": (plan(billing_port=9443), ALWAYS | OTHER_PORT),
    "billing in the cluster": (plan(billing_namespace="vendor"), ALWAYS | BILLING_INSIDE),
}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "the evaluator knows matchLabels only"
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def peer_matches(rule: dict[str, Any], peer: Peer, namespace: str) -> bool:
    if "ipBlock" in rule:
        network = ipaddress.ip_network(rule["ipBlock"]["cidr"])
        return bool(peer.address) and ipaddress.ip_address(peer.address) in network
    if not peer.namespace:
        return False
    if "namespaceSelector" in rule:
        labels = {"kubernetes.io/metadata.name": peer.namespace}
        if not selects(rule["namespaceSelector"], labels):
            return False
    elif peer.namespace != namespace:
        return False
    return "podSelector" not in rule or selects(rule["podSelector"], peer.labels)


def direction(
    policies: list[Policy], which: str, peers: str, pod: Peer, other: Peer, how: tuple[str, int]
) -> bool:
    """Tell whether a pod's policies of one direction let something through."""
    if not pod.namespace:
        return True
    chosen = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and which in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not chosen:
        return True
    for policy in chosen:
        for rule in policy["spec"].get(which.lower(), []):
            to_peer = not rule.get(peers) or any(
                peer_matches(each, other, pod.namespace) for each in rule[peers]
            )
            to_port = not rule.get("ports") or any(
                each.get("protocol", "TCP") == how[0] and each.get("port", how[1]) == how[1]
                for each in rule["ports"]
            )
            if to_peer and to_port:
                return True
    return False


def allowed(policies: list[Policy]) -> set[tuple[str, str, str, int]]:
    """Return every (from, to, protocol, port) that gets through, where one end is ours."""
    ours = [POSTGRES, REDIS, TRITON, INSTANCE, REPORTER]
    return {
        (source.name, target.name, protocol, port)
        for source in EVERYBODY
        for target in EVERYBODY
        for protocol, port in PORTS
        if source != target
        and (source in ours or target in ours)
        and direction(policies, "Egress", "to", source, target, (protocol, port))
        and direction(policies, "Ingress", "from", target, source, (protocol, port))
    }


def expand(table: set[tuple[str, str, str, int]]) -> set[tuple[str, str, str, int]]:
    """Put every peer that does not refuse in the place of anybody."""
    found = set()
    for source, target, protocol, port in table:
        if target != ANY:
            found.add((source, target, protocol, port))
            continue
        for peer in EVERYBODY:
            # Our own pods take only what the table says about them.
            if peer not in (POSTGRES, REDIS, TRITON, INSTANCE, REPORTER):
                found.add((source, peer.name, protocol, port))
    return found


def policies_of(case: str) -> list[Policy]:
    return network_policies.build(CASES[case][0])


@pytest.mark.parametrize("case", CASES)
def test_exactly_the_table_gets_through(case: str) -> None:
    wanted = expand(CASES[case][1])
    found = allowed(policies_of(case))
    assert found - wanted == set(), "too much gets through"
    assert wanted - found == set(), "something needed does not get through"


def pieces(policies: list[Policy]) -> Iterator[tuple[str, list[Any], int]]:
    """Yield (what, list, index) of every rule, peer and port of every policy."""
    for policy in policies:
        name = policy["metadata"]["name"]
        for which in ("ingress", "egress"):
            rules = policy["spec"][which]
            for i, rule in enumerate(rules):
                yield f"{name} {which}[{i}]", rules, i
                for part in ("from", "to", "ports"):
                    parts = rule.get(part, [])
                    if len(parts) > 1:  # the last of a list would mean everybody
                        for j in range(len(parts)):
                            yield f"{name} {which}[{i}].{part}[{j}]", parts, j


def test_removing_any_single_rule_peer_port_or_policy_is_noticed() -> None:
    """Each piece is needed in at least one of the cases; each policy holds something back."""
    needed: dict[str, bool] = {}
    for of, table in CASES.values():
        wanted = expand(table)
        original = network_policies.build(of)
        for number, (what, _, _) in enumerate(list(pieces(original))):
            mutant = copy.deepcopy(original)
            _, parts, index = list(pieces(mutant))[number]
            removed = parts.pop(index)
            key = f"{what} {removed}"
            needed[key] = needed.get(key, False) or allowed(mutant) != wanted
        for i, policy in enumerate(original):
            mutant = original[:i] + original[i + 1 :]
            key = f"policy {policy['metadata']['name']}"
            needed[key] = needed.get(key, False) or allowed(mutant) != wanted
        for i, policy in enumerate(original):
            for kind in ("Ingress", "Egress"):
                mutant = copy.deepcopy(original)
                mutant[i]["spec"]["policyTypes"].remove(kind)
                key = f"{kind} of {policy['metadata']['name']}"
                needed[key] = needed.get(key, False) or allowed(mutant) != wanted
    assert [key for key, is_needed in needed.items() if not is_needed] == []
    assert len(needed) > 30


def test_no_policy_stands_for_a_database_that_the_customer_runs() -> None:
    external = {"external": {"secretRef": {"name": "dsn"}}}
    built = network_policies.build(plan(tenant(postgres=external, redis=external)))
    assert [each["metadata"]["name"] for each in built] == [
        "acme-btn-triton",
        "acme-btn-instance",
        "acme-btn-reporter",
    ]
