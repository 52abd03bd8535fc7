"""What was metered."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from brinkbyte.instance.http import SERVICE, InstanceDep

router = APIRouter(prefix="/api/v1/usage", tags=["usage"], dependencies=[SERVICE])


@router.get("/summary")
async def summary(
    instance: InstanceDep,
    since: Annotated[AwareDatetime | None, Query()] = None,
    until: Annotated[AwareDatetime | None, Query()] = None,
) -> dict[str, Any]:
    """Return use by meter, by default of this calendar month (UTC), and how reporting stands."""
    return await instance.views.usage(since, until)
