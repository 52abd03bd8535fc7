"""What the ledger has of a customer, for the customer's site to compare. Reads only."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from brinkbyte.billing.auth import InstanceCaller, Scope, instance_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.usage import reconciling_rows as rows
from brinkbyte.license.claims import Quarantined
from brinkbyte.metering.reconciling import FIRST_ID, LAST_ID, PAGE, LedgerBatches, LedgerEvents

_NO_EPOCH: Final = UUID(int=0)
_FIRST: Final = UUID(FIRST_ID)
_LAST: Final = UUID(LAST_ID)
router = APIRouter(tags=["usage"])
Server = Annotated[Context, Depends(get_context)]
Caller = Annotated[InstanceCaller, Depends(instance_caller(Scope.USAGE))]
Limit = Annotated[int, Query(ge=1, le=PAGE)]


@router.get("/api/v1/usage/events")
async def events(
    context: Server,
    caller: Caller,
    after: UUID = _FIRST,
    until: UUID = _LAST,
    limit: Limit = PAGE,
) -> LedgerEvents:
    """Return ids and content hashes of the customer's events, from whichever instance."""
    async with context.database.tenant(caller.tenant_id) as connection:
        found = await rows.event_hashes(connection, caller.tenant_id, after, until, limit)
        last = found[-1]["id"] if len(found) == limit else None
        # The page's own range: what is set aside right at its last id belongs to it.
        end = str(until) if last is None else f"{last}~"
        aside = await rows.set_aside(connection, caller.tenant_id, str(after), end)
    return LedgerEvents(
        events=tuple((row["id"], row["hash"]) for row in found),
        quarantined=tuple(Quarantined(id=row["event_id"], reason=row["reason"]) for row in aside),
        next=last,
    )


@router.get("/api/v1/usage/batches")
async def batches(
    context: Server,
    caller: Caller,
    epoch: UUID = _NO_EPOCH,
    batch_no: Annotated[int, Query(alias="batchNo", ge=0, le=2**53 - 1)] = 0,
    limit: Limit = PAGE,
) -> LedgerBatches:
    """Return the customer's batches after one, by epoch and number."""
    async with context.database.tenant(caller.tenant_id) as connection:
        found = await rows.batch_hashes(connection, caller.tenant_id, epoch, batch_no, limit)
    return LedgerBatches(
        batches=tuple((row["epoch"], row["batch_no"], row["hash"]) for row in found),
        more=len(found) == limit,
    )
