"""The table of who may talk to whom, by connecting, where the network plugin enforces policies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from brinkbyte.controller.children import network_policies
from stack import images
from support.cluster import KubernetesCluster
from support.network import (
    INGRESS,
    INSTANCE,
    NEIGHBOUR,
    NOT_OPERATOR,
    OPERATOR,
    POSTGRES,
    REDIS,
    REPORTER,
    SITE,
    STRANGER,
    TRITON,
    Peer,
    allowed,
)
from support.plans import plan, tenant

pytestmark = pytest.mark.cluster

OURS = [POSTGRES, REDIS, TRITON, INSTANCE, REPORTER]
PEERS = [*OURS, OPERATOR, NOT_OPERATOR, NEIGHBOUR, INGRESS, STRANGER]
PORTS = [5432, 6379, 8000, 8001, 8002, 8080, 9443]
# Namespaces of our own: the names in the table may be those of an operator at work here.
PREFIX = "net-"
PYTHON = "/opt/brinkbyte/bin/python"
LISTEN = f"""
import asyncio
async def main():
    for port in {PORTS}:
        await asyncio.start_server(lambda _, writer: writer.close(), "", port)
    await asyncio.Event().wait()
asyncio.run(main())
"""
CONNECT = """
import asyncio, json, sys
async def reaches(host, port):
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
    except (OSError, TimeoutError):
        return False
async def main():
    found = json.load(sys.stdin)
    print(json.dumps(await asyncio.gather(*(reaches(*each) for each in found))))
asyncio.run(main())
"""
Way = tuple[str, str, str, int]


def namespace_of(peer: Peer) -> str:
    return PREFIX + peer.namespace


def name_of(peer: Peer) -> str:
    return peer.name.replace(" ", "-").replace("'", "")


def pod(peer: Peer) -> dict[str, Any]:
    confined = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsNonRoot": True,
        "runAsUser": 1000,
    }
    container = {
        "name": "peer",
        "image": images.project_image(),
        "imagePullPolicy": "IfNotPresent",
        "command": [PYTHON, "-c", LISTEN],
        "securityContext": confined,
        "readinessProbe": {"tcpSocket": {"port": PORTS[-1]}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(peer),
            "namespace": namespace_of(peer),
            "labels": peer.labels,
        },
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


@dataclass
class Network:
    cluster: KubernetesCluster
    addresses: dict[str, str]

    def ways(self) -> set[Way]:
        """Try everything of which one end is ours, and return what came through."""
        found: set[Way] = set()
        for source in PEERS:
            tried = [
                (target.name, port)
                for target in PEERS
                if target != source and (source in OURS or target in OURS)
                for port in PORTS
            ]
            asked = json.dumps([(self.addresses[name], port) for name, port in tried])
            answer = self.cluster.kubectl(
                "exec", "--stdin", "--namespace", namespace_of(source), name_of(source),
                "--", PYTHON, "-c", CONNECT, stdin=asked,
            )  # fmt: skip
            found |= {
                (source.name, name, "TCP", port)
                for (name, port), open_ in zip(tried, json.loads(answer), strict=True)
                if open_
            }
        return found


@pytest.fixture
def network(cluster: KubernetesCluster) -> Iterator[Network]:
    """A listening pod for every peer of the table."""
    namespaces = sorted({namespace_of(peer) for peer in PEERS})
    for name in namespaces:
        cluster.namespace(name)
    try:
        cluster.apply(*map(pod, PEERS))
        for name in namespaces:
            cluster.kubectl(
                "wait", "pods", "--all", "--namespace", name,
                "--for=condition=Ready", "--timeout=90s",
            )  # fmt: skip
        addresses = {
            peer.name: str(
                cluster.get("pod", name_of(peer), namespace=namespace_of(peer))["status"]["podIP"]
            )
            for peer in PEERS
        }
        yield Network(cluster, addresses)
    finally:
        cluster.kubectl("delete", "namespace", *namespaces, "--wait=false")


def test_exactly_the_table_connects(network: Network) -> None:
    everything = network.ways()
    assert len(everything) == len(PORTS) * (
        len(OURS) * (len(PEERS) - 1) + (len(PEERS) - len(OURS)) * len(OURS)
    ), "without policies everybody reaches everybody"
    table = network_policies.build(plan())
    of = replace(
        plan(tenant({"namespace": PREFIX + SITE})),
        operator_namespace=PREFIX + OPERATOR.namespace,
    )
    policies = network_policies.build(of)
    for policy in policies:
        policy["metadata"].pop("ownerReferences")  # there is no Tenant here
    network.cluster.apply(*policies)
    wanted = allowed(table) & everything
    # Where an ipBlock matches addresses of pods, too: nothing is answered without a credential.
    also = {way for way in everything if way[1:] == (INSTANCE.name, "TCP", 8080)} - {
        (peer.name, INSTANCE.name, "TCP", 8080) for peer in OURS
    }
    started = time.monotonic()
    while True:
        found = network.ways()
        if found - also == wanted - also and wanted <= found:
            return
        waited = time.monotonic() - started
        if found == everything and waited > 6:
            pytest.skip("the network plugin of this cluster enforces no NetworkPolicy")
        assert waited < 30, {"too much": found - wanted - also, "too little": wanted - found}
