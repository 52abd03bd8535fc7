"""The usage tracker: what a caller was told is in the outbox, an orderly stop loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from brinkbyte.guards import (
    BillingProviderError,
    Guards,
    TrackerFullError,
    UsageTracker,
    get_usage_tracker,
    guards_in_thread,
    writer,
)
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.metering.events import UsageEvent
from brinkbyte.store import bulk
from brinkbyte.store.outbox import event_text
from services.guards.conftest import FREE, Opened, guard_settings
from support.instance_api import eventually
from support.instance_site import Site
from support.licensing import CUSTOMER, vendor

pytestmark = pytest.mark.services
Query = Callable[..., list[Any]]
CALLS = "vision.api_calls"


def stored(query: Query) -> list[UsageEvent]:
    """The outbox in the order of ids; each row is what sealing wants it to be."""
    events = []
    for row in query(
        "SELECT id::text, event, meter, quantity, camera_id, hardware_id FROM usage_events "
        "ORDER BY id"
    ):
        event = UsageEvent.model_validate_json(row[1])
        assert event_text(event) == row[1]
        assert (event.id, event.meter, Decimal(event.quantity)) == row[:1] + row[2:4]
        assert (event.camera_id, event.hardware_id) == row[4:]
        events.append(event)
    return events


class Line:
    """Breaks the way to the database on purpose."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.down = False
        self.lose_answers = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._copy = bulk.copy_events
        monkeypatch.setattr(writer, "copy_events", self.copy_events)

    async def copy_events(self, *arguments: Any) -> None:
        await self.gate.wait()
        if self.down:
            raise psycopg.OperationalError("the line is down")
        await self._copy(*arguments)
        if self.lose_answers:
            self.lose_answers -= 1
            raise psycopg.OperationalError("the answer is lost")


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(writer, "_FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(writer, "_LONGEST_BACKOFF", 0.02)
    monkeypatch.setattr(writer, "_CLOSING_BACKOFF", 0.01)
    return Line(monkeypatch)


async def track_some(tracker: UsageTracker, count: int) -> None:
    async with tracker:
        for _ in range(count):
            await tracker.track(CALLS)


async def test_an_event_is_committed_once_its_call_returns(guards: Guards, query: Query) -> None:
    facts = {"note": 'ü "quoted" \\ \n\t', "a": ""}
    event_id = await guards.tracker.track(
        "sms",
        2,
        key="k\\1",
        camera_id="c\t\\1",
        hardware_id="hw",
        attributes={**facts, "cost": "0.07"},
    )
    (event,) = stored(query)
    assert event.id == event_id
    assert event == UsageEvent(
        id=event.id,
        meter="vision.sms",
        quantity="2",
        key="k\\1",
        camera_id="c\t\\1",
        hardware_id="hw",
        attributes={**facts, "cost": "0.07"},
    )
    assert guards.tracker.get_stats() | {"tracked": 1, "flushed": 1, "waiting": 0} == (
        guards.tracker.get_stats()
    )


async def test_callers_at_once_share_commits(guards: Guards, query: Query) -> None:
    tracker = guards.tracker
    ids = await asyncio.gather(*(tracker.track_api_call(n) for n in range(1, 1001)))
    events = stored(query)
    assert {event.id for event in events} == set(ids)
    assert sum(int(event.quantity) for event in events) == 500_500
    # Each caller got the id of its own event.
    assert [{event.id: event.quantity for event in events}[str(event_id)] for event_id in ids] == [
        str(n) for n in range(1, 1001)
    ]
    assert tracker.get_stats()["commits"] < 20


async def test_every_kind_of_use_has_its_call(guards: Guards, query: Query) -> None:
    tracker = guards.tracker
    await tracker.track_execution(agent="analyst")
    await tracker.track_tokens(1200, model="small", camera_id="cam-1")
    await tracker.track_api_call(operation="search")
    await tracker.track("platform.llm_tokens", Decimal("2.50"))
    found = [(e.meter, e.quantity, e.attributes) for e in stored(query)]
    assert sorted(found, key=str) == sorted(
        [
            ("vision.agent_executions", "1", {"agent": "analyst"}),
            ("vision.llm_tokens", "1200", {"model": "small"}),
            ("vision.api_calls", "1", {"operation": "search"}),
            ("platform.llm_tokens", "2.5", {}),
        ],
        key=str,
    )


async def test_storage_is_the_sum_of_its_types(guards: Guards, query: Query) -> None:
    tracker = guards.tracker
    await tracker.track_storage(CUSTOMER, 1500, "exports")
    await tracker.track_storage(CUSTOMER, size_mb=0.25, storage_type="models")
    await tracker.track_storage(CUSTOMER, Decimal(1000), "exports")
    events = stored(query)
    assert [event.quantity for event in events] == ["1.5", "1.50025", "1.00025"]
    assert {event.meter for event in events} == {"vision.storage_gb"}
    with pytest.raises(InvalidInputError, match="not other's"):
        await tracker.track_storage("other", 1, "exports")
    for size, kind in ((-1, "a"), (float("nan"), "a"), (1, ""), (1, "a\0"), ("x", "a")):
        with pytest.raises(InvalidInputError):
            await tracker.track_storage(CUSTOMER, size, kind)  # type: ignore[arg-type]
    assert len(stored(query)) == 3


async def test_simultaneous_levels_end_in_their_sum(guards: Guards, query: Query) -> None:
    tracker = guards.tracker
    await asyncio.gather(*(tracker.track_storage(CUSTOMER, 1000, f"t{n}") for n in range(8)))
    assert [event.quantity for event in stored(query)] == [str(n) for n in range(1, 9)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nothing",), None),
        (("sms",), "MissingCost"),
        (("api_calls", -1), "InvalidEvent"),
        (("api_calls", Decimal("NaN")), "InvalidEvent"),
        (("api_calls", "1.5.2"), "InvalidEvent"),
        (("api_calls", 10**15), "InvalidEvent"),
    ],
    ids=["resource", "cost", "negative", "nan", "text", "large"],
)
async def test_what_is_no_event_is_refused_and_the_next_goes_on(
    guards: Guards, query: Query, arguments: tuple[Any, ...], reason: str | None
) -> None:
    with pytest.raises(InvalidInputError if reason else Exception) as caught:
        await guards.tracker.track(*arguments)
    if reason:
        assert caught.value.reason == reason
    await guards.tracker.track(CALLS)
    assert len(stored(query)) == 1


