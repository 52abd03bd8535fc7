"""A real, throwaway Redis for service tests: one server a session, emptied for each test."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from support.processes import (
    free_port,
    remove,
    server_directory,
    spawn_as,
    stop,
    unprivileged_user,
)


@dataclass
class RedisServer:
    """One running Redis on a random loopback port; ``kill`` and ``start`` keep the port."""

    directory: Path
    port: int
    user: str | None
    settings: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("redis-server is missing: apt-get install redis-server")
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "save": "",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "allkeys-lru",
            "dir": str(self.directory),
            **self.settings,
        }
        command = [binary]
        for name, value in options.items():
            command += [f"--{name}", value]
        log = self.directory / "redis.log"
        self._process = spawn_as(self.user, command, cwd=self.directory, log=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Redis did not start:\n{log.read_text()}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def kill(self) -> None:
        """Kill the server; everything in it is lost."""
        if self._process is not None:
            stop(self._process, sig=signal.SIGKILL)
            self._process = None

    @property
    def url(self) -> str:
        """URL of database 0."""
        password = self.settings.get("requirepass")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a synchronous client."""
        return redis.Redis.from_url(self.url, socket_timeout=5)


@contextmanager
def running_redis(**settings: str) -> Iterator[RedisServer]:
    """Run a Redis of one's own, for tests that stop or kill it.

    Args:
        **settings: redis.conf settings, such as ``requirepass="x"``.
    """
    user = unprivileged_user("redis")
    directory = server_directory("redis", user)
    server = RedisServer(directory, free_port(), user, settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        remove(directory)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole session."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an emptied database 0."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url
