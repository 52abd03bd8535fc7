"""A throwaway PostgreSQL on this machine with the durability of its defaults.

From the distribution's server binaries (``hack/debian-packages``), on a loopback port.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from stack.tools import StepError, wait_for

SETTINGS = {"max_connections": "20", "timezone": "UTC"}


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server until the block ends; the value is the URI of its database ``postgres``.

    Raises:
        StepError: the server binaries are missing, or the server does not start.
    """
    binaries, identity = _binaries(), _identity()
    folder = Path(tempfile.mkdtemp(prefix="brinkbyte-bench-postgres-"))
    try:
        if identity:
            os.chown(folder, pwd.getpwnam(identity["user"]).pw_uid, identity["group"])
        password, port = secrets.token_hex(16), free_port()
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        command = [
            str(binaries / "initdb"), "--pgdata=data", "--username=postgres",
            f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, **identity
        )
        if done.returncode:
            raise StepError(f"initdb failed: {done.stderr}")
        options = {
            **SETTINGS,
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
        }
        command = [str(binaries / "postgres"), "-D", "data"]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **identity)
        try:
            uri = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
            wait_for("PostgreSQL", lambda: _answers(uri), timeout=30)
            yield uri
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3])
    )
    if not found:
        raise StepError("PostgreSQL's server binaries are missing; run `make debian-packages`")
    return found[-1].parent


def _identity() -> dict[str, Any]:
    """Return whom to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []}


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(uri: str) -> bool:
    try:
        psycopg.connect(uri, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
