"""Group commit: what many callers track at the same time is one COPY and one commit.

Two writers take turns: while the database works on one group, the next one is put together. A group
keeps its ids over every attempt, so that one which may have been written already is recognized.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus

from brinkbyte.guards.answers import BillingProviderError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.uuid7 import Uuid7Generator
from brinkbyte.store.bulk import CopyRow, copy_events, copy_lines, has_event
from brinkbyte.store.database import Connection

_WRITERS: Final = 2
_GROUP: Final = 4_000
"""Events of a group at most: the event loop is held up for some ten milliseconds by one."""
_DURABLE_ATTEMPTS: Final = 2
_FIRST_BACKOFF: Final = 0.25
_LONGEST_BACKOFF: Final = 30.0
_CLOSING_BACKOFF: Final = 0.5
_WRITE_SECONDS: Final = 30.0
_log = get_logger(__name__)


Tracked: TypeAlias = tuple[int, CopyRow, "asyncio.Future[str] | None"]
"""An event that waits: its Unix millisecond, its row, and what gets its id once it is durable."""


@dataclass(eq=False)
class _Group:
    ids: list[str]
    lines: list[str]
    waiting: list[asyncio.Future[str] | None]
    attempts: int = 0
    outcome: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def halves(self) -> tuple[_Group, _Group]:
        middle = len(self.ids) // 2
        first, second = slice(None, middle), slice(middle, None)
        return (
            _Group(self.ids[first], self.lines[first], self.waiting[first]),
            _Group(self.ids[second], self.lines[second], self.waiting[second]),
        )


class GroupWriter:
    """Writes events in groups; used from one event loop.

    Args:
        pool: the instance's database.
        batch_size: how many events are worth a group; 1: whatever waits.
        keep: whether a group is kept and tried again until it is written. Else it is tried twice
            and its callers hear of it.

    Attributes:
        flushed: events that are durable.
        failed: events whose callers were told that they were not written.
        groups: commits.
        failing: why the last attempt failed; None: it did not.
    """

    def __init__(self, pool: Pool, *, batch_size: int, keep: bool) -> None:
        self._pool = pool
        self._batch_size = batch_size
        self._keep = keep
        self._ids = Uuid7Generator()
        self._rows: deque[Tracked] = deque()
        self._queue: deque[_Group] = deque()
        self._writing: set[_Group] = set()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._closing = False
        self._closed = asyncio.Event()
        self._due = False
        self._tasks: list[asyncio.Task[None]] = []
        self.flushed = 0
        self.failed = 0
        self.groups = 0
        self.waiting = 0
        self.failing: BillingProviderError | None = None

    def start(self) -> None:
        """Start the writers."""
        self._tasks = [asyncio.create_task(self._write_on()) for _ in range(_WRITERS)]

    def add(self, tracked: Tracked) -> None:
        """Let an event wait for the next group."""
        self._rows.append(tracked)
        self.waiting += 1
        if len(self._rows) >= self._batch_size:
            self._wake.set()

    async def room(self) -> None:
        """Wait until something that waited is written, or could not be."""
        self._due = True
        self._settled.clear()
        self._wake.set()
        await self._settled.wait()

    def push(self) -> None:
        """Write what waits, however little it is."""
        self._due = True
        self._wake.set()

    async def flush(self) -> None:
        """Write everything that waits now.

        Raises:
            BillingProviderError: an attempt failed; what was not written is kept.
        """
        while self._rows:
            self._queue.append(self._cut())
        outcomes = [group.outcome for group in (*self._writing, *self._queue)]
        self._wake.set()
        for outcome in outcomes:
            # The outcome is everybody's: who stops waiting must not cancel it.
            await asyncio.shield(outcome)

    async def close(self, seconds: float) -> int:
        """Write what waits, end the writers, and return how many events could not be written."""
        self._closing = True
        self._wake.set()
        self._closed.set()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        lost = self.waiting
        while self._rows:
            self._queue.append(self._cut())
        for group in (*self._writing, *self._queue):
            self._reject(group, self.failing or _unavailable())
        return lost

    async def _write_on(self) -> None:
        while True:
            group = self._take()
            if group is not None:
                self._writing.add(group)
                await self._deliver(group)
                self._writing.discard(group)
                continue
            if self._closing:
                return
            self._wake.clear()
            await self._wake.wait()

    def _take(self) -> _Group | None:
        if self._queue:
            return self._queue.popleft()
        worth = self._due or self._closing or len(self._rows) >= self._batch_size
        if not self._rows or not worth:
            self._due = False
            return None
        return self._cut()

    def _cut(self) -> _Group:
        rows = [self._rows.popleft() for _ in range(min(_GROUP, len(self._rows)))]
        milliseconds, copied, waiting = zip(*rows, strict=True)
        ids = self._ids.texts(milliseconds)
        return _Group(ids, copy_lines(ids, copied), list(waiting))

    async def _deliver(self, group: _Group) -> None:
        """Write a group, or tell its callers; with ``keep`` until it is written."""
        backoff = _FIRST_BACKOFF
        while True:
            try:
                await self._write(group)
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                await self._split(group, error)
                return
            except Exception as error:  # noqa: BLE001 - no surprise may leave callers waiting
                self.failing = _unavailable()
                self._settled.set()
                if not self._keep and group.attempts >= _DURABLE_ATTEMPTS:
                    self._reject(group, self.failing)
                    return
                if self._keep:
                    self._tell(group, self.failing)
                _log.warning("events are written again", events=len(group.ids), error=str(error))
                # A new connection may be all it takes: the first wait is short.
                await self._pause(backoff * random.uniform(0.75, 1))  # noqa: S311 - spreads load
                backoff = min(backoff * 2, _LONGEST_BACKOFF)
            else:
                self._written(group)
                return

    async def _pause(self, seconds: float) -> None:
        """Wait; shorter once the writers are to end."""
        if self._closing:
            await asyncio.sleep(min(seconds, _CLOSING_BACKOFF))
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    async def _write(self, group: _Group) -> None:
        group.attempts += 1
        async with asyncio.timeout(_WRITE_SECONDS), _autocommit(self._pool) as connection:
            try:
                failpoint("tracker.before_commit")
                await copy_events(connection, group.ids, group.lines)
            except psycopg.errors.UniqueViolation:
                # An attempt before this one was carried out, and its answer was lost.
                if group.attempts == 1 or not await has_event(connection, group.ids[0]):
                    raise
        failpoint("tracker.committed")

    async def _split(self, group: _Group, error: psycopg.Error) -> None:
        """Find the event that the database does not take; the others are written."""
        if len(group.ids) > 1:
            for half in group.halves():
                self._writing.add(half)
                await self._deliver(half)
                self._writing.discard(half)
            self._conclude(group, None)
            return
        _log.error("the database does not take an event", error=str(error))
        self._reject(
            group,
            BillingProviderError(
                f"the database does not take this event ({error}); it was not written",
                reason="EventRefused",
            ),
        )

    def _written(self, group: _Group) -> None:
        self.failing = None
        self.flushed += len(group.ids)
        self.groups += 1
        self._settle(group)
        for event_id, done in zip(group.ids, group.waiting, strict=True):
            if done is not None and not done.done():
                done.set_result(event_id)
        self._conclude(group, None)

    def _reject(self, group: _Group, error: BillingProviderError) -> None:
        self.failed += len(group.ids)
        if not self._keep or error.reason == "EventRefused":
            self._settle(group)
        for done in group.waiting:
            if done is not None and not done.done():
                done.set_exception(error)
        self._conclude(group, error)

    def _settle(self, group: _Group) -> None:
        self.waiting -= len(group.ids)
        self._settled.set()

    def _conclude(self, group: _Group, error: BillingProviderError | None) -> None:
        if group.outcome.done():
            return
        if error is None:
            group.outcome.set_result(None)
        else:
            group.outcome.set_exception(error)
            group.outcome.exception()  # nobody has to ask for it

    def _tell(self, group: _Group, error: BillingProviderError) -> None:
        """Tell who waits for a flush of a failed attempt; the next one has its own outcome."""
        self._conclude(group, error)
        group.outcome = asyncio.get_running_loop().create_future()


@asynccontextmanager
async def _autocommit(pool: Pool) -> AsyncIterator[Connection]:
    """A connection on which one statement is a transaction: one way to the database, not three."""
    async with pool.connection() as connection:
        await connection.set_autocommit(True)
        try:
            yield connection
        finally:
            if connection.info.transaction_status is TransactionStatus.IDLE:
                await connection.set_autocommit(False)
            else:
                # Given up in the middle of a statement: nobody shall get it as it is.
                await connection.close()


def _unavailable() -> BillingProviderError:
    return BillingProviderError(
        "the database did not answer in time; whether the use was recorded is not known. Try again",
        reason="DatabaseUnavailable",
        retry_after=2,
    )
