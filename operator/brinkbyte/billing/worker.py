"""``brinkbyte billing worker``: one process that runs jobs; several may run beside each other.

Each job has a loop of its own. One that fails is logged and tried again, at the latest after a
minute; ``/metrics`` has when each succeeded last, and how late the latest invoice is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest

from brinkbyte.billing.db import Database
from brinkbyte.billing.invoices.settings import InvoiceSettings
from brinkbyte.billing.jobs import Job, WorkerContext, all_jobs
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.notifications.settings import NotificationSettings
from brinkbyte.billing.providers.opening import open_provider
from brinkbyte.billing.quotas.cache import QuotaCache
from brinkbyte.billing.settings import ProviderSettings, WorkerSettings
from brinkbyte.billing.subscriptions import repository as subscriptions
from brinkbyte.catalog import load_catalog
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import postgres_pool

RETRY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
_log = get_logger(__name__)


class Loops:
    """Runs jobs until it is told to stop."""

    def __init__(self, context: WorkerContext, jobs: Sequence[Job], metrics: WorkerMetrics) -> None:
        self.context = context
        self.jobs = jobs
        self.metrics = metrics
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, job: Job) -> bool:
        """Run a job once; False: it failed, and the log says how."""
        started = time.monotonic()
        try:
            await job.run(self.context)
        except Exception as error:  # noqa: BLE001 - logged; the loop goes on
            self.metrics.runs.labels(job.name, "failed").inc()
            _log.exception("job failed", job=job.name, error=type(error).__name__)
            return False
        self.metrics.runs.labels(job.name, "done").inc()
        self.metrics.last_success.labels(job.name).set(self.context.clock())
        self.metrics.seconds.labels(job.name).set(time.monotonic() - started)
        return True

    async def _loop(self, job: Job) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            pause = job.every if await self.run(job) else min(job.every, RETRY_SECONDS)
            left = max(0.0, pause - (time.monotonic() - started))
            try:
                async with asyncio.timeout(left):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def start(self) -> None:
        """Start every loop."""
        self._tasks = [asyncio.create_task(self._loop(job), name=job.name) for job in self.jobs]

    async def stop(self) -> None:
        """Let what runs come to its end; after a while it is cut off, which loses nothing."""
        self._stopping.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class WorkerMetrics:
    """What Prometheus reads of a worker."""

    def __init__(self, registry: Any) -> None:
        self.last_success = Gauge(
            "brinkbyte_billing_worker_last_success_seconds",
            "Unix time at which a job succeeded last",
            ["job"],
            registry=registry,
        )
        self.runs = Counter(
            "brinkbyte_billing_worker_runs",
            "Runs of a job, by what became of them",
            ["job", "outcome"],
            registry=registry,
        )
        self.seconds = Gauge(
            "brinkbyte_billing_worker_run_seconds",
            "How long a job's last run took",
            ["job"],
            registry=registry,
        )
        self.failing = Gauge(
            "brinkbyte_billing_worker_failing_customers",
            "Customers for whom a job failed in its last run",
            ["job"],
            registry=registry,
        )
        self.lag = Gauge(
            "brinkbyte_billing_worker_lag_seconds",
            "How long the oldest boundary without its invoice has passed",
            registry=registry,
        )


@asynccontextmanager
async def open_worker(
    settings: WorkerSettings,
    *,
    clock: Callable[[], float] = time.time,
    jobs: Sequence[Job] | None = None,
    provider: ProviderSettings | None = None,
    notifications: NotificationSettings | None = None,
) -> AsyncIterator[Loops]:
    """Open what jobs need.

    Args:
        settings: validated settings.
        clock: returns Unix seconds.
        jobs: by default all.
        provider: who collects; by default as the environment says.
        notifications: how people are told; by default likewise.
    """
    metrics = Metrics()
    own = WorkerMetrics(metrics.registry)
    catalog = load_catalog(settings.catalog)
    invoicing = InvoiceSettings.load()
    notifications = notifications or NotificationSettings.load()
    chosen = provider or ProviderSettings.load()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            postgres_pool(
                settings.worker_database_url.get_secret_value(),
                max_size=settings.pool_size,
                name="brinkbyte-billing-worker",
            )
        )
        database = Database(pool)
        collector = await stack.enter_async_context(open_provider(chosen, database, clock))
        redis_url = settings.redis_url
        cache = QuotaCache(None if redis_url is None else redis_url.get_secret_value())
        stack.push_async_callback(cache.aclose)
        context = WorkerContext(
            database=database,
            catalog=catalog,
            clock=clock,
            invoicing=invoicing,
            metrics=metrics,
            provider=collector,
            notifications=notifications,
            quota_cache=cache,
            failing=lambda job, count: own.failing.labels(job).set(count),
        )
        yield Loops(context, all_jobs() if jobs is None else jobs, own)


def create_worker_app(
    settings: WorkerSettings, *, clock: Callable[[], float] = time.time
) -> FastAPI:
    """Build the worker as an application that also answers ``/health`` and ``/metrics``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_worker(settings, clock=clock) as loops:
            app.state.loops = loops
            loops.start()
            try:
                yield
            finally:
                await loops.stop()

    app = FastAPI(title="BrinkByte billing worker", lifespan=lifespan, openapi_url=None)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answer while the process runs; with a database that is away a restart heals nothing."""
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return Prometheus metrics."""
        loops: Loops = app.state.loops
        await set_lag(loops)
        registry = loops.context.metrics.registry
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def set_lag(loops: Loops) -> None:
    """Look how late invoices are; as it was while the database does not answer."""
    context = loops.context
    try:
        async with asyncio.timeout(3), context.database.nobody() as connection:
            oldest = await subscriptions.oldest_boundary(connection)
    except Exception as error:  # noqa: BLE001 - metrics are answered whatever the database does
        _log.warning("the lag is as it was", error=type(error).__name__)
        return
    late = 0.0 if oldest is None else context.clock() - oldest.timestamp()
    loops.metrics.lag.set(max(0.0, late))


def serve_worker(settings: WorkerSettings) -> None:
    """Run until a signal says stop."""
    uvicorn.run(
        create_worker_app(settings),
        host=settings.worker_host,
        port=settings.worker_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=20,
    )


def run_once(settings: WorkerSettings) -> list[str]:
    """Run every job once, one after the other; returns the names of those that failed."""

    async def run() -> list[str]:
        async with open_worker(settings) as loops:
            return [job.name for job in loops.jobs if not await loops.run(job)]

    return asyncio.run(run())
