from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.billing import BillingApi, new_billing_api, remove_billing_api
from support.customer_database import database, migrated_template
from support.licensing import INSTANCE, vendor
from support.metering_ledger import Ledger, LedgerServer
from support.metering_site import Site, vendor_trust
from support.postgres import PostgresServer, postgres_database, postgres_server

__all__ = ["database", "migrated_template", "postgres_database", "postgres_server"]


@pytest.fixture(scope="module")
def api(postgres_server: PostgresServer) -> Iterator[BillingApi]:
    """A real billing API without customers."""
    made = new_billing_api(postgres_server)
    try:
        made.start()
        yield made
    finally:
        remove_billing_api(made)


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
