"""Usage and quotas of the billing period.

For money, counters are summed and gauges averaged by day (:func:`period_usage`). For limits, there
is a row per meter and period (``usage_quotas``): a counter's sum, a gauge's newest value, counted
in the ledger's transaction (:func:`count`) and made when a period begins or something else was
bought (:func:`renew`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from brinkbyte.billing.db import Connection
from brinkbyte.billing.quotas import alerts, repository
from brinkbyte.billing.quotas.limits import limits_of
from brinkbyte.billing.quotas.repository import DaySum
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.standing import Standing, entitlements_of, standing_of
from brinkbyte.billing.usage import repository as ledger
from brinkbyte.billing.usage import sums
from brinkbyte.billing.usage.columns import number
from brinkbyte.billing.usage.events import LedgerEvent
from brinkbyte.billing.usage.periods import usage_of
from brinkbyte.catalog import Catalog, CostLine, month_cost

ZERO = Decimal(0)
_DAY_MILLISECONDS: Final = 86_400_000
_JUST: Final = timedelta(microseconds=1)


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


async def period_usage(
    connection: Connection, catalog: Catalog, tenant_id: str, standing: Standing, now: int
) -> PeriodUsage:
    """Return what a customer used in the current billing period."""
    start, end = standing.period(now)
    until = min(end, datetime.fromtimestamp(now, UTC) + _JUST)
    vector = await sums.period_vector(connection, tenant_id, start, end)
    used = usage_of(catalog, vector, start, until)
    return PeriodUsage(
        start,
        end,
        {name: found.quantity for name, found in used.items()},
        {
            name: found.cost
            for name, found in used.items()
            if catalog.meters[name].pass_through is not None
        },
    )


def cost_so_far(catalog: Catalog, standing: Standing, usage: PeriodUsage) -> tuple[CostLine, ...]:
    """Return what the period costs so far, line by line."""
    carried = {
        name: usage.costs.get(name, ZERO)
        for name, meter in catalog.meters.items()
        if meter.pass_through is not None and name in usage.used
    }
    return month_cost(catalog, standing.terms, usage.used, carried_costs=carried)


async def renew(
    connection: Connection, catalog: Catalog, tenant_id: str, standing: Standing, now: int
) -> None:
    """Bring the quotas of the running period in line with what is bought; safe to repeat.

    Call it in the transaction that changes a subscription, after the change. It takes the
    customer's ledger lock. A new period's quotas take what the ledger has of it; those that are
    there keep what was counted.

    Args:
        connection: a transaction of the customer's.
        catalog: the price list.
        tenant_id: whose quotas.
        standing: of the subscription as it is now.
        now: Unix seconds.
    """
    moment = datetime.fromtimestamp(now, UTC)
    start, end = standing.period(now)
    limits = limits_of(catalog, entitlements_of(catalog, standing))
    # Whoever writes events holds this lock too: none comes between the sums and the rows, and
    # nobody changes the same rows in another order.
    await ledger.lock_chain(connection, tenant_id)
    if not await repository.has_period(connection, tenant_id, start, end, limits):
        await repository.open_period(
            connection,
            tenant_id,
            limits.values(),
            catalog=catalog.version,
            start=start,
            end=end,
            now=moment,
        )
    else:
        await repository.change_limits(
            connection,
            tenant_id,
            limits.values(),
            catalog=catalog.version,
            start=start,
            now=moment,
        )
    percents = catalog.rules.alert_percents
    crossed = await repository.crossed(connection, tenant_id, moment, percents)
    await alerts.raise_crossed(connection, catalog, tenant_id, crossed, now)


async def renew_current(
    connection: Connection, catalog: Catalog, tenant_id: str, now: int
) -> Standing:
    """Call :func:`renew` for the subscription as it is, and return its standing."""
    standing = standing_of(await history.current(connection, catalog, tenant_id, now))
    await renew(connection, catalog, tenant_id, standing, now)
    return standing


def day_sums(events: Iterable[LedgerEvent]) -> list[DaySum]:
    """Return what events add up to, by meter and UTC day; the newest is of the greatest id."""
    sums: dict[tuple[str, int], list[int]] = {}
    newest: dict[tuple[str, int], str] = {}
    for item in events:
        event = item.event
        place = (event.meter, item.millisecond // _DAY_MILLISECONDS)
        held = sums.get(place)
        if held is None:
            sums[place], newest[place] = [item.nanos, item.nanos], event.id
            continue
        held[0] += item.nanos
        if event.id > newest[place]:
            newest[place], held[1] = event.id, item.nanos
    return [
        DaySum(
            meter,
            datetime.fromtimestamp(day * _DAY_MILLISECONDS // 1000, UTC),
            Decimal(number(total)),
            Decimal(number(last)),
            UUID(newest[meter, day]),
        )
        for (meter, day), (total, last) in sorted(sums.items())
    ]


async def count_events(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    events: Iterable[LedgerEvent],
    now: datetime,
) -> None:
    """Call :func:`count` with events that were new in the ledger."""
    await count(connection, catalog, tenant_id, day_sums(events), int(now.timestamp()))


async def count(
    connection: Connection, catalog: Catalog, tenant_id: str, sums: Iterable[DaySum], now: int
) -> None:
    """Count events that are new in the ledger, and raise the alerts that follow.

    Call it in the ledger's transaction, under its lock and after events and aggregates were
    written, with sums of the events that were inserted: a repeated event is in none.

    Args:
        connection: the ledger's transaction.
        catalog: the price list.
        tenant_id: whose events.
        sums: by meter and UTC day of the events; late ones count in the period of their day.
        now: Unix seconds.
    """
    moment = datetime.fromtimestamp(now, UTC)
    percents = catalog.rules.alert_percents
    counted = await repository.count_ledger(connection, tenant_id, sums, moment, percents)
    if counted.current:
        await alerts.raise_crossed(connection, catalog, tenant_id, counted.crossed, now)
    else:
        # The first of a period: its quotas take these events from the ledger's sums.
        await renew_current(connection, catalog, tenant_id, now)
