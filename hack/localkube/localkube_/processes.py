"""Finding and ending the processes of a cluster."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from .report import LocalkubeError

_PROC = Path("/proc")


def _arguments() -> Iterator[tuple[int, list[str]]]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
                yield int(folder.name), line.split("\0")


def with_argument(argument: str) -> list[int]:
    """Processes that were started with exactly this argument."""
    return sorted(pid for pid, arguments in _arguments() if argument in arguments)


def arguments_under(prefix: str) -> dict[int, str]:
    """Processes with an argument that begins so, and that argument."""
    found = {}
    for pid, arguments in _arguments():
        for argument in arguments:
            if argument.startswith(prefix):
                found[pid] = argument
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and is not a zombie."""
    try:
        status = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def child(pid: int) -> int | None:
    """The first child of a process."""
    with contextlib.suppress(OSError):
        children = (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
        if children:
            return int(children[0])
    return None


def end(pids: Iterable[int], *, patience: float = 20) -> None:
    """Kill processes and wait until they are gone.

    Raises:
        LocalkubeError: One is still there after ``patience`` seconds.
    """
    left = list(pids)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience
    while left := [pid for pid in left if alive(pid)]:
        if time.monotonic() > deadline:
            raise LocalkubeError(f"processes {left} do not end; look at /proc/PID/stack")
        time.sleep(0.01)
