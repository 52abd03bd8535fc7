"""The work queue: each key once, one run at a time, backoff, come-back times."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.controller.queue import (
    BACKOFF_FIRST,
    BACKOFF_LONGEST,
    CHANGED_SECONDS,
    Key,
    Schedule,
    WorkQueue,
)
from brinkbyte.kit.errors import TemporaryError

A, B = Key("Tenant", "ns", "a"), Key("Tenant", "ns", "b")


def schedule(jitter: float = 0.5) -> Schedule:
    return Schedule(lambda: jitter)


def test_a_key_is_taken_once_however_often_it_is_added() -> None:
    queue = schedule()
    for at in (3.0, 1.0, 2.0):
        queue.add(A, at)
    assert queue.pop(0.9) is None
    assert queue.next_due() == 1.0
    assert queue.pop(1.0) == A
    assert queue.pop(100.0) is None


def test_what_is_added_while_a_key_runs_makes_it_run_again_afterwards() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    assert queue.pop(0.0) == A
    queue.add(A, 0.0)
    assert queue.pop(10.0) is None, "one run at a time"
    queue.succeeded(A, 10.0, None)
    assert queue.pop(10.0) == A


def test_a_key_without_more_to_do_is_forgotten() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.pop(0.0)
    queue.succeeded(A, 1.0, None)
    assert len(queue) == 0
    assert queue.next_due() is None


def test_a_key_comes_back_after_the_time_it_asked_for_plus_jitter() -> None:
    queue = schedule(jitter=1.0)
    queue.add(A, 0.0)
    queue.pop(0.0)
    queue.succeeded(A, 100.0, 10.0)
    assert queue.next_due() == pytest.approx(112.0)


def test_a_change_brings_a_waiting_key_forward() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.pop(0.0)
    queue.succeeded(A, 0.0, 600.0)
    queue.add(A, 5.0)
    assert queue.pop(5.0) == A


def test_failures_back_off_until_one_succeeds() -> None:
    queue = schedule(jitter=0.5)
    now, delays = 0.0, []
    queue.add(A, now)
    for _ in range(12):
        assert queue.pop(now) == A
        delays.append(queue.failed(A, now))
        now += delays[-1]
    assert delays[0] == pytest.approx(BACKOFF_FIRST)
    assert delays[1] == pytest.approx(2 * BACKOFF_FIRST)
    assert delays[-1] == pytest.approx(BACKOFF_LONGEST)
    queue.pop(now)
    queue.succeeded(A, now, 0.0)
    queue.pop(now)
    assert queue.failed(A, now) == pytest.approx(BACKOFF_FIRST)


def test_retry_after_is_honoured() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.pop(0.0)
    assert queue.failed(A, 0.0, retry_after=30.0) == 30.0


def test_an_event_during_a_failing_run_does_not_skip_the_backoff() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.pop(0.0)
    queue.add(A, 0.0)
    delay = queue.failed(A, 0.0)
    assert queue.pop(delay / 2) is None
    assert queue.pop(delay) == A


def test_an_event_during_a_failing_run_brings_a_long_backoff_forward() -> None:
    queue = schedule(jitter=0.5)
    queue.add(A, 0.0)
    now = 0.0
    for _ in range(10):
        assert queue.pop(now) == A
        now += queue.failed(A, now)
    queue.pop(now)
    queue.add(A, now)
    assert queue.failed(A, now) == CHANGED_SECONDS
    assert queue.pop(now + CHANGED_SECONDS) == A
    queue.add(A, now)
    assert queue.failed(A, now, retry_after=7.0) == 7.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "pop", "ok", "fail"]), st.integers(0, 3), st.integers(0, 9)
        )
    )
)
def test_no_key_is_lost_and_none_runs_twice_at_once(steps: list[tuple[str, int, int]]) -> None:
    queue, running, wanted = schedule(), set[Key](), set[Key]()
    now = 0.0
    for action, number, value in steps:
        key = Key("K", "ns", str(number))
        now += 0.5
        if action == "add":
            queue.add(key, now + value)
            wanted.add(key)
        elif action == "pop":
            taken = queue.pop(now)
            if taken is not None:
                assert taken not in running
                running.add(taken)
                wanted.discard(taken)
        elif key in running:
            running.discard(key)
            if action == "ok":
                queue.succeeded(key, now, None)
            else:
                queue.failed(key, now)
                wanted.add(key)
    for key in running:
        queue.succeeded(key, now, None)
    left = set()
    while (key := queue.pop(now + 1000)) is not None:
        left.add(key)
    assert wanted <= left


class Clock:
    """A clock that only goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_queue_runs_keys_side_by_side_but_each_alone() -> None:
    clock, gate, active, most = Clock(), asyncio.Event(), 0, 0
    seen: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        seen.append(key)
        await gate.wait()
        active -= 1
        return None

    queue = WorkQueue(reconcile, workers=2, clock=clock)
    task = asyncio.create_task(queue.run())
    for key in (A, A, B, Key("Tenant", "ns", "c")):
        queue.add(key)
    await settle()
    assert sorted(seen) == [A, B]
    queue.add(A)
    await settle()
    assert len(seen) == 2
    gate.set()
    await settle()
    assert seen.count(A) == 2
    assert most == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_failing_reconcile_is_tried_again_and_observed() -> None:
    clock = Clock()
    results: list[bool] = []
    tries = 0

    async def reconcile(_key: Key) -> float | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise TemporaryError("not now", retry_after=2.0)
        return None

    queue = WorkQueue(reconcile, clock=clock, observe=lambda _key, _seconds, ok: results.append(ok))
    task = asyncio.create_task(queue.run())
    queue.add(A)
    await settle()
    assert results == [False]
    clock.now = 2.0
    queue.add(B, delay=1000)  # wakes the dispatcher
    await settle()
    assert results == [False, True]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
