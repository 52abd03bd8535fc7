"""Real processes killed at every named point while traffic runs: nothing is lost or doubled."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brinkbyte.license.seats import unpack_seats
from brinkbyte.store import migrate
from stack.ledger import compare, verified_receipts
from support.billing import CUSTOMER, DEFAULT_TERMS, BillingApi, new_billing_api, remove_billing_api
from support.campaign_host import HostSite
from support.campaign_kills import HostCampaign
from support.campaign_plan import POINTS, Tally, campaign_seed, plan_kills, soaking
from support.campaign_traffic import Traffic
from support.postgres import PostgresServer

SOURCE = Path(__file__).resolve().parents[2] / "operator" / "brinkbyte"
KILLS = 170 if soaking() else 24
# Points with a campaign or a test of their own: the operator's, Triton's, the migrations', the
# guards' and their tracker's, the snapshots', the bundles', the imports', the billing
# worker's, those of usage as files.
ELSEWHERE = {"bundle.before_commit"} | {
    f"{what}.{when}"
    for what in ("infer", "migrate", "guards", "tracker", "snapshot")
    for when in ("before_commit", "committed")
}
WORKERS = ("deliver.", "event.", "file.", "invoice.", "push.", "read.")
"""``test_notifications``, ``test_stripe_killed``, ``test_air_gap``, ``test_worker``."""
METERED = ("telemetry", "infer")
IMPORT = "import."


@pytest.fixture
def seed() -> int:
    return campaign_seed()


@pytest.fixture
def api(postgres_server: PostgresServer) -> Iterator[BillingApi]:
    made = new_billing_api(postgres_server)
    try:
        made.start()
        made.create_customer(CUSTOMER, DEFAULT_TERMS)
        yield made
    finally:
        remove_billing_api(made)


@pytest.fixture
def site(
    api: BillingApi, postgres_database: str, redis_url: str, tmp_path: Path, seed: int
) -> Iterator[HostSite]:
    migrate(postgres_database)
    made = HostSite(api, tmp_path, postgres_database, redis_url, seed=seed)
    yield made
    made.close()


def points_in_the_source() -> set[str]:
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        if "controller" in path.parts:
            continue
        for name in re.findall(r'failpoint\(f?"([^"]+)"\)', path.read_text()):
            names = [name.format(name=each) for each in METERED] if "{" in name else [name]
            found.update(name for name in names if not name.startswith((IMPORT, *WORKERS)))
    return found


@pytest.mark.unit
def test_every_named_point_is_in_the_campaign() -> None:
    assert points_in_the_source() == POINTS | ELSEWHERE


@pytest.mark.unit
@pytest.mark.parametrize("kills", [24, 170])
def test_a_plan_has_every_point_and_is_the_seeds(kills: int) -> None:
    for number in range(50):
        plan = plan_kills(number, kills)
        assert plan.kills == kills
        assert {step.point for step in (*plan.instance, *plan.others)} == POINTS
        assert plan == plan_kills(number, kills)
        assert any(step.damaged for step in plan.others)
        later = {step.process for step in plan.others if step.count > 1}
        assert later == {"reporter", "billing"}
    assert plan_kills(1, kills) != plan_kills(2, kills)


@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(3600)
# Servers are started again while the traffic's thread runs.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_processes_killed_at_every_point(site: HostSite, tmp_path: Path, seed: int) -> None:
    plan = plan_kills(seed, KILLS)
    tally = Tally("process-kills", seed)
    campaign = HostCampaign(site, plan, tally)
    record = tmp_path / "answered.txt"
    try:
        with Traffic(lambda: site.instance.url, site.devices, record, seed=seed) as traffic:
            campaign.run(traffic.check)
            outcome = traffic.finish()
        campaign.settle()
    finally:
        campaign.close()
    ledger = site.api.ledger()
    receipts = verified_receipts(ledger["batches"], site.inventory.keys.keys, now=int(time.time()))
    compared = compare(outcome, ledger["events"], receipts)
    tally.publish(
        answered=compared.answered,
        in_ledger=compared.in_ledger,
        refused=len(outcome.refused),
        unanswered=len(outcome.unanswered),
        lost=len(compared.lost),
        doubled=len(compared.doubled),
        invented=len(compared.invented),
        unreceipted=len(compared.unreceipted),
        batches=len(ledger["batches"]),
        receipts=len(receipts),
        epochs=len({batch["epoch"] for batch in ledger["batches"]}),
        enrolled=len(campaign.enrolled),
        at_a_later_passage=sum(step.count > 1 for step in plan.others),
    )
    # Every kill of the plan was seen, and every point.
    assert tally.points == Counter(step.point for step in (*plan.instance, *plan.others))
    assert len(tally.kills) == KILLS
    assert set(tally.points) == POINTS
    # Keys answered 2xx = keys of the ledger's events = keys under verified receipts.
    assert outcome.refused == {}
    assert outcome.unanswered == set()
    assert compared.exact, compared
    assert compared.answered == compared.in_ledger > KILLS
    assert len(receipts) == len(ledger["batches"])
    assert ledger["quarantined"] == []
    assert sum(batch["inserted"] for batch in ledger["batches"]) == len(ledger["events"])
    assert_sums(site, ledger["events"])
    assert_seats(site)
    assert_enrolled_once(site.api, campaign)


def rows(api: BillingApi, statement: str, *parameters: Any) -> list[dict[str, Any]]:
    """Run a statement on the billing database as the superuser, who sees every tenant."""
    with psycopg.connect(
        api.server.dsn(api.database), row_factory=psycopg.rows.dict_row
    ) as connection:
        return connection.execute(statement, parameters).fetchall()


def assert_sums(site: HostSite, events: list[dict[str, Any]]) -> None:
    """The billing sums are those of the ledger's events, and so is the work that was metered."""
    by_meter = Counter(str(event["meter"]) for event in events)
    for grain in ("minute", "hour", "day"):
        summed = rows(
            site.api,
            "SELECT meter, sum(events)::bigint AS events, sum(quantity) AS quantity "
            "FROM usage_aggregates WHERE tenant_id = %s AND grain = %s GROUP BY meter",
            CUSTOMER,
            grain,
        )
        assert {row["meter"]: row["events"] for row in summed} == by_meter, grain
        quantities = sum(Decimal(event["quantity"]) for event in events)
        assert sum(row["quantity"] for row in summed) == quantities, grain
    # The site's own daily snapshots measure no observation.
    traffic = [event for event in events if "snapshot" not in event["attributes"]]
    assert all(event["quantity"] == "1" for event in traffic)
    observations = sum(int(event["attributes"]["events"]) for event in traffic)
    assert site.kept() == {
        "observations": observations,
        "summed": observations,
        "events": len(events),
    }