async def test_nothing_is_recorded_while_metering_is_off(
    site: Site, opened: Opened, query: Query
) -> None:
    site.install(**FREE, flags={"usageTracking": False})
    async with opened() as guards:
        assert await guards.tracker.track(CALLS) is None
        assert await guards.tracker.track_storage(CUSTOMER, 5, "exports") is None
        async with guards.new_tracker(buffered=True) as buffering:
            await buffering.track(CALLS)
        assert guards.tracker.get_stats()["untracked"] == 2
        assert buffering.get_stats()["untracked"] == 1
    assert query("SELECT FROM usage_events") == []


async def test_a_lost_answer_is_no_second_event(guards: Guards, query: Query, line: Line) -> None:
    line.lose_answers = 1
    event_id = await guards.tracker.track(CALLS)
    assert [event.id for event in stored(query)] == [event_id]
    async with guards.new_tracker(buffered=True) as tracker:
        line.lose_answers = 2
        await tracker.track(CALLS)
    assert len(stored(query)) == 2


async def test_an_error_reaches_the_callers_whose_events_were_not_written(
    guards: Guards, query: Query, line: Line
) -> None:
    line.down = True
    failed = await asyncio.gather(
        *(guards.tracker.track(CALLS, key=f"down-{n}") for n in range(5)), return_exceptions=True
    )
    assert {type(one) for one in failed} == {BillingProviderError}
    assert guards.tracker.get_stats()["last_error"]
    line.down = False
    await guards.tracker.track(CALLS, key="up")
    assert [event.key for event in stored(query)] == ["up"]
    stats = guards.tracker.get_stats()
    assert (stats["tracked"], stats["flushed"], stats["failed"]) == (6, 1, 5)
    assert stats["last_error"] is None


async def test_an_event_that_the_database_refuses_takes_no_other_along(
    guards: Guards, query: Query, line: Line
) -> None:
    query("ALTER TABLE usage_events ADD CONSTRAINT odd CHECK (camera_id <> 'bad')")
    line.gate.clear()
    calls = [
        asyncio.create_task(guards.tracker.track(CALLS, camera_id="bad" if n == 7 else f"c{n}"))
        for n in range(20)
    ]
    await asyncio.sleep(0)
    line.gate.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, one in enumerate(done) if isinstance(one, BillingProviderError)] == [7]
    assert {event.id for event in stored(query)} == {one for n, one in enumerate(done) if n != 7}


