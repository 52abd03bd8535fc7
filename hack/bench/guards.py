"""Measure the guards of the vendor's own services, each beside the least that it could cost.

``python -m bench.guards`` measures these alone.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from psycopg import AsyncConnection

from bench.documents import CUSTOMER, METER, Vendor
from bench.postgres import running_postgres
from brinkbyte.guards import Guards, GuardSettings, open_guards, require_feature
from brinkbyte.store import migrate

CHECKS: Final = 200_000
RECORDS: Final = 2_000
WARM_UP: Final = 100
FEATURE: Final = "canExportData"


@dataclass(frozen=True)
class Figures:
    """99th percentiles.

    Attributes:
        check: a call of a function behind ``require_feature``, microseconds.
        look_up: a call of one behind a dictionary look-up and a compare, microseconds.
        record: ``check_and_record``, durable, milliseconds.
        update: one UPDATE of one row in a transaction of its own, same server, milliseconds.
    """

    check: float
    look_up: float
    record: float
    update: float


def guards() -> Figures:
    """Start a PostgreSQL and measure.

    Raises:
        StepError: there is no PostgreSQL.
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
    async with open_guards(settings, roots={vendor.root.kid: vendor.root.jwk}) as opened:
        opened.subscription().or_raise()
        check, look_up = _checks()
        record, update = await _records(opened, uri)
    return Figures(check, look_up, record, update)


def _checks() -> tuple[float, float]:
    """Return the 99th percentiles of a guarded call and of the reference, microseconds."""

    @dataclass
    class Held:
        allowed: bool

    held = {FEATURE: Held(True)}

    @require_feature(FEATURE)
    def guarded() -> None: ...

    def bare() -> None:
        if held[FEATURE].allowed is not True:
            raise RuntimeError

    return _p99(guarded), _p99(bare)


def _p99(call: Callable[[], Any]) -> float:
    clock, times = time.perf_counter_ns, []
    for _ in range(CHECKS):
        started = clock()
        call()
        times.append(clock() - started)
    return _percentile(times) / 1000


async def _records(opened: Guards, uri: str) -> tuple[float, float]:
    """Return the 99th percentiles in turns, so that a slow moment of the disk meets both."""
    ours: list[int] = []
    bare: list[int] = []
    clock = time.perf_counter_ns
    async with await AsyncConnection.connect(uri, autocommit=True) as connection:
        await connection.execute("CREATE TABLE bare (id integer PRIMARY KEY, used bigint NOT NULL)")
        await connection.execute("INSERT INTO bare VALUES (1, 0)")
        for turn in range(WARM_UP + RECORDS):
            started = clock()
            answer = await opened.enforcer.check_and_record(METER)
            between = clock()
            await connection.execute("UPDATE bare SET used = used + 1 WHERE id = 1")
            ended = clock()
            answer.or_raise()
            if turn >= WARM_UP:
                ours.append(between - started)
                bare.append(ended - between)
    return _percentile(ours) / 1e6, _percentile(bare) / 1e6


def _percentile(times: list[int]) -> float:
    return float(sorted(times)[len(times) * 99 // 100])


if __name__ == "__main__":
    print(guards())
