"""Real server processes for tests: unprivileged, on a random loopback port, dead with the test."""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.programs import Program

_PORTS = range(10_000, 30_000)
"""Below what Linux gives out by itself, and below the ports of a cluster's nodes."""
_WORKERS = 10
_EACH = len(_PORTS) // _WORKERS
# A second test run on this machine begins somewhere else.
_numbers = itertools.count(random.randrange(_EACH))
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def free_port() -> int:
    """Return a TCP port that nobody listens on, and that nobody gets who asks for any port.

    A server that is stopped finds it free again: the system gives out others, and each of the test
    run's processes has a range of its own.

    Raises:
        RuntimeError: all ports of the range are taken.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _PORTS.start + worker % _WORKERS * _EACH
    for _ in range(_EACH):
        port = first + next(_numbers) % _EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no port from {first} on is free")


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def unprivileged_user(*preferred: str) -> str | None:
    """Return a user to run servers as when the tests run as root, else None (stay who we are)."""
    if os.geteuid() != 0:
        return None
    for name in (*preferred, "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise RuntimeError(f"none of the users {', '.join(preferred)}, nobody exists")


def server_directory(prefix: str, user: str | None, *, parent: Path | None = None) -> Path:
    """Make a private directory that the server's user owns."""
    path = Path(tempfile.mkdtemp(prefix=f"brinkbyte-{prefix}-", dir=parent))
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


def run_as(user: str | None, command: Sequence[str], *, cwd: Path) -> None:
    """Run a command to its end as a user; its output is in the error if it fails."""
    done = subprocess.run(
        list(command),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        **_identity(user),  # type: ignore[call-overload]  # user and group only when root
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def spawn_as(
    user: str | None,
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a long-running server as a user; it is killed when the test process dies."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock taken
            **_identity(user),  # type: ignore[call-overload]  # user and group only when root
        )


def _identity(user: str | None) -> dict[str, object]:
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def stop(process: subprocess.Popen[bytes] | Program, *, sig: int = signal.SIGTERM) -> None:
    """End a server that we started and wait until it is gone."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def remove(directory: Path) -> None:
    """Remove a server's directory."""
    shutil.rmtree(directory, ignore_errors=True)
