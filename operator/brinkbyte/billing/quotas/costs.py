"""What the period will have cost, and alerts at amounts that a customer has set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Protocol
from uuid import UUID, uuid4

from brinkbyte.billing import audit
from brinkbyte.billing.db import Connection, Database
from brinkbyte.billing.notifications.outbox import Kind, enqueue
from brinkbyte.billing.quotas import cost_repository, service
from brinkbyte.billing.quotas.schemas import CostAlert, CostAlerts, CostAlertSet
from brinkbyte.billing.quotas.service import PeriodUsage
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.standing import Standing, standing_of
from brinkbyte.billing.usage.periods import projected
from brinkbyte.catalog import Catalog
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.modes import UPGRADE_URL

MAX_ALERTS: Final = 20
_MINOR: Final = 100


class CostContext(Protocol):
    """What looking after cost alerts needs."""

    @property
    def database(self) -> Database:
        """Transactions of the role api or worker."""
        ...

    @property
    def catalog(self) -> Catalog:
        """The price list."""
        ...


@dataclass(frozen=True)
class Costs:
    """What a period costs, in the currency's main unit, before tax."""

    start: datetime
    end: datetime
    so_far: Decimal
    projected: Decimal


def project(usage: PeriodUsage, catalog: Catalog, now: int) -> PeriodUsage:
    """Return what will have been used at the end of the period if use goes on as it did."""
    moment = datetime.fromtimestamp(now, UTC)

    def grown(name: str, value: Decimal) -> Decimal:
        gauge = catalog.meters[name].kind == "gauge"
        return projected(value, gauge=gauge, start=usage.start, end=usage.end, now=moment)

    return replace(
        usage,
        used={name: grown(name, value) for name, value in usage.used.items()},
        costs={name: grown(name, value) for name, value in usage.costs.items()},
    )


async def costs(
    connection: Connection, catalog: Catalog, tenant_id: str, standing: Standing, now: int
) -> Costs:
    """Return what the running period costs so far and will have cost."""
    usage = await service.period_usage(connection, catalog, tenant_id, standing, now)

    def total(used: PeriodUsage) -> Decimal:
        lines = service.cost_so_far(catalog, standing, used)
        return sum((line.amount for line in lines), Decimal("0.00"))

    return Costs(usage.start, usage.end, total(usage), total(project(usage, catalog, now)))


async def evaluate(context: CostContext, now: int) -> int:
    """Tell customers whose amounts are reached; the worker's job, at best hourly.

    Returns:
        How many notifications are new.
    """
    async with context.database.nobody() as connection:
        tenants = await cost_repository.tenants(connection)
    return await evaluate_all(context, tenants, now)


async def evaluate_all(context: CostContext, tenants: Iterable[str], now: int) -> int:
    """Tell these customers, each in a transaction of its own."""
    told = 0
    for tenant_id in tenants:
        async with context.database.tenant(tenant_id) as connection:
            told += await evaluate_in(connection, context.catalog, tenant_id, now)
    return told


async def evaluate_in(connection: Connection, catalog: Catalog, tenant_id: str, now: int) -> int:
    """Tell one customer; each amount once a billing period."""
    alerts = await cost_repository.listed(connection, tenant_id)
    if not alerts:
        return 0
    standing = standing_of(await history.current(connection, catalog, tenant_id, now))
    if standing.subscription_id is None:
        return 0
    found = await costs(connection, catalog, tenant_id, standing, now)
    told = 0
    for alert in alerts:
        amount = Decimal(alert["amount"]) / _MINOR
        reached = found.so_far if alert["basis"] == "so_far" else found.projected
        if reached < amount:
            continue
        told += await enqueue(
            connection,
            tenant_id,
            Kind.COST_ALERT,
            key=_key(alert["id"], found.start),
            payload={
                "amount": f"{amount:.2f}",
                "basis": alert["basis"],
                "currency": catalog.currency,
                "soFar": f"{found.so_far:.2f}",
                "projected": f"{found.projected:.2f}",
                "periodStart": found.start.isoformat(),
                "periodEnd": found.end.isoformat(),
                "upgradeUrl": UPGRADE_URL,
            },
            now=now,
        )
    return told


def _key(alert: UUID, start: datetime) -> str:
    return f"cost:{alert}:{start:%Y-%m-%d}"


async def show(connection: Connection, catalog: Catalog, tenant_id: str, now: int) -> CostAlerts:
    """Return a customer's cost alerts beside what the period costs."""
    standing = standing_of(await history.current(connection, catalog, tenant_id, now))
    found = await costs(connection, catalog, tenant_id, standing, now)
    rows = await cost_repository.listed(connection, tenant_id)
    keys = {_key(row["id"], found.start): row["id"] for row in rows}
    told = await cost_repository.notified(connection, tenant_id, list(keys))
    at = {keys[key]: moment for key, moment in told.items()}
    return CostAlerts(
        currency=catalog.currency,
        so_far=f"{found.so_far:.2f}",
        projected=f"{found.projected:.2f}",
        alerts=tuple(
            CostAlert(
                id=str(row["id"]),
                amount=f"{Decimal(row['amount']) / _MINOR:.2f}",
                basis=row["basis"],
                currency=catalog.currency,
                created_at=int(row["created_at"].timestamp()),
                notified_at=int(at[row["id"]].timestamp()) if row["id"] in at else None,
            )
            for row in rows
        ),
    )


async def add(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    wanted: CostAlertSet,
    *,
    actor: str,
    now: int,
) -> CostAlerts:
    """Set an amount to be told of; one that is set already stays as it is.

    Raises:
        ProblemError: 422 ``TooManyCostAlerts``.
    """
    rows = await cost_repository.listed(connection, tenant_id)
    amount = int(wanted.amount * _MINOR)
    if not any((row["amount"], row["basis"]) == (amount, wanted.basis) for row in rows):
        if len(rows) >= MAX_ALERTS:
            raise ProblemError(
                422,
                f"there are {MAX_ALERTS} cost alerts; delete one first",
                reason="TooManyCostAlerts",
            )
        alert = uuid4()
        await cost_repository.insert(
            connection,
            tenant_id,
            alert,
            amount=amount,
            basis=wanted.basis,
            now=datetime.fromtimestamp(now, UTC),
        )
        await audit.record(
            connection,
            tenant_id,
            now=now,
            actor=actor,
            action="cost_alert.created",
            subject=str(alert),
            details={"amount": f"{wanted.amount:.2f}", "basis": wanted.basis},
        )
    await evaluate_in(connection, catalog, tenant_id, now)
    return await show(connection, catalog, tenant_id, now)


async def remove(
    connection: Connection, tenant_id: str, alert: UUID, *, actor: str, now: int
) -> None:
    """Delete a cost alert.

    Raises:
        ProblemError: 404 ``UnknownCostAlert``.
    """
    if not await cost_repository.delete(connection, tenant_id, alert):
        raise ProblemError(
            404, "there is no such cost alert; list them first", reason="UnknownCostAlert"
        )
    await audit.record(
        connection,
        tenant_id,
        now=now,
        actor=actor,
        action="cost_alert.deleted",
        subject=str(alert),
    )
