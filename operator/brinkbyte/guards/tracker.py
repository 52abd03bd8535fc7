"""What was used, recorded: usage events into the instance's outbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from brinkbyte.catalog import Catalog
from brinkbyte.guards.answers import Amount, BillingProviderError
from brinkbyte.guards.writer import GroupWriter
from brinkbyte.kit.errors import InvalidInputError, TemporaryError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.metering.events import quantity_text
from brinkbyte.metering.forms import event_form
from brinkbyte.store.bulk import CopyRow, copy_row
from brinkbyte.store.levels import record_level

BATCH_SIZE: Final = 100
FLUSH_SECONDS: Final = 30.0
MAX_EVENTS: Final = 200_000
CLOSE_SECONDS: Final = 30.0
_MB_IN_GB: Final = 1000
_COST: Final = "cost"
_FORMS: Final = 4096
_TURN: Final = 100
"""Buffered events after which the loop has a turn: who only tracks would keep it for itself."""
Facts: TypeAlias = Mapping[str, str] | None
T = TypeVar("T")
_log = get_logger(__name__)


class TrackerFullError(TemporaryError):
    """As many events wait as may: the database takes none. problem+json 503 with ``Retry-After``.

    The event was not recorded; track it again later.
    """


class UsageTracker:
    """Records usage events; an async context manager. Tasks of any event loop may share it.

    A resource is a meter of the catalog (``vision.sms``) or what is counted (``sms``), then of the
    service's own family. Nothing is checked against a license: that is
    :class:`~brinkbyte.guards.EntitlementEnforcer`'s, which records what it lets pass by itself.

    **Durable** (the default): once a call returns, its event is committed, and cannot be lost.
    Callers at the same time share one commit. An error reaches exactly the callers whose events
    were not written, or, with reason ``DatabaseUnavailable``, of which nobody can tell.

    **Buffered**: a call returns at once, and events are written when ``batch_size`` of them wait,
    every ``flush_seconds``, by :meth:`flush`, and at an orderly stop, which loses nothing. A kill
    (SIGKILL, a crash, a node that goes) loses what waits: up to ``flush_seconds`` of use, or up to
    ``max_events`` events while the database does not answer. A failed write keeps its events and
    is tried again with backoff.

    While the vendor has switched metering off nothing is recorded.

    Args:
        pool: the instance's database.
        catalog: the meters there are.
        customer_id: whose use it is.
        family: whose meters short names mean.
        tracking: tells whether use is metered now.
        buffered: see above.
        batch_size: events that are worth a write; buffered only.
        flush_seconds: no event waits longer for its first write; buffered only.
        max_events: as many wait at most.
        close_seconds: a stop waits so long for the database.
        clock: Unix nanoseconds.
    """

    def __init__(
        self,
        pool: Pool,
        catalog: Catalog,
        *,
        customer_id: str,
        family: str,
        tracking: Callable[[], bool],
        buffered: bool = False,
        batch_size: int = BATCH_SIZE,
        flush_seconds: float = FLUSH_SECONDS,
        max_events: int = MAX_EVENTS,
        close_seconds: float = CLOSE_SECONDS,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        if batch_size < 1 or max_events < batch_size or flush_seconds <= 0:
            raise InvalidInputError(
                "a tracker needs batch_size >= 1, max_events >= batch_size, flush_seconds > 0",
                reason="InvalidTracker",
            )
        self._pool = pool
        self._catalog = catalog
        self._customer_id = customer_id
        self._family = family
        self._tracking = tracking
        self._buffered = buffered
        self._flush_seconds = flush_seconds
        self._max_events = max_events
        self._close_seconds = close_seconds
        self._clock = clock
        self._writer = GroupWriter(pool, batch_size=batch_size if buffered else 1, keep=buffered)
        self._plain = lru_cache(_FORMS)(self._row)
        self._timer: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = False
        self._judged_at = -1
        self._metered = True
        self._turn = 0
        self._tracked = 0
        self._untracked = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        if self._buffered:
            self._timer = asyncio.create_task(self._flush_on())
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Write what waits, then end; again is fine.

        Raises:
            BillingProviderError: the database did not take everything in time; reason
                ``EventsNotWritten``, and how many are lost is in ``details`` as ``events``.
        """
        if not self._open:
            return
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        lost = await self._writer.close(self._close_seconds)
        if lost:
            _log.error("usage events could not be written before the stop", events=lost)
        if lost and self._buffered:
            raise BillingProviderError(
                f"{lost} usage events could not be written within {self._close_seconds:g} s of "
                "the stop, as the database did not answer; they are lost",
                reason="EventsNotWritten",
                events=lost,
            )

    async def track(
        self,
        resource: str,
        quantity: Amount = 1,
        *,
        key: str | None = None,
        camera_id: str | None = None,
        hardware_id: str | None = None,
        attributes: Facts = None,
    ) -> str | None:
        """Record one event.

        Args:
            resource: what was used.
            quantity: in the meter's unit, up to 9 decimals; of a gauge its level.
            key: kept with the event. It does not make a repeat harmless: each call is an event.
            camera_id: the camera it concerns.
            hardware_id: the device it concerns.
            attributes: up to 16 further facts; of a pass-through meter ``cost`` as decimal text.

        Returns:
            The event's id; None: buffered, or metering is switched off.

        Raises:
            InvalidInputError: no such resource, quantity or fact; nothing was recorded.
            TrackerFullError: too many events wait.
            BillingProviderError: it was not recorded, see the class.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop and self._open:
            there = self.track(
                resource,
                quantity,
                key=key,
                camera_id=camera_id,
                hardware_id=hardware_id,
                attributes=attributes,
            )
            return await self._in_its_loop(there)
        if type(quantity) is int and key is None and not attributes:
            row = self._plain(resource, quantity, camera_id, hardware_id)
        else:
            row = self._row(
                resource, quantity, camera_id, hardware_id, key=key, attributes=attributes
            )
        millisecond = self._clock() // 1_000_000
        if millisecond != self._judged_at:
            self._judged_at, self._metered = millisecond, self._tracking()
        self._need_open()
        if not self._metered:
            self._untracked += 1
            return None
        if self._writer.waiting >= self._max_events:
            await self._room()
        if not self._buffered:
            done: asyncio.Future[str] = loop.create_future()
            self._writer.add((millisecond, row, done))
            self._tracked += 1
            return await done
        self._writer.add((millisecond, row, None))
        self._tracked += 1
        self._turn += 1
        if self._turn >= _TURN:
            self._turn = 0
            await asyncio.sleep(0)
        return None

    async def track_execution(
        self, quantity: Amount = 1, *, agent: str | None = None
    ) -> str | None:
        """Record executions of an agent; errors of :meth:`track`."""
        return await self.track("agent_executions", quantity, attributes=_facts(agent=agent))

    async def track_tokens(
        self, quantity: Amount, *, model: str | None = None, camera_id: str | None = None
    ) -> str | None:
        """Record tokens of a language model; errors of :meth:`track`."""
        return await self.track(
            "llm_tokens", quantity, camera_id=camera_id, attributes=_facts(model=model)
        )

    async def track_api_call(
        self, quantity: Amount = 1, *, operation: str | None = None, key: str | None = None
    ) -> str | None:
        """Record calls of an API; errors of :meth:`track`."""
        return await self.track(
            "api_calls", quantity, key=key, attributes=_facts(operation=operation)
        )

    async def track_storage(
        self, tenant_id: str, size_mb: Amount | float, storage_type: str
    ) -> str | None:
        """Record how much is stored of one type; the event says the sum of all types.

        Always a transaction of its own, durable once it returns, also where the tracker buffers.

        Args:
            tenant_id: the customer whose instance this is.
            size_mb: MB (10^6 bytes) stored now; whoever says it again replaces it.
            storage_type: such as ``exports``.

        Returns:
            The event's id; None: metering is switched off.

        Raises:
            InvalidInputError: another customer, no such size or type.
            BillingProviderError: the database does not answer; say it again.
        """
        if asyncio.get_running_loop() is not self._loop and self._open:
            return await self._in_its_loop(self.track_storage(tenant_id, size_mb, storage_type))
        if tenant_id != self._customer_id:
            raise InvalidInputError(
                f"this instance is {self._customer_id}'s, not {tenant_id}'s; leave out what is "
                "stored for others",
                reason="OtherCustomer",
            )
        meter = self._catalog.meter_for(self._family, "storage_gb")
        try:
            size = Decimal(str(size_mb)) / _MB_IN_GB
            level = Decimal(quantity_text(round(size, 9)))
            event_form(meter, level, attributes={"storageType": storage_type})
            if not storage_type:
                raise ValueError("storage_type is empty")
        except (ValueError, ArithmeticError) as error:
            raise InvalidInputError(
                f"no level of storage: {error}", reason="InvalidEvent"
            ) from None
        self._need_open()
        if not self._tracking():
            self._untracked += 1
            return None
        try:
            async with self._pool.connection() as connection:
                event = await record_level(
                    connection, self._customer_id, meter, part=storage_type, level=level
                )
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError) as error:
            raise BillingProviderError(
                "the database did not answer in time; say the size again",
                reason="DatabaseUnavailable",
                retry_after=2,
            ) from error
        self._tracked += 1
        self._writer.flushed += 1
        return event.id

    async def flush(self) -> None:
        """Write everything that waits now, and return once it is durable.

        Raises:
            BillingProviderError: the database did not take it; a buffering tracker keeps it and
                goes on trying.
        """
        if asyncio.get_running_loop() is not self._loop and self._open:
            await self._in_its_loop(self.flush())
            return
        await self._writer.flush()

    def get_stats(self) -> dict[str, Any]:
        """Return counts since the tracker was opened.

        ``tracked`` events taken on, ``flushed`` of them durable, ``waiting`` neither yet,
        ``failed`` whose callers were told so, ``untracked`` calls while metering was switched off,
        ``commits``, and ``last_error``: why the last write failed, None if it did not.
        """
        writer = self._writer
        return {
            "tracked": self._tracked,
            "flushed": writer.flushed,
            "waiting": writer.waiting,
            "failed": writer.failed,
            "untracked": self._untracked,
            "commits": writer.groups,
            "last_error": None if writer.failing is None else writer.failing.message,
        }

    def _need_open(self) -> None:
        if not self._open:
            raise BillingProviderError(
                "the tracker is not open; track inside its `async with`", reason="TrackerNotOpen"
            )

    async def _in_its_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what was asked for in another loop than the one that has the connections."""
        if self._loop is None:
            raise AssertionError("an open tracker has its loop")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _room(self) -> None:
        """Wait for room; there is none to wait for while the database takes nothing.

        Raises:
            TrackerFullError: see there.
        """
        while self._writer.waiting >= self._max_events:
            if self._writer.failing is not None:
                raise TrackerFullError(
                    f"{self._max_events} usage events wait and the database takes none; this one "
                    "was not recorded, try again when the database is back",
                    reason="TrackerFull",
                    retry_after=5,
                )
            await self._writer.room()

    async def _flush_on(self) -> None:
        while True:
            await asyncio.sleep(self._flush_seconds)
            self._writer.push()

    def _row(
        self,
        resource: str,
        quantity: Amount,
        camera_id: str | None,
        hardware_id: str | None,
        *,
        key: str | None = None,
        attributes: Facts = None,
    ) -> CopyRow:
        meter = resource
        if resource not in self._catalog.meters:
            meter = self._catalog.meter_for(self._family, resource)
        try:
            form = event_form(
                meter,
                quantity,
                key=key,
                camera_id=camera_id,
                hardware_id=hardware_id,
                attributes=attributes,
            )
            if self._catalog.meter(meter).pass_through is not None:
                quantity_text(Decimal((attributes or {})[_COST]))
        except KeyError:
            raise InvalidInputError(
                f"{meter} is passed on at its cost: say it in attributes as {_COST!r}",
                reason="MissingCost",
            ) from None
        except (ValueError, ArithmeticError, TypeError) as error:
            raise InvalidInputError(f"no usage event: {error}", reason="InvalidEvent") from None
        return copy_row(form)


def _facts(**given: str | None) -> dict[str, str]:
    return {name: value for name, value in given.items() if value is not None}
