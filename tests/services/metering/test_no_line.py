"""The reporter of a site without a line: calm, tidy, and nothing is lost."""

from __future__ import annotations

import pytest

from brinkbyte.reporter.cli import summary
from brinkbyte.reporter.run import Result
from brinkbyte.resources import names
from support.metering_ledger import LedgerServer
from support.metering_site import Site, usage_event

from .test_reporter import execute, run, state

pytestmark = pytest.mark.services


@pytest.fixture
def island(site: Site) -> Site:
    """What the operator mounts before any bundle was imported: a key pair, no id, nobody to ask."""
    identity = site.root / "identity"
    for name in (names.BILLING_URL_KEY, names.CREDENTIAL_KEY, names.INSTANCE_ID_KEY):
        (identity / name).unlink()
    (identity / names.AIR_GAP_KEY).write_text("true")
    return site


async def test_a_run_keeps_everything_and_is_no_failure(
    island: Site, ledger_server: LedgerServer
) -> None:
    island.record(usage_event() for _ in range(3))
    outcome = await run(island)
    assert (outcome.result, outcome.reason) == (Result.DONE, "AirGapped")
    assert "no line" in summary(outcome)
    assert ledger_server.calls == []
    shown = await state(island)
    assert shown.backlog == 3
    assert shown.last_error_reason is None
    # Nothing was reported, so nothing says that it was.
    assert shown.last_reported_at is None
    done = island.report("")
    assert done.returncode == 0, done.stderr


async def test_partitions_are_made_all_the_same(island: Site) -> None:
    names_of = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE c.relkind = 'r'"
    )
    before = execute(island, names_of)
    execute(island, f"DROP TABLE {max(name for (name,) in before)}")
    await run(island)
    assert sorted(execute(island, names_of)) == sorted(before)


async def test_the_last_report_says_what_has_no_receipt(island: Site) -> None:
    assert (await run(island, report_final=True)).result is Result.DONE
    island.record([usage_event()])
    outcome = await run(island, report_final=True)
    assert (outcome.result, outcome.reason) == (Result.TEMPORARY, "BacklogRemains")
