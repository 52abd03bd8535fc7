"""A database that vanishes without a word is noticed soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from psycopg_pool import PoolTimeout

from brinkbyte.kit.pools import LINE, Pool, postgres_pool
from brinkbyte.store.database import Connection, DatabaseSettings, connect

pytestmark = pytest.mark.services


class Line:
    """Carries connections to a server, until it swallows what goes over it without a word."""

    def __init__(self, dsn: str) -> None:
        self._dsn = urlsplit(dsn)
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> str:
        """Listen, and return the DSN that goes over this line."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1")
        port = self._server.sockets[0].getsockname()[1]
        return self._dsn._replace(
            netloc=self._dsn.netloc.replace(f":{self._dsn.port}", f":{port}")
        ).geturl()

    def cut(self) -> None:
        """Let what is open now carry nothing any more."""
        for pump in self._pumps:
            pump.cancel()

    async def close(self) -> None:
        self.cut()
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._dsn.port)
        self._writers += [writer, up_writer]
        for source, target in ((reader, up_writer), (up_reader, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, target)))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(65_536):
                target.write(chunk)
                await target.drain()
            target.close()


@pytest.fixture
async def line(postgres_database: str) -> AsyncIterator[Line]:
    made = Line(postgres_database)
    yield made
    await made.close()


@pytest.fixture
async def pool(line: Line) -> AsyncIterator[Pool]:
    async with postgres_pool(await line.open(), max_size=2) as opened:
        yield opened


def parameters(connection: Connection) -> dict[str, str]:
    return connection.info.get_parameters()


async def test_every_connection_watches_its_line(pool: Pool, postgres_database: str) -> None:
    wanted = {name: str(value) for name, value in LINE.items()}
    assert wanted["tcp_user_timeout"] == "10000"
    async with pool.connection() as connection:
        assert wanted.items() <= parameters(connection).items()
    async with await connect(DatabaseSettings.load(database_url=postgres_database)) as single:
        assert wanted.items() <= parameters(single).items()


async def test_a_connection_that_went_dead_holds_nobody_up_for_long(pool: Pool, line: Line) -> None:
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
    line.cut()
    began = time.monotonic()
    with suppress(PoolTimeout):
        async with pool.connection():
            pass
    assert time.monotonic() - began < 15
    async with pool.connection(timeout=15) as connection:
        await connection.execute("SELECT 1")
