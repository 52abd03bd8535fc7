"""Who may talk to whom, by hand, and what NetworkPolicies let through.

The evaluator follows the NetworkPolicy specification: a pod that any policy selects for a
direction lets through only what some rule of such a policy allows; both ends must agree; an
``ipBlock`` is for addresses outside the cluster.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

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
