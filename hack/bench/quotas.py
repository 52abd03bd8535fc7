"""Measure quotas of the billing API with many customers, beside a bare SELECT by primary key.

``python -m bench.quotas`` measures these alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

import psycopg
import redis
import structlog
from psycopg import AsyncConnection

from bench.postgres import free_port, running_postgres
from brinkbyte.billing.admin import Admin
from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers.schemas import CustomerCreate
from brinkbyte.billing.db import Database
from brinkbyte.billing.migrate import ADMIN, API, migrate
from brinkbyte.billing.quotas import enforcement, service
from brinkbyte.billing.quotas.cache import QuotaCache
from brinkbyte.billing.subscriptions.schemas import SubscriptionSet
from brinkbyte.billing.usage import repository as ledger
from brinkbyte.billing.usage.events import arrived, judge
from brinkbyte.catalog import load_catalog
from brinkbyte.kit.pools import postgres_pool
from brinkbyte.kit.uuid7 import uuid7
from stack.tools import StepError, spawn, wait_for

TENANTS: Final = 10_000
CHECKS: Final = 5_000
RESERVATIONS: Final = 1_000
BATCHES: Final = 300
WARM_UP: Final = 100
METER: Final = "platform.api_calls"
PASSWORD: Final = "bench-password"
_MODEL: Final = "customer-00000"
_TABLES: Final = ("billing_customers", "subscriptions", "usage_quotas")


@dataclass(frozen=True)
class Figures:
    """99th percentiles, milliseconds.

    Attributes:
        cached: a check as the server makes it, with Redis; customers at random.
        uncached: the same without Redis.
        reserve: a quantity judged, counted and in the ledger, durable.
        count: what quotas add to the ledger's transaction of a thousand events; the median.
        select: one SELECT of one row by primary key, same server.
    """

    cached: float
    uncached: float
    reserve: float
    count: float
    select: float


def quotas() -> Figures:
    """Start PostgreSQL and Redis and measure.

    Raises:
        StepError: one of them is missing.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with running_postgres() as uri, _running_redis() as redis_url:
        migrate(uri, {API: PASSWORD, ADMIN: PASSWORD})
        return asyncio.run(_measure(uri, redis_url))


@contextmanager
def _running_redis() -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        raise StepError("redis-server is missing; run `make debian-packages`")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        server = spawn(
            [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        url = f"redis://127.0.0.1:{port}/0"
        try:
            wait_for("Redis", lambda: _answers(url), timeout=20)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=20)


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _as(uri: str, role: str) -> str:
    return psycopg.conninfo.make_conninfo(uri, user=role, password=PASSWORD)


def _name(number: int) -> str:
    return f"customer-{number:05}"


@asynccontextmanager
async def _context(uri: str, cache: QuotaCache) -> AsyncIterator[Context]:
    async with postgres_pool(_as(uri, API), max_size=4) as pool:
        with ThreadPoolExecutor(1) as threads:
            try:
                yield Context(
                    database=Database(pool),
                    secrets=Secrets("a-pepper-for-the-bench"),
                    # Nothing here is signed.
                    keyring=cast("Any", None),
                    catalog=load_catalog(None),
                    clock=time.time,
                    threads=threads,
                    quota_cache=cache,
                )
            finally:
                await cache.aclose()


async def _fill(uri: str) -> None:
    """Make one customer by the programs' own ways and the others as copies of its rows."""
    async with postgres_pool(_as(uri, ADMIN), max_size=1) as pool:
        admin = Admin(Database(pool), load_catalog(None), None)
        await admin.create_customer(CustomerCreate(customer_id=_MODEL, name="Bench"))
        terms = {"plans": {"platform": "standard"}}
        await admin.set_subscription(SubscriptionSet(customer_id=_MODEL, terms=terms))
    async with _context(uri, QuotaCache(None)) as context:
        await enforcement.check(context, _MODEL, METER, Decimal(1))
    with psycopg.connect(uri, autocommit=True) as connection:
        for table in _TABLES:
            connection.execute(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(t, "
                "jsonb_build_object('tenant_id', 'customer-' || lpad(n::text, 5, '0')))).* "
                f"FROM {table} t, generate_series(1, {TENANTS - 1}) n WHERE tenant_id = %s",
                [_MODEL],
            )
        connection.execute("VACUUM ANALYZE")


async def _measure(uri: str, redis_url: str) -> Figures:
    await _fill(uri)
    draw = random.Random(7)

    def anyone() -> str:
        return _name(draw.randrange(TENANTS))

    async with _context(uri, QuotaCache(None)) as context:
        uncached = await _p99(
            CHECKS, lambda: enforcement.check(context, anyone(), METER, Decimal(1))
        )
        use = enforcement.Use(METER, Decimal(1))
        reserve = await _p99(RESERVATIONS, lambda: enforcement.reserve(context, anyone(), use))
        count = await _counting(context, anyone)
    # As many as are busy within the two seconds that an entry is fresh for.
    busy = [anyone() for _ in range(500)]
    async with _context(uri, QuotaCache(redis_url)) as context:
        cached = await _p99(
            CHECKS, lambda: enforcement.check(context, draw.choice(busy), METER, Decimal(1))
        )
    async with await AsyncConnection.connect(uri, autocommit=True) as bare:
        row = await (await bare.execute("SELECT max(period_start) FROM usage_quotas")).fetchone()
        start = row[0] if row else None

        async def select() -> None:
            cursor = await bare.execute(
                "SELECT used, included FROM usage_quotas "
                "WHERE tenant_id = %s AND meter = %s AND period_start = %s",
                [anyone(), METER, start],
            )
            await cursor.fetchone()

        plain = await _p99(CHECKS, select)
    return Figures(cached, uncached, reserve, count, plain)


async def _counting(context: Context, anyone: Callable[[], str]) -> float:
    """Return the median of counting a thousand new events, milliseconds."""
    raws = [
        json.dumps({"id": str(uuid7()), "meter": f"platform.{name}", "quantity": "1"}).encode()
        for name in ("api_calls", "llm_tokens", "agent_executions", "storage_gb")
        for _ in range(250)
    ]
    now = context.now()
    events = judge(arrived(raws), context.catalog, {"platform"}, now * 1000).good
    moment = datetime.fromtimestamp(now, UTC)
    times = []
    for _ in range(BATCHES):
        tenant_id = anyone()
        async with context.database.tenant(tenant_id) as connection:
            await ledger.lock_chain(connection, tenant_id)
            started = time.perf_counter()
            await service.count_events(connection, context.catalog, tenant_id, events, moment)
            times.append(time.perf_counter() - started)
    return sorted(times)[BATCHES // 2] * 1000


async def _p99(count: int, call: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(WARM_UP):
        await call()
    for _ in range(count):
        started = time.perf_counter()
        await call()
        times.append(time.perf_counter() - started)
    return sorted(times)[int(count * 0.99)] * 1000


if __name__ == "__main__":
    print(quotas())
