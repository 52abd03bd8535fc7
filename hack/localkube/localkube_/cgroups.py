"""The control groups of a cluster: one root of its own in every hierarchy."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .report import LocalkubeError

_MOUNT = Path("/sys/fs/cgroup")


def unified() -> bool:
    """Whether the machine has cgroup v2 only."""
    return (_MOUNT / "cgroup.controllers").exists()


def _hierarchies() -> Iterator[Path]:
    if unified():
        yield _MOUNT
        return
    for folder in sorted(_MOUNT.iterdir()):
        # Links such as cpu -> cpu,cpuacct are the same hierarchy again.
        if folder.is_dir() and not folder.is_symlink() and (folder / "cgroup.procs").exists():
            yield folder


def create(root: str) -> None:
    """Make a cluster's root group; kubelet wants it to be there."""
    if unified():
        with contextlib.suppress(OSError):
            controllers = (_MOUNT / "cgroup.controllers").read_text().split()
            for controller in controllers:
                with contextlib.suppress(OSError):
                    (_MOUNT / "cgroup.subtree_control").write_text(f"+{controller}")
    for hierarchy in _hierarchies():
        folder = hierarchy / root
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # A new cpuset of version 1 is empty, and no process fits into it.
            file = folder / setting
            if not unified() and file.exists() and not file.read_text().strip():
                file.write_text((hierarchy / setting).read_text())


def remove(root: str, *, patience: float = 10) -> None:
    """Remove a root group and all below it, once their processes have ended.

    Raises:
        LocalkubeError: A group still has processes after ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    for hierarchy in _hierarchies():
        top = hierarchy / root
        while top.is_dir():
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            if top.is_dir():
                if time.monotonic() > deadline:
                    raise LocalkubeError(
                        f"control group {top} is still in use; see its cgroup.procs"
                    )
                time.sleep(0.02)


def roots() -> list[str]:
    """The root groups of clusters, in any hierarchy."""
    return sorted({folder.name for top in _hierarchies() for folder in top.glob("localkube-*")})
