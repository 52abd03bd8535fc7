"""A migrated customer-side database for each test, copied from one template."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from brinkbyte.store import migrate
from support.postgres import PostgresServer


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
