"""A real, throwaway PostgreSQL cluster for service tests.

One cluster a test session, from the distribution's server binaries, on a unix socket and a random
loopback port, run as an unprivileged user. Use the fixtures by importing them into a conftest::

    from support.postgres import postgres_server, postgres_database

    __all__ = ["postgres_database", "postgres_server"]
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from support.processes import (
    free_port,
    remove,
    run_as,
    server_directory,
    spawn_as,
    stop,
    unprivileged_user,
)

SUPERUSER = "postgres"
PASSWORD = "throwaway"
_MEMORY = Path("/dev/shm")
_PLENTY = 6 * 1024**3
_OWNER = "owner"
"""File with the id of the test process whose server it is: that one may stop it for a while."""
_SETTINGS = {
    # Throwaway data: a crash of the machine may lose it, a crash of the server may not.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "shared_preload_libraries": "pg_stat_statements",
    "timezone": "UTC",
}


def server_binaries() -> Path:
    """Return the directory of the newest installed PostgreSQL server binaries.

    Raises:
        RuntimeError: none is installed.
    """
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or "0"),
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    raise RuntimeError("PostgreSQL's server binaries are missing: apt-get install postgresql")


@dataclass
class PostgresServer:
    """One running cluster.

    Attributes:
        directory: holds the data directory, the socket and the log.
        port: loopback port, also of the socket.
        in_memory: whether the directory is.
        settings: server settings that win over the defaults.
    """

    directory: Path
    port: int
    user: str | None
    in_memory: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def initialize(self) -> None:
        """Run initdb."""
        password_file = self.directory / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        run_as(
            self.user,
            [
                str(server_binaries() / "initdb"),
                "--pgdata=data",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            cwd=self.directory,
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {
            **_SETTINGS,
            **self.settings,
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
        }
        command = [str(server_binaries() / "postgres"), "-D", "data"]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        log = self.directory / "postgres.log"
        self._process = spawn_as(self.user, command, cwd=self.directory, log=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop fast: sessions are ended, committed data stays."""
        if self._process is not None:
            stop(self._process, sig=signal.SIGINT)
            self._process = None

    def kill(self) -> None:
        """Crash the server (immediate shutdown, recovery at the next start)."""
        if self._process is not None:
            stop(self._process, sig=signal.SIGQUIT)
            self._process = None

    def dsn(
        self, database: str = "postgres", *, user: str = SUPERUSER, password: str = PASSWORD
    ) -> str:
        """Return the URI of a database on the loopback port."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def socket_dsn(self, database: str = "postgres", *, user: str = SUPERUSER) -> str:
        """Return the connection string of a database on the unix socket (no password asked)."""
        return make_conninfo(host=str(self.directory), port=self.port, user=user, dbname=database)

    def execute(self, statement: str | sql.Composable, database: str = "postgres") -> None:
        """Run one statement as the superuser, outside a transaction."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute(
                statement if isinstance(statement, sql.Composable) else sql.SQL(statement)  # type: ignore[arg-type]  # test code's own literals
            )

    def create_database(
        self, *, template: str | None = None, prefix: str = "test", owner: str | None = None
    ) -> str:
        """Create a database, a copy of ``template`` if given, and return its name."""
        name = f"{prefix}_{os.getpid()}_{next(self._numbers)}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            # By file it is quicker, but for the checkpoint that a disk has to see.
            statement += sql.SQL(" STRATEGY FILE_COPY" if self.in_memory else "")
        if owner is not None:
            statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
        self.execute(statement)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions."""
        self.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def _memory() -> Path | None:
    """Return the directory in memory, if there is plenty: a thousand files cost little there.

    What tests have left that were killed is removed first.
    """
    if not _MEMORY.is_dir():
        return None
    for left in _MEMORY.glob("brinkbyte-postgres-*"):
        if not _lives(left):
            remove(left)
    return _MEMORY if shutil.disk_usage(_MEMORY).free > _PLENTY else None


def _lives(directory: Path) -> bool:
    """Tell whether the tests that made a directory still run."""
    try:
        return Path("/proc", (directory / _OWNER).read_text()).exists()
    except OSError:
        return True  # being made, or being removed


@contextmanager
def running_postgres(**settings: str) -> Iterator[PostgresServer]:
    """Run a cluster of one's own, for tests that stop, crash or reconfigure it.

    Args:
        **settings: server settings, such as ``max_connections="20"``.
    """
    user = unprivileged_user("postgres")
    memory = _memory()
    directory = server_directory("postgres", user, parent=memory)
    (directory / _OWNER).write_text(str(os.getpid()))
    server = PostgresServer(directory, free_port(), user, memory is not None, settings)
    try:
        server.initialize()
        server.start()
        yield server
    finally:
        server.stop()
        remove(directory)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One cluster for the whole session; make a database of your own in it."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of the test's own; the value is its DSN (superuser)."""
    name = postgres_server.create_database()
    yield postgres_server.dsn(name)
    postgres_server.drop_database(name)
