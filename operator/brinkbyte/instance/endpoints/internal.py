"""What the operator asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from brinkbyte.instance.http import OPERATOR, InstanceDep
from brinkbyte.resources.state import InstanceState

router = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[OPERATOR])


@router.get("/state")
async def state(
    instance: InstanceDep, since: Annotated[int, Query(ge=0, lt=2**63)] = 0
) -> InstanceState:
    """Return license, use, metering, Triton, and devices that changed since a revision."""
    return await instance.views.state(since)
