"""Measure the usage tracker, beside a bare COPY of the same rows into the same table.

``python -m bench.tracking`` measures it alone.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from psycopg import AsyncConnection

from bench.documents import CUSTOMER, METER, Vendor
from bench.postgres import running_postgres
from brinkbyte.guards import Guards, GuardSettings, open_guards
from brinkbyte.kit.uuid7 import Uuid7Generator
from brinkbyte.store import migrate
from stack.tools import StepError

EVENTS: Final = 600_000
CALLERS: Final = 2_000
DURABLE: Final = 200_000
_COPY: Final = "COPY usage_events (id, event, meter, quantity, camera_id, hardware_id) FROM STDIN"


@dataclass(frozen=True)
class Figures:
    """Events a second.

    Attributes:
        accepted: into a buffering tracker, while it writes.
        buffered: the same, from the first call to the end of the orderly stop: all are durable.
        durable: each call awaited until committed, by many callers at the same time.
        copy: a bare COPY of rows that are ready, one statement, into the same table.
    """

    accepted: float
    buffered: float
    durable: float
    copy: float


def tracking() -> Figures:
    """Start a PostgreSQL and measure.

    Raises:
        StepError: there is no PostgreSQL, or an event is lost.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with running_postgres() as uri, tempfile.TemporaryDirectory() as folder:
        migrate(uri)
        return asyncio.run(_measure(uri, Path(folder)))


async def _measure(uri: str, folder: Path) -> Figures:
    vendor = Vendor()
    vendor.write(folder)
    settings = GuardSettings.load(
        customer_id=CUSTOMER, database_url=uri, license_dir=folder, identity_dir=folder
    )
    async with (
        open_guards(settings, roots={vendor.root.kid: vendor.root.jwk}) as opened,
        await AsyncConnection.connect(uri, autocommit=True) as connection,
    ):
        await _durably(opened, DURABLE // 10)  # connections, caches, the partition's first pages
        copied = await _alone(connection, DURABLE // 10, lambda: _copy(connection, EVENTS))
        durable = await _alone(connection, DURABLE, lambda: _durably(opened, DURABLE))
        accepted, buffered = 0.0, 0.0

        async def run() -> float:
            nonlocal accepted
            accepted, whole = await _buffered(opened, EVENTS)
            return whole

        buffered = await _alone(connection, EVENTS, run)
    return Figures(accepted, buffered, durable, copied)


async def _alone(
    connection: AsyncConnection, events: int, work: Callable[[], Awaitable[float]]
) -> float:
    """Return what the work measured on an empty table; it must have left so many events."""
    await connection.execute("TRUNCATE usage_events")
    await connection.execute("CHECKPOINT")
    gc.collect()
    rate = await work()
    row = await (await connection.execute("SELECT count(*) FROM usage_events")).fetchone()
    found = row[0] if row else 0
    if found < events:
        raise StepError(f"{events - found} of {events} events are lost")
    return rate


async def _buffered(opened: Guards, events: int) -> tuple[float, float]:
    started = time.perf_counter()
    async with opened.new_tracker(buffered=True) as tracker:
        for number in range(events):
            await tracker.track(METER, 1, camera_id=f"camera-{number % 100}")
        accepted = time.perf_counter()
    ended = time.perf_counter()
    stats = tracker.get_stats()
    if (stats["tracked"], stats["flushed"]) != (events, events):
        raise StepError(f"the tracker says {stats}")
    return events / (accepted - started), events / (ended - started)


async def _durably(opened: Guards, events: int) -> float:
    each = events // CALLERS

    async def caller(number: int) -> None:
        camera = f"camera-{number % 100}"
        for _ in range(each):
            await opened.tracker.track(METER, 1, camera_id=camera)

    started = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return each * CALLERS / (time.perf_counter() - started)


async def _copy(connection: AsyncConnection, events: int) -> float:
    ids = Uuid7Generator().texts([time.time_ns() // 1_000_000 + n // 200 for n in range(events)])
    lines = [
        f'{one}\t{{"cameraId":"camera-{n % 100}","id":"{one}","meter":"{METER}","quantity":"1"}}'
        f"\t{METER}\t1\tcamera-{n % 100}\t\\N\n"
        for n, one in enumerate(ids)
    ]
    data = "".join(lines)
    started = time.perf_counter()
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(data)
    return events / (time.perf_counter() - started)


if __name__ == "__main__":
    print(tracking())
