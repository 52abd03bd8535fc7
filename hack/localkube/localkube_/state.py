"""What is known of a cluster: a file that is written before what it tells of is made."""

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path

from .network import Subnets


@dataclass
class State:
    """What is known of one cluster; written before what it tells of is made.

    Attributes:
        name: The cluster's name.
        block: Its /20.
        link: The host's end of its link.
        cgroup: Its root control group.
        phase: ``creating`` or ``ready``.
        pid: Process 1 of the cluster as the host numbers it, 0 before it runs.
        kubeconfig: The user's file that it was put into.
    """

    name: str
    block: str
    link: str
    cgroup: str
    phase: str = "creating"
    pid: int = 0
    kubeconfig: str = ""

    @property
    def subnets(self) -> Subnets:
        """The cluster's addresses."""
        return Subnets(IPv4Network(self.block))

    def write(self, folder: Path) -> None:
        """Write it into the cluster's folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / "state.new"
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n")
        unfinished.replace(folder / "state.json")


def read_state(folder: Path) -> State | None:
    """Read a cluster's folder; None if it has no state, or none that is whole."""
    try:
        return State(**json.loads((folder / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
