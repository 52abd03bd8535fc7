"""Creating, deleting and entering clusters."""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path

from . import cgroups, components, kubeconfig, network, pki, processes
from .boot import CTR, Boot, enter, supervisor_argument
from .components import Layout
from .debian import CLUSTER_PACKAGES, CNI_PLUGINS, install, require_root, which
from .gobuild import COREDNS, KUBE, PAUSE, PROVISIONER, build_all, pause_archive, program_path
from .paths import Paths
from .preload import Preload
from .report import LocalkubeError, elapsed, say
from .shell import run
from .state import State, read_state

CONTEXT_PREFIX = "kind-"
BOOT_PATIENCE = 60.0
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_INSTANCES = 1024
NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,43}[a-z0-9])?")


class Clusters:
    """All clusters of one state folder."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def folder(self, name: str) -> Path:
        """The folder of one cluster."""
        return self.paths.clusters / name

    def read(self, name: str) -> State | None:
        """A cluster's state, None if there is none."""
        return read_state(self.folder(name))

    def all_names(self) -> list[str]:
        """Every cluster that has left a trace here, running or not."""
        try:
            return sorted(folder.name for folder in self.paths.clusters.iterdir())
        except FileNotFoundError:
            return []

    def running(self, name: str) -> State | None:
        """The state of a cluster that is complete and runs."""
        state = self.read(name)
        if state is None or state.phase != "ready" or not processes.alive(state.pid):
            return None
        return (
            state
            if state.pid in processes.with_argument(supervisor_argument(self.folder(name)))
            else None
        )

    def names(self) -> list[str]:
        """The clusters that are complete and run."""
        return [name for name in self.all_names() if self.running(name)]

    def require(self, name: str) -> State:
        """The state of a running cluster.

        Raises:
            LocalkubeError: There is no such cluster.
        """
        state = self.running(name)
        if state is None:
            raise LocalkubeError(f'no nodes found for cluster "{name}"')
        return state

    def layout(self, state: State) -> Layout:
        """Where everything of a cluster is."""
        return Layout(
            folder=self.folder(state.name),
            name=state.name,
            subnets=state.subnets,
            cgroup=state.cgroup,
            kube=program_path(self.paths, KUBE).parent,
            coredns=program_path(self.paths, COREDNS),
            provisioner=program_path(self.paths, PROVISIONER),
            containerd=which("containerd") or "/usr/bin/containerd",
            cni=CNI_PLUGINS,
        )

    def create(self, name: str, file: Path, patience: float) -> None:
        """Create a cluster and wait until all of it works.

        Args:
            name: Its name.
            file: The user's kubeconfig to put it into.
            patience: Seconds to wait at least before giving up.

        Raises:
            LocalkubeError: It exists, or did not come up. Nothing of it is left then.
        """
        if not NAME_PATTERN.fullmatch(name):
            raise LocalkubeError(
                f"'{name}' is not a valid cluster name, cluster names must match "
                f"`^{NAME_PATTERN.pattern}$`"
            )
        require_root("creating a cluster")
        install(self.paths, CLUSTER_PACKAGES)
        build_all(self.paths, (KUBE, COREDNS, PROVISIONER, PAUSE))
        with self.paths.lock(f"cluster-{name}"):
            if self.running(name):
                raise LocalkubeError(f'node(s) already exist for a cluster with the name "{name}"')
            if self.folder(name).exists():
                say(f"removing what is left of an unfinished or ended cluster {name}")
                self._remove(name)
            raise_limits()
            begun = elapsed()
            say(f'Creating cluster "{name}" ...')
            state = self._reserve(name)
            state.kubeconfig = str(file.absolute())
            try:
                layout = self.layout(state)
                Preload(self.paths).give(layout.folder)
                Boot(state, layout, pause_archive(self.paths)).run(max(patience, BOOT_PATIENCE))
                context = CONTEXT_PREFIX + name
                document = pki.kubeconfig(layout.pki, "admin", layout.server, context)
                kubeconfig.add(file, document, layout.kube / "kubectl")
            except BaseException:
                self._keep_logs(name)
                self._remove(name)
                raise
            state.phase = "ready"
            state.write(self.folder(name))
        say(
            f'cluster "{name}" is ready after {elapsed() - begun:.1f} s: '
            f"kubectl --context {context} --kubeconfig {file}"
        )

    def _reserve(self, name: str) -> State:
        # A cluster of another state folder may have its block reserved and no route yet.
        with self.paths.lock("subnets", in_cache=True):
            taken = list(network.host_routes())
            for folder in self.known_states():
                others = Clusters(Paths(self.paths.cache, folder))
                known = map(others.read, others.all_names())
                taken += [state.subnets.block for state in known if state]
            block = network.choose(taken).block
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(str(self.paths.state))
            # The block makes the link's name unique among all state folders.
            link = f"lk{self.paths.tag}-{int(block.network_address) >> 12 & 0xFFFFF:05x}"
            state = State(
                name=name,
                block=str(block),
                link=link,
                cgroup=f"localkube-{self.paths.tag}-{name}",
            )
            state.write(self.folder(name))
        return state

    def _failed(self, name: str) -> Path:
        return self.paths.state / "failed" / name

    def _keep_logs(self, name: str) -> None:
        with suppress(OSError):
            kept = self._failed(name)
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.folder(name) / "logs", kept)
            say(f"the logs are kept in {kept}")

    def delete(self, name: str, file: Path | None) -> None:
        """Delete a cluster with all that it made; fine if there is none."""
        require_root("deleting a cluster")
        with self.paths.lock(f"cluster-{name}"):
            state = self.read(name)
            if self.folder(name).exists():
                self._remove(name)
            files = {file} if file else {kubeconfig.default_file()}
            if state and state.kubeconfig:
                files.add(Path(state.kubeconfig))
            # Any version of kubectl will do.
            for kubectl in sorted(self.paths.programs.glob("kube-*/kubectl"))[:1]:
                for each in files:
                    kubeconfig.remove(each, CONTEXT_PREFIX + name, kubectl)
        self.tidy()

    def _remove(self, name: str) -> None:
        processes.end(processes.with_argument(supervisor_argument(self.folder(name))))
        state = self.read(name)
        if state:
            network.remove_link(state.link)
            cgroups.remove(state.cgroup)
        remove_tree(self.folder(name))

    def remove_unfinished(self) -> list[str]:
        """Remove every cluster that is not complete or has ended; returns their names."""
        removed = []
        for name in self.all_names():
            with self.paths.lock(f"cluster-{name}"):
                if self.folder(name).exists() and not self.running(name):
                    self._remove(name)
                    removed.append(name)
        return removed

    def remove_strays(self, tag: str) -> None:
        """Remove links and control groups that no cluster accounts for.

        Args:
            tag: The state folder's, or the empty text for every one's.
        """
        for link in network.links():
            if re.fullmatch(f"lk{tag or '[0-9a-f]{6}'}-[0-9a-f]{{5}}", link):
                network.remove_link(link)
        for root in cgroups.roots():
            if re.fullmatch(f"localkube-{tag or '[0-9a-f]{6}'}-.*", root):
                cgroups.remove(root)

    def remove_all(self) -> None:
        """Remove every cluster of this state folder, and the folder."""
        for name in self.all_names():
            say(f'Deleting cluster "{name}" of {self.paths.state} ...')
            self.delete(name, None)
        processes.end(processes.arguments_under(supervisor_argument(self.paths.clusters) + "/"))
        self.remove_strays(self.paths.tag)
        remove_tree(self.paths.state)
        self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.paths.cache / "states" / self.paths.tag

    def known_states(self) -> set[Path]:
        """Every state folder with clusters, as far as the cache or a running process tells."""
        noted = {Path(note.read_text()) for note in self._note.parent.glob("*")}
        start = supervisor_argument(Path())[:-1]
        for argument in processes.arguments_under(f"{start}/").values():
            # --cluster-dir=STATE/clusters/NAME
            noted.add(Path(argument.removeprefix(start)).parent.parent)
        return noted | {self.paths.state}

    def tidy(self) -> None:
        """Remove the state folder when no cluster is left in it."""
        if not self.all_names():
            with suppress(OSError):
                self.paths.clusters.rmdir()

    def importer(self, state: State) -> list[str]:
        """The command that imports an archive of images from its standard input."""
        return [*enter(state.pid), *CTR, "images", "import", "-"]

    def describe(self, name: str) -> str:
        """A running cluster's addresses and folders, as JSON.

        Raises:
            LocalkubeError: There is no such cluster.
        """
        state = self.require(name)
        layout = self.layout(state)
        facts = {
            "name": name,
            "node": layout.node,
            "server": layout.server,
            "hostIP": str(state.subnets.host_ip),
            "hostName": components.HOST_NAME,
            "nodeIP": str(state.subnets.node_ip),
            "podCIDR": str(state.subnets.pods),
            "serviceCIDR": str(state.subnets.services),
            "link": state.link,
            "cgroup": state.cgroup,
            "pid": state.pid,
            "kubeconfig": state.kubeconfig,
            "logs": str(layout.logs),
            "volumes": str(layout.volumes),
        }
        return json.dumps(facts, indent=1)

    def log_files(self, name: str) -> Path:
        """The folder of a cluster's logs, also of one that failed to come up.

        Raises:
            LocalkubeError: There are none.
        """
        for folder in (self.folder(name) / "logs", self._failed(name)):
            if folder.is_dir():
                return folder
        raise LocalkubeError(f'there are no logs of a cluster "{name}"')


def raise_limits() -> None:
    """Let root watch more files: the kernel's 128 instances do for about four clusters."""
    if int(INOTIFY_INSTANCES.read_text()) < ENOUGH_INSTANCES:
        with suppress(OSError):
            INOTIFY_INSTANCES.write_text(str(ENOUGH_INSTANCES))


def unmount_below(folder: Path) -> None:
    """Unmount what a killed program left mounted in a folder."""
    inside = f"{folder.resolve()}/"
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(inside):
            run(["umount", "--lazy", target])


def remove_tree(folder: Path) -> None:
    """Remove a folder, whatever is mounted in it."""
    unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder)
