"""Starting one cluster: files, namespaces, link, and the wait until all of it works."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from . import cgroups, components, network, pki, processes
from .api import Api, resolves
from .components import CONTAINERD_SOCKET, DOMAIN, Layout
from .debian import which
from .nodeconfig import config_files
from .objects import first_objects
from .report import LocalkubeError
from .shell import run, succeeds
from .state import State

CTR = ("ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io")
NAMESPACE_PATIENCE = 10.0
POLL = 0.02
_CLIENTS = (
    "kubelet",
    "controller-manager",
    "scheduler",
    "proxy",
    "coredns",
    "provisioner",
    "admin",
)
# What the programs of a cluster get: no proxies or credentials of whoever started it.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def supervisor_argument(folder: Path) -> str:
    """The argument by which a cluster's process 1 is known on the host."""
    return f"--cluster-dir={folder}"


def enter(pid: int) -> list[str]:
    """The start of a command line that runs a program inside a cluster.

    Args:
        pid: The cluster's process 1 as the host numbers it.
    """
    namespaces = ["--net", "--mount", "--pid"]
    return ["nsenter", "--target", str(pid), *namespaces, "--wd=/", "--"]


class Boot:
    """One start of one cluster."""

    def __init__(self, state: State, layout: Layout, pause_image: Path) -> None:
        self._state = state
        self._layout = layout
        self._pause_image = pause_image
        self._deadline = 0.0
        self._patience = 0.0

    def run(self, patience: float) -> None:
        """Start everything and wait until it works.

        Args:
            patience: Seconds until giving up.

        Raises:
            LocalkubeError: It does not work by then; the message has the ends of the logs.
        """
        self._patience = patience
        self._deadline = time.monotonic() + patience
        state, layout = self._state, self._layout
        self._write_files()
        cgroups.create(state.cgroup)
        self._start_namespaces()
        alias = f"localkube cluster {state.name}"
        network.add_link(state.link, state.subnets, state.pid, alias)
        api = Api(layout.server, layout.pki)
        self._wait("containerd", lambda: self._ctr("version"))
        self._wait("pause image", lambda: self._ctr("images", "import", str(self._pause_image)))
        self._wait("ready API server", api.ready)
        for collection, body in first_objects(layout):
            create = partial(api.create, collection, body)
            self._wait(f"{collection} ({body['metadata']['name']})", create)
        layout.objects_file.touch()
        node = layout.node
        label = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
        self._wait("node", lambda: api.merge(f"/api/v1/nodes/{node}", label))
        self._wait("Ready node", lambda: api.node_ready(node))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("default service account", lambda: api.exists(account))
        dns = str(state.subnets.dns_service_ip)
        self._wait("answer from DNS", lambda: resolves(dns, f"kubernetes.default.svc.{DOMAIN}"))

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        while not condition():
            if not processes.alive(self._state.pid):
                raise LocalkubeError(self._broken("process 1 ended"))
            if time.monotonic() > self._deadline:
                raise LocalkubeError(self._broken(f"no {what} in {self._patience:.0f} s"))
            time.sleep(POLL)

    def _ctr(self, *arguments: str) -> bool:
        try:
            run([*enter(self._state.pid), *CTR, *arguments], timeout=30)
        except LocalkubeError:
            return False
        return True

    def _write_files(self) -> None:
        layout = self._layout
        subnets = layout.subnets
        wanted = pki.certificates(layout.node, str(subnets.node_ip), str(subnets.api_service_ip))
        pki.write_pki(layout.pki, wanted)
        for user in _CLIENTS:
            document = pki.kubeconfig(layout.pki, user, layout.server, "localkube")
            layout.kubeconfig(user).write_text(document)
        for name, text in config_files(layout).items():
            target = layout.folder / "config" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for folder in (layout.logs, layout.volumes, layout.folder / "pod-logs"):
            folder.mkdir(exist_ok=True)
        (layout.folder / "etcd").mkdir(mode=0o700)
        # Pods of any user go through these to the volumes that they mount.
        for folder in (layout.folder.parent.parent, layout.folder.parent, layout.folder):
            folder.chmod(0o755)
        node = json.dumps(components.node_file(layout), indent=1)
        (layout.folder / "node.json").write_text(node)

    def _start_namespaces(self) -> None:
        if which("modprobe"):
            for module in ("overlay", "br_netfilter"):
                succeeds(["modprobe", module])
        supervisor = Path(__file__).with_name("supervisor.py")
        namespaces = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        python = [sys.executable, "-I", "-B", str(supervisor)]
        with (self._layout.logs / "supervisor.log").open("a") as log:
            outer = subprocess.Popen(
                ["unshare", *namespaces, "--", *python, supervisor_argument(self._layout.folder)],
                cwd="/",
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ours = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + NAMESPACE_PATIENCE
        while True:
            inner = processes.child(outer.pid)
            with suppress(OSError):
                if inner and Path(f"/proc/{inner}/ns/net").readlink() != ours:
                    break
            if outer.poll() is not None or time.monotonic() > deadline:
                raise LocalkubeError(self._broken("its namespaces could not be made"))
            time.sleep(0.005)
        self._state.pid = inner
        self._state.write(self._layout.folder)

    def _broken(self, why: str) -> str:
        lines = [f'cluster "{self._layout.name}" did not come up: {why}; the ends of the logs:']
        for log in sorted(self._layout.logs.glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-3:]
            lines.extend(f"  {log.stem}: {line[:300]}" for line in tail)
        return "\n".join(lines)
