"""Histories nobody would write by hand: kills, restored databases on both sides, new keys.

The reporter and its PostgreSQL are real; the ledger is the strict model, so that it can be restored
from a backup a hundred times a minute.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from brinkbyte.license.keys import SigningKey
from brinkbyte.reporter import delivery
from brinkbyte.reporter.run import Result, run_report
from brinkbyte.store import epochs, receipts, sealing
from support.campaign_plan import soaking
from support.licensing import INSTANCE, vendor
from support.metering_ledger import Ledger, LedgerServer
from support.metering_site import Site, insert, usage_event, vendor_trust
from support.postgres import PostgresServer

pytestmark = pytest.mark.services
MODULES = (delivery, epochs, receipts, sealing)
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


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, the connection is gone."""


class Environment:
    """What outlives a history: one server of each kind, and a second key pair."""

    def __init__(self, postgres: PostgresServer, template: str, ledger: LedgerServer) -> None:
        self.postgres = postgres
        self.template = template
        self.ledger = ledger
        self.keys = [vendor().instance_key, SigningKey.generate()]


@pytest.fixture
def environment(
    postgres_server: PostgresServer,
    migrated_template: str,
    ledger_server: LedgerServer,
) -> Environment:
    made = Environment(postgres_server, migrated_template, ledger_server)
    for key in made.keys:
        ledger_server.keys[key.kid] = key.private_key.public_key()
    return made


class Histories(RuleBasedStateMachine):
    environment: Environment

    def __init__(self) -> None:
        super().__init__()
        env = self.environment
        self.root = Path(tempfile.mkdtemp(prefix="brinkbyte-history-"))
        self.databases: list[str] = []
        self.site = Site(self.root, self._copy(env.template))
        self.site.write_trust(*vendor_trust())
        self.key = 0
        self._write_identity()
        env.ledger.ledger = Ledger(INSTANCE)
        self.site_backup: str | None = None
        self.server_backup: Ledger | None = None
        self.slow: psycopg.Connection[tuple[object, ...]] | None = None
        self.clean = False

    def _copy(self, template: str) -> str:
        name = self.environment.postgres.create_database(template=template)
        self.databases.append(name)
        return self.environment.postgres.dsn(name)

    def _write_identity(self) -> None:
        ledger = self.environment.ledger
        self.site.write_identity(
            url=ledger.url,
            credential=ledger.credential,
            instance=INSTANCE,
            pem=self.environment.keys[self.key].to_pem(),
        )

    @property
    def _name(self) -> str:
        return self.site.dsn.rpartition("/")[2]

    def _report(self, point: str | None) -> Result | None:
        def failpoint(name: str) -> None:
            if name == point:
                raise Killed

        async def no_sleep(_seconds: float) -> None:
            return

        originals = [module.failpoint for module in MODULES]
        for module in MODULES:
            module.failpoint = failpoint
        try:
            outcome = asyncio.run(
                run_report(self.site.settings(), roots=self.site.roots, sleep=no_sleep)
            )
        except Killed:
            return None
        finally:
            for module, original in zip(MODULES, originals, strict=True):
                module.failpoint = original
        assert outcome.result is Result.DONE, (outcome.reason, outcome.message)
        return outcome.result

    @rule(count=st.integers(1, 4))
    def record(self, count: int) -> None:
        self.site.record(usage_event(attributes={"n": str(n)}) for n in range(count))
        self.clean = False

    @precondition(lambda self: self.slow is None)
    @rule()
    def begin_slow_transaction(self) -> None:
        self.slow = psycopg.connect(self.site.dsn)
        insert(self.slow, usage_event(key="slow"))

    @precondition(lambda self: self.slow is not None)
    @rule()
    def commit_slow_transaction(self) -> None:
        assert self.slow is not None
        self.slow.commit()
        self.slow.close()
        self.slow = None
        self.clean = False

    @rule(point=st.sampled_from([None, None, *POINTS]))
    def report(self, point: str | None) -> None:
        self.clean = self._report(point) is Result.DONE

    @rule()
    def exchange_key(self) -> None:
        self.key = 1 - self.key
        self._write_identity()

    @precondition(lambda self: self.slow is None)
    @rule()
    def back_up_site(self) -> None:
        self.site_backup = self._copy(self._name).rpartition("/")[2]

    @precondition(lambda self: self.slow is None and self.site_backup is not None)
    @rule()
    def restore_site(self) -> None:
        assert self.site_backup is not None
        self.site.dsn = self._copy(self.site_backup)
        self.clean = False

    @rule()
    def back_up_server(self) -> None:
        self.server_backup = self.environment.ledger.ledger.backup()

    @precondition(lambda self: self.server_backup is not None)
    @rule()
    def restore_server(self) -> None:
        assert self.server_backup is not None
        self.environment.ledger.ledger = self.server_backup.backup()
        self.clean = False

    @invariant()
    def ledger_holds_the_outbox_after_a_clean_run(self) -> None:
        if not self.clean:
            return
        ledger = self.environment.ledger.ledger
        outbox = self.site.outbox()
        assert self.site.unacknowledged() == 0
        assert outbox.keys() <= ledger.under_receipt
        assert {key: ledger.events[key] for key in outbox} == outbox

    def teardown(self) -> None:
        if self.slow is not None:
            self.slow.rollback()
            self.slow.close()
        self.clean = self._report(None) is Result.DONE
        self.ledger_holds_the_outbox_after_a_clean_run()
        for name in self.databases:
            self.environment.postgres.drop_database(name)
        shutil.rmtree(self.root)


@pytest.mark.soak
def test_any_history_ends_with_the_outbox_in_the_ledger(environment: Environment) -> None:
    Histories.environment = environment
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=200 if soaking() else 15,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
