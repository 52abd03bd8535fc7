"""The reporter, killed -9 at every named point and run again: nothing is lost, nothing doubled."""

from __future__ import annotations

import signal

import psycopg
import pytest

from support.metering_ledger import LedgerServer
from support.metering_site import Site, usage_event

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


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_then_run_again(
    site: Site, ledger_server: LedgerServer, point: str
) -> None:
    site.record(usage_event(attributes={"n": str(n)}) for n in range(7))
    killed = site.report(f"{point}:1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    site.record(usage_event() for _ in range(3))
    again = site.report()
    assert again.returncode == 0, again.stderr
    assert ledger_server.ledger.events == site.outbox()
    assert len(ledger_server.ledger.events) == 10
    assert ledger_server.ledger.doubled == 0
    assert site.unacknowledged() == 0
    with psycopg.connect(site.dsn) as connection:
        numbers = connection.execute(
            "SELECT batch_no FROM usage_batches ORDER BY position"
        ).fetchall()
    assert [row[0] for row in numbers] == list(range(1, len(numbers) + 1))


def test_killed_again_and_again(site: Site, ledger_server: LedgerServer) -> None:
    for point in POINTS:
        site.record(usage_event() for _ in range(2))
        killed = site.report(f"{point}:1")
        assert killed.returncode in {-signal.SIGKILL, 0}, killed.stderr
    assert site.report().returncode == 0
    assert ledger_server.ledger.events == site.outbox()
    assert ledger_server.ledger.doubled == 0
