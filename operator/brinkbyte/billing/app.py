"""The application: dependencies open in start-up and close in clean-up, nothing at import."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from psycopg_pool import PoolTimeout
from redis.asyncio import Redis

from brinkbyte import __version__
from brinkbyte.billing.administration.gauges import Gauges
from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.context import Context, GatewayNames
from brinkbyte.billing.db import Database
from brinkbyte.billing.licenses.keys import KeyRing, release_roots
from brinkbyte.billing.openapi import complete
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks
from brinkbyte.billing.quotas.cache import QuotaCache
from brinkbyte.billing.rate_limits import Limiter, RateLimits
from brinkbyte.billing.routers import ROUTERS
from brinkbyte.billing.settings import ServerSettings
from brinkbyte.billing.shield import Shield
from brinkbyte.billing.usage import repository as ledger
from brinkbyte.catalog import load_catalog
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import postgres_pool
from brinkbyte.kit.problem import install_problem_handlers, problem

_log = get_logger(__name__)


def create_app(settings: ServerSettings, *, clock: Callable[[], float] = time.time) -> FastAPI:
    """Build the application.

    Args:
        settings: validated settings.
        clock: returns Unix seconds.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keyring = KeyRing(settings.signing_keys_dir, release_roots(), clock=clock)
        catalog = load_catalog(settings.catalog)
        async with AsyncExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 2, "sign"))
            pool = await stack.enter_async_context(
                postgres_pool(
                    settings.database_url.get_secret_value(),
                    max_size=settings.pool_size,
                    name="brinkbyte-billing",
                )
            )
            across = None
            if settings.admin_database_url is not None:
                across = await stack.enter_async_context(
                    postgres_pool(
                        settings.admin_database_url.get_secret_value(),
                        max_size=2,
                        name="brinkbyte-billing-admin",
                    )
                )
            redis_url = (
                None if settings.redis_url is None else settings.redis_url.get_secret_value()
            )
            secrets = settings.webhook_secrets()
            quota_cache = QuotaCache(redis_url)
            stack.push_async_callback(quota_cache.aclose)
            app.state.context = Context(
                database=Database(pool),
                secrets=Secrets(settings.pepper.get_secret_value()),
                keyring=keyring,
                catalog=catalog,
                clock=clock,
                threads=threads,
                administration=None if across is None else Database(across),
                webhooks=StripeWebhooks(secrets, clock) if secrets else None,
                quota_cache=quota_cache,
                webhook_allow_private=settings.webhook_allow_private,
                gateway=GatewayNames(
                    settings.gateway_meter,
                    settings.gateway_meter_header,
                    settings.gateway_quantity_header,
                    settings.gateway_customer_header,
                ),
            )
            app.state.gauges = Gauges(app.state.context)
            if redis_url is not None:
                redis = Redis.from_url(redis_url, socket_timeout=0.5, socket_connect_timeout=0.5)
                stack.push_async_callback(redis.aclose)
                app.state.limiter.redis = redis
            app.state.started = time.monotonic()
            yield

    app = FastAPI(
        title="BrinkByte billing API", version=__version__, lifespan=lifespan, redoc_url=None
    )
    app.state.limiter = Limiter(settings.rate_limit)
    install_problem_handlers(app)
    _install_database_handlers(app)
    # The last one added is the outermost.
    app.add_middleware(RateLimits)
    _install_probes(app)
    app.add_middleware(Shield)
    for router in ROUTERS:
        app.include_router(router)
    complete(app)
    return app


def _install_database_handlers(app: FastAPI) -> None:
    async def unavailable(_request: Request, error: Exception) -> Response:
        _log.warning("database unavailable", error=type(error).__name__)
        return problem(
            503,
            "the database does not answer; try again",
            reason="DatabaseUnavailable",
            headers={"Retry-After": "2"},
        )

    async def unstorable(_request: Request, error: Exception) -> Response:
        _log.warning("value refused by the database", error=type(error).__name__)
        return problem(
            422,
            "a text has characters that cannot be stored (NUL); correct it and send again",
            reason="InvalidRequest",
        )

    app.add_exception_handler(psycopg.OperationalError, unavailable)
    app.add_exception_handler(PoolTimeout, unavailable)
    app.add_exception_handler(psycopg.DataError, unstorable)


def _install_probes(app: FastAPI) -> None:
    @app.middleware("http")
    async def measure(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        context: Context = request.app.state.context
        context.metrics.requests.labels(request.method, path, str(response.status_code)).observe(
            time.perf_counter() - started
        )
        return response

    @app.get("/health", tags=["probes"])
    async def health(request: Request) -> Response:
        """Answer 200 while the database answers, else 503."""
        context: Context = request.app.state.context
        try:
            async with asyncio.timeout(3), context.database.nobody() as connection:
                end = await ledger.ledger_end(connection)
        except (psycopg.Error, PoolTimeout, TimeoutError):
            return problem(
                503,
                "the database does not answer",
                reason="DatabaseUnavailable",
                headers={"Retry-After": "2"},
            )
        context.metrics.ledger_end.set(0.0 if end is None else end.timestamp())
        context.metrics.key_set_end.set(context.keyring.expires_at)
        return Response('{"status":"ok"}', media_type="application/json")

    @app.get("/stats", tags=["probes"])
    async def stats(request: Request) -> dict[str, Any]:
        """Return this process's own figures; no customer's data."""
        context: Context = request.app.state.context
        return {
            "version": __version__,
            "catalog": context.catalog.version,
            "keySetNumber": context.keyring.number,
            "uptimeSeconds": int(time.monotonic() - app.state.started),
            **_counts(context),
        }

    @app.get("/metrics", tags=["probes"], response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Return Prometheus metrics."""
        context: Context = request.app.state.context
        gauges: Gauges = request.app.state.gauges
        await gauges.refresh()
        return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _counts(context: Context) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {"batches": {}, "events": {}, "tokens": {}}
    named = (
        ("batches", context.metrics.batches),
        ("events", context.metrics.events),
        ("tokens", context.metrics.tokens),
    )
    for name, counter in named:
        for metric in counter.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    counts[name][next(iter(sample.labels.values()))] = int(sample.value)
    return counts
