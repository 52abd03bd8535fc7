"""Usage of the billing period by meter; counters are summed, gauges averaged by day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from brinkbyte.billing.db import Connection
from brinkbyte.billing.quotas import repository
from brinkbyte.billing.subscriptions.standing import Standing
from brinkbyte.catalog import Catalog, CostLine, Entitlements, month_cost
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.license.wire import EntitlementAnswer, EntitlementCheck

ZERO = Decimal(0)


@dataclass(frozen=True)
class PeriodUsage:
    """What was used in the period so far, in each meter's unit.

    Attributes:
        costs: sums of the costs that events carry, by pass-through meter.
    """

    start: datetime
    end: datetime
    used: Mapping[str, Decimal]
    costs: Mapping[str, Decimal]
    events: Mapping[str, int]


def gauge_mean(
    snapshots: Mapping[datetime, Decimal], before: Decimal | None, start: datetime, now: datetime
) -> Decimal:
    """Return the mean of daily snapshots so far; a missing one repeats the last.

    Days before the first value ever do not count.
    """
    values: list[Decimal] = []
    last = before
    day = start
    while day <= now:
        last = snapshots.get(day, last)
        if last is not None:
            values.append(last)
        day += timedelta(days=1)
    if not values:
        return ZERO
    return (sum(values, ZERO) / len(values)).quantize(Decimal("1e-9"))


async def period_usage(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    standing: Standing,
    now: int,
    *,
    meter: str | None = None,
) -> PeriodUsage:
    """Return what a customer used in the current billing period."""
    start, end = standing.period(now)
    moment = datetime.fromtimestamp(now, UTC)
    rows = await repository.days(connection, tenant_id, start, end, meter)
    before = await repository.last_before(connection, tenant_id, start, meter)
    by_meter: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        by_meter.setdefault(row["meter"], []).append(row)
    used: dict[str, Decimal] = {}
    costs: dict[str, Decimal] = {}
    events: dict[str, int] = {}
    for name, spec in catalog.meters.items():
        listed = [row for row in rows if row["meter"] == name]
        if spec.kind == "gauge":
            if listed or name in before:
                snapshots = {row["bucket"]: row["last_quantity"] for row in listed}
                used[name] = gauge_mean(snapshots, before.get(name), start, moment)
        elif listed:
            used[name] = sum((row["quantity"] for row in listed), ZERO)
        if listed:
            events[name] = sum(row["events"] for row in listed)
            if spec.pass_through is not None:
                costs[name] = sum((row["cost"] for row in listed), ZERO)
    return PeriodUsage(start, end, used, costs, events)


async def used_of(
    connection: Connection, catalog: Catalog, standing: Standing, meter: str, now: int
) -> Decimal:
    """Return what the transaction's tenant used of one meter in the period."""
    cursor = await connection.execute("SELECT current_tenant() AS tenant_id")
    row = await cursor.fetchone()
    if row is None or row["tenant_id"] is None or meter not in catalog.meters:
        return ZERO
    usage = await period_usage(connection, catalog, row["tenant_id"], standing, now, meter=meter)
    return usage.used.get(meter, ZERO)


def cost_so_far(catalog: Catalog, standing: Standing, usage: PeriodUsage) -> tuple[CostLine, ...]:
    """Return what the period costs so far, line by line."""
    carried = {
        name: usage.costs.get(name, ZERO)
        for name, meter in catalog.meters.items()
        if meter.pass_through is not None and name in usage.used
    }
    return month_cost(catalog, standing.terms, usage.used, carried_costs=carried)


def decide(
    catalog: Catalog, entitled: Entitlements, check: EntitlementCheck, used: Decimal
) -> EntitlementAnswer:
    """Answer whether a quantity of a meter fits what is included."""
    if check.name not in catalog.meters:
        return EntitlementAnswer(
            allowed=False,
            reason="UnknownMeter",
            message=f"there is no meter {check.name!r}; known: {', '.join(catalog.meters)}",
        )
    allowance = entitled.allowances.get(check.name)
    whole = int(used)
    if allowance is None or allowance.included is None:
        return EntitlementAnswer(allowed=True, used=whole)
    limit = allowance.included
    after = used + check.quantity
    ceiling = Decimal(limit)
    if allowance.overage is not None:
        ceiling = Decimal("Infinity")
    elif allowance.cap == "soft":
        ceiling = Decimal(limit) * catalog.rules.soft_cap.refuse_percent / 100
    allowed = after <= ceiling
    return EntitlementAnswer(
        allowed=allowed,
        remaining=max(0, limit - whole),
        used=whole,
        limit=limit,
        reason="" if allowed else "QuotaExceeded",
        message=""
        if allowed
        else f"{whole} of {limit} {check.name} are used this period. See {UPGRADE_URL}",
        upgrade_url=None if allowed else UPGRADE_URL,
    )
