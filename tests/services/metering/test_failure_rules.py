"""Rules of metering that no other file here is named after: time passes, and nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from brinkbyte.client.retry import RetryPolicy
from brinkbyte.kit.uuid7 import from_parts
from brinkbyte.reporter.run import Result
from brinkbyte.resources import names
from support.metering_ledger import LedgerServer
from support.metering_site import Site, usage_event
from support.processes import free_port

from .test_reporter import Clock, execute, run

pytestmark = pytest.mark.services
DAY = 86_400


@pytest.fixture(autouse=True)
def one_try_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client waits between its own tries is tested with the client."""
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: None)


def of_days_ago(days: float, tail: int) -> str:
    return str(from_parts(int((time.time() - days * DAY) * 1000), tail))


def cut_off(site: Site) -> Path:
    """Take the line away."""
    url = site.root / "identity" / names.BILLING_URL_KEY
    url.write_text(f"http://127.0.0.1:{free_port()}")
    return url


async def test_forty_days_offline_lose_nothing(site: Site, ledger_server: LedgerServer) -> None:
    url = cut_off(site)
    for ago in range(40, 0, -1):
        site.record(usage_event(id=of_days_ago(ago, number)) for number in range(5))
        if ago % 10 == 0:
            # The reporter goes on trying, and tidies up after each attempt.
            assert (await run(site, Clock())).reason == "BillingUnreachable"
    assert site.unacknowledged() == 200
    url.write_text(ledger_server.url)
    assert (await run(site)).result is Result.DONE
    assert ledger_server.ledger.events == site.outbox()
    assert ledger_server.ledger.doubled == 0
    assert site.unacknowledged() == 0


async def test_nothing_unacknowledged_is_purged_whatever_its_age(
    site: Site, ledger_server: LedgerServer
) -> None:
    # Sealed and sent, without an answer; and recorded, and never sealed: both a year ago.
    site.record(usage_event(id=of_days_ago(365, number)) for number in range(3))
    ledger_server.script = [(200, ledger_server.ledger.head(), {}), (503, {}, {})]
    assert (await run(site)).reason == "BillingUnavailable"
    execute(site, "UPDATE usage_batches SET sealed_at = now() - interval '365 days'")
    site.record(usage_event(id=of_days_ago(364, number)) for number in range(3))
    url = cut_off(site)
    for _ in range(3):
        await run(site, Clock())
    assert execute(site, "SELECT count(*) FROM usage_batches") == [(1,)]
    assert len(site.outbox()) == 6
    url.write_text(ledger_server.url)
    ledger_server.script = []
    assert (await run(site)).result is Result.DONE
    assert set(ledger_server.ledger.events) == set(site.outbox())


async def test_between_attempts_the_wait_doubles_up_to_its_end(
    site: Site, ledger_server: LedgerServer
) -> None:
    site.record([usage_event()])
    cut_off(site)
    clock = Clock()
    await run(site, clock, report_attempts=9, report_deadline_seconds=600)
    expected = (1, 2, 4, 8, 16, 30, 30, 30)
    assert len(clock.slept) == len(expected)
    for seconds, wanted in zip(clock.slept, expected, strict=True):
        assert 0.75 * wanted <= seconds <= 1.25 * wanted
