"""The one way to the database: a transaction that is a tenant's, or nobody's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from brinkbyte.kit.pools import Pool

Connection: TypeAlias = AsyncConnection[DictRow]
Row: TypeAlias = dict[str, Any]


class Database:
    """Transactions over a pool of the role ``brinkbyte_api`` or ``brinkbyte_admin``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def tenant(self, tenant_id: str) -> AsyncIterator[Connection]:
        """Open a transaction that sees and writes this tenant's rows only."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "SELECT set_config('brinkbyte.tenant_id', %s, true)", [tenant_id]
            )
            yield connection

    @asynccontextmanager
    async def nobody(self) -> AsyncIterator[Connection]:
        """Open a transaction without a tenant: no tenant row is visible to the api role."""
        async with self._pool.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def pipelined(self, tenant_id: str) -> AsyncIterator[Connection]:
        """As :meth:`tenant`, but a statement waits for its answer only where that is read.

        What follows the last answer that was read goes out with the commit, in one round trip.
        """
        async with (
            self._pool.connection() as connection,
            connection.pipeline(),
            connection.transaction(),
        ):
            await connection.execute(
                "SELECT set_config('brinkbyte.tenant_id', %s, true)", [tenant_id]
            )
            yield connection
