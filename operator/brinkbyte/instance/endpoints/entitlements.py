"""What may be used: by the tenant, or by one camera."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from brinkbyte.instance.http import SERVICE, InstanceDep
from brinkbyte.license.claims import Identifier

router = APIRouter(prefix="/api/v1", tags=["entitlements"], dependencies=[SERVICE])


@router.get("/entitlements")
async def entitlements(
    instance: InstanceDep, camera_id: Annotated[Identifier | None, Query()] = None
) -> dict[str, Any]:
    """Return models, analytics, outputs and quotas in force."""
    if camera_id is None:
        return instance.views.entitlements(None)
    configured = await instance.configured_device(camera_id)
    await instance.license.look_up(camera_id)
    return instance.views.entitlements(instance.license.policy().camera(camera_id, configured))
