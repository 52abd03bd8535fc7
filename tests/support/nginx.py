"""A real nginx for tests: unprivileged, on loopback, with everything below its own directory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import remove, server_directory, spawn_as, stop, unprivileged_user

_MAIN = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
worker_processes 1;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{configuration}
}}
"""


@contextmanager
def running_nginx(configuration: str, port: int) -> Iterator[Path]:
    """Run nginx until the block ends; the value is its directory, with ``error.log``.

    Args:
        configuration: of the http block.
        port: a loopback port that it listens on.

    Raises:
        RuntimeError: it is missing, or does not start.
    """
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(binary).exists():
        raise RuntimeError("nginx is missing: apt-get install nginx-light")
    user = unprivileged_user("www-data")
    directory = server_directory("nginx", user)
    try:
        main = directory / "nginx.conf"
        main.write_text(_MAIN.format(directory=directory, configuration=configuration))
        main.chmod(0o644)
        command = [binary, "-p", str(directory), "-e", str(directory / "error.log")]
        process = spawn_as(
            user, [*command, "-c", str(main)], cwd=directory, log=directory / "output"
        )
        try:
            _wait(process, port, directory)
            yield directory
        finally:
            stop(process)
    finally:
        remove(directory)


def _wait(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                text = (directory / "output").read_text()
                raise RuntimeError(f"nginx did not start:\n{text}") from None
            time.sleep(0.02)
        else:
            return