async def test_a_caller_that_stops_waiting_stops_nobody_else(guards: Guards, query: Query) -> None:
    tracker = guards.tracker
    first = asyncio.create_task(tracker.track(CALLS, key="first"))
    second = asyncio.create_task(tracker.track(CALLS, key="second"))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert "second" in {event.key for event in stored(query)}


async def test_months_without_a_partition_get_one(guards: Guards, query: Query) -> None:
    far = 4_000_000_000_000_000_000
    async with guards.new_tracker(clock=lambda: far) as tracker:
        await tracker.track(CALLS)
    assert query("SELECT tableoid::regclass::text FROM usage_events") == [("usage_events_209610",)]


async def test_buffered_events_are_written_in_batches(guards: Guards, query: Query) -> None:
    async with guards.new_tracker(buffered=True, batch_size=10, flush_seconds=60) as tracker:
        for _ in range(9):
            await tracker.track(CALLS)
        assert (tracker.get_stats()["waiting"], stored(query)) == (9, [])
        await tracker.track(CALLS)
        await eventually(lambda: tracker.get_stats()["flushed"] == 10)
        await tracker.track(CALLS)
        await tracker.flush()
        assert len(stored(query)) == 11
        await tracker.flush()  # nothing waits: fine


async def test_buffered_events_wait_no_longer_than_they_may(guards: Guards, query: Query) -> None:
    async with guards.new_tracker(buffered=True, flush_seconds=0.05) as tracker:
        await tracker.track(CALLS)
        await eventually(lambda: tracker.get_stats()["flushed"] == 1)
        await tracker.track(CALLS)
        await eventually(lambda: tracker.get_stats()["flushed"] == 2)
    assert len(stored(query)) == 2


async def test_an_orderly_stop_loses_nothing(guards: Guards, query: Query, line: Line) -> None:
    async with guards.new_tracker(buffered=True, flush_seconds=60) as tracker:
        for number in range(12_345):
            await tracker.track(CALLS, camera_id=f"c{number % 7}")
        # The database comes back while the tracker stops.
        line.down = True
        asyncio.get_running_loop().call_later(0.2, setattr, line, "down", False)
    stats = tracker.get_stats()
    assert (stats["tracked"], stats["flushed"], stats["waiting"]) == (12_345, 12_345, 0)
    assert len(stored(query)) == 12_345


async def test_what_a_stop_cannot_write_is_said(guards: Guards, query: Query, line: Line) -> None:
    line.down = True
    tracker = guards.new_tracker(buffered=True, close_seconds=0.05)
    with pytest.raises(BillingProviderError, match="3 usage events could not be written") as caught:
        await track_some(tracker, 3)
    assert caught.value.reason == "EventsNotWritten"
    with pytest.raises(BillingProviderError, match="not open"):
        await tracker.track(CALLS)
    await tracker.aclose()


async def test_a_failed_flush_keeps_its_events(guards: Guards, query: Query, line: Line) -> None:
    async with guards.new_tracker(buffered=True, flush_seconds=60) as tracker:
        await tracker.track(CALLS, key="kept")
        line.down = True
        with pytest.raises(BillingProviderError):
            await tracker.flush()
        assert tracker.get_stats()["waiting"] == 1
        line.down = False
        await eventually(lambda: tracker.get_stats()["flushed"] == 1)
    assert [event.key for event in stored(query)] == ["kept"]


async def test_memory_is_bounded_and_says_so(guards: Guards, query: Query, line: Line) -> None:
    line.down = True
    async with guards.new_tracker(buffered=True, batch_size=10, max_events=50) as tracker:
        for _ in range(50):
            await tracker.track(CALLS)
        with pytest.raises(TrackerFullError, match="50 usage events wait"):
            await tracker.track(CALLS)
        line.down = False
        # With a database that answers, a caller waits for room instead.
        await eventually(lambda: tracker.get_stats()["last_error"] is None)
        for _ in range(200):
            await tracker.track(CALLS)
            assert tracker.get_stats()["waiting"] <= 50
    assert len(stored(query)) == 250


