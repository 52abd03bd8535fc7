"""The work queue: each key once, one reconcile per key at a time, backoff, come-back times.

:class:`Schedule` is pure (the time is an argument); :class:`WorkQueue` runs it on asyncio.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from brinkbyte.kit.errors import TemporaryError
from brinkbyte.kit.logging import get_logger

_log = get_logger(__name__)

BACKOFF_FIRST: Final = 0.25
BACKOFF_LONGEST: Final = 60.0
CHANGED_SECONDS: Final = 1.0
_JITTER: Final = 0.2


def backoff(failures: int, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row, from one on.

    Args:
        failures: how many.
        jitter: from 0 to 1; spreads the waits by a fifth either way.
    """
    steady = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(failures - 1, 16))
    return steady * (1 - _JITTER + 2 * _JITTER * jitter)


class Key(NamedTuple):
    """What a reconcile is for.

    Attributes:
        what: which reconcile: ``Tenant``, ``Members`` (a Tenant's devices and cameras), ``State``
            (one question to its instance), ``Identity`` (an enrollment record).
        namespace: of the object.
        name: of the object.
    """

    what: str
    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    due: float | None = None
    running: bool = False
    failures: int = 0


class Schedule:
    """When each key is due. All times are seconds by any one clock that only goes forward.

    Args:
        jitter: returns a number from 0 to 1; spreads whatever recurs.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._entries: dict[Key, _Entry] = {}
        self._heap: list[tuple[float, Key]] = []

    def add(self, key: Key, at: float) -> None:
        """Make a key due at a time; an earlier time that it already has stays."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.due is None or at < entry.due:
            entry.due = at
            if not entry.running:
                heapq.heappush(self._heap, (at, key))

    def pop(self, now: float) -> Key | None:
        """Take the next due key, which is running from now on, or None."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry is None or entry.running or entry.due != at:
                continue  # brought forward, forgotten or taken meanwhile
            entry.due = None
            entry.running = True
            return key
        return None

    def next_due(self) -> float | None:
        """Return when the next key is due, or None when nothing waits."""
        while self._heap:
            at, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and not entry.running and entry.due == at:
                return at
            heapq.heappop(self._heap)
        return None

    def succeeded(self, key: Key, now: float, come_back: float | None) -> None:
        """End a run.

        Args:
            key: what ran.
            now: the time.
            come_back: seconds after which to run again at the latest (jitter is added), or None
                to forget the key unless something was added while it ran.
        """
        entry = self._entries[key]
        entry.failures = 0
        if come_back is None:
            self._finish(key, entry, None)
        else:
            self._finish(key, entry, now + come_back * (1 + _JITTER * self._jitter()))

    def failed(self, key: Key, now: float, retry_after: float | None = None) -> float:
        """End a run that failed; return the seconds until the next try.

        What is added while a key waits out its backoff brings it forward; what was added while it
        ran does too, but for :data:`CHANGED_SECONDS`: a run may have caused that change itself.
        """
        entry = self._entries[key]
        entry.failures += 1
        delay = max(retry_after or 0.0, backoff(entry.failures, self._jitter()))
        if entry.due is not None:
            delay = min(delay, max(CHANGED_SECONDS, retry_after or 0.0))
        entry.due = None
        self._finish(key, entry, now + delay)
        return delay

    def _finish(self, key: Key, entry: _Entry, at: float | None) -> None:
        entry.running = False
        due = entry.due if at is None else at if entry.due is None else min(entry.due, at)
        entry.due = due
        if due is None:
            del self._entries[key]
        else:
            heapq.heappush(self._heap, (due, key))

    def __len__(self) -> int:
        return len(self._entries)

    def waiting(self, now: float) -> int:
        """Return how many keys are due and not running."""
        return sum(
            1
            for e in self._entries.values()
            if not e.running and e.due is not None and e.due <= now
        )


class WorkQueue:
    """Runs reconciles, several keys side by side.

    Args:
        reconcile: returns seconds until the key should run again at the latest, or None to forget.
        workers: keys at once.
        clock: seconds, only going forward.
        schedule: when what is due.
        observe: called with key, seconds taken and whether it went well.
    """

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[float | None]],
        *,
        workers: int = 16,
        clock: Callable[[], float],
        schedule: Schedule | None = None,
        observe: Callable[[Key, float, bool], None] = lambda _key, _seconds, _ok: None,
    ) -> None:
        self._reconcile = reconcile
        self._workers = workers
        self._clock = clock
        self._schedule = schedule or Schedule()
        self._observe = observe
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat = clock()

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Ask for a reconcile of a key in so many seconds; must be called in the loop's thread."""
        self._schedule.add(key, self._clock() + delay)
        self._wake.set()

    @property
    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        return self._schedule.waiting(self._clock())

    @property
    def running(self) -> int:
        """Reconciles at work."""
        return len(self._tasks)

    @property
    def seconds_since_beat(self) -> float:
        """How long ago the dispatcher last looked; it does at least every 5 seconds."""
        return self._clock() - self._beat

    async def run(self) -> None:
        """Dispatch until cancelled; running reconciles are cancelled with it."""
        try:
            while True:
                self._beat = self._clock()
                self._wake.clear()
                self._start_due()
                due = self._schedule.next_due()
                wait = 5.0 if due is None else min(5.0, max(0.0, due - self._clock()))
                if len(self._tasks) >= self._workers:
                    wait = 5.0
                try:
                    await asyncio.wait_for(self._wake.wait(), wait)
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_due(self) -> None:
        while len(self._tasks) < self._workers:
            key = self._schedule.pop(self._clock())
            if key is None:
                return
            task = asyncio.create_task(
                self._one(key), name=f"{key.what}/{key.namespace}/{key.name}"
            )
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _one(self, key: Key) -> None:
        started = self._clock()
        try:
            come_back = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is tried again
            retry_after = error.retry_after if isinstance(error, TemporaryError) else None
            delay = self._schedule.failed(key, self._clock(), retry_after)
            self._observe(key, self._clock() - started, False)
            _log.warning(
                "reconcile failed, will try again",
                what=key.what,
                namespace=key.namespace,
                name=key.name,
                seconds=round(delay, 2),
                error=str(error) or type(error).__name__,
                exc_info=None if isinstance(error, TemporaryError) else error,
            )
        else:
            self._schedule.succeeded(key, self._clock(), come_back)
            self._observe(key, self._clock() - started, True)
