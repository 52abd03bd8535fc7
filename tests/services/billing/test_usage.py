"""The ledger: chain, gaps, epochs, receipts, every event once, bad events alone."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from brinkbyte.billing.app import create_app
from brinkbyte.billing.auth import InstanceCaller
from brinkbyte.billing.migrate import API
from brinkbyte.billing.settings import ServerSettings
from brinkbyte.billing.usage.service import ingest
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.batches import NO_HASH, seal
from services.billing.conftest import Billing
from services.billing.site import Site, event_id, key_pair, raw_batch, reason
from support.billing import CUSTOMER, DEFAULT_TERMS, PEPPER


def ledger(billing: Billing) -> Counter[str]:
    return Counter(str(row["id"]) for row in billing.query("SELECT id FROM usage_events"))


def used(billing: Billing, grain: str = "day") -> Decimal:
    rows = billing.query("SELECT quantity FROM usage_aggregates WHERE grain = %s", grain)
    return sum((row["quantity"] for row in rows), Decimal(0))


async def test_batch_goes_in_and_its_receipt_verifies(acme: Site, billing: Billing) -> None:
    assert (await acme.head())["epoch"] is None
    events = [acme.event(key=f"k{n}", attributes={"route": "/a"}) for n in range(100)]
    claims = await acme.report(events, billing.keys)
    assert claims.quarantined == ()
    assert ledger(billing) == Counter(event.id for event in events)
    head = await acme.head()
    assert (head["epoch"], head["batchNo"], head["chainHash"]) == (
        acme.epoch,
        1,
        acme.last_hash,
    )
    row = billing.query("SELECT * FROM usage_events WHERE key = 'k7'")[0]
    assert row["family"] == "vision"
    assert row["attributes"] == {"route": "/a"}
    assert bytes(row["content_hash"]).hex() == events[7].content_hash


async def test_same_batch_again_gets_the_stored_receipt(acme: Site, billing: Billing) -> None:
    batch = acme.seal([acme.event() for _ in range(5)])
    first = await acme.send(batch)
    billing.clock.advance(hours=3)
    second = await acme.send(batch)
    assert first.content == second.content
    assert used(billing) == 5


async def test_two_identical_batches_at_once_count_once(acme: Site, billing: Billing) -> None:
    batch = acme.seal([acme.event() for _ in range(200)])
    answers = await asyncio.gather(*(acme.send(batch) for _ in range(6)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.content for a in answers}) == 1
    assert max(ledger(billing).values()) == 1
    assert used(billing) == 200


async def test_aggregates_by_minute_hour_and_day_are_exact(acme: Site, billing: Billing) -> None:
    events = [acme.event(ahead=-offset * 61, quantity="0.5") for offset in range(300)]
    await acme.report(events, billing.keys)
    for grain, length in (("minute", 16), ("hour", 13), ("day", 10)):
        expected: Counter[str] = Counter()
        for event in events:
            moment = datetime.fromtimestamp(int(event.id.replace("-", "")[:12], 16) / 1000, UTC)
            expected[moment.isoformat()[:length]] += 1
        rows = billing.query(
            "SELECT bucket, quantity, events FROM usage_aggregates WHERE grain = %s", grain
        )
        found = {row["bucket"].isoformat()[:length]: row["events"] for row in rows}
        assert found == dict(expected)
        assert sum(row["quantity"] for row in rows) == 150


async def test_gap_names_what_is_missing(acme: Site) -> None:
    first = acme.seal([acme.event()])
    assert reason(await acme.send(acme.seal([acme.event()], batch_no=4))) == (409, "Gap")
    await acme.send(first)
    answer = await acme.send(acme.seal([acme.event()], batch_no=5))
    assert reason(answer) == (409, "Gap")
    assert answer.json()["missing"] == [2, 4]


async def test_chain_that_does_not_fit_is_refused(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    answer = await acme.send(acme.seal([acme.event()], previous_hash="1" * 64))
    assert reason(answer) == (409, "ChainMismatch")
    fork = acme.seal([acme.event()], batch_no=1, previous_hash=NO_HASH)
    assert reason(await acme.send(fork)) == (409, "ChainMismatch")
    assert billing.query("SELECT clone_alarm_at FROM instances")[0]["clone_alarm_at"]
    assert used(billing) == 1


async def test_new_epoch_closes_the_one_it_follows(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    late = acme.seal([acme.event()])
    before = acme.new_epoch()
    await acme.report([acme.event()], billing.keys, follows=before)
    states = {str(r["epoch"]): r for r in billing.query("SELECT * FROM usage_epochs")}
    assert states[before]["state"] == "closed"
    assert str(states[acme.epoch]["follows"]) == before
    assert (await acme.head())["epoch"] == acme.epoch
    assert reason(await acme.send(late)) == (409, "EpochClosed")
    assert billing.query("SELECT clone_alarm_at FROM instances")[0]["clone_alarm_at"]


async def test_batch_of_a_closed_epoch_that_is_stored_gets_its_receipt(
    acme: Site, billing: Billing
) -> None:
    batch = acme.seal([acme.event()])
    first = await acme.send(batch)
    acme.batch_no, acme.last_hash = 1, batch.header.chain_hash
    before = acme.new_epoch()
    await acme.report([acme.event()], billing.keys, follows=before)
    assert (await acme.send(batch)).content == first.content


async def test_epoch_that_does_not_follow_the_open_one_is_a_conflict(
    acme: Site, billing: Billing
) -> None:
    await acme.report([acme.event()], billing.keys)
    first = acme.epoch
    acme.new_epoch()
    answer = await acme.send(acme.seal([acme.event()], previous_hash=NO_HASH))
    assert reason(answer) == (409, "EpochConflict")
    answer = await acme.send(acme.seal([acme.event()], follows=str(uuid7())))
    assert reason(answer) == (409, "EpochConflict")
    await acme.report([acme.event()], billing.keys, follows=first)
    # A clone that follows the closed one is told, and shown.
    acme.new_epoch()
    answer = await acme.send(acme.seal([acme.event()], follows=first))
    assert reason(answer) == (409, "EpochConflict")
    assert billing.query("SELECT clone_alarm_at FROM instances")[0]["clone_alarm_at"]


async def test_new_epoch_must_continue_the_chain_of_the_old(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    before = acme.new_epoch()
    answer = await acme.send(acme.seal([acme.event()], follows=before, previous_hash="2" * 64))
    assert reason(answer) == (409, "ChainMismatch")
    # A new, empty database knows no hash: zeros are taken.
    await acme.report([acme.event()], billing.keys, follows=before, previous_hash=NO_HASH)


async def test_first_epoch_of_all_starts_with_zeros(acme: Site) -> None:
    answer = await acme.send(acme.seal([acme.event()], previous_hash="3" * 64))
    assert reason(answer) == (409, "ChainMismatch")


async def test_unacknowledged_events_sealed_again_count_once(acme: Site, billing: Billing) -> None:
    events = [acme.event() for _ in range(50)]
    lost = acme.seal(events)
    await acme.send(lost)
    # Its answer was lost with the instance's database: the same events come in a new epoch.
    head = await acme.head()
    before = acme.new_epoch()
    acme.last_hash = head["chainHash"]
    claims = await acme.report([*events, acme.event()], billing.keys, follows=before)
    assert claims.quarantined == ()
    assert max(ledger(billing).values()) == 1
    assert used(billing) == 51


async def test_epoch_follows_that_of_the_instance_before(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    again = Site(billing.http, CUSTOMER, billing.clock, key=key_pair(1))
    await again.enroll(await billing.token())
    again.last_hash = acme.last_hash
    await again.report([again.event()], billing.keys, follows=acme.epoch)
    assert {r["state"] for r in billing.query("SELECT state FROM usage_epochs")} == {
        "open",
        "closed",
    }


async def test_enrolled_again_the_chain_goes_on_from_the_instance_before(
    acme: Site, billing: Billing
) -> None:
    await acme.report([acme.event()], billing.keys)
    again = Site(billing.http, CUSTOMER, billing.clock, key=key_pair(1))
    await again.enroll(await billing.token())
    head = await again.head()
    assert (head["epoch"], head["batchNo"], head["chainHash"]) == (acme.epoch, 1, acme.last_hash)
    for more in ({}, {"follows": str(uuid7())}):
        answer = await again.send(again.seal([again.event()], previous_hash=NO_HASH, **more))
        assert reason(answer) == (409, "EpochConflict")
    again.last_hash = head["chainHash"]
    await again.report([again.event()], billing.keys, follows=head["epoch"])
    states = {str(r["epoch"]): r["state"] for r in billing.query("SELECT * FROM usage_epochs")}
    assert states == {acme.epoch: "closed", again.epoch: "open"}
    assert (await again.head())["epoch"] == again.epoch
    assert not any(
        r["clone_alarm_at"] for r in billing.query("SELECT clone_alarm_at FROM instances")
    )


async def test_epochs_that_older_instances_left_open_close_together(
    acme: Site, billing: Billing
) -> None:
    await acme.report([acme.event()], billing.keys)
    second = Site(billing.http, CUSTOMER, billing.clock, key=key_pair(1))
    await second.enroll(await billing.token())
    second.last_hash = acme.last_hash
    await second.report([second.event()], billing.keys, follows=acme.epoch)
    # As earlier releases left it.
    billing.query("UPDATE usage_epochs SET state = 'open', closed_at = NULL")
    third = Site(billing.http, CUSTOMER, billing.clock, key=key_pair(2))
    await third.enroll(await billing.token())
    head = await third.head()
    assert head["epoch"] == second.epoch
    third.last_hash = head["chainHash"]
    await third.report([third.event()], billing.keys, follows=head["epoch"])
    rows = billing.query("SELECT epoch, state FROM usage_epochs WHERE state = 'open'")
    assert [str(row["epoch"]) for row in rows] == [third.epoch]


async def test_instance_that_ends_while_its_batch_waits_opens_no_epoch(
    acme: Site, billing: Billing
) -> None:
    caller = InstanceCaller(CUSTOMER, acme.instance_id, uuid4(), frozenset({"vision"}))
    batch = acme.seal([acme.event()])
    await acme.call("DELETE", "/api/v1/instance")
    with pytest.raises(ProblemError) as refused:
        await ingest(billing.context, caller, batch.to_wire())
    assert refused.value.reason == "InstanceEnded"
    assert billing.query("SELECT 1 FROM usage_epochs") == []


async def test_two_servers_get_the_same_batch_at_once(acme: Site, billing: Billing) -> None:
    settings = ServerSettings(
        database_url=SecretStr(billing.dsn(API)),
        pepper=SecretStr(PEPPER),
        signing_keys_dir=billing.directory / "keys",
        pool_size=4,
    )
    app = create_app(settings, clock=billing.clock)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://other") as http:
            other = Site(http, CUSTOMER, billing.clock, credential=acme.credential)
            for _ in range(5):
                batch = acme.seal([acme.event() for _ in range(50)])
                sent = [site.send(batch) for site in (acme, other) for _ in range(3)]
                answers = await asyncio.gather(*sent)
                assert {a.status_code for a in answers} == {200}
                assert len({a.content for a in answers}) == 1
                acme.batch_no, acme.last_hash = batch.header.batch_no, batch.header.chain_hash
    assert len(ledger(billing)) == 250
    assert max(ledger(billing).values()) == 1
    assert used(billing) == 250


async def test_first_and_last_millisecond_of_a_month(acme: Site, billing: Billing) -> None:
    today = datetime.fromtimestamp(billing.clock.now, UTC)
    this = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    turn = int(this.timestamp() * 1000)
    events = [acme.event(id=event_id(turn + offset)) for offset in (-1, 0)]
    claims = await acme.report(events, billing.keys)
    assert claims.quarantined == ()
    rows = billing.query(
        "SELECT id::text, tableoid::regclass::text AS part FROM usage_events ORDER BY id"
    )
    last = this - timedelta(days=1)
    assert [(row["id"], row["part"]) for row in rows] == [
        (events[0].id, f"usage_events_{last:%Y%m}"),
        (events[1].id, f"usage_events_{this:%Y%m}"),
    ]
    # The very last id of a month, and the very first of the next.
    edges = [str(UUID(int=(turn << 80) - 1)), str(UUID(int=turn << 80))]
    found = billing.query(
        "SELECT first_uuid7(to_timestamp(%s::numeric / 1000)) AS first, "
        "%s::uuid < first_uuid7(to_timestamp(%s::numeric / 1000)) AS before",
        turn, edges[0], turn,
    )[0]  # fmt: skip
    assert found["before"]
    assert edges[1] <= str(found["first"])


async def test_restored_ledger_takes_the_batches_again(acme: Site, billing: Billing) -> None:
    batches = []
    for _ in range(3):
        batch = acme.seal([acme.event() for _ in range(10)])
        assert (await acme.send(batch)).status_code == 200
        acme.batch_no, acme.last_hash = batch.header.batch_no, batch.header.chain_hash
        batches.append(batch)
    billing.query("DELETE FROM usage_batches WHERE batch_no > 1")
    billing.query("DELETE FROM usage_events WHERE batch_no > 1")
    billing.query("DELETE FROM usage_aggregates")
    billing.query(
        "UPDATE usage_epochs SET last_batch_no = 1, last_chain_hash = decode(%s, 'hex')",
        batches[0].header.chain_hash,
    )
    assert (await acme.head())["batchNo"] == 1
    for batch in batches[1:]:
        assert (await acme.send(batch)).status_code == 200
    assert len(ledger(billing)) == 30


async def test_bad_events_are_set_aside_alone_with_a_reason(acme: Site, billing: Billing) -> None:
    now = billing.clock() * 1000
    good = acme.event()
    cases = {
        "TooFarAhead": acme.event(id=event_id(now + 25 * 3600 * 1000)),
        "TooOld": acme.event(id=event_id(now - 401 * 86_400_000)),
        "UnknownMeter": acme.event(meter="nonsense"),
        "WrongFamily": acme.event(meter="platform.llm_tokens"),
        "MissingCost": acme.event(meter="vision.sms"),
    }
    fine = [
        acme.event(id=event_id(now + 23 * 3600 * 1000)),
        acme.event(id=event_id(now - 399 * 86_400_000)),
        acme.event(meter="vision.sms", attributes={"cost": "0.07"}),
    ]
    claims = await acme.report([good, *cases.values(), *fine], billing.keys)
    assert {q.id: q.reason for q in claims.quarantined} == {
        event.id: expected for expected, event in cases.items()
    }
    assert set(ledger(billing)) == {good.id, *(event.id for event in fine)}
    stored = billing.query("SELECT event_id, reason, event FROM usage_quarantine")
    assert {row["reason"] for row in stored} == set(cases)
    assert billing.query("SELECT cost FROM usage_aggregates WHERE meter = 'vision.sms'")[0][
        "cost"
    ] == Decimal("0.07")


async def test_same_id_with_other_content_is_set_aside(acme: Site, billing: Billing) -> None:
    first = acme.event(quantity="1")
    await acme.report([first], billing.keys)
    forged = acme.event(id=first.id, quantity="2")
    claims = await acme.report([forged, acme.event()], billing.keys)
    assert [(q.id, q.reason) for q in claims.quarantined] == [(first.id, "DuplicateIdOtherContent")]
    assert used(billing) == 2


async def test_signed_nonsense_is_set_aside_event_by_event(acme: Site, billing: Billing) -> None:
    event = acme.event()
    wire = event.to_wire()
    uuid4 = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"

    def changed(**more: Any) -> bytes:
        return json.dumps({**wire, "id": event_id(billing.clock() * 1000), **more}).encode()

    parts = [
        json.dumps(wire).encode(),
        b"null",
        b"[]",
        b'"text"',
        b"1e999",
        b"{}",
        changed(id=uuid4),
        changed(id="x"),
        changed(quantity="-1"),
        changed(quantity="1e3"),
        changed(quantity="1.10"),
        changed(quantity="\u0661"),
        changed(quantity=1),
        changed(quantity="1\n"),
        changed(meter=""),
        changed(key=""),
        changed(key="x" * 201),
        changed(key="a\0b"),
        changed(cameraId="\0"),
        changed(attributes={"a": "\0"}),
        changed(attributes={"a": 1}),
        changed(attributes={"a b": "x"}),
        changed(attributes={f"a{n}": "" for n in range(17)}),
        changed(surplus=1),
    ]
    payload = b"[" + b",".join(parts) + b"]"
    answer = await acme.send(raw_batch(acme, payload, len(parts)))
    assert answer.status_code == 200, answer.text
    assert set(ledger(billing)) == {event.id}
    rows = billing.query("SELECT position, reason FROM usage_quarantine ORDER BY position")
    assert [row["position"] for row in rows] == list(range(1, len(parts)))
    assert {row["reason"] for row in rows} == {"InvalidEvent"}


async def test_count_must_be_the_number_of_events(acme: Site) -> None:
    answer = await acme.send(raw_batch(acme, b"[{},{}]", 1))
    assert reason(answer) == (422, "MalformedBatch")


async def test_changed_payload_is_refused(acme: Site, billing: Billing) -> None:
    batch = acme.seal([acme.event(quantity="1")]).to_wire()
    answer = await acme.send(batch.replace(b'"quantity":"1"', b'"quantity":"0"'))
    assert reason(answer) == (422, "PayloadMismatch")
    answer = await acme.send(batch.replace(b"[", b"[ ", 1))
    assert reason(answer) == (422, "PayloadMismatch")
    assert ledger(billing) == Counter()


async def test_batch_signed_by_a_foreign_key_is_refused(acme: Site) -> None:
    answer = await acme.send(acme.seal([acme.event()], key=key_pair(1)))
    assert reason(answer) == (403, "UnknownInstanceKey")


async def test_batch_of_another_instance_is_refused(acme: Site) -> None:
    answer = await acme.send(acme.seal([acme.event()], instance="inst-other"))
    assert reason(answer) == (403, "WrongInstance")


RANDOM_UUID = "1c4f2f3e-8a4b-4d0f-9d0a-2f7a5b1c9e11"  # version 4: no epoch


@pytest.mark.parametrize("follows", ["x", "", "same", "\ud800", "\0", 1, RANDOM_UUID])
async def test_follows_must_be_another_epoch(acme: Site, follows: Any) -> None:
    payload = acme.seal([acme.event()]).payload
    bad = raw_batch(acme, payload, 1, follows=acme.epoch if follows == "same" else follows)
    assert reason(await acme.send(bad)) == (422, "MalformedBatch")


async def test_only_a_first_batch_follows(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    bad = acme.seal([acme.event()], follows=str(uuid7()))
    assert reason(await acme.send(bad)) == (422, "MalformedBatch")


async def test_too_large_body_is_refused(acme: Site) -> None:
    answer = await acme.send(b'{"events":[' + b" " * (13 * 1024 * 1024))
    assert reason(answer) == (413, "BodyTooLarge")


async def test_two_tenants_with_the_same_ids_do_not_meet(acme: Site, billing: Billing) -> None:
    await billing.customer("other", DEFAULT_TERMS)
    other = await billing.site("other", key=key_pair(1))
    events = [acme.event() for _ in range(3)]
    await acme.report(events, billing.keys)
    claims = await other.report(
        [other.event(id=event.id, quantity="9") for event in events], billing.keys
    )
    assert claims.quarantined == ()
    rows = billing.query("SELECT tenant_id, count(*) AS n FROM usage_events GROUP BY 1 ORDER BY 1")
    assert [(r["tenant_id"], r["n"]) for r in rows] == [("acme", 3), ("other", 3)]


async def test_epoch_of_another_tenant_is_not_there(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    await billing.customer("other", DEFAULT_TERMS)
    other = await billing.site("other", key=key_pair(1))
    other.epoch = acme.epoch
    await other.report([other.event()], billing.keys)
    assert len(billing.query("SELECT 1 FROM usage_epochs")) == 2


async def test_month_beyond_the_prepared_partitions_asks_for_a_migration(
    acme: Site, billing: Billing
) -> None:
    billing.clock.advance(days=800)
    billing.query("UPDATE credentials SET expires_at = '2100-01-01'")
    answer = await acme.send(acme.seal([acme.event()]))
    assert reason(answer) == (503, "LedgerNotPrepared")
    assert answer.headers["retry-after"] == "60"


async def test_busy_ledger_asks_to_wait(acme: Site, billing: Billing) -> None:
    billing.context.ingest_gate.waiting = 64
    answer = await acme.send(acme.seal([acme.event()]))
    assert reason(answer) == (429, "Busy")
    assert int(answer.headers["retry-after"]) > 0
    billing.context.ingest_gate.waiting = 0
    assert (await acme.send(acme.seal([acme.event()]))).status_code == 200


async def test_gauges_are_averaged_by_day_and_repeat_the_last(acme: Site, billing: Billing) -> None:
    midnight = billing.clock.now // 86_400 * 86_400
    billing.query(
        "UPDATE subscriptions SET period_anchor = to_timestamp(%s)", midnight - 3 * 86_400
    )
    billing.clock.offset += midnight + 3600 - billing.clock()
    for days, quantity in ((3, "4"), (3, "2"), (1, "8")):
        event = acme.event(
            ahead=-days * 86_400 + float(quantity) * -1,
            meter="vision.storage_gb",
            quantity=quantity,
        )
        await acme.report([event], billing.keys)
    async with billing.admin() as admin:
        usage, lines = await admin.cost(CUSTOMER)
    # The newest snapshot of a day counts: 2, 2 (missing), 8, 8 (missing).
    assert usage.used["vision.storage_gb"] == 5
    assert {line.line for line in lines} >= {"vision.base_seat"}


async def test_report_of_the_vendors_own_services(billing: Billing) -> None:
    await billing.customer(CUSTOMER, {"plans": {"platform": "standard"}})
    async with billing.admin() as admin:
        credential = await admin.create_operator("platform", ["platform"])
    site = Site(billing.http, CUSTOMER, billing.clock, credential=credential)
    events = [site.event(meter="platform.llm_tokens", quantity="600000") for _ in range(2)]
    foreign = site.event()
    body = {
        "customerId": CUSTOMER,
        "events": [*(event.to_wire() for event in events), {"id": "x"}, foreign.to_wire()],
    }

    async def report() -> httpx.Response:
        return await site.call("POST", "/api/usage/report", json=body)

    first, second = (await report()).json(), (await report()).json()
    assert (first["accepted"], first["duplicates"]) == (2, 0)
    assert (second["accepted"], second["duplicates"]) == (0, 2)
    assert first["quarantined"] == [
        {"id": "event-2", "reason": "InvalidEvent"},
        {"id": foreign.id, "reason": "WrongFamily"},
    ]
    async with billing.admin() as admin:
        _, lines = await admin.cost(CUSTOMER)
    assert {line.line: str(line.amount) for line in lines} == {
        "platform.plan.standard": "99.00",
        "platform.llm_tokens": "2.00",
    }
    body["customerId"] = "nobody"
    assert reason(await report()) == (404, "UnknownCustomer")


async def test_ledger_command_shows_keys_batches_and_receipts(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event(key="k1"), acme.event(meter="nonsense")], billing.keys)
    async with billing.admin() as admin:
        found = await admin.ledger(CUSTOMER)
    assert [event["key"] for event in found["events"]] == ["k1"]
    assert found["batches"][0]["receipt"].count(".") == 2
    assert found["quarantined"][0]["reason"] == "UnknownMeter"


async def test_seal_refuses_more_than_a_thousand(acme: Site, billing: Billing) -> None:
    events = [acme.event() for _ in range(1000)]
    claims = await acme.report(events, billing.keys)
    assert claims.count == 1000
    with pytest.raises(Exception, match="1000"):
        seal(
            [*events, acme.event()],
            acme.key,
            instance="x",
            epoch=str(uuid7()),
            batch_no=1,
            previous_hash=NO_HASH,
        )
