"""Billed once, never zero times and never twice, whatever dies, is restored, copied or delayed.

Several customers' services record usage, their reporters send it over bad lines to two billing
servers on one database; programs are killed, databases are lost, restored from backups and cloned
on both sides. At rest the ledger is the callers' own account, event by event.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from brinkbyte.kit.uuid7 import millisecond_of, uuid7
from brinkbyte.metering.events import UsageEvent
from support.billing import new_billing_api, remove_billing_api
from support.campaign_plan import Tally, campaign_seed, soaking
from support.customer_database import migrated_template
from support.postgres import PostgresServer
from support.truth_campaign import STEPS, Campaign, Customer, plan_steps
from support.truth_oracle import DiskView, Findings, LedgerView, Truth, examine
from support.truth_site import Database
from support.truth_vendor import Vendor

__all__ = ["migrated_template"]
CUSTOMERS = 4 if soaking() else 2
STEPS_IN_ALL = 600 if soaking() else len(STEPS)
SECONDS = 600 if soaking() else 60
AT_REST_EVERY = 40


@pytest.fixture
def seed() -> int:
    return campaign_seed()


@pytest.fixture
def campaign(
    postgres_server: PostgresServer, migrated_template: str, seed: int
) -> Iterator[Campaign]:
    api = new_billing_api(postgres_server)
    made = Campaign(
        Vendor(api),
        random.Random(seed),
        Database(postgres_server),
        migrated_template,
        Tally("ledger-truth", seed),
    )
    try:
        yield made
    finally:
        made.close()
        remove_billing_api(api)


@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
async def test_every_event_is_billed_once(campaign: Campaign, tmp_path: Path) -> None:
    await campaign.begin(tmp_path, [f"truth-{number}" for number in range(CUSTOMERS)])
    began = time.monotonic()
    for number, step in enumerate(plan_steps(campaign.numbers, STEPS_IN_ALL), 1):
        campaign.step(step)
        if number % AT_REST_EVERY == 0:
            campaign.check(campaign.settle())
        if number >= len(STEPS) and time.monotonic() - began > SECONDS:
            break
    campaign.check(campaign.settle())
    campaign.publish()
    # What happened did happen.
    assert {step for step in STEPS if not campaign.counts[step]} == set()
    killed = {(kill["process"], kill["point"] == "at random") for kill in campaign.tally.kills}
    assert {(each, False) for each in ("generator", "reporter", "billing")} <= killed
    assert min(len(customer.truth.answered) for customer in campaign.customers) > 100
    # No reporter asks for help without a reason, and whoever lost events with a disk shows.
    assert campaign.helpless() == {}
    assert campaign.unseen() == []
    assert campaign.untold() == []
    # The same comparison of the same databases finds each of these.
    for customer in campaign.customers:
        assert sabotaged(campaign, customer) == dict.fromkeys(SABOTAGE, True)


SABOTAGE = {
    "missing": "DELETE FROM usage_events WHERE id = %(id)s",
    "altered": "UPDATE usage_events SET quantity = quantity + 0.000000001 WHERE id = %(id)s",
    "unreceipted": "UPDATE usage_batches SET receipt = receipt || 'x' WHERE (epoch, batch_no) = "
    "(SELECT epoch, batch_no FROM usage_events WHERE id = %(id)s)",
    "sums": "UPDATE usage_aggregates SET quantity = quantity + 1 WHERE ctid = "
    "(SELECT min(ctid) FROM usage_aggregates WHERE tenant_id = %(tenant)s)",
    "chain": "UPDATE usage_batches SET inserted = inserted + 1 WHERE (epoch, batch_no) = "
    "(SELECT epoch, batch_no FROM usage_events WHERE id = %(id)s)",
    # Under another id: as many events as before, one of them twice and one not at all.
    "invented": "UPDATE usage_events SET id = %(other)s WHERE id = %(id)s",
}


def sabotaged(campaign: Campaign, customer: Customer) -> dict[str, bool]:
    """Damage the real ledger in each way, see whether it is found, and take it back."""
    found = {}
    event_id = min(customer.truth.answered & campaign.vendor.billed(customer.name))
    other = event_id[:-1] + ("0" if event_id[-1] != "0" else "1")
    values = {"id": event_id, "other": other, "tenant": customer.name}
    api = campaign.vendor.api
    dsn = api.server.dsn(api.database)
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        for kind, statement in SABOTAGE.items():
            done = connection.execute(statement.encode(), values)
            findings = campaign.examine(customer, connection)
            connection.rollback()
            found[kind] = done.rowcount == 1 and kind in findings.kinds
        assert campaign.examine(customer, connection) == Findings()
    return found


@pytest.mark.unit
@pytest.mark.parametrize("count", [len(STEPS), 300])
def test_a_plan_has_every_step_and_is_the_seeds(count: int) -> None:
    for number in range(50):
        plan = plan_steps(random.Random(number), count)
        assert len(plan) == count
        assert set(plan) == set(STEPS)
        assert plan == plan_steps(random.Random(number), count)


# ---- the comparison itself: of a small world that is right, and of each that is wrong -----------

TENANT = "acme"
INSTANCE = "inst-1"
EPOCH = str(uuid7())
World: TypeAlias = tuple[Truth, LedgerView, dict[str, DiskView], set[tuple[str, int]]]


def events(count: int) -> list[dict[str, Any]]:
    listed = [
        UsageEvent(
            id=str(uuid7()), meter="vision.sms", quantity="2", attributes={"cost": f"0.{n + 1}"}
        )
        for n in range(count)
    ]
    return [event.to_wire() for event in listed]


def row(wire: dict[str, Any], batch_no: int = 1) -> dict[str, Any]:
    event = UsageEvent.model_validate(wire)
    return {
        "id": event.id,
        "occurred_at": moment(event.id),
        "meter": event.meter,
        "family": "vision",
        "quantity": Decimal(event.quantity),
        "cost": Decimal(event.attributes["cost"]),
        "key": None,
        "camera_id": None,
        "hardware_id": None,
        "attributes": event.attributes,
        "content_hash": bytes.fromhex(event.content_hash),
        "epoch": EPOCH,
        "batch_no": batch_no,
    }


def moment(event_id: str) -> datetime:
    return datetime.fromtimestamp(millisecond_of(UUID(event_id)) / 1000, UTC)


def world() -> World:
    """Four events of which three are billed, and one went with a disk."""
    *billed, gone = events(4)
    truth = Truth({event["id"]: event for event in (*billed, gone)})
    truth.answered = set(truth.tried)
    truth.lost = {gone["id"]: "a disk"}
    rows = [row(event) for event in billed]
    aggregates = []
    for grain, at in (
        ("minute", lambda at: at.replace(second=0, microsecond=0)),
        ("hour", lambda at: at.replace(minute=0, second=0, microsecond=0)),
        ("day", lambda at: at.replace(hour=0, minute=0, second=0, microsecond=0)),
    ):
        buckets: dict[datetime, list[dict[str, Any]]] = {}
        for each in rows:
            buckets.setdefault(at(each["occurred_at"]), []).append(each)
        aggregates += [
            {
                "grain": grain,
                "meter": "vision.sms",
                "bucket": bucket,
                "quantity": Decimal(2 * len(held)),
                "events": len(held),
                "cost": sum((each["cost"] for each in held), Decimal(0)),
                "last_quantity": Decimal(2),
                "last_id": held[-1]["id"],
            }
            for bucket, held in buckets.items()
        ]
    batch = {
        "instance_id": INSTANCE,
        "epoch": EPOCH,
        "batch_no": 1,
        "previous_hash": bytes(32),
        "chain_hash": b"1" * 32,
        "inserted": 3,
        "receipt": "receipt-1",
    }
    epoch = {
        "epoch": EPOCH,
        "instance_id": INSTANCE,
        "state": "open",
        "last_batch_no": 1,
        "last_chain_hash": b"1" * 32,
    }
    disk = DiskView(
        {event["id"]: event for event in billed},
        {event["id"] for event in billed},
        {(b"1" * 32).hex(): "receipt-1"},
    )
    ledger = LedgerView(rows, aggregates, [batch], [epoch])
    return truth, ledger, {"disk": disk}, {(EPOCH, 1)}


def lose_from_ledger(made: World) -> World:
    truth, ledger, disks, verified = made
    return truth, replace(ledger, events=ledger.events[1:]), disks, verified


def lose_everywhere(made: World) -> World:
    """As a reporter that throws away what it could not send."""
    truth, ledger, _, verified = made
    return truth, replace(ledger, events=ledger.events[1:]), {}, verified


def bill_twice(made: World) -> World:
    truth, ledger, disks, verified = made
    return truth, replace(ledger, events=[*ledger.events, ledger.events[0]]), disks, verified


def bill_under_a_new_id(made: World) -> World:
    truth, ledger, disks, verified = made
    more = {**ledger.events[0], "id": str(uuid7())}
    return truth, replace(ledger, events=[*ledger.events, more]), disks, verified


def change(name: str, value: object) -> Callable[[World], World]:
    def work(made: World) -> World:
        truth, ledger, disks, verified = made
        changed = [{**ledger.events[0], name: value}, *ledger.events[1:]]
        return truth, replace(ledger, events=changed), disks, verified

    return work


def bill_what_was_lost(made: World) -> World:
    truth, ledger, disks, verified = made
    (gone,) = truth.lost
    return (
        truth,
        replace(ledger, events=[*ledger.events, row(truth.tried[gone])]),
        disks,
        verified,
    )


def bill_what_was_rolled_back(made: World) -> World:
    truth, *rest = made
    first = next(iter(truth.tried))
    truth.answered.discard(first)
    truth.undone.add(first)
    return truth, *rest  # type: ignore[return-value]  # the rest of a world


def change_sum(name: str, value: object) -> Callable[[World], World]:
    def work(made: World) -> World:
        truth, ledger, disks, verified = made
        changed = [{**ledger.aggregates[-1], name: value}, *ledger.aggregates[:-1]]
        return truth, replace(ledger, aggregates=changed), disks, verified

    return work


def forge_receipts(made: World) -> World:
    truth, ledger, disks, _ = made
    return truth, ledger, disks, set()


def keep_waiting(made: World) -> World:
    truth, ledger, disks, verified = made
    return truth, ledger, {"disk": replace(disks["disk"], acknowledged=set())}, verified


def keep_another_receipt(made: World) -> World:
    truth, ledger, disks, verified = made
    receipts = dict.fromkeys(disks["disk"].receipts, "receipt-2")
    return truth, ledger, {"disk": replace(disks["disk"], receipts=receipts)}, verified


def lose_a_batch(made: World) -> World:
    truth, ledger, disks, verified = made
    return truth, replace(ledger, batches=[]), disks, verified


def open_two_epochs(made: World) -> World:
    truth, ledger, disks, verified = made
    second = {**ledger.epochs[0], "epoch": str(uuid7()), "last_batch_no": 1}
    return truth, replace(ledger, epochs=[*ledger.epochs, second]), disks, verified


@pytest.mark.unit
def test_a_ledger_that_is_the_truth_has_no_findings() -> None:
    assert examine(*world()) == Findings()


@pytest.mark.unit
@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lose_from_ledger, "missing"),
        (lose_everywhere, "missing"),
        (bill_twice, "doubled"),
        (bill_under_a_new_id, "invented"),
        (change("quantity", Decimal("2.000000001")), "altered"),
        (change("meter", "vision.api_calls"), "altered"),
        (change("content_hash", bytes(32)), "altered"),
        (change("cost", None), "altered"),
        (change("key", "k"), "altered"),
        (change("occurred_at", datetime(2026, 1, 1, tzinfo=UTC)), "altered"),
        (change("batch_no", 2), "unreceipted"),
        (bill_what_was_lost, "risen"),
        (bill_what_was_rolled_back, "undone"),
        (change_sum("quantity", Decimal(5)), "sums"),
        (change_sum("events", 2), "sums"),
        (change_sum("cost", Decimal(9)), "sums"),
        (change_sum("last_quantity", Decimal(9)), "sums"),
        (change_sum("last_id", str(uuid7())), "sums"),
        (change_sum("grain", "minute"), "sums"),
        (forge_receipts, "unreceipted"),
        (keep_waiting, "disks"),
        (keep_another_receipt, "disks"),
        (lose_a_batch, "chain"),
        (open_two_epochs, "chain"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_each_wrong_is_found(damage: Callable[[World], World], kind: str) -> None:
    assert kind in examine(*damage(world())).kinds


# ---- the account of what may be lost ------------------------------------------------------------


def disk_of(*listed: dict[str, Any], acknowledged: tuple[str, ...] = ()) -> DiskView:
    return DiskView({event["id"]: event for event in listed}, set(acknowledged), {})


@pytest.mark.unit
def test_a_dying_disk_takes_what_is_nowhere_else() -> None:
    sent, cloned, waiting, moving = events(4)
    truth = Truth()
    lost = truth.destroyed(
        "disk",
        disk_of(sent, cloned, waiting, moving, acknowledged=(sent["id"],)),
        elsewhere={cloned["id"]},
        ledger={sent["id"]},
        pending={moving["id"]},
    )
    assert lost == truth.lost.keys() == {waiting["id"], moving["id"]}
    assert truth.perhaps == {moving["id"]}
    assert truth.broken == []


@pytest.mark.unit
def test_what_was_marked_as_acknowledged_is_never_excused() -> None:
    (event,) = events(1)
    truth = Truth()
    marked = disk_of(event, acknowledged=(event["id"],))
    truth.destroyed("disk", marked, elsewhere=set(), ledger=set(), pending=set())
    assert len(truth.broken) == 1
    # Unless the vendor lost it with a restore, and nobody has reported since.
    truth = Truth()
    truth.restored({event["id"]}, set(), on_disks={event["id"]}, pending=set())
    truth.destroyed("disk", marked, elsewhere=set(), ledger=set(), pending=set())
    assert truth.broken == []
    assert truth.lost.keys() == {event["id"]}
    # Once it was sent again, that is no excuse any more.
    truth = Truth()
    truth.restored({event["id"]}, set(), on_disks={event["id"]}, pending=set())
    truth.destroyed("other", disk_of(), elsewhere=set(), ledger={event["id"]}, pending=set())
    truth.destroyed("disk", marked, elsewhere=set(), ledger=set(), pending=set())
    assert len(truth.broken) == 1


@pytest.mark.unit
def test_what_a_backup_brings_back_is_owed_again() -> None:
    first, second = (event["id"] for event in events(2))
    truth = Truth()
    assert truth.restored({first, second}, set(), on_disks={second}, pending=set()) == {first}
    truth.restored(set(), {first}, on_disks=set(), pending=set())
    assert truth.lost == {}


@pytest.mark.unit
def test_a_record_ends_where_its_process_died(tmp_path: Path) -> None:
    first, second = events(2)
    record = tmp_path / "record.jsonl"
    record.write_text(
        f'{{"try": [{{"id": "{first["id"]}"}}]}}\n{{"ok": ["{first["id"]}"]}}\n'
        f'{{"try": [{{"id": "{second["id"]}"}}]}}\n{{"ok": ["{second["id"]}'
    )
    truth = Truth()
    truth.read([record])
    assert truth.answered == {first["id"]}
    assert truth.tried.keys() == {first["id"], second["id"]}
