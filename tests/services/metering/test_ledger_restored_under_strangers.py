"""The ledger is restored to a head that this database does not know: what it lost is sent again.

The head alone does not tell then which of our acknowledged batches are still there.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brinkbyte.reporter.run import Outcome, Result, run_report
from support.metering_ledger import LedgerServer
from support.metering_site import Site, usage_event
from support.postgres import PostgresServer

pytestmark = pytest.mark.services
Copy = Callable[[str], str]


@pytest.fixture
def copy(postgres_server: PostgresServer) -> Iterator[Copy]:
    made: list[str] = []

    def work(dsn: str) -> str:
        made.append(postgres_server.create_database(template=dsn.rpartition("/")[2]))
        return postgres_server.dsn(made[-1])

    yield work
    for name in made:
        postgres_server.drop_database(name)


def report(site: Site) -> Outcome:
    outcome = asyncio.run(run_report(site.settings(), roots=site.roots))
    assert outcome.result is Result.DONE, (outcome.reason, outcome.message)
    return outcome


def record_and_report(site: Site, times: int = 1) -> set[str]:
    ids = set()
    for _ in range(times):
        ids |= {event.id for event in site.record(usage_event() for _ in range(3))}
        report(site)
    return ids


@pytest.mark.parametrize("survived", [-1, 0, 1, 3])
def test_a_database_installed_anew_since_the_backup(
    site: Site, ledger_server: LedgerServer, copy: Copy, survived: int
) -> None:
    empty = copy(site.dsn)
    record_and_report(site)
    backup = ledger_server.ledger.backup()
    record_and_report(site)
    site.dsn = empty
    sent = set()
    for number in range(4):
        if number == survived:
            # Its head is of an epoch that this database knows, unless nothing of it had come.
            backup = ledger_server.ledger.backup()
        sent |= record_and_report(site)
    ledger_server.ledger = backup
    report(site)
    assert site.unacknowledged() == 0
    assert sent <= ledger_server.ledger.events.keys()
    assert sent <= ledger_server.ledger.under_receipt


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_clone_whose_epoch_the_backup_lacks(
    site: Site, ledger_server: LedgerServer, copy: Copy, tmp_path: Path, survived: int
) -> None:
    sent = record_and_report(site)
    shutil.copytree(site.root, tmp_path / "clone")
    clone = Site(tmp_path / "clone", copy(site.dsn))
    sent |= record_and_report(site)
    backup = ledger_server.ledger.backup()
    for number in range(2):
        sent |= record_and_report(clone)
        if number + 1 == survived:
            backup = ledger_server.ledger.backup()
    sent |= record_and_report(site)
    ledger_server.ledger = backup
    # The original comes first: the clone finds a head of which it knows nothing.
    report(site)
    report(clone)
    report(site)
    assert sent <= ledger_server.ledger.events.keys()


def test_two_pasts_of_one_epoch(site: Site, ledger_server: LedgerServer, copy: Copy) -> None:
    """Both sides go back and on; then the newer backup of this side, of the first past, returns."""
    record_and_report(site)
    old, backup = copy(site.dsn), ledger_server.ledger.backup()
    sent = record_and_report(site, 3)
    newer, site.dsn, ledger_server.ledger = site.dsn, old, backup
    sent |= record_and_report(site, 5)  # the same epoch, further than the first past
    site.dsn = newer
    report(site)
    assert sent <= ledger_server.ledger.events.keys()


def test_what_the_ledger_has_is_not_sent_again(
    site: Site, ledger_server: LedgerServer, copy: Copy, tmp_path: Path
) -> None:
    record_and_report(site, 8)
    shutil.copytree(site.root, tmp_path / "clone")
    clone = Site(tmp_path / "clone", copy(site.dsn))
    record_and_report(clone)
    ledger_server.calls.clear()
    assert report(site).progress.sealed == 0
    # One batch asks; none of the others goes over the line.
    assert ledger_server.calls.count("batch") == 1
    assert ledger_server.ledger.doubled == 0