@pytest.mark.parametrize(
    "over",
    [{"batch_size": 0}, {"flush_seconds": 0}, {"batch_size": 10, "max_events": 9}],
    ids=["batch", "seconds", "events"],
)
async def test_settings_that_cannot_work_are_refused(guards: Guards, over: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        guards.new_tracker(buffered=True, **over)


async def test_the_services_own_tracker_is_as_its_settings_say(
    site: Site, opened: Opened, query: Query
) -> None:
    site.install(**FREE)
    async with opened(tracker_buffered=True, meter_family="platform") as guards:
        assert await get_usage_tracker() is guards.tracker
        await guards.tracker.track("llm_tokens", 3)
        assert stored(query) == []
    assert [event.meter for event in stored(query)] == ["platform.llm_tokens"]


def test_a_program_without_a_loop_tracks_through_the_guards(site: Site, query: Query) -> None:
    site.install(**FREE)
    with guards_in_thread(guard_settings(site), roots=vendor().roots) as guards:
        tracker = guards.tracker
        guards.wait_for(tracker.track(CALLS))

        async def elsewhere() -> None:
            await asyncio.gather(*(tracker.track(CALLS) for _ in range(10)))
            await tracker.track_storage(CUSTOMER, 1, "exports")
            await tracker.flush()

        # A loop of its own, beside the one that has the connections.
        asyncio.run(elsewhere())
        assert len(stored(query)) == 12


KILLED = """
import asyncio, os, sys
from brinkbyte.catalog import load_catalog
from brinkbyte.guards import UsageTracker
from brinkbyte.kit.pools import postgres_pool

async def main():
    async with postgres_pool(os.environ["DSN"]) as pool:
        async with UsageTracker(pool, load_catalog(), customer_id="acme", family="vision",
                                tracking=lambda: True) as tracker:
            async def caller(name):
                number = 0
                while True:
                    key = f"{name}-{number}"
                    await tracker.track("vision.api_calls", key=key)
                    os.write(1, f"{key}\\n".encode())
                    number += 1
            await asyncio.gather(*(caller(name) for name in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("point", ["tracker.before_commit:15", "tracker.committed:15"])
def test_killed_whoever_was_told_has_its_event(database: str, query: Query, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "DSN": database, "BRINKBYTE_FAILPOINT": point,
             "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = done.stdout.split()
    keys = [json.loads(row[0])["key"] for row in query("SELECT event FROM usage_events")]
    assert len(told) > 20
    assert set(told) <= set(keys)
    assert len(keys) == len(set(keys))
    # Nobody has more than one event under way.
    assert len(keys) - len(told) <= 20


async def test_the_database_gone_for_a_moment_costs_a_durable_caller_nothing(
    guards: Guards, query: Query
) -> None:
    await guards.tracker.track(CALLS)
    query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'brinkbyte-%%'"
    )
    await guards.tracker.track(CALLS)
    assert len(stored(query)) == 2


@pytest.fixture
def stuck(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Keeps everybody from writing events until it rolls back."""
    with psycopg.connect(database) as connection:
        connection.execute("LOCK TABLE usage_events IN ACCESS EXCLUSIVE MODE")
        yield connection


async def test_a_database_that_hangs_is_given_up_in_time(
    guards: Guards,
    query: Query,
    line: Line,
    stuck: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "_WRITE_SECONDS", 0.2)
    with pytest.raises(BillingProviderError) as caught:
        await guards.tracker.track(CALLS)
    assert caught.value.reason == "DatabaseUnavailable"
    stuck.rollback()
    await guards.tracker.track(CALLS)
    assert len(stored(query)) == 1


async def test_a_stop_waits_for_a_hanging_database_no_longer_than_it_may(
    guards: Guards, query: Query, stuck: psycopg.Connection[Any]
) -> None:
    tracker = guards.new_tracker(buffered=True, close_seconds=0.2)
    with pytest.raises(BillingProviderError) as caught:
        await track_some(tracker, 3)
    assert caught.value.details == {"events": 3}
    stuck.rollback()
    await guards.tracker.track(CALLS)
    # Nothing of what was given up came in behind our back.
    assert len(stored(query)) == 1


def test_the_documented_shape_of_the_older_library_stays() -> None:
    names = UsageTracker.track_storage.__code__.co_varnames[:4]
    assert names == ("self", "tenant_id", "size_mb", "storage_type")
