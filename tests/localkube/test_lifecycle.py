"""Creating, being killed, deleting: nothing may be left on the host."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from localkube_.cluster import Clusters
from localkube_.paths import Paths
from pytest_kind import KindCluster

from localkube.tooling import IMAGE, Cluster, Tool
from support.campaign_plan import some

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Reached = Callable[[Path], bool]


def state_of(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        read: dict[str, Any] = json.loads((folder / "state.json").read_text())
        return read
    return {}


# How far a creation has come, from its first trace to its last.
STAGES: dict[str, Reached] = {
    "address reserved": lambda folder: bool(state_of(folder)),
    "certificates half made": lambda folder: (folder / "pki" / "ca.crt").exists(),
    "process 1 started": lambda folder: bool(state_of(folder).get("pid")),
    "link tied": lambda folder: Path(f"/sys/class/net/{state_of(folder).get('link')}").exists(),
    "first objects there": lambda folder: (folder / "objects-applied").exists(),
}


def namespaces_of_processes() -> set[str]:
    """The process namespaces of all that run; what has ended and only waits for init does not."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.add(str((folder / "ns" / "pid").readlink()))
    return found


def traces(state: dict[str, Any], folder: Path) -> list[str]:
    """Everything on the host that speaks of a cluster."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                if str(folder).encode() in (process / "cmdline").read_bytes():
                    found.append(f"process {process.name}")
    found.extend(
        f"mount {line}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(folder) in line
    )
    if Path(f"/sys/class/net/{state['link']}").exists():
        found.append(f"link {state['link']}")
    block = state["block"].rpartition(".")[0].rpartition(".")[0]
    third = int(state["block"].split(".")[2])
    routes = subprocess.check_output(["ip", "route"], text=True)
    found.extend(
        f"route {block}.{address}"
        for address in re.findall(rf"(?m)^{re.escape(block)}\.(\d+)\.", routes)
        if third <= int(address) < third + 16
    )
    rules = subprocess.check_output(["iptables-save"], text=True)
    found.extend(f"rule {line}" for line in rules.splitlines() if "KUBE" in line or "CNI" in line)
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    groups = [top / state["cgroup"] for top in tops]
    found.extend(f"cgroup {group}" for group in groups if group.is_dir())
    if folder.exists():
        found.append(f"folder {folder}")
    return found


def test_delete_leaves_nothing_behind(tool: Tool) -> None:
    settings = [Path("/proc/sys") / name for name in (
        "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward",
    )]  # fmt: skip
    before = [setting.read_text() for setting in settings]
    cluster = tool.create("gone")
    assert [setting.read_text() for setting in settings] == before
    folder = tool.state / "clusters" / "gone"
    state = state_of(folder)
    # While it is open its number is not given to another one.
    with Path(f"/proc/{state['pid']}/ns/pid").open() as handle:
        namespace = str(Path(f"/proc/self/fd/{handle.fileno()}").readlink())
        assert namespace in namespaces_of_processes()
        check_all_gone(tool, cluster, state, namespace)
    assert [setting.read_text() for setting in settings] == before
    tool.delete("gone")  # once more is fine
    assert tool.run("get", "clusters").stdout.split().count("gone") == 0


def check_all_gone(tool: Tool, cluster: Cluster, state: dict[str, Any], namespace: str) -> None:
    folder = tool.state / "clusters" / cluster.name
    assert len(traces(state, folder)) > 5
    assert cluster.kubectl("config", "current-context").strip() == "kind-gone"
    tool.delete("gone")
    assert traces(state, folder) == []
    assert namespace not in namespaces_of_processes()
    assert "gone" not in tool.kubeconfig("gone").read_text()


@pytest.mark.soak
@pytest.mark.parametrize("stage", some(STAGES, 2))
def test_killed_half_way_and_created_again(tool: Tool, stage: str) -> None:
    folder = tool.state / "clusters" / "half"
    creation = tool.start(
        "create", "cluster", "--name=half", f"--kubeconfig={tool.kubeconfig('half')}"
    )
    deadline = time.monotonic() + 60
    while not STAGES[stage](folder):
        assert creation.poll() is None, "it was over before it came so far"
        assert time.monotonic() < deadline
    creation.send_signal(signal.SIGKILL)
    creation.wait()
    assert "half" not in tool.run("get", "clusters").stdout.split()
    killed = state_of(folder)
    cluster = tool.create("half")
    assert "Ready" in cluster.kubectl("get", "nodes")
    tool.delete("half")
    assert traces(killed, folder) == []


def test_clean_removes_what_a_killed_creation_left(tool: Tool) -> None:
    folder = tool.state / "clusters" / "left"
    creation = tool.start(
        "create", "cluster", "--name=left", f"--kubeconfig={tool.kubeconfig('left')}"
    )
    deadline = time.monotonic() + 60
    while not STAGES["link tied"](folder):
        assert time.monotonic() < deadline
    creation.send_signal(signal.SIGKILL)
    creation.wait()
    killed = state_of(folder)
    tool.run("clean")
    assert traces(killed, folder) == []


def test_every_state_folder_is_known_to_the_cleaner(tool: Tool) -> None:
    tool.create("known")
    clusters = Clusters(Paths(Path(tool.run("cache-dir").stdout.strip()), tool.state / "other"))
    assert tool.state in clusters.known_states()
    tool.delete("known")


def test_an_interrupted_creation_cleans_up_by_itself(tool: Tool) -> None:
    folder = tool.state / "clusters" / "stopped"
    creation = tool.start(
        "create", "cluster", "--name=stopped", f"--kubeconfig={tool.kubeconfig('stopped')}"
    )
    deadline = time.monotonic() + 60
    while not STAGES["link tied"](folder):
        assert time.monotonic() < deadline
    state = state_of(folder)
    creation.send_signal(signal.SIGTERM)
    assert creation.wait(30) != 0
    assert traces(state, folder) == []


def test_two_creations_of_one_name_make_one_cluster(tool: Tool) -> None:
    arguments = ("create", "cluster", "--name=twice", f"--kubeconfig={tool.kubeconfig('twice')}")
    creations = [tool.start(*arguments) for _ in range(2)]
    assert sorted(creation.wait(120) for creation in creations) == [0, 1]
    assert tool.run("get", "clusters").stdout.split().count("twice") == 1
    tool.delete("twice")


def test_another_kubeconfig_entry_is_kept(tool: Tool) -> None:
    file = tool.kubeconfig("shared")
    other = {"name": "other", "cluster": {"server": "https://other.invalid"}}
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "clusters": [other]}))
    cluster = tool.create("shared")
    assert set(cluster.kubectl("config", "get-clusters").split()[1:]) == {"kind-shared", "other"}
    tool.delete("shared")
    assert cluster.kubectl("config", "get-clusters").split() == ["NAME", "other"]


def test_pytest_kind_drives_it(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRINKBYTE_STATE", str(tool.state))
    tool.run("build-images", timeout=900)
    kubectl = Path(tool.run("path", "kubectl").stdout.strip())
    cluster = KindCluster("by-pytest", kind_path=tool.path, kubectl_path=kubectl)
    try:
        cluster.create()
        cluster.create()  # takes the one that is there
        cluster.load_docker_image(IMAGE)
        assert "by-pytest-control-plane" in cluster.kubectl("get", "nodes")
        assert cluster.api.version[0] == "1"
    finally:
        cluster.delete()
    assert "by-pytest" not in tool.run("get", "clusters").stdout.split()
