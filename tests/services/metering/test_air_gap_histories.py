"""Whatever is carried in whatever order, with databases restored in between: each event once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brinkbyte.store import sealing
from services.metering.carrying import Carried, carriers
from support.billing import BillingApi
from support.campaign_plan import soaking
from support.postgres import PostgresServer

from .test_reporter import execute

pytestmark = pytest.mark.services
New = Callable[[], Carried]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(1, 4)),
        st.tuples(st.just("export"), st.just(0)),
        st.tuples(st.just("vendor"), st.integers(0, 5)),
        st.tuples(st.just("receipts"), st.integers(0, 5)),
        st.tuples(st.just("backup"), st.just(0)),
        st.tuples(st.just("restore"), st.just(0)),
    ),
    min_size=4,
    max_size=14,
)
ROUNDS = 4


@pytest.fixture
def new(
    api: BillingApi,
    postgres_server: PostgresServer,
    migrated_template: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[New]:
    monkeypatch.setattr(sealing, "MAX_EVENTS", 2)
    with carriers(api, postgres_server, migrated_template, tmp_path) as make:
        yield make


class History:
    """One site's life."""

    def __init__(self, carried: Carried, server: PostgresServer) -> None:
        self._carried = carried
        self._server = server
        self._usage: list[Path] = []
        self._receipts: list[Path] = []
        self._backup: str | None = None
        self._made: list[str] = []

    def step(self, name: str, number: int) -> None:
        carried = self._carried
        if name == "record":
            carried.record(number)
        elif name == "export":
            self._usage.append(carried.site.root / f"usage-{len(self._usage)}")
            carried.export(self._usage[-1])
        elif name == "vendor" and self._usage:
            # An old file as likely as the newest one.
            file = self._usage[-1 - number % len(self._usage)]
            self._receipts.append(carried.site.root / f"receipts-{len(self._receipts)}")
            carried.vendor_import(file, self._receipts[-1])
        elif name == "receipts" and self._receipts:
            carried.import_receipts(self._receipts[-1 - number % len(self._receipts)])
        elif name == "backup":
            self._backup = self._copy(execute(carried.site, "SELECT current_database()")[0][0])
        elif name == "restore" and self._backup is not None:
            carried.site.dsn = self._server.dsn(self._copy(self._backup))

    def settle(self) -> None:
        """Carry until nothing is left: everything is in the ledger, and once."""
        for _ in range(ROUNDS):
            self.step("export", 0)
            self.step("vendor", 0)
            self.step("receipts", 0)
            if not self._carried.site.unacknowledged():
                break
        ids = self._carried.ids()
        assert len(ids) == len(set(ids))
        assert self._carried.site.unacknowledged() == 0
        assert set(self._carried.site.outbox()) <= set(ids)
        # And it goes on without another epoch.
        epochs = len(execute(self._carried.site, "SELECT FROM usage_epochs"))
        self.step("record", 1)
        self.step("export", 0)
        self.step("vendor", 0)
        self.step("receipts", 0)
        assert self._carried.site.unacknowledged() == 0
        assert len(execute(self._carried.site, "SELECT FROM usage_epochs")) == epochs

    def close(self) -> None:
        for name in self._made:
            self._server.drop_database(name)

    def _copy(self, name: str) -> str:
        self._made.append(self._server.create_database(template=name))
        return self._made[-1]


def live(new: New, server: PostgresServer, steps: list[tuple[str, int]]) -> None:
    history = History(new(), server)
    try:
        for name, number in steps:
            history.step(name, number)
        history.settle()
    finally:
        history.close()


def test_a_restored_site_with_old_files_about_settles(
    new: New, postgres_server: PostgresServer
) -> None:
    live(
        new,
        postgres_server,
        [
            ("record", 3), ("export", 0), ("backup", 0), ("vendor", 0), ("receipts", 0),
            ("record", 4), ("export", 0), ("vendor", 0), ("restore", 0), ("record", 2),
            ("export", 0), ("vendor", 0), ("receipts", 1), ("receipts", 2), ("receipts", 0),
            ("vendor", 2), ("receipts", 0),
        ],
    )  # fmt: skip


def test_an_empty_site_learns_of_its_chain_before_it_has_anything_to_say(
    new: New, postgres_server: PostgresServer
) -> None:
    steps = [("backup", 0), ("record", 1), ("export", 0), ("vendor", 0), ("restore", 0)]
    live(new, postgres_server, steps)


@pytest.mark.soak
@settings(
    max_examples=60 if soaking() else 5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(STEPS)
def test_any_history_of_files_ends_with_each_event_once(
    new: New, postgres_server: PostgresServer, steps: list[tuple[str, int]]
) -> None:
    live(new, postgres_server, steps)
