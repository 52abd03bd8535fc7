"""Measure the ledger: batches over HTTP beside bare SQL, two processes, memory, usage summaries.

``python -m bench.ledger`` measures this alone; ``BRINKBYTE_BENCH_ROWS`` sets how many rows the
ledger has before, ``BRINKBYTE_BENCH_SUMMARY`` how many events the summary's customer has.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg

from bench.ledger_site import (
    PEPPER,
    Customer,
    make_keys,
    reference_rows,
    seed,
    seed_aggregates,
)
from bench.postgres import free_port, running_postgres
from brinkbyte.billing.db import Database
from brinkbyte.billing.migrate import ADMIN, API, migrate
from brinkbyte.billing.usage.aggregator import UsageAggregator
from brinkbyte.catalog import load_catalog
from brinkbyte.kit.pools import postgres_pool
from brinkbyte.metering.batches import MAX_EVENTS
from stack.tools import StepError, wait_for

ROWS: Final = int(os.environ.get("BRINKBYTE_BENCH_ROWS", "4000000"))
SUMMARY: Final = int(os.environ.get("BRINKBYTE_BENCH_SUMMARY", "10000000"))
BATCHES: Final = int(os.environ.get("BRINKBYTE_BENCH_BATCHES", "40"))
"""Of each customer in each round."""
CUSTOMERS: Final = 4
ROUNDS: Final = 2
WARM_UP: Final = 10
SUMMARIES: Final = 200
PASSWORD: Final = "bench"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

_REFERENCE: Final = """
    WITH inserted AS (
        INSERT INTO usage_events (tenant_id, id, occurred_at, meter, family, quantity, key,
            camera_id, attributes, content_hash, instance_id, received_at)
        SELECT 'reference', id, occurred_at, meter, family, quantity, key, camera_id,
            attributes::jsonb, content_hash, 'reference', now() FROM staging
        ON CONFLICT DO NOTHING RETURNING occurred_at, meter, quantity, id
    ), minutes AS (
        SELECT meter, date_trunc('minute', occurred_at, 'UTC') AS bucket, sum(quantity) AS quantity,
            count(*) AS events FROM inserted GROUP BY 1, 2
    )
    INSERT INTO usage_aggregates AS a (tenant_id, grain, meter, bucket, quantity, events,
        last_quantity, last_id)
    SELECT 'reference', grain, meter, date_trunc(grain, bucket, 'UTC') AS at, sum(quantity),
        sum(events), 0, '00000000-0000-7000-8000-000000000000'
    FROM minutes CROSS JOIN unnest(ARRAY['minute', 'hour', 'day']) AS grain
    GROUP BY grain, meter, at
    ON CONFLICT (tenant_id, grain, meter, bucket) DO UPDATE SET
        quantity = a.quantity + excluded.quantity, events = a.events + excluded.events
"""


_LEAST: Final = (
    "SELECT meter, sum(quantity) FROM usage_aggregates WHERE tenant_id = 'summary' "
    "AND grain = 'day' AND bucket >= %s GROUP BY meter"
)


@dataclass
class Figures:
    """What was measured.

    Attributes:
        rate: events a second, one process.
        reference: of bare SQL in one session.
        times: seconds of each request of one process.
        two_rate: events a second, two processes.
        busy: share of both processors that was busy meanwhile.
        growth: how much the memory of the process grew after its warm-up, megabytes.
        memory: its memory after the warm-up, megabytes.
        summary: seconds of each usage summary.
        least: seconds of each bare sum of the same days, one statement in an open session.
    """

    rate: float = 0.0
    reference: float = 0.0
    times: list[float] = field(default_factory=list)
    two_rate: float = 0.0
    busy: float = 0.0
    growth: float = 0.0
    memory: float = 0.0
    summary: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)


def p99(times: Sequence[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return sorted(times)[len(times) * 99 // 100] * 1000


def ledger() -> Figures:
    """Fill a ledger and measure in turns.

    Raises:
        StepError: no PostgreSQL, or an answer that is none.
    """
    figures = Figures()
    with running_postgres() as uri, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = make_keys(folder)
        migrate(uri, {API: PASSWORD, ADMIN: PASSWORD})
        customers = [Customer(f"bench-{number}") for number in range(CUSTOMERS)]
        with psycopg.connect(uri, autocommit=True) as connection:
            for customer in customers:
                customer.enroll(connection)
                seed(connection, customer.name, ROWS // CUSTOMERS)
            connection.execute("VACUUM ANALYZE usage_events")
            connection.execute("CHECKPOINT")
        with ExitStack() as stack:
            first = stack.enter_context(_serving(uri, keys, folder / "first.log"))
            second = stack.enter_context(_serving(uri, keys, folder / "second.log"))
            _measure_ingest(figures, uri, customers, first, second)
        _measure_summary(figures, uri)
    return figures


def _measure_ingest(
    figures: Figures, uri: str, customers: Sequence[Customer], first: Served, second: Served
) -> None:
    _send(customers, [first], WARM_UP)
    _send(customers, [second], WARM_UP)
    figures.memory = first.memory
    ours, bare, two, busy = 0.0, 0.0, 0.0, 0.0
    for _ in range(ROUNDS):
        bare += _reference(uri, BATCHES * CUSTOMERS)
        ours += _send(customers, [first], BATCHES, figures.times).seconds
        both = _send(customers, [first, second], BATCHES)
        two += both.seconds
        busy += both.busy / ROUNDS
    events = ROUNDS * BATCHES * CUSTOMERS * MAX_EVENTS
    figures.rate, figures.reference, figures.two_rate = events / ours, events / bare, events / two
    figures.busy, figures.growth = busy, first.memory - figures.memory


def _measure_summary(figures: Figures, uri: str) -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO billing_customers VALUES ('summary', 'summary', '{}', now(), now())"
        )
        seed(connection, "summary", SUMMARY)
        seed_aggregates(connection, "summary", SUMMARY)
        connection.execute("VACUUM ANALYZE usage_aggregates")
    asyncio.run(_summaries(figures, _as_role(uri, API)))


async def _summaries(figures: Figures, uri: str) -> None:
    catalog, now = load_catalog(), datetime.now(UTC)
    async with postgres_pool(uri, max_size=1) as pool:
        aggregator = UsageAggregator(Database(pool), catalog, now)
        for _ in range(SUMMARIES):
            started = time.perf_counter()
            await aggregator.get_summary("summary")
            between = time.perf_counter()
            async with Database(pool).tenant("summary") as connection:
                await connection.execute(_LEAST, [now - timedelta(days=30)])
            ended = time.perf_counter()
            figures.summary.append(between - started)
            figures.least.append(ended - between)


@dataclass(frozen=True)
class Served:
    """A running API."""

    port: int
    pid: int

    @property
    def memory(self) -> float:
        """Resident megabytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE / 1e6


