"""The customer-side database: where it is, and a pool that follows a changed credential."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from pydantic import Field, SecretStr

from brinkbyte.kit.errors import TemporaryError
from brinkbyte.kit.pools import LINE, Pool, postgres_pool
from brinkbyte.kit.settings import Settings
from brinkbyte.resources.names import POSTGRES_DIR, POSTGRES_DSN_KEY

Connection: TypeAlias = AsyncConnection[DictRow]
_OPTIONS = "-c timezone=UTC"


class DatabaseSettings(Settings):
    """Where the customer-side PostgreSQL is; the URL wins over the file, the file over the dir."""

    database_url: SecretStr | None = Field(None, description="libpq URI or connection string")
    database_url_file: Path | None = Field(None, description="file that holds the URL")
    postgres_dir: Path = Field(Path(POSTGRES_DIR), description="directory with the file dsn")
    database_pool_size: int = Field(8, ge=1, le=100, description="connections at most")

    def dsn(self) -> str:
        """Return the connection string as it is now; files are read anew each time.

        Raises:
            TemporaryError: the file is not there (yet); reason ``DatabaseNotConfigured``.
        """
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        path = self.database_url_file or self.postgres_dir / POSTGRES_DSN_KEY
        try:
            text = path.read_text("utf-8").strip()
        except OSError as error:
            raise TemporaryError(
                f"the database's connection string cannot be read from {path} ({error.strerror}); "
                "set BRINKBYTE_DATABASE_URL or wait for the Secret to be mounted",
                reason="DatabaseNotConfigured",
            ) from None
        if not text:
            raise TemporaryError(
                f"{path} is empty; write the database's connection string into it",
                reason="DatabaseNotConfigured",
            )
        return text


@asynccontextmanager
async def open_database(
    settings: DatabaseSettings, *, name: str = "brinkbyte"
) -> AsyncIterator[Pool]:
    """Open a pool of connections: rows as dictionaries, UTC, autocommit off.

    Each new connection reads the connection string anew, so that a changed password needs no
    restart.

    Args:
        settings: where the database is.
        name: shown as ``application_name`` in ``pg_stat_activity``.
    """

    async def conninfo() -> str:
        return settings.dsn()

    async with postgres_pool(conninfo, max_size=settings.database_pool_size, name=name) as pool:
        yield pool


async def connect(settings: DatabaseSettings, *, name: str = "brinkbyte") -> Connection:
    """Open one connection outside any pool, autocommit on: for a program with one job."""
    return await AsyncConnection.connect(
        settings.dsn(),
        autocommit=True,
        **LINE,
        row_factory=dict_row,
        application_name=name,
        options=_OPTIONS,
    )