def assert_seats(site: HostSite) -> None:
    """The inventory in the billing database is the last one sent; no seat is there twice."""
    api, inventory = site.api, site.inventory
    requests = rows(api, "SELECT * FROM camera_requests WHERE tenant_id = %s", CUSTOMER)
    seats = rows(api, "SELECT * FROM seats WHERE tenant_id = %s AND held_until IS NULL", CUSTOMER)
    wanted = {
        name: (camera.hardware_id, camera.growth_packs)
        for name, camera in inventory.cameras.items()
    }
    for stored in (requests, seats):
        assert len(stored) == len(wanted)
        assert wanted == {
            row["camera_id"]: (row["hardware_id"], tuple(row["growth_packs"])) for row in stored
        }
    assert len({row["seat_id"] for row in seats}) == len(seats)
    assert {row["camera_id"]: row["seat_id"] for row in seats} == {
        name: claims.seat for name, claims in inventory.tokens.items()
    }
    devices = rows(api, "SELECT hardware_id FROM devices WHERE tenant_id = %s", CUSTOMER)
    assert sorted(row["hardware_id"] for row in devices) == sorted(
        device.hardware_id for device in inventory.devices
    )
    # A seat is taken once, and only again after it was freed.
    history = rows(api, "SELECT * FROM seat_history WHERE tenant_id = %s ORDER BY id", CUSTOMER)
    taken: dict[str, bool] = {}
    for row in history:
        if row["action"] in {"taken", "retaken", "freed"}:
            now = row["action"] != "freed"
            assert taken.get(row["camera_id"], False) is not now, row
            taken[row["camera_id"]] = now
    assert {name for name, held in taken.items() if held} == wanted.keys()
    # The signed list says the same, and the complete set again changes nothing.
    answer = inventory.send_complete()
    assert {result.status for result in answer.cameras} == {"unchanged"}
    assert answer.camera_use.used == len(wanted)
    assert inventory.seats is not None
    signed = unpack_seats(inventory.seats).seats
    assert {name: (seat.hardware_id, seat.packs) for name, seat in signed.items()} == wanted


def assert_enrolled_once(api: BillingApi, campaign: HostCampaign) -> None:
    """Each throw-away customer has one instance, the one that the last answer named."""
    found = rows(api, "SELECT tenant_id, instance_id, ended_at FROM instances")
    assert all(row["ended_at"] is None for row in found)
    assert {
        row["tenant_id"]: row["instance_id"] for row in found if row["tenant_id"] != CUSTOMER
    } == {customer: answer.instance_id for customer, answer in campaign.enrolled.items()}
    assert len(found) == len(campaign.enrolled) + 1
