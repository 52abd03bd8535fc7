"""Reporter and billing API, both real, killed and restored: the ledger is the outbox, exactly."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brinkbyte.license.keys import SigningKey
from brinkbyte.metering.events import UsageEvent
from brinkbyte.resources import names
from support.billing import DEFAULT_TERMS, BillingApi, new_billing_api, remove_billing_api
from support.campaign_plan import some
from support.licensing import vendor
from support.metering_real import enroll, enrolled_site, ledger_events, register_key
from support.metering_site import Site, usage_event
from support.postgres import PostgresServer

pytestmark = pytest.mark.services
POINTS = [
    "epoch.opened",
    "seal.before_commit",
    "seal.committed",
    "send.before",
    "send.answered",
    "receipt.verified",
    "mark.before_commit",
    "mark.committed",
]
SERVER_POINTS = ["ingest.copied", "ingest.before_commit", "ingest.committed"]
KEY = vendor().instance_key
NewSite = Callable[[], Awaitable[tuple[str, Site]]]


@pytest.fixture
async def new_site(
    api: BillingApi, postgres_server: PostgresServer, migrated_template: str, tmp_path: Path
) -> AsyncIterator[NewSite]:
    databases: list[str] = []

    async def make() -> tuple[str, Site]:
        name = postgres_server.create_database(template=migrated_template)
        databases.append(name)
        customer = name.replace("_", "-")
        api.create_customer(customer, DEFAULT_TERMS)
        root = tmp_path / customer
        root.mkdir()
        return customer, await enrolled_site(api, customer, root, postgres_server.dsn(name), KEY)

    yield make
    for database in databases:
        postgres_server.drop_database(database)


def traffic(count: int) -> Iterator[UsageEvent]:
    """Events of every form that an instance records."""
    for number in range(count):
        yield usage_event(
            key=f"key-{number}",
            camera_id=f"cam-{number % 5}",
            hardware_id=f"hw-{number % 2}",
            attributes={"path": "/api/v1/telemetry", "note": 'ü "quoted" \\ \n'},
        )
        yield usage_event(meter="vision.llm_tokens", quantity="17.000000001")


def assert_exact(api: BillingApi, customer: str, site: Site) -> dict[str, Any]:
    """The ledger is the outbox, event by event; every event is under a receipt, none twice."""
    ledger = api.ledger(customer)
    outbox = {
        key: {name: value for name, value in event.items() if value}
        for key, event in site.outbox().items()
    }
    assert ledger_events(ledger) == outbox
    assert site.unacknowledged() == 0
    with psycopg.connect(site.dsn) as connection:
        receipts = dict(
            connection.execute("SELECT chain_hash, receipt FROM usage_batches").fetchall()
        )
    stored = {batch["chainHash"]: batch["receipt"] for batch in ledger["batches"]}
    assert receipts.items() <= stored.items()
    return ledger


def alarms(api: BillingApi, customer: str) -> list[str]:
    """Reasons of the clone alarms that are open."""
    with psycopg.connect(api.server.dsn(api.database)) as connection:
        rows = connection.execute(
            "SELECT reason FROM clone_alarms WHERE tenant_id = %s AND acknowledged_at IS NULL",
            (customer,),
        ).fetchall()
    return [row[0] for row in rows]


async def test_usage_is_never_billed_to_another_customer(
    api: BillingApi, new_site: NewSite
) -> None:
    (customer, site), (other, others) = await new_site(), await new_site()
    site.record(traffic(2))
    identity, own = site.root / "identity", site.root / "own"
    # A Secret of another customer's, consistent in itself.
    identity.rename(own)
    shutil.copytree(others.root / "identity", identity)
    refused = site.report(BRINKBYTE_CUSTOMER_ID=customer)
    assert (refused.returncode, "OtherCustomer" in refused.stderr) == (1, True)
    assert f"customer {other}" in refused.stderr
    assert not api.ledger(other)["batches"]
    assert site.unacknowledged() == 4
    shutil.rmtree(identity)
    own.rename(identity)
    assert site.report(BRINKBYTE_CUSTOMER_ID=customer).returncode == 0
    assert_exact(api, customer, site)
    with psycopg.connect(site.dsn) as connection:
        opened = connection.execute("SELECT reason FROM usage_epochs").fetchall()
    assert opened == [("First",)]


@pytest.mark.parametrize("point", POINTS)
async def test_reporter_killed_at_a_point(api: BillingApi, new_site: NewSite, point: str) -> None:
    customer, site = await new_site()
    site.record(traffic(4))
    killed = site.report(f"{point}:1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    site.record(traffic(2))
    again = site.report()
    assert again.returncode == 0, again.stderr
    ledger = assert_exact(api, customer, site)
    assert sum(batch["inserted"] for batch in ledger["batches"]) == 12
    assert sum(batch["count"] for batch in ledger["batches"]) == 12


@pytest.mark.soak
async def test_billing_api_killed_at_every_point(api: BillingApi, new_site: NewSite) -> None:
    customer, site = await new_site()
    for point in some(SERVER_POINTS, 3):
        api.stop()
        api.start(BRINKBYTE_FAILPOINT=f"{point}:1")
        site.record(traffic(3))
        failed = site.report()
        assert failed.returncode == 75, failed.stderr
        api.wait_killed()
        api.start()
        site.record(traffic(1))
        assert site.report().returncode == 0
        ledger = assert_exact(api, customer, site)
        assert sum(batch["inserted"] for batch in ledger["batches"]) == len(site.outbox())
    assert len({batch["epoch"] for batch in ledger["batches"]}) == 1


async def test_without_the_api_everything_waits(api: BillingApi, new_site: NewSite) -> None:
    customer, site = await new_site()
    site.record(traffic(600))
    api.stop()
    try:
        down = site.report()
        assert down.returncode == 75
        assert "BillingUnreachable" in down.stderr
        assert site.unacknowledged() == 1200
    finally:
        api.start()
    assert site.report().returncode == 0
    assert_exact(api, customer, site)


async def test_reporters_at_once(api: BillingApi, new_site: NewSite) -> None:
    customer, site = await new_site()
    site.record(traffic(1100))
    with ThreadPoolExecutor(3) as threads:
        codes = [done.returncode for done in threads.map(lambda _: site.report(), range(3))]
    assert codes == [0, 0, 0]
    assert site.report().returncode == 0
    ledger = assert_exact(api, customer, site)
    assert len(ledger["batches"]) == 3


async def test_outbox_restored_from_an_hour_old_backup(
    api: BillingApi, new_site: NewSite, postgres_server: PostgresServer
) -> None:
    customer, site = await new_site()
    site.record(traffic(3))
    assert site.report().returncode == 0
    waiting = site.record(traffic(2))
    backup = postgres_server.create_database(template=site.dsn.rpartition("/")[2])
    # The hour that the backup does not know of: the waiting events go out, and more come.
    assert site.report().returncode == 0
    lost = site.record(traffic(2))
    assert site.report().returncode == 0
    before = ledger_events(api.ledger(customer))
    site.dsn = postgres_server.dsn(backup)
    fresh = site.record(traffic(1))
    assert site.report().returncode == 0
    ledger = api.ledger(customer)
    # Nothing of the lost hour leaves the ledger, nothing that went twice counts twice.
    assert ledger_events(ledger).keys() == before.keys() | {event.id for event in fresh}
    assert {event.id for event in waiting + lost} <= before.keys()
    assert alarms(api, customer) == []  # one new epoch is a restored database
    assert {key: ledger_events(ledger)[key] for key in before} == before
    assert site.unacknowledged() == 0
    assert len({batch["epoch"] for batch in ledger["batches"]}) == 2
    with psycopg.connect(site.dsn) as connection:
        epochs = connection.execute("SELECT reason FROM usage_epochs ORDER BY number").fetchall()
        (opened,) = connection.execute("SELECT epochs_opened FROM billing_sync_status").fetchone()  # type: ignore[misc]  # one row, always
    assert [row[0] for row in epochs] == ["First", "HeadAhead"]
    assert opened == 1
    postgres_server.drop_database(backup)


async def test_a_new_empty_database(
    api: BillingApi, new_site: NewSite, postgres_server: PostgresServer, migrated_template: str
) -> None:
    customer, site = await new_site()
    first = site.record(traffic(2))
    assert site.report().returncode == 0
    empty = postgres_server.create_database(template=migrated_template)
    site.dsn = postgres_server.dsn(empty)
    second = site.record(traffic(2))
    assert site.report().returncode == 0
    assert ledger_events(api.ledger(customer)).keys() == {event.id for event in first + second}
    postgres_server.drop_database(empty)


async def test_billing_database_restored_from_a_backup(
    postgres_server: PostgresServer, database: str, tmp_path: Path
) -> None:
    api = new_billing_api(postgres_server)
    try:
        api.start()
        api.create_customer("acme", DEFAULT_TERMS)
        site = await enrolled_site(api, "acme", tmp_path, database, KEY)
        site.record(traffic(2))
        assert site.report().returncode == 0
        api.stop()
        backup = postgres_server.create_database(template=api.database, prefix="billing")
        api.start()
        for _ in range(3):
            site.record(traffic(2))
            assert site.report().returncode == 0
        api.stop()
        postgres_server.drop_database(api.database)
        postgres_server.execute(f'ALTER DATABASE "{backup}" RENAME TO "{api.database}"')
        api.start()
        assert len(api.ledger()["events"]) == 4
        site.record(traffic(1))
        assert site.report().returncode == 0
        ledger = assert_exact(api, "acme", site)
        assert len({batch["epoch"] for batch in ledger["batches"]}) == 1
        assert [batch["batchNo"] for batch in ledger["batches"]] == [1, 2, 3, 4, 5]
    finally:
        remove_billing_api(api)


async def test_a_bad_event_is_set_aside_alone(api: BillingApi, new_site: NewSite) -> None:
    customer, site = await new_site()
    bad = usage_event(meter="vision.no_such_meter")
    site.record([*traffic(2), bad])
    assert site.report().returncode == 0
    ledger = api.ledger(customer)
    assert len(ledger["events"]) == 4
    with psycopg.connect(site.dsn) as connection:
        rows = connection.execute("SELECT event_id::text FROM usage_quarantined").fetchall()
    assert rows == [(bad.id,)]
    assert [row["eventId"] for row in ledger["quarantined"]] == [bad.id]


async def test_a_new_key_pair_once_it_is_registered(api: BillingApi, new_site: NewSite) -> None:
    customer, site = await new_site()
    site.record(traffic(1))
    assert site.report("seal.committed:1").returncode == -signal.SIGKILL
    fresh = SigningKey.generate()
    (site.root / "identity" / names.PRIVATE_KEY_KEY).write_bytes(fresh.to_pem())
    refused = site.report()
    assert refused.returncode == 1
    assert "UnknownInstanceKey" in refused.stderr
    await register_key(api, site, fresh)
    assert site.report().returncode == 0
    assert_exact(api, customer, site)


async def test_enrolled_again_under_a_new_instance_id(api: BillingApi, new_site: NewSite) -> None:
    customer, site = await new_site()
    site.record(traffic(1))
    assert site.report().returncode == 0
    site.record(traffic(1))
    fresh = SigningKey.generate()
    enrollment = await enroll(api, customer, fresh, replace=True)
    ended = site.report()
    assert ended.returncode == 1
    assert "InstanceEnded" in ended.stderr
    site.write_identity(
        url=api.url,
        credential=enrollment.credential,
        instance=enrollment.instance_id,
        pem=fresh.to_pem(),
    )
    assert site.report().returncode == 0
    assert_exact(api, customer, site)


async def test_two_clones_are_told_apart_and_lose_nothing(
    api: BillingApi, new_site: NewSite, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    customer, site = await new_site()
    site.record(traffic(1))
    assert site.report().returncode == 0
    copy = postgres_server.create_database(template=site.dsn.rpartition("/")[2])
    shutil.copytree(site.root, tmp_path / "clone")
    clone = Site(tmp_path / "clone", postgres_server.dsn(copy))
    recorded = {event["id"] for event in site.outbox().values()}
    for _ in range(2):
        for one in (site, clone):
            recorded |= {event.id for event in one.record(traffic(1))}
            assert one.report().returncode == 0
    ledger = api.ledger(customer)
    assert ledger_events(ledger).keys() == recorded
    assert len({batch["epoch"] for batch in ledger["batches"]}) >= 3
    # They took turns and were never refused; the vendor is told all the same.
    assert alarms(api, customer) == ["TwoEpochs"]
    postgres_server.drop_database(copy)


def test_the_command_loads_no_server_and_no_cluster_client() -> None:
    code = (
        "import sys; import brinkbyte.reporter.cli; "
        "print([m for m in ('fastapi', 'kubernetes', 'kopf', 'redis') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[3] / "operator")},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
