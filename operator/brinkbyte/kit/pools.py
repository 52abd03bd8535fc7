"""PostgreSQL and Redis connections: opened in start-up, closed in clean-up, never at import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]


@asynccontextmanager
async def postgres_pool(
    dsn: str, *, min_size: int = 1, max_size: int = 8, name: str = "brinkbyte"
) -> AsyncIterator[Pool]:
    """Open a pool of connections that return rows as dictionaries, UTC and autocommit off.

    Args:
        dsn: libpq connection string or URI.
        min_size: connections kept open.
        max_size: connections at most.
        name: shown as ``application_name`` in ``pg_stat_activity``.
    """
    pool: Pool = AsyncConnectionPool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        open=False,
        timeout=5.0,
        # Tried again soon after a long outage, too.
        reconnect_timeout=10.0,
        kwargs={"row_factory": dict_row, "application_name": name, "options": "-c timezone=UTC"},
        check=AsyncConnectionPool.check_connection,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def redis_client(url: str) -> AsyncIterator[redis.Redis]:
    """Open a Redis client with short time-outs: Redis only ever costs or saves speed."""
    client = redis.Redis.from_url(
        url, socket_timeout=0.5, socket_connect_timeout=0.5, decode_responses=False
    )
    try:
        yield client
    finally:
        await client.aclose()
