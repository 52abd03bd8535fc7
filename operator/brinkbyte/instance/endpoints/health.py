"""Probes without a credential, and metrics with one."""

from __future__ import annotations

from typing import Any

import psycopg
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from psycopg_pool import PoolTimeout

from brinkbyte import __version__
from brinkbyte.instance.http import SERVICE_OR_OPERATOR, InstanceDep
from brinkbyte.kit.errors import TemporaryError

router = APIRouter(tags=["health"])


@router.get("/health")
@router.get("/health/live")
async def live() -> dict[str, Any]:
    """Answer as long as the process can."""
    return {"status": "ok", "version": __version__}


@router.get("/health/ready")
async def ready(instance: InstanceDep) -> dict[str, Any]:
    """Answer 200 when the database does; nothing else stands in the way of work."""
    try:
        async with instance.pool.connection(timeout=2.0) as connection:
            await connection.execute("SELECT 1")
    except (psycopg.Error, PoolTimeout, TemporaryError) as error:
        raise TemporaryError(
            f"the database does not answer ({type(error).__name__}); look at PostgreSQL",
            reason="DatabaseUnavailable",
        ) from None
    return {"status": "ready", "version": __version__}


@router.get("/metrics", dependencies=[SERVICE_OR_OPERATOR])
async def metrics(instance: InstanceDep) -> Response:
    """Return Prometheus metrics."""
    return Response(generate_latest(instance.metrics.registry), media_type=CONTENT_TYPE_LATEST)