@contextmanager
def _serving(uri: str, keys: Path, log: Path) -> Iterator[Served]:
    port = free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("BRINKBYTE_")},
        "BRINKBYTE_DATABASE_URL": _as_role(uri, API),
        "BRINKBYTE_ADMIN_DATABASE_URL": _as_role(uri, ADMIN),
        "BRINKBYTE_PEPPER": PEPPER,
        "BRINKBYTE_SIGNING_KEYS_DIR": str(keys),
        "BRINKBYTE_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "brinkbyte.billing", "serve", "--port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        wait_for("the billing API", lambda: _listens(port), timeout=60)
        yield Served(port, server.pid)
    finally:
        server.terminate()
        server.wait(timeout=30)


def _as_role(uri: str, role: str) -> str:
    return uri.replace(uri.partition("//")[2].partition("@")[0], f"{role}:{PASSWORD}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Sent:
    """From the first request to the last answer; making the requests is not in it.

    Attributes:
        busy: share of all processors' time that was not idle.
    """

    seconds: float
    busy: float


def _send(
    customers: Sequence[Customer],
    served: Sequence[Served],
    count: int,
    times: list[float] | None = None,
) -> Sent:
    """Send batches of every customer at once, each customer's one after the other."""
    prepared = [list(customer.requests(count)) for customer in customers]
    found: list[float] = [] if times is None else times
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            _one_by_one(served[number % len(served)].port, prepared[number], found)
        except (OSError, StepError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in range(len(customers))]
    started, idle = time.perf_counter(), _idle_seconds()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, idle = time.perf_counter() - started, _idle_seconds() - idle
    if failures:
        raise StepError(f"a batch was not taken in: {failures[0]}")
    return Sent(seconds, 1 - idle / seconds / (os.cpu_count() or 1))


def _one_by_one(port: int, requests: Sequence[bytes], times: list[float]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            started = time.perf_counter()
            answer = exchange(line, request)
            times.append(time.perf_counter() - started)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise StepError(answer.decode(errors="replace")[:500])


def exchange(line: socket.socket, request: bytes) -> bytes:
    """Send a request and return the whole answer."""
    line.sendall(request)
    received = bytearray()
    while True:
        part = line.recv(65_536)
        if not part:
            raise StepError("the connection was closed")
        received += part
        head, end, body = bytes(received).partition(b"\r\n\r\n")
        if end:
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            if len(body) >= int(length):
                return bytes(received)


def _reference(uri: str, count: int) -> float:
    """Write as many events by bare SQL in one session; returns seconds."""
    prepared = [reference_rows("reference") for _ in range(count)]
    with psycopg.connect(uri) as connection:
        connection.execute(
            "CREATE TEMP TABLE staging (id uuid, occurred_at timestamptz, meter text, family text, "
            "quantity numeric, key text, camera_id text, attributes text, content_hash bytea) "
            "ON COMMIT DELETE ROWS"
        )
        connection.commit()
        started = time.perf_counter()
        for rows in prepared:
            with connection.cursor() as cursor, cursor.copy("COPY staging FROM STDIN") as copy:
                copy.write(rows)
            connection.execute(_REFERENCE)
            connection.commit()
        return time.perf_counter() - started


def _idle_seconds() -> float:
    """Return how long all processors together have been idle, waiting for disks included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print what was measured."""
    found = ledger()
    print(
        f"{found.rate:.0f} events/s, bare SQL {found.reference:.0f}, ratio "
        f"{found.rate / found.reference:.2f}, p99 {p99(found.times):.0f} ms; two processes "
        f"{found.two_rate:.0f} ({found.two_rate / found.rate:.2f} x, {found.busy:.0%} busy); "
        f"memory {found.memory:.0f} MB, {found.growth:+.1f} MB; summary p99 "
        f"{p99(found.summary):.1f} ms, bare {p99(found.least):.1f} ms"
    )


if __name__ == "__main__":
    main()
