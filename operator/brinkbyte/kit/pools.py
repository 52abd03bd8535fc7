"""PostgreSQL connections: opened in start-up, closed in clean-up, never at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]
LINE: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""Parameters of libpq: a server that vanishes without a word is noticed within some ten seconds,
not after the kernel's quarter of an hour. Seconds, but ``tcp_user_timeout`` in milliseconds."""
_CHECK_SECONDS: Final = 2.0


@asynccontextmanager
async def postgres_pool(
    dsn: str | Callable[[], Awaitable[str]],
    *,
    min_size: int = 1,
    max_size: int = 8,
    name: str = "brinkbyte",
) -> AsyncIterator[Pool]:
    """Open a pool of connections that return rows as dictionaries, UTC and autocommit off.

    Args:
        dsn: libpq connection string or URI, or what returns it for each new connection.
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
        kwargs={
            **LINE,
            "row_factory": dict_row,
            "application_name": name,
            "options": "-c timezone=UTC",
        },
        check=_check,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


async def _check(connection: AsyncConnection[DictRow]) -> None:
    """Refuse a connection whose server does not answer, also when it keeps the line open."""
    async with asyncio.timeout(_CHECK_SECONDS):
        await AsyncConnectionPool.check_connection(connection)
