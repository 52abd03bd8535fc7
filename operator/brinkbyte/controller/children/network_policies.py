"""Who may talk to whom: one policy for each component, both directions, nothing else passes.

=========  ==================================================  =====================================
Component  may be called by                                    may call
=========  ==================================================  =====================================
postgres   instance, reporter                                  nobody
redis      instance                                            nobody
triton     instance (inference and model control)              nobody
instance   the operator; addresses outside the cluster         postgres, redis, triton, DNS,
           (devices, users); with an Ingress: its controller   billing API (443 and its own port)
reporter   nobody                                              postgres, DNS, billing API
=========  ==================================================  =====================================

Where the network plugin lets an ``ipBlock`` match addresses of pods, too, every pod reaches the
instance's port, as devices and users do: nothing there is answered without a credential.

A NetworkPolicy cannot name hosts, so the billing API is a port, wherever it runs. One that runs in
this cluster (``https://name.namespace.svc``) is its namespace: policies see the pod's port, not the
Service's.
"""

from __future__ import annotations

from typing import Final

from brinkbyte.controller.children import common
from brinkbyte.controller.children.common import Object, Plan
from brinkbyte.resources import names

_EVERYWHERE: Final = ({"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}})
_HTTPS: Final = 443


def build(plan: Plan) -> list[Object]:
    """Return the policies of every component that runs here."""
    resolved = plan.resolved
    policies = []
    instance, reporter = _pods(plan, common.INSTANCE), _pods(plan, common.REPORTER)
    if resolved.postgres is not None:
        rule = _from([instance, reporter], names.POSTGRES_PORT)
        policies.append(_policy(plan, common.POSTGRES, [rule], []))
    if resolved.redis is not None:
        rule = _from([instance], names.REDIS_PORT)
        policies.append(_policy(plan, common.REDIS, [rule], []))
    rule = _from([instance], names.TRITON_HTTP_PORT, names.TRITON_GRPC_PORT)
    policies.append(_policy(plan, common.TRITON, [rule], []))
    policies.append(_policy(plan, common.INSTANCE, _instance_ingress(plan), _instance_egress(plan)))
    policies.append(_policy(plan, common.REPORTER, [], [*_database(plan), _dns(), *_billing(plan)]))
    return policies


def _instance_ingress(plan: Plan) -> list[Object]:
    operator = {
        "namespaceSelector": {
            "matchLabels": {"kubernetes.io/metadata.name": plan.operator_namespace}
        },
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": plan.operator_pod_name}},
    }
    rules = [
        _from([operator], names.INSTANCE_PORT),
        _from(list(_EVERYWHERE), names.INSTANCE_PORT),
    ]
    if plan.tenant.spec.instance.ingress is not None:
        # Its controller runs in a namespace that only the cluster's admin knows.
        rules.append(_from([{"namespaceSelector": {}}], names.INSTANCE_PORT))
    return rules


def _instance_egress(plan: Plan) -> list[Object]:
    rules = _database(plan)
    if plan.resolved.redis is not None:
        rules.append(_to([_pods(plan, common.REDIS)], names.REDIS_PORT))
    rules.append(_to([_pods(plan, common.TRITON)], names.TRITON_HTTP_PORT, names.TRITON_GRPC_PORT))
    return [*rules, _dns(), *_billing(plan)]


def _database(plan: Plan) -> list[Object]:
    if plan.resolved.postgres is None:
        return []
    return [_to([_pods(plan, common.POSTGRES)], names.POSTGRES_PORT)]


def _dns() -> Object:
    # To anywhere: node-local caches answer on addresses that no selector matches.
    return {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


def _billing(plan: Plan) -> list[Object]:
    if plan.billing_port is None:
        return []
    numbers = dict.fromkeys((_HTTPS, plan.billing_port))
    rules: list[Object] = [{"ports": [{"port": port, "protocol": "TCP"} for port in numbers]}]
    if plan.billing_namespace:
        namespace = {"matchLabels": {"kubernetes.io/metadata.name": plan.billing_namespace}}
        rules.append({"to": [{"namespaceSelector": namespace}], "ports": [{"protocol": "TCP"}]})
    return rules


def _pods(plan: Plan, component: str) -> Object:
    return {"podSelector": {"matchLabels": common.selector(plan.tenant.name, component)}}


def _ports(numbers: tuple[int, ...]) -> list[Object]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]


def _from(peers: list[Object], *ports: int) -> Object:
    return {"from": peers, "ports": _ports(ports)}


def _to(peers: list[Object], *ports: int) -> Object:
    return {"to": peers, "ports": _ports(ports)}


def _policy(plan: Plan, component: str, ingress: list[Object], egress: list[Object]) -> Object:
    return common.child(
        plan,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        component,
        spec={
            "podSelector": {"matchLabels": common.selector(plan.tenant.name, component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    )
