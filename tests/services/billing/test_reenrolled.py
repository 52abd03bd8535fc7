"""Reporter and ledger, both real, enrolled again: one chain, and nothing lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from brinkbyte.license.keys import SigningKey
from brinkbyte.store import migrate
from services.billing.site import key_pair
from support.billing import CUSTOMER, BillingApi
from support.metering_real import enroll, enrolled_site, ledger_events
from support.metering_site import Site, usage_event
from support.postgres import PostgresServer

Databases = Callable[[], str]


@pytest.fixture
def new_database(postgres_server: PostgresServer) -> Iterator[Databases]:
    """Makes migrated customer-side databases; returns their DSNs."""
    made: list[str] = []

    def make() -> str:
        made.append(postgres_server.create_database())
        migrate(postgres_server.dsn(made[-1]))
        return postgres_server.dsn(made[-1])

    yield make
    for name in made:
        postgres_server.drop_database(name)


@pytest.fixture
async def site(billing_api: BillingApi, new_database: Databases, tmp_path: Path) -> Site:
    """A site with one batch under receipt."""
    made = await enrolled_site(billing_api, CUSTOMER, tmp_path, new_database(), key_pair())
    record(made, 3)
    report(made)
    return made


def record(site: Site, count: int) -> set[str]:
    return {event.id for event in site.record(usage_event() for _ in range(count))}


def report(site: Site, failpoint: str = "") -> None:
    done = site.report(failpoint)
    assert done.returncode == (-signal.SIGKILL if failpoint else 0), done.stderr


async def enroll_again(api: BillingApi, site: Site, key: SigningKey) -> str:
    """Enroll the site under a new instance id; returns the id."""
    enrollment = await enroll(api, CUSTOMER, key, replace=True)
    site.write_identity(
        url=api.url,
        credential=enrollment.credential,
        instance=enrollment.instance_id,
        pem=key.to_pem(),
    )
    return enrollment.instance_id


def epochs(dsn: str, order: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM usage_epochs ORDER BY {order}").fetchall()  # type: ignore[arg-type]  # a literal


def assert_one_chain(api: BillingApi, reasons: list[str], *databases: str) -> None:
    """Each epoch follows the one before, only the last is open, and no clone is suspected."""
    found = epochs(api.server.dsn(api.database), "opened_at")
    assert [row["state"] for row in found] == ["closed"] * (len(found) - 1) + ["open"]
    assert [row["follows"] for row in found] == [None, *(row["epoch"] for row in found[:-1])]
    with psycopg.connect(api.server.dsn(api.database)) as connection:
        links = connection.execute(
            "SELECT first.previous_hash = last.last_chain_hash FROM usage_batches first "
            "JOIN usage_epochs e USING (tenant_id, epoch) "
            "JOIN usage_epochs last ON last.epoch = e.follows WHERE first.batch_no = 1"
        ).fetchall()
        alarms = connection.execute("SELECT clone_alarm_at FROM instances").fetchall()
    assert links == [(True,)] * (len(found) - 1)
    assert set(alarms) == {(None,)}
    seen = [row["reason"] for dsn in databases for row in epochs(dsn, "number")]
    assert seen == reasons


async def test_over_the_same_database_the_chain_goes_on(
    billing_api: BillingApi, site: Site
) -> None:
    # One batch is sealed and not sent, another one taken in without its receipt coming back.
    record(site, 2)
    report(site, "send.before:1")
    record(site, 1)
    report(site, "send.answered:1")
    for number in (1, 2):
        await enroll_again(billing_api, site, key_pair(number))
        record(site, 2)
        # Killed between opening the epoch and its first batch: the next run goes on with it.
        report(site, "epoch.opened:1")
        report(site)
    ledger = billing_api.ledger()
    assert ledger_events(ledger).keys() == site.outbox().keys()
    assert sum(batch["inserted"] for batch in ledger["batches"]) == len(site.outbox())
    assert site.unacknowledged() == 0
    assert_one_chain(billing_api, ["First", "NewInstance", "NewInstance"], site.dsn)


async def test_over_an_empty_database_the_chain_goes_on(
    billing_api: BillingApi, site: Site, new_database: Databases
) -> None:
    before, events = site.dsn, site.outbox().keys()
    await enroll_again(billing_api, site, key_pair(1))
    site.dsn = new_database()
    fresh = record(site, 2)
    report(site)
    assert ledger_events(billing_api.ledger()).keys() == events | fresh
    assert_one_chain(billing_api, ["First", "NewDatabase"], before, site.dsn)


async def test_removed_and_made_again_over_kept_data(billing_api: BillingApi, site: Site) -> None:
    waiting = record(site, 2)
    (row,) = billing_api.administer(lambda a: a.list_instances())
    billing_api.administer(lambda a: a.free_instance(row["instance_id"]))
    await enroll_again(billing_api, site, key_pair(1))
    report(site)
    assert waiting <= ledger_events(billing_api.ledger()).keys()
    assert site.unacknowledged() == 0
    assert_one_chain(billing_api, ["First", "NewInstance"], site.dsn)


async def test_what_a_restored_ledger_lacks_comes_again_under_the_new_instance(
    billing_api: BillingApi, site: Site, postgres_server: PostgresServer
) -> None:
    billing_api.stop()
    backup = postgres_server.create_database(template=billing_api.database, prefix="billing")
    billing_api.start()
    record(site, 2)
    report(site)
    billing_api.stop()
    postgres_server.drop_database(billing_api.database)
    postgres_server.execute(f'ALTER DATABASE "{backup}" RENAME TO "{billing_api.database}"')
    billing_api.start()
    await enroll_again(billing_api, site, key_pair(1))
    record(site, 1)
    report(site)
    assert ledger_events(billing_api.ledger()).keys() == site.outbox().keys()
    assert_one_chain(billing_api, ["First", "NewInstance"], site.dsn)
