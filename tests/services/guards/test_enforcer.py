"""Check and record: atomic, durable, both or neither."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from brinkbyte.guards import BillingProviderError, Guards
from brinkbyte.guards.answers import Answer
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.license.modes import UPGRADE_URL
from services.guards.conftest import FREE, SEATS, TOKENS, Opened
from support.instance_api import eventually
from support.instance_site import Site
from support.licensing import vendor

pytestmark = pytest.mark.services
Query = Callable[..., list[Any]]
CALLERS = 50


def events(query: Query, meter: str) -> list[tuple[str, Decimal]]:
    return query("SELECT id::text, quantity FROM usage_events WHERE meter = %s ORDER BY id", meter)


def used(query: Query, meter: str) -> Decimal:
    rows = query("SELECT used FROM entitlement_counters WHERE meter = %s", meter)
    return Decimal(rows[0][0]) if rows else Decimal(0)


async def test_what_is_allowed_is_counted_and_recorded(guards: Guards, query: Query) -> None:
    answer = await guards.enforcer.check_and_record(
        TOKENS, 4, camera_id="cam-1", attributes={"model": "small"}
    )
    assert (answer.allowed, answer.used, answer.limit, answer.remaining) == (True, 4, 10, 6)
    assert answer.warning is False
    ((event_id, quantity),) = events(query, TOKENS)
    assert (event_id, quantity) == (answer.event_id, 4)
    ((text,),) = query("SELECT event FROM usage_events")
    assert json.loads(text) == {
        "id": event_id,
        "meter": TOKENS,
        "quantity": "4",
        "cameraId": "cam-1",
        "attributes": {"model": "small"},
    }


async def test_a_soft_limit_warns_then_refuses(guards: Guards, query: Query) -> None:
    enforcer = guards.enforcer
    assert not (await enforcer.check_and_record(TOKENS, 9)).warning
    at_limit = await enforcer.check_and_record(TOKENS, 1)
    assert (at_limit.allowed, at_limit.warning, at_limit.remaining) == (True, True, 0)
    assert (await enforcer.check_and_record(TOKENS, 2)).allowed
    refused = await enforcer.check_and_record(TOKENS, 1)
    assert (refused.allowed, refused.status, refused.event_id) == (False, 429, None)
    assert (refused.used, refused.limit, refused.remaining) == (12, 10, 0)
    for part in (TOKENS, "12 of 10", UPGRADE_URL):
        assert part in refused.message
    assert sum(quantity for _, quantity in events(query, TOKENS)) == used(query, TOKENS) == 12


async def test_a_soft_limit_refuses_after_a_week_beyond_it(
    site: Site, guards: Guards, query: Query
) -> None:
    enforcer = guards.enforcer
    await enforcer.check_and_record(TOKENS, 10)
    query("UPDATE entitlement_counters SET over_since = now() - interval '8 days'")
    # Not over yet: what was noted of an earlier time over does not count.
    assert (await enforcer.check_and_record(TOKENS, 1)).allowed
    query("UPDATE entitlement_counters SET over_since = over_since - interval '6 days'")
    assert (await enforcer.check(TOKENS)).allowed
    query("UPDATE entitlement_counters SET over_since = over_since - interval '1 day'")
    assert not (await enforcer.check(TOKENS)).allowed
    assert not (await enforcer.check_and_record(TOKENS, Decimal("0.5"))).allowed
    assert used(query, TOKENS) == 11


async def test_overage_goes_on_with_a_warning(site: Site, opened: Opened, query: Query) -> None:
    site.install(plan="platform_standard", quotas={TOKENS: 10})
    async with opened(meter_family="platform") as guards:
        answer = await guards.enforcer.check_and_record("llm_tokens", 1_000_000)
    assert (answer.allowed, answer.warning, answer.remaining) == (True, True, 0)
    assert events(query, TOKENS) == [(answer.event_id, 1_000_000)]


async def test_what_is_too_much_at_once_leaves_nothing(guards: Guards, query: Query) -> None:
    assert not (await guards.enforcer.check_and_record(TOKENS, 13)).allowed
    assert not (await guards.enforcer.check(TOKENS, 13)).allowed
    assert query("SELECT 1 FROM entitlement_counters") == events(query, TOKENS) == []


async def test_a_gauge_is_held_until_released_and_events_say_its_level(
    guards: Guards, query: Query
) -> None:
    enforcer = guards.enforcer
    for _ in range(3):
        assert (await enforcer.check_and_record(SEATS)).allowed
    refused = await enforcer.check_and_record(SEATS)
    assert (refused.allowed, refused.status, refused.used, refused.limit) == (False, 402, 3, 3)
    assert (await enforcer.release(SEATS, 2)).remaining == 2
    assert (await enforcer.check_and_record(SEATS)).used == 2
    assert [quantity for _, quantity in events(query, SEATS)] == [1, 2, 3, 1, 2]
    assert (await enforcer.release(SEATS, 5)).used == 0
    with pytest.raises(InvalidInputError, match="counter"):
        await enforcer.release(TOKENS)


@pytest.mark.parametrize(("meter", "passed"), [(SEATS, 3), (TOKENS, 12)])
async def test_many_callers_never_share_the_last_unit(
    opened: Opened, guards: Guards, query: Query, meter: str, passed: int
) -> None:
    """Two services at once, each with many callers."""
    async with opened(service_name="other") as other:
        answers: list[Answer] = await asyncio.gather(
            *(
                (guards, other)[number % 2].enforcer.check_and_record(meter)
                for number in range(CALLERS)
            )
        )
    allowed = [answer for answer in answers if answer.allowed]
    assert len(allowed) == passed == used(query, meter)
    # Each saw another unit as its own.
    assert sorted(answer.used or 0 for answer in allowed) == list(range(1, passed + 1))
    recorded = {event_id for event_id, _ in events(query, meter)}
    assert recorded == {answer.event_id for answer in allowed}
    assert all(answer.used == passed for answer in answers if not answer.allowed)


async def test_the_callers_transaction_takes_count_and_event_along(
    guards: Guards, database: str, query: Query
) -> None:
    enforcer = guards.enforcer
    async with await AsyncConnection.connect(database) as connection:
        await enforcer.check_and_record(TOKENS, 2, connection=connection)
        await connection.rollback()
        assert used(query, TOKENS) == 0
        with pytest.raises(InvalidInputError):
            await enforcer.check_and_record(TOKENS, 2, connection=connection, camera_id="a\0b")
        await enforcer.check_and_record(TOKENS, 3, connection=connection)
        assert used(query, TOKENS) == 0
        await connection.commit()
    assert used(query, TOKENS) == 3
    assert [quantity for _, quantity in events(query, TOKENS)] == [3]


async def test_a_repeated_key_counts_once(guards: Guards, query: Query) -> None:
    enforcer = guards.enforcer
    first = await enforcer.check_and_record(TOKENS, Decimal("1.5"), key="k")
    again = await enforcer.check_and_record(TOKENS, Decimal("1.5"), key="k")
    assert again == first
    assert used(query, TOKENS) == Decimal("1.5")
    with pytest.raises(InvalidInputError) as caught:
        await enforcer.check_and_record(TOKENS, 2, key="k")
    assert caught.value.reason == "IdempotencyKeyReused"
    # A refusal keeps no key: it may be tried again once there is room.
    assert not (await enforcer.check_and_record(TOKENS, 11, key="big")).allowed
    assert query("SELECT key FROM idempotency_keys") == [("k",)]


@pytest.mark.parametrize("quantity", [0, -1, Decimal("NaN"), Decimal("1e-12"), 10**15])
async def test_a_quantity_that_is_none_is_refused(guards: Guards, quantity: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await guards.enforcer.check_and_record(TOKENS, quantity)
    assert caught.value.reason == "InvalidQuantity"


async def test_a_meter_without_a_limit_is_counted_up_to_what_the_column_holds(
    guards: Guards, query: Query
) -> None:
    largest = 10**15 - 1
    answer = await guards.enforcer.check_and_record("vision.agent_executions", largest)
    assert (answer.allowed, answer.limit, answer.remaining) == (True, None, None)
    assert not (await guards.enforcer.check_and_record("vision.agent_executions", largest)).allowed


async def test_periods_count_apart(guards: Guards, site: Site, query: Query) -> None:
    await guards.enforcer.check_and_record(TOKENS, 12)
    query("UPDATE entitlement_counters SET period_ends_at = period_ends_at - interval '1 month'")
    assert (await guards.enforcer.check_and_record(TOKENS, 1)).used == 1


async def test_a_database_that_is_away_is_an_error_of_its_own(
    site: Site, opened: Opened, query: Query
) -> None:
    site.install(**FREE)
    async with opened() as guards:
        await guards.enforcer.check_and_record(TOKENS)
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        # The pool replaces dead connections: the service goes on.
        assert (await guards.enforcer.check_and_record(TOKENS)).used == 2
        async with await AsyncConnection.connect(site.dsn) as other:
            # Counted already, waiting to record.
            await other.execute("LOCK TABLE usage_events")
            waiting = asyncio.create_task(guards.enforcer.check_and_record(TOKENS))
            await eventually(
                lambda: query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )
            with pytest.raises(BillingProviderError) as caught:
                await waiting
    assert used(query, TOKENS) == len(events(query, TOKENS)) == 2
    assert (caught.value.reason, caught.value.retry_after) == ("DatabaseUnavailable", 2)


PROGRAM = """
import asyncio, sys
from brinkbyte.guards import GuardSettings, open_guards
from brinkbyte.license.keys import load_roots

