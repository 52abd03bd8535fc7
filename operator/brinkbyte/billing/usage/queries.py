"""HTTP of what was used: for customers, and for the vendor's people."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query

from brinkbyte.billing.administration.endpoints import Across, CustomerId, Vendor
from brinkbyte.billing.auth import Scope, TenantCaller, tenant_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import lookup as customers
from brinkbyte.billing.usage import quarantine, quarantine_rows
from brinkbyte.billing.usage.aggregator import (
    LONGEST,
    Summary,
    TopConsumer,
    Trend,
    UsageAggregator,
)
from brinkbyte.billing.usage.schemas import (
    Consumption,
    MeterSummary,
    MeterTrend,
    MetricUsage,
    Quarantine,
    QuarantinedEvent,
    ReleaseAnswer,
    TrendPoint,
    UsageSummary,
)
from brinkbyte.billing.usage.sums import Consumer, Grain
from brinkbyte.catalog import Catalog

router = APIRouter(tags=["usage"])
Server = Annotated[Context, Depends(get_context)]
Reader = Annotated[TenantCaller, Depends(tenant_caller(Scope.BILLING_READ))]
Metric = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[a-z][a-z0-9_.]*$")]
Period = Annotated[Literal["current", "previous"], Query(description="billing period")]
Days = Annotated[int, Query(ge=1, le=400, description="days up to now, today included")]
Limit = Annotated[int, Query(ge=1, le=100, description="how many at most")]


def _aggregator(context: Context) -> UsageAggregator:
    now = datetime.fromtimestamp(context.clock(), UTC)
    return UsageAggregator(context.database, context.catalog, now, context.administration)


@router.get("/api/billing/usage")
async def summary(context: Server, caller: Reader, period: Period = "current") -> UsageSummary:
    """Return what was used in a billing period, and what it will come to."""
    found = await _aggregator(context).get_summary(
        caller.tenant_id, periods_ago=int(period == "previous")
    )
    return UsageSummary(
        period_start=found.start, period_end=found.end, meters=_meters(context.catalog, found)
    )


@router.get("/api/billing/usage/{metric}")
async def metric(
    context: Server,
    caller: Reader,
    metric: Metric,
    *,
    period: Period = "current",
    grain: Grain = "day",
    days: Days | None = None,
) -> MetricUsage:
    """Return one meter (``vision.llm_tokens``) or all of a measure (``llm_tokens``)."""
    aggregator = _aggregator(context)
    names = aggregator.meters(metric)
    found = await aggregator.get_summary(
        caller.tenant_id, meters=names, periods_ago=int(period == "previous")
    )
    used = [name for name in names if name in found.used] or names[:1]
    length = days or min(30, LONGEST[grain])
    trends = [
        _trend(await aggregator.get_usage_trends(caller.tenant_id, name, length, grain))
        for name in used
    ]
    return MetricUsage(
        metric=metric,
        period_start=found.start,
        period_end=found.end,
        meters=_meters(context.catalog, found),
        trends=tuple(trends),
    )


@router.get("/api/billing/usage/{metric}/top")
async def top(
    context: Server,
    caller: Reader,
    metric: Metric,
    *,
    by: Consumer = "camera",
    days: Annotated[int, Query(ge=1, le=35)] = 7,
    limit: Limit = 10,
) -> list[Consumption]:
    """Return which cameras or devices used most of a meter in the last days."""
    aggregator = _aggregator(context)
    found: list[Consumption] = []
    for name in aggregator.meters(metric):
        consumers = await aggregator.get_top_consumers(
            name, tenant_id=caller.tenant_id, by=by, days=days, limit=limit
        )
        found += _consumption(name, consumers)
    return found


@router.get("/api/v1/admin/usage/top", tags=["administration"])
async def top_customers(
    context: Server,
    actor: Vendor,
    meter: Annotated[str, Query(min_length=1, max_length=128)],
    days: Annotated[int, Query(ge=1, le=35)] = 30,
    limit: Limit = 10,
) -> list[Consumption]:
    """Return which customers used most of a meter in the last days."""
    aggregator = _aggregator(context)
    found: list[Consumption] = []
    for name in aggregator.meters(meter):
        found += _consumption(
            name, await aggregator.get_top_consumers(name, days=days, limit=limit)
        )
    return found


@router.get("/api/v1/admin/customers/{customer_id}/usage", tags=["administration"])
async def customer_summary(
    context: Server, actor: Vendor, customer_id: CustomerId, period: Period = "current"
) -> UsageSummary:
    """Return what a customer used in a billing period."""
    await customers.require(context, customer_id)
    found = await _aggregator(context).get_summary(
        customer_id, periods_ago=int(period == "previous")
    )
    return UsageSummary(
        period_start=found.start, period_end=found.end, meters=_meters(context.catalog, found)
    )


@router.get("/api/v1/admin/customers/{customer_id}/quarantine", tags=["administration"])
async def quarantined(
    context: Server,
    actor: Vendor,
    customer_id: CustomerId,
    after: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Quarantine:
    """Return what is set aside of a customer and waits for its release."""
    await customers.require(context, customer_id)
    async with context.database.tenant(customer_id) as connection:
        counts = await quarantine_rows.counts(connection, customer_id)
        rows = await quarantine_rows.waiting(connection, customer_id, after, limit)
    events = tuple(
        QuarantinedEvent(
            id=str(row["id"]),
            instance=row["instance_id"],
            epoch=None if row["epoch"] is None else str(row["epoch"]),
            batch_no=row["batch_no"],
            position=row["position"],
            event_id=row["event_id"],
            reason=row["reason"],
            event=bytes(row["event"])[:10_000].decode(errors="replace"),
            received_at=row["received_at"],
        )
        for row in rows
    )
    more = len(events) == limit
    return Quarantine(waiting=counts, events=events, next=events[-1].id if more else None)


@router.post("/api/v1/admin/customers/{customer_id}/quarantine/release", tags=["administration"])
async def release(
    context: Server, actor: Vendor, customer_id: CustomerId, database: Across
) -> ReleaseAnswer:
    """Judge again what is set aside of a customer; what is good now goes into the ledger."""
    found = await quarantine.release(
        database, context.catalog, customer_id, actor=actor, clock=context.clock
    )
    return ReleaseAnswer(released=found.released, known=found.known, kept=dict(found.kept))


def plain(value: Decimal) -> str:
    """Return a quantity as plain decimal text."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _meters(catalog: Catalog, found: Summary) -> tuple[MeterSummary, ...]:
    return tuple(
        MeterSummary(
            meter=name,
            title=catalog.meters[name].title,
            family=catalog.meters[name].family,
            unit=catalog.meters[name].unit,
            kind=catalog.meters[name].kind,
            used=plain(usage.quantity),
            projection=plain(found.projection[name]),
            cost=plain(usage.cost),
            events=usage.events,
        )
        for name, usage in found.used.items()
    )


def _trend(found: Trend) -> MeterTrend:
    change = found.change_percent
    return MeterTrend(
        meter=found.meter,
        grain=found.grain,
        change_percent=None if change is None else plain(change),
        points=tuple(
            TrendPoint(at=point.at, quantity=plain(point.quantity), events=point.events)
            for point in found.points
        ),
    )


def _consumption(meter: str, found: tuple[TopConsumer, ...]) -> list[Consumption]:
    return [
        Consumption(
            meter=meter, consumer=each.consumer, quantity=plain(each.quantity), events=each.events
        )
        for each in found
    ]
