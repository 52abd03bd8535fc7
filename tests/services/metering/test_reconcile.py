"""Every difference between outbox and ledger is named, and nothing that is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from brinkbyte.client import BillingClient
from brinkbyte.client.retry import RetryPolicy
from brinkbyte.kit.uuid7 import from_parts
from brinkbyte.metering import reconciling as pages
from brinkbyte.reporter.cli import app as usage_cli
from brinkbyte.reporter.reconciling import Kind
from brinkbyte.resources import names
from brinkbyte.store import reconciling as local
from services.metering.carrying import Carried, carriers
from support.billing import BillingApi
from support.metering_site import usage_event
from support.postgres import PostgresServer

from .test_reporter import execute

pytestmark = pytest.mark.services
Reconcile = Callable[..., tuple[int, list[tuple[str, str]], dict[str, Any]]]


@pytest.fixture
def site(
    api: BillingApi, postgres_server: PostgresServer, migrated_template: str, tmp_path: Path
) -> Iterator[Carried]:
    with carriers(api, postgres_server, migrated_template, tmp_path) as make:
        yield make()


@pytest.fixture
def reconcile(site: Carried, monkeypatch: pytest.MonkeyPatch) -> Reconcile:
    def reconcile(*arguments: str) -> tuple[int, list[tuple[str, str]], dict[str, Any]]:
        for name, value in site.site.environment().items():
            if name.startswith("BRINKBYTE_"):
                monkeypatch.setenv(name, value)
        done = CliRunner().invoke(usage_cli, ["reconcile", "-o", "json", *arguments])
        parsed = [json.loads(line) for line in done.stdout.splitlines()]
        if not parsed:
            return done.exit_code, [], {"error": done.stderr}
        return (
            done.exit_code,
            [(line["kind"], line["subject"]) for line in parsed[:-1]],
            parsed[-1],
        )

    return reconcile


def ledger(site: Carried, statement: str, *values: Any) -> None:
    """Change the ledger as only a database administrator of the vendor's could."""
    with psycopg.connect(site.api.server.dsn(site.api.database)) as connection:
        connection.execute(statement.encode(), (*values, site.customer))


def test_equal_is_equal(site: Carried, reconcile: Reconcile) -> None:
    assert reconcile() == (0, [], {"equal": 0, "waiting": 0, "received": 0, "differences": {}})
    site.site.record(
        usage_event(key='ü "\\ \n', camera_id="c", attributes={"b": "1", "a": "\t"})
        for _ in range(5)
    )
    site.record(5)
    assert site.site.report().returncode == 0
    site.record(3)
    assert reconcile() == (0, [], {"equal": 10, "waiting": 3, "received": 0, "differences": {}})