async def main():
    roots = load_roots(open(sys.argv[1]).read())
    async with open_guards(GuardSettings.load(), roots=roots) as guards:
        key = sys.argv[2] or None
        answer = await guards.enforcer.check_and_record("platform.llm_tokens", 4, key=key)
        print("told", answer.used, flush=True)

asyncio.run(main())
"""


def start(site: Site, *, key: str = "", failpoint: str = "") -> subprocess.Popen[str]:
    """Start a program that counts 4 tokens."""
    site.install(**FREE)
    roots = site.root / "roots.json"
    keys = [root.model_dump(mode="json") for root in vendor().roots.values()]
    roots.write_text(json.dumps({"keys": keys}))
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(roots), key],
        env={**site.environment(), "BRINKBYTE_FAILPOINT": failpoint},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_the_server(query: Query) -> None:
    """The server notices a dead client, and rolls back, a moment later."""
    wait_until(
        lambda: (
            not query(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = 'brinkbyte-guarded' "
                "AND datname = current_database()"
            )
        )
    )


@pytest.mark.parametrize(("point", "left"), [("before_commit", 0), ("committed", 4)])
def test_a_kill_around_the_commit_leaves_both_or_neither(
    site: Site, query: Query, point: str, left: int
) -> None:
    killed = start(site, key="k", failpoint=f"guards.{point}")
    assert "told" not in killed.communicate(timeout=60)[0]
    assert killed.returncode == -signal.SIGKILL
    wait_for_the_server(query)
    assert used(query, TOKENS) == left
    assert [quantity for _, quantity in events(query, TOKENS)] == ([left] if left else [])
    # A rerun finishes the work and nothing happens twice.
    assert start(site, key="k").communicate(timeout=60)[0].endswith("told 4\n")
    assert used(query, TOKENS) == 4
    ((event_id, quantity),) = events(query, TOKENS)
    assert quantity == 4
    assert UUID(event_id).version == 7


def test_a_kill_between_count_and_event_leaves_both_or_neither(site: Site, query: Query) -> None:
    with psycopg.connect(site.dsn) as other:
        other.execute("LOCK TABLE usage_events")
        program = start(site)
        wait_until(
            lambda: query(
                "SELECT 1 FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
        program.kill()
        assert "told" not in program.communicate(timeout=60)[0]
    wait_for_the_server(query)
    assert used(query, TOKENS) == sum(quantity for _, quantity in events(query, TOKENS))
