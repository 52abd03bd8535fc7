from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brinkbyte.store import migrate
from support.licensing import INSTANCE, vendor
from support.metering_ledger import Ledger, LedgerServer
from support.metering_site import Site, vendor_trust
from support.postgres import PostgresServer, postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server"]


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
def ledger_server() -> Iterator[LedgerServer]:
    key = vendor().instance_key
    server = LedgerServer(
        Ledger(INSTANCE), {key.kid: key.private_key.public_key()}, key_set=vendor_trust()[1]
    )
    with server:
        yield server


@pytest.fixture
def site(tmp_path: Path, database: str, ledger_server: LedgerServer) -> Site:
    """A site whose billing API is the ledger model."""
    made = Site(tmp_path, database)
    made.write_identity(
        url=ledger_server.url,
        credential=ledger_server.credential,
        instance=INSTANCE,
        pem=vendor().instance_key.to_pem(),
    )
    made.write_trust(*vendor_trust())
    return made