def test_pages_on_both_sides_lose_nothing(
    site: Carried, reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.record(2500)
    assert site.site.report().returncode == 0
    monkeypatch.setattr(local, "PAGE", 100)

    async def small(self: BillingClient, after: str, until: str) -> pages.LedgerEvents:
        response = await self._request(
            "GET", "/api/v1/usage/events", params={"after": after, "until": until, "limit": "333"}
        )
        return pages.LedgerEvents.model_validate_json(response.content)

    monkeypatch.setattr(BillingClient, "ledger_events", small)
    assert reconcile()[2]["equal"] == 2500
    ids = sorted(site.site.outbox())
    # At the edges of pages too.
    gone = [ids[0], ids[332], ids[333], ids[1000], ids[-1]]
    ledger(site, "DELETE FROM usage_events WHERE id = ANY(%s::uuid[]) AND tenant_id = %s", gone)
    code, found, _ = reconcile()
    assert (code, found) == (1, [(Kind.MISSING_AT_VENDOR, one) for one in gone])


def test_every_difference_by_its_name(site: Carried, reconcile: Reconcile) -> None:
    bad = usage_event(meter="vision.nothing")
    site.site.record([*(usage_event() for _ in range(6)), bad])
    assert site.site.report().returncode == 0
    ids = sorted(set(site.site.outbox()) - {bad.id})
    # Missing at the vendor, and its batch too.
    ledger(site, "DELETE FROM usage_events WHERE id = %s AND tenant_id = %s", ids[0])
    # Unknown here.
    execute(site.site, "DELETE FROM usage_events WHERE id = %s", ids[1])
    # Other content, there and here.
    ledger(
        site,
        "UPDATE usage_events SET content_hash = '\\x00' WHERE id = %s AND tenant_id = %s",
        ids[2],
    )
    execute(
        site.site,
        "UPDATE usage_events SET event = replace(event, '\"1\"', '\"7\"') WHERE id = %s",
        ids[3],
    )
    # Changed here before it was sent.
    spoiled = usage_event()
    site.site.record([spoiled])
    execute(site.site, "UPDATE usage_events SET event = '{}' WHERE id = %s", spoiled.id)
    assert site.site.report().returncode == 0
    (epoch,) = execute(site.site, "SELECT epoch::text FROM usage_batches LIMIT 1")[0]
    ledger(site, "DELETE FROM usage_batches WHERE epoch = %s AND tenant_id = %s", epoch)
    code, found, last = reconcile()
    assert code == 1
    assert set(found) == {
        (Kind.MISSING_AT_VENDOR, ids[0]),
        (Kind.UNKNOWN_HERE, ids[1]),
        (Kind.OTHER_CONTENT, ids[2]),
        (Kind.OTHER_CONTENT, ids[3]),
        (Kind.QUARANTINED, bad.id),
        (Kind.UNREADABLE_HERE, spoiled.id),
        (Kind.RECEIPT_WITHOUT_LEDGER, f"{epoch}/1"),
    }
    assert len(found) == 7
    assert (last["equal"], sum(last["differences"].values())) == (2, 7)


def test_a_receipt_on_its_way_is_no_difference(site: Carried, reconcile: Reconcile) -> None:
    site.record(4)
    assert site.site.report("send.answered:1").returncode != 0
    assert reconcile()[2] == {"equal": 0, "waiting": 0, "received": 4, "differences": {}}


def test_events_past_the_span_are_left_out(site: Carried, reconcile: Reconcile) -> None:
    old = usage_event(id=str(from_parts(int((time() - 10 * 86_400) * 1000), 1)))
    site.site.record([old, usage_event()])
    assert site.site.report().returncode == 0
    assert reconcile()[2]["equal"] == 2
    assert reconcile("--days", "9")[2]["equal"] == 1


def test_exit_codes_tell_apart_what_could_not_be_compared(
    site: Carried, reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = CliRunner()
    assert runner.invoke(usage_cli, ["reconcile", "--days", "0"]).exit_code == 2
    assert runner.invoke(usage_cli, ["reconcile", "-o", "xml"]).exit_code == 2
    identity = site.site.root / "identity"
    url = (identity / names.BILLING_URL_KEY).read_text()
    (identity / names.BILLING_URL_KEY).write_text("http://127.0.0.1:1")
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: None)
    assert reconcile()[0] == 75
    (identity / names.BILLING_URL_KEY).write_text(url)
    secret = (identity / names.CREDENTIAL_KEY).read_text()
    (identity / names.CREDENTIAL_KEY).write_text("bbi_wrong")
    code, _, last = reconcile()
    assert (code, "Unauthorized" in last["error"]) == (2, True)
    (identity / names.CREDENTIAL_KEY).write_text(secret)
    (identity / names.AIR_GAP_KEY).write_text("true")
    code, _, last = reconcile()
    assert (code, "AirGapped" in last["error"]) == (2, True)


def test_the_words_for_people_name_the_kind(site: Carried, reconcile: Reconcile) -> None:
    site.site.record([usage_event(meter="vision.nothing")])
    assert site.site.report().returncode == 0
    reconcile()
    done = CliRunner().invoke(usage_cli, ["reconcile"])
    assert done.exit_code == 1
    assert "Quarantined: " in done.stdout
    assert "set aside by the ledger (UnknownMeter)" in done.stdout
    assert "1 differences" in done.stdout
