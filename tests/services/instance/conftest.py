from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from brinkbyte.store import migrate
from support.instance_api import Api, running_app
from support.instance_site import Site
from support.postgres import PostgresServer, postgres_database, postgres_server
from support.redis import redis_server, redis_url
from support.triton import triton_server

__all__ = [
    "postgres_database",
    "postgres_server",
    "redis_server",
    "redis_url",
    "triton_server",
]


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    name = postgres_server.create_database(prefix="template")
    migrate(postgres_server.dsn(name))
    return name


@pytest.fixture
def database(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """DSN of a migrated customer-side database."""
    name = postgres_server.create_database(template=migrated_template)
    yield postgres_server.dsn(name)
    postgres_server.drop_database(name)


@pytest.fixture
def site(tmp_path: Path, database: str, redis_url: str) -> Site:
    return Site(tmp_path, database, redis_url)


@pytest.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    """The application with a license in good standing."""
    site.install()
    async with running_app(site) as running:
        yield running
