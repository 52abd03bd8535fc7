from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.customer_database import database, migrated_template
from support.importing import Importer
from support.postgres import PostgresServer, postgres_database, postgres_server

__all__ = ["database", "migrated_template", "postgres_database", "postgres_server"]


@pytest.fixture
def other_database(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Another one."""
    name = postgres_server.create_database(template=migrated_template)
    yield postgres_server.dsn(name)
    postgres_server.drop_database(name)


@pytest.fixture
def importer(tmp_path: Path, database: str) -> Importer:
    """Imports tmp_path/edge.db."""
    return Importer(tmp_path / "edge.db", database, tmp_path / "import")
