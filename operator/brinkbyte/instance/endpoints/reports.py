"""Dashboards, the site's free settings, and how the database does."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from brinkbyte.instance.http import SERVICE, SERVICE_OR_OPERATOR, InstanceDep
from brinkbyte.instance.schemas import ConfigBody

router = APIRouter(prefix="/api/v1", tags=["reports"])
ConfigKey = Annotated[str, Path(max_length=200, pattern=r"^[A-Za-z0-9][\w.:@-]*$")]


@router.get("/dashboard", dependencies=[SERVICE])
async def dashboard(
    instance: InstanceDep, days: Annotated[int, Query(ge=1, le=400)] = 30
) -> dict[str, Any]:
    """Return cameras with their seats and activity, days, and use, a few minutes old."""
    return await instance.reports.dashboard(days)


@router.get("/license/cameras", dependencies=[SERVICE])
async def licensed_cameras(
    instance: InstanceDep,
    after: Annotated[str, Query(max_length=128, pattern=r"^[^\x00]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Return seats with what they allow, page by page."""
    return await instance.reports.licensed_cameras(after, limit)


@router.get("/database", dependencies=[SERVICE_OR_OPERATOR])
async def database(instance: InstanceDep) -> dict[str, Any]:
    """Return partitions, sizes, metering, refreshes, and the statements that take most time."""
    return await instance.reports.database()


@router.get("/config", dependencies=[SERVICE])
async def get_config(instance: InstanceDep) -> dict[str, Any]:
    """Return the site's free settings."""
    return await instance.reports.settings()


@router.put("/config/{key}", dependencies=[SERVICE])
async def put_config(key: ConfigKey, body: ConfigBody, instance: InstanceDep) -> dict[str, Any]:
    """Set one of the site's free settings, to any JSON of 8 KiB at most."""
    return await instance.reports.set_setting(key, body.value)


@router.delete("/config/{key}", status_code=204, dependencies=[SERVICE])
async def delete_config(key: ConfigKey, instance: InstanceDep) -> None:
    """Remove one of the site's free settings."""
    await instance.reports.delete_setting(key)
