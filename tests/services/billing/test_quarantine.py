"""What is set aside is released once its cause is gone, and counts once; what the ledger keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from brinkbyte.billing.migrate import LEDGER_KEPT, OWNER, drop_old_ledger
from brinkbyte.billing.usage import quarantine
from brinkbyte.billing.usage.events import judge as original
from brinkbyte.billing.usage.quarantine import Released
from brinkbyte.catalog import Catalog
from services.billing.conftest import Billing
from services.billing.site import Site, event_id, raw_batch, reason
from support.billing import CUSTOMER

METER = "vision.new_meter"


def with_meter(catalog: Catalog) -> Catalog:
    """Return the catalog of a release that knows one more meter."""
    meters = {**catalog.meters, METER: catalog.meters["vision.api_calls"]}
    return catalog.model_copy(update={"meters": meters})


async def release(billing: Billing, catalog: Catalog | None = None, page: int = 500) -> Released:
    async with billing.admin() as admin:
        return await quarantine.release(
            admin.database, catalog or with_meter(admin.catalog), CUSTOMER,
            actor="tests", clock=billing.clock, page=page,
        )  # fmt: skip


def days(billing: Billing) -> dict[str, tuple[int, int]]:
    rows = billing.query(
        "SELECT meter, sum(quantity)::int AS q, sum(events)::int AS n FROM usage_aggregates "
        "WHERE grain = 'day' GROUP BY meter"
    )
    return {row["meter"]: (row["q"], row["n"]) for row in rows}


async def test_known_meter_is_released_once_and_the_rest_stays(
    acme: Site, billing: Billing
) -> None:
    now = billing.clock() * 1000
    waiting = [acme.event(meter=METER, quantity="2") for _ in range(5)]
    ahead = acme.event(meter=METER, id=event_id(now + 25 * 3_600_000))
    await acme.report(
        [*waiting, ahead, acme.event(meter="vision.nonsense"), acme.event()], billing.keys
    )
    # A day later the one that was too far ahead no longer is: its arrival is what counts.
    billing.clock.advance(hours=20)
    found = await release(billing, page=2)
    assert (found.released, found.known) == (5, 0)
    assert dict(found.kept) == {"TooFarAhead": 1, "UnknownMeter": 1}
    assert days(billing) == {METER: (10, 5), "vision.api_calls": (1, 1)}
    again = await release(billing)
    assert (again.released, again.known) == (0, 0)
    assert days(billing)[METER] == (10, 5)
    rows = billing.query("SELECT * FROM usage_events WHERE meter = %s", METER)
    first = billing.query("SELECT received_at FROM usage_batches")[0]["received_at"]
    assert {(row["batch_no"], str(row["epoch"]), row["received_at"]) for row in rows} == {
        (1, acme.epoch, first)
    }
    audited = billing.query(
        "SELECT sum((details->>'released')::int) AS n, min(actor) AS actor FROM audit_log "
        "WHERE action = 'quarantine.released'"
    )[0]
    assert (audited["n"], audited["actor"]) == (5, "tests")


async def test_releases_at_once_count_once(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event(meter=METER) for _ in range(40)], billing.keys)
    found = await asyncio.gather(*(release(billing, page=7) for _ in range(3)))
    assert sum(each.released for each in found) == 40
    assert days(billing) == {METER: (40, 40)}


async def test_family_that_is_allowed_now_is_released(acme: Site, billing: Billing) -> None:
    events = [acme.event(meter="platform.llm_tokens", quantity="3") for _ in range(2)]
    await acme.report(events, billing.keys)
    assert dict((await release(billing)).kept) == {"WrongFamily": 2}
    billing.query("UPDATE credentials SET families = families || '{platform}'::text[]")
    assert (await release(billing)).released == 2
    assert days(billing) == {"platform.llm_tokens": (6, 2)}


async def test_same_id_with_other_content_stays_with_that_reason(
    acme: Site, billing: Billing
) -> None:
    first = acme.event(meter=METER, quantity="1")
    await acme.report([first, acme.event(id=first.id, meter=METER, quantity="2")][:1], billing.keys)
    await acme.report([acme.event(id=first.id, meter=METER, quantity="2")], billing.keys)
    found = await release(billing)
    assert (found.released, dict(found.kept)) == (1, {"DuplicateIdOtherContent": 1})
    row = billing.query("SELECT reason FROM usage_quarantine WHERE released_at IS NULL")
    assert [r["reason"] for r in row] == ["DuplicateIdOtherContent"]
    assert days(billing) == {METER: (1, 1)}


async def test_released_event_that_is_sent_again_does_not_count_again(
    acme: Site, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = acme.event(meter=METER)
    await acme.report([event], billing.keys)
    assert (await release(billing)).released == 1
    monkeypatch.setattr(
        "brinkbyte.billing.usage.service.judge",
        lambda arrival, catalog, families, now: original(
            arrival, with_meter(catalog), families, now
        ),
    )
    await acme.report([event, acme.event()], billing.keys)
    assert days(billing)[METER] == (1, 1)


async def test_bad_events_that_come_again_are_set_aside_once(acme: Site, billing: Billing) -> None:
    bad = acme.event(meter=METER)
    for _ in range(3):
        claims = await acme.report([bad, acme.event()], billing.keys)
        assert [q.id for q in claims.quarantined] == [bad.id]
    assert len(billing.query("SELECT 1 FROM usage_quarantine")) == 1
    async with billing.admin() as admin:
        credential = await admin.create_operator("own", ["platform"])
    own = Site(billing.http, CUSTOMER, billing.clock, credential=credential)
    body = {"customerId": CUSTOMER, "events": [acme.event(meter="platform.nonsense").to_wire()]}
    answers = [(await own.call("POST", "/api/usage/report", json=body)).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(billing.query("SELECT 1 FROM usage_quarantine")) == 2


async def test_administration_lists_and_releases(
    acme: Site, billing: Billing, vendor: httpx.AsyncClient, run: Any
) -> None:
    payload = b'[{"id":"x\xc3\xa9"},null,' + json.dumps(acme.event(meter="no").to_wire()).encode()
    await acme.send(raw_batch(acme, payload + b"]", 3))
    path = f"/api/v1/admin/customers/{CUSTOMER}/quarantine"
    first = (await vendor.get(path, params={"limit": 2})).json()
    assert first["waiting"] == {"InvalidEvent": 2, "UnknownMeter": 1}
    assert [event["event"] for event in first["events"]] == ['{"id":"xé"}', "null"]
    rest = (await vendor.get(path, params={"after": first["next"]})).json()
    assert ([event["reason"] for event in rest["events"]], rest["next"]) == (["UnknownMeter"], None)
    answer = await vendor.post(f"{path}/release")
    assert answer.json() == {
        "released": 0, "known": 0, "kept": {"InvalidEvent": 2, "UnknownMeter": 1},
    }  # fmt: skip
    nobody = "/api/v1/admin/customers/nobody/quarantine"
    assert reason(await vendor.get(nobody)) == (404, "UnknownCustomer")
    assert reason(await vendor.post(f"{nobody}/release")) == (404, "UnknownCustomer")
    listed = await asyncio.to_thread(
        run, "admin", "quarantine", "list", "--customer", CUSTOMER, "-o", "json"
    )
    assert [row["reason"] for row in json.loads(listed)] == [
        "InvalidEvent", "InvalidEvent", "UnknownMeter",
    ]  # fmt: skip
    said = await asyncio.to_thread(run, "admin", "quarantine", "release", "--customer", CUSTOMER)
    assert "0 released" in said


# What the ledger keeps.

OLD = datetime.now(UTC) - LEDGER_KEPT - timedelta(days=70)


@contextmanager
def owner(billing: Billing) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(billing.server.dsn(billing.database), autocommit=True) as connection:
        connection.execute(f"SET ROLE {OWNER}")
        connection.execute("SELECT ensure_usage_partitions(%s, %s)", [OLD, OLD])
        yield connection


def drop(billing: Billing) -> list[str]:
    with owner(billing) as connection:
        return drop_old_ledger(connection, datetime.now(UTC))


async def test_old_months_are_dropped_and_their_aggregates_stay(
    acme: Site, billing: Billing
) -> None:
    await acme.report([acme.event()], billing.keys)
    with owner(billing):
        pass
    billing.query(
        "INSERT INTO usage_events SELECT tenant_id, first_uuid7(%s), %s, meter, family, quantity, "
        "cost, key, camera_id, hardware_id, attributes, content_hash, instance_id, epoch, batch_no,"
        " received_at FROM usage_events", OLD, OLD,
    )  # fmt: skip
    aggregates = billing.query("SELECT * FROM usage_aggregates ORDER BY grain")
    assert drop(billing) == [f"usage_events_{OLD:%Y%m}"]
    assert len(billing.query("SELECT 1 FROM usage_events")) == 1
    assert billing.query("SELECT * FROM usage_aggregates ORDER BY grain") == aggregates
    assert drop(billing) == [f"usage_events_{OLD:%Y%m}"]  # made anew by the test
    forced = billing.query(
        "SELECT relname FROM pg_class WHERE relname IN ('usage_holds', 'usage_quarantine', "
        "'invoices') AND relforcerowsecurity"
    )
    assert len(forced) == 3


async def test_month_in_dispute_is_kept_until_the_hold_is_closed(
    acme: Site, billing: Billing, run: Any
) -> None:
    async def admin(*arguments: str, **more: Any) -> str:
        return str(await asyncio.to_thread(run, "admin", "ledger-hold", *arguments, **more))

    async def held(customer: str, since: datetime, **more: Any) -> str:
        day = f"{since:%Y-%m-%d}"
        named = ("--customer", customer, "--since", day, "--reason", "invoice 7")
        return await admin("open", *named, **more)

    month = f"usage_events_{OLD:%Y%m}"
    await held(CUSTOMER, OLD + timedelta(days=400))
    assert drop(billing) == [month]
    await held(CUSTOMER, OLD)
    assert drop(billing) == []
    assert "2 closed" in await admin("close", "--customer", CUSTOMER)
    assert drop(billing) == [month]
    assert "no customer" in await held("nobody", OLD, fails=True)


async def test_month_of_an_event_that_waits_for_its_release_is_kept(
    acme: Site, billing: Billing
) -> None:
    # It came in time, and has waited since.
    waiting = acme.event(meter=METER, id=event_id(OLD.timestamp() * 1000))
    billing.clock.offset -= 75 * 86_400
    await acme.report([waiting], billing.keys)
    billing.clock.offset = 0.0
    assert drop(billing) == []
    assert (await release(billing)).released == 1
    assert days(billing) == {METER: (1, 1)}
    assert drop(billing) == [f"usage_events_{OLD:%Y%m}"]
    assert days(billing) == {METER: (1, 1)}


async def test_event_whose_month_is_gone_stays_set_aside(acme: Site, billing: Billing) -> None:
    waiting = acme.event(meter=METER, id=event_id(OLD.timestamp() * 1000))
    billing.clock.offset -= 75 * 86_400
    await acme.report([waiting], billing.keys)
    billing.clock.offset = 0.0
    assert dict((await release(billing)).kept) == {"TooOld": 1}
    assert days(billing) == {}


async def test_a_writer_never_waits_long_for_retention(acme: Site, billing: Billing) -> None:
    with owner(billing):
        pass
    with psycopg.connect(billing.server.dsn(billing.database)) as other:
        other.execute("SELECT 1 FROM usage_events")
        assert await asyncio.to_thread(drop_unless_busy, billing) == []
    assert drop(billing) == [f"usage_events_{OLD:%Y%m}"]


def drop_unless_busy(billing: Billing) -> list[str]:
    with psycopg.connect(billing.server.dsn(billing.database), autocommit=True) as connection:
        connection.execute(f"SET ROLE {OWNER}")
        return drop_old_ledger(connection, datetime.now(UTC))
