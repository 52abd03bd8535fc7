"""What a local cluster does for the pods in it and for the host beside it."""

import http.server
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from localkube.tooling import IMAGE, Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
KILL = """
import contextlib, os, pathlib, signal, sys
killed = 0
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
        if (folder / "comm").read_text().strip() == sys.argv[1]:
            os.kill(int(folder.name), signal.SIGKILL)
            killed += 1
sys.exit(not killed)
"""
SERVER = """
import http.server as h
h.ThreadingHTTPServer(("", 8080), h.SimpleHTTPRequestHandler).serve_forever()
"""


def pod(name: str, *command: str, claim: str | None = None) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    if claim:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": "/data"})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "work", "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1234,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "command": list(command),
                    "workingDir": "/tmp",
                    "securityContext": RESTRICTED,
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }


@pytest.fixture(scope="module")
def cluster(pair: tuple[Cluster, Cluster]) -> Cluster:
    """A cluster with a web server, its Service and a claim, under Pod Security `restricted`."""
    one, _ = pair
    one.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": "work",
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "work"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "work"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        pod("web", "python3", "-c", SERVER, claim="data"),
    )
    one.kubectl("-n", "work", "wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    return one


def test_clusters_run_side_by_side(pair: tuple[Cluster, Cluster]) -> None:
    one, two = pair
    assert one.tool.run("get", "clusters").stdout.split() == ["one", "two"]
    assert one.info["podCIDR"] != two.info["podCIDR"]
    for each in pair:
        assert each.kubectl("get", "nodes", "-o", "name").split() == [
            f"node/{each.name}-control-plane"
        ]


def test_a_second_cluster_of_the_same_name_is_refused(pair: tuple[Cluster, Cluster]) -> None:
    one, _ = pair
    refused = one.tool.run("create", "cluster", "--name=one", check=False)
    assert refused.returncode == 1
    assert 'already exist for a cluster with the name "one"' in refused.stderr


def test_an_image_that_is_not_there_is_named(pair: tuple[Cluster, Cluster]) -> None:
    one, _ = pair
    refused = one.tool.run("load", "docker-image", "--name=one", "no/such:1", check=False)
    assert refused.returncode == 1
    assert 'image: "no/such:1" not present locally' in refused.stderr


def test_a_non_root_pod_writes_to_its_claim_and_the_data_outlives_it(cluster: Cluster) -> None:
    run = ("-n", "work", "exec", "web", "--")
    cluster.kubectl(*run, "sh", "-c", "echo kept > /data/file")
    cluster.apply(pod("reader", "cat", "/data/file", claim="data"))
    cluster.kubectl(
        "-n", "work", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader",
        "--timeout=60s",
    )  # fmt: skip
    assert cluster.kubectl("-n", "work", "logs", "reader") == "kept\n"
    cluster.kubectl("-n", "work", "delete", "pod", "reader", "--now")


def test_cluster_dns_resolves_a_service_and_the_host(cluster: Cluster) -> None:
    look_up = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
    run = ("-n", "work", "exec", "web", "--", "python3", "-c", look_up)
    address = cluster.kubectl(
        "-n", "work", "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"
    )
    assert cluster.kubectl(*run, "web.work").strip() == address
    assert cluster.kubectl(*run, cluster.info["hostName"]).strip() == cluster.info["hostIP"]


def test_host_reaches_pod_service_and_node(cluster: Cluster) -> None:
    service = json.loads(cluster.kubectl("-n", "work", "get", "service", "web", "-o", "json"))
    web = json.loads(cluster.kubectl("-n", "work", "get", "pod", "web", "-o", "json"))
    addresses = [service["spec"]["clusterIP"], f"{web['status']['podIP']}:8080"]
    for address in addresses:
        with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
            assert answer.status == 200


@pytest.fixture
def host_server(cluster: Cluster) -> Iterator[str]:
    """A web server on the host's end of the cluster's link."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer((cluster.info["hostIP"], 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{cluster.info['hostName']}:{server.server_port}/"
        server.shutdown()


def test_pods_reach_the_host_until_the_line_is_cut(cluster: Cluster, host_server: str) -> None:
    fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=2).status)"
    run = ("-n", "work", "exec", "web", "--", "python3", "-c", fetch, host_server)
    assert cluster.kubectl(*run).strip() == "204"
    inside = ("exec", "--name=one", "--")
    rule = ("FORWARD", "-d", cluster.info["hostIP"], "-j", "DROP")
    cluster.tool.run(*inside, "iptables", "-I", *rule)
    assert cluster.kubectl(*run, check=False).strip() == ""
    cluster.tool.run(*inside, "iptables", "-D", *rule)
    assert cluster.kubectl(*run).strip() == "204"


def test_logs_and_port_forward_work(cluster: Cluster) -> None:
    address = cluster.kubectl("-n", "work", "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
    with urllib.request.urlopen(f"http://{address}:8080/?seen-in-the-log", timeout=10):
        pass
    assert "seen-in-the-log" in cluster.kubectl("-n", "work", "logs", "web")
    config = str(cluster.tool.kubeconfig(cluster.name))
    forward = subprocess.Popen(
        [
            cluster.kubectl_path,
            "--kubeconfig",
            config,
            "-n",
            "work",
            "port-forward",
            "web",
            ":8080",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with forward:
        assert forward.stdout is not None
        port = forward.stdout.readline().split(":")[1].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.status == 200
        forward.kill()


def test_a_killed_program_comes_back(cluster: Cluster) -> None:
    for program in ("etcd", "kube-apiserver", "kubelet", "containerd"):
        cluster.tool.run("exec", "--name=one", "--", sys.executable, "-c", KILL, program)
    wait = ("wait", "--for=condition=Ready", "node", "--all", "--timeout=5s")
    for _ in range(20):
        if "condition met" in cluster.kubectl(*wait, check=False):
            break
    cluster.apply(pod("after", "true"))
    cluster.kubectl(
        "-n", "work", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/after",
        "--timeout=60s",
    )  # fmt: skip


def test_logs_of_programs_are_shown(cluster: Cluster) -> None:
    listed = cluster.tool.run("logs", "--name=one").stdout.split()
    assert {"etcd", "kube-apiserver", "kubelet", "coredns", "supervisor"} <= set(listed)
    assert "kubelet started" in cluster.tool.run("logs", "--name=one", "supervisor").stdout
