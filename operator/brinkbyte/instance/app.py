"""Puts the application together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg_pool import PoolTimeout

from brinkbyte import __version__
from brinkbyte.instance.background import Background
from brinkbyte.instance.container import open_instance
from brinkbyte.instance.endpoints import (
    cameras,
    entitlements,
    frames,
    health,
    inference,
    internal,
    license,  # noqa: A004 - the endpoint group's name
    reports,
    telemetry,
    usage,
)
from brinkbyte.instance.http import SERVICE, Gate
from brinkbyte.instance.metrics import Metrics
from brinkbyte.instance.settings import InstanceSettings
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.problem import install_problem_handlers, problem
from brinkbyte.license.keys import PublicJwk
from brinkbyte.trust import trusted_roots

_log = get_logger(__name__)


def create_app(
    settings: InstanceSettings, *, roots: Mapping[str, PublicJwk] | None = None
) -> FastAPI:
    """Return the customer-instance API; nothing is opened before its lifespan begins.

    Args:
        settings: of the program.
        roots: root public keys; the release's own by default.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        trusted = trusted_roots() if roots is None else roots
        async with open_instance(settings, trusted, metrics) as instance:
            instance.credentials.reload()
            await instance.license.start()
            app.state.instance = instance
            async with Background(instance).running():
                yield

    app = FastAPI(
        title="BrinkByte Vision customer instance",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    install_problem_handlers(app)
    _install_database_handlers(app)
    app.add_middleware(Gate, metrics=metrics)
    rooms = (cameras, frames, telemetry, inference)
    for module in (health, license, entitlements, usage, *rooms, reports, internal):
        app.include_router(module.router)

    @app.get("/openapi.json", dependencies=[SERVICE], include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    return app


def _install_database_handlers(app: FastAPI) -> None:
    async def unavailable(_request: Request, error: Exception) -> JSONResponse:
        _log.warning("database unavailable", error=str(error))
        return problem(
            503,
            "the database did not answer in time; whether anything was changed is not known. Send "
            "the request again, with the Idempotency-Key that it had",
            reason="DatabaseUnavailable",
            headers={"Retry-After": "2"},
        )

    for kind in (psycopg.OperationalError, PoolTimeout):
        app.add_exception_handler(kind, unavailable)
