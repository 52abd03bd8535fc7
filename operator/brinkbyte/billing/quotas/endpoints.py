"""HTTP of quotas: the customer's view, cost alerts, reservations of the vendor's services."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from brinkbyte.billing.auth import (
    Scope,
    TenantCaller,
    VendorCaller,
    tenant_caller,
    vendor_emitter,
)
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import lookup as customers
from brinkbyte.billing.http import described_body, json_body
from brinkbyte.billing.idempotency import OnceOnly
from brinkbyte.billing.quotas import costs, enforcement, repository
from brinkbyte.billing.quotas.answers import refused
from brinkbyte.billing.quotas.limits import PERCENT
from brinkbyte.billing.quotas.schemas import (
    CostAlerts,
    CostAlertSet,
    QuotaAlert,
    Quotas,
    QuotaState,
    Reservation,
    Reserved,
    text,
)
from brinkbyte.license.modes import UPGRADE_URL

router = APIRouter(tags=["quotas"])
Server = Annotated[Context, Depends(get_context)]
Reader = Annotated[TenantCaller, Depends(tenant_caller(Scope.BILLING_READ))]
Writer = Annotated[TenantCaller, Depends(tenant_caller(Scope.BILLING_WRITE))]
_HUNDREDTH = Decimal("0.01")


@router.get("/api/billing/quotas")
async def quotas(context: Server, caller: Reader) -> Quotas:
    """Return what was used in the billing period, what is left, and the alerts that came."""
    return await show(context, caller.tenant_id)


async def show(context: Context, tenant_id: str) -> Quotas:
    """Return a customer's quotas; meters of what was not bought are left out, unless used."""
    now = context.now()
    moment = datetime.fromtimestamp(now, UTC)
    async with context.database.tenant(tenant_id) as connection:
        # Any meter will do: all of them are made and brought in line together.
        any_meter = next(iter(context.catalog.meters))
        found = await enforcement.load(connection, context, tenant_id, any_meter)
        start, end = found.quota.period_start, found.quota.period_end
        rows = await repository.quotas(connection, tenant_id, moment)
        alerts: dict[str, list[QuotaAlert]] = {}
        for row in await repository.alerts(connection, tenant_id, start):
            alert = QuotaAlert(
                percent=row["percent"],
                used=text(row["used"]) or "0",
                included=text(row["included"]) or "0",
                at=int(row["at"].timestamp()),
            )
            alerts.setdefault(row["meter"], []).append(alert)
    shown = []
    for row in rows:
        if row["included"] is None and row["ending"] == "not_bought" and not row["used"]:
            continue
        meter = context.catalog.meters.get(row["meter"])
        if meter is None:
            continue
        used, included = row["used"], row["included"]
        over_for, since = row["over_for"], row["over_since"]
        shown.append(
            QuotaState(
                meter=row["meter"],
                title=meter.title,
                unit=meter.unit,
                used=text(used) or "0",
                included=text(included),
                remaining=None if included is None else text(max(Decimal(0), included - used)),
                percent=(
                    text((used * PERCENT / included).quantize(_HUNDREDTH)) if included else None
                ),
                ending=row["ending"],
                ceiling=text(row["ceiling"]),
                refused_from=(
                    None
                    if over_for is None or since is None
                    else int((since + over_for).timestamp())
                ),
                over=included is not None and used > included,
                alerts=tuple(alerts.get(row["meter"], ())),
            )
        )
    return Quotas(
        customer_id=tenant_id,
        period_start=int(start.timestamp()),
        period_end=int(end.timestamp()),
        quotas=tuple(shown),
        upgrade_url=UPGRADE_URL,
    )


@router.post("/api/v1/quotas/reserve", openapi_extra=described_body(Reservation))
async def reserve(
    context: Server,
    caller: Annotated[VendorCaller, Depends(vendor_emitter)],
    request: Annotated[Reservation, Depends(json_body(Reservation))],
) -> Reserved:
    """Count what a service of the vendor's own is about to use; 429 when it does not fit."""
    await customers.require(context, request.customer_id)
    enforcement.check_family(context, caller, request.meter)
    use = enforcement.Use(
        request.meter,
        request.quantity,
        None if request.event_id is None else UUID(request.event_id),
        caller.actor,
    )
    found = await enforcement.reserve(context, request.customer_id, use)
    if not found.allowed:
        raise refused(found, context.now())
    return Reserved(
        allowed=True,
        meter=request.meter,
        used=text(found.used) or "0",
        limit=text(found.included),
        remaining=text(found.remaining),
        warning=found.message or None,
        event_id=found.event_id,
        repeated=found.repeated,
    )


@router.get("/api/billing/cost-alerts")
async def cost_alerts(context: Server, caller: Reader) -> CostAlerts:
    """Return the amounts to be told of, beside what the period costs and will have cost."""
    async with context.database.tenant(caller.tenant_id) as connection:
        return await costs.show(connection, context.catalog, caller.tenant_id, context.now())


@router.post("/api/billing/cost-alerts", openapi_extra=described_body(CostAlertSet))
async def add_cost_alert(
    context: Server,
    caller: Writer,
    once: OnceOnly,
    request: Annotated[CostAlertSet, Depends(json_body(CostAlertSet))],
) -> CostAlerts:
    """Set an amount to be told of, once a billing period."""
    return await once.run(
        caller.tenant_id,
        CostAlerts,
        lambda connection: costs.add(
            connection,
            context.catalog,
            caller.tenant_id,
            request,
            actor=caller.actor,
            now=context.now(),
        ),
    )


@router.delete("/api/billing/cost-alerts/{alert}", status_code=204)
async def remove_cost_alert(context: Server, caller: Writer, alert: UUID) -> None:
    """Delete a cost alert."""
    async with context.database.tenant(caller.tenant_id) as connection:
        await costs.remove(
            connection, caller.tenant_id, alert, actor=caller.actor, now=context.now()
        )
