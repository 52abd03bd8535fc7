"""What the worker does, job by job; each may be run again at any time, and by several workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from brinkbyte.billing.db import Connection, Database
from brinkbyte.billing.invoices import closing
from brinkbyte.billing.invoices import repository as invoices
from brinkbyte.billing.invoices import service as payments
from brinkbyte.billing.invoices.settings import InvoiceSettings
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.notifications import delivery
from brinkbyte.billing.notifications.settings import NotificationSettings
from brinkbyte.billing.providers import synchronizing
from brinkbyte.billing.providers.base import BillingProvider
from brinkbyte.billing.quotas import costs
from brinkbyte.billing.quotas.cache import QuotaCache
from brinkbyte.billing.subscriptions import dunning, notices
from brinkbyte.billing.subscriptions import repository as subscriptions
from brinkbyte.billing.subscriptions.standing import DUNNING_SECONDS, GRACE_SECONDS
from brinkbyte.billing.usage import repository as ledger
from brinkbyte.catalog import Catalog
from brinkbyte.kit.logging import get_logger

ACTOR: Final = "worker"
AT_ONCE: Final = 4
"""Customers worked on at a time, each on a connection of its own."""
_LEDGER_WARNING: Final = timedelta(days=60)
_log = get_logger(__name__)


@dataclass(frozen=True)
class WorkerContext:
    """What jobs need.

    Attributes:
        database: transactions of the role ``brinkbyte_worker``.
        clock: returns Unix seconds.
        provider: who collects.
        notifications: mail server and other ways out, and the pepper that webhooks are signed with.
        quota_cache: what servers remember of quotas; dropped where what is bought has changed.
        failing: by job, how many customers it failed for last.
    """

    database: Database
    catalog: Catalog
    clock: Callable[[], float]
    invoicing: InvoiceSettings
    metrics: Metrics
    provider: BillingProvider
    notifications: NotificationSettings
    quota_cache: QuotaCache
    failing: Callable[[str, int], None] = lambda _job, _count: None

    def now(self) -> int:
        """Return Unix seconds."""
        return int(self.clock())

    @property
    def moment(self) -> datetime:
        """Now, UTC."""
        return datetime.fromtimestamp(self.now(), UTC)


@dataclass(frozen=True)
class Job:
    """Something done again and again.

    Attributes:
        name: in logs, metrics and locks.
        every: seconds from one start to the next.
        run: does it; an error is logged and it is tried again.
    """

    name: str
    every: float
    run: Callable[[WorkerContext], Awaitable[object]]


async def each_customer(
    context: WorkerContext,
    job: str,
    tenants: Iterable[str],
    work: Callable[[Connection, str], Awaitable[bool]],
) -> int:
    """Work on customers, one transaction each; what fails for one does not stop another.

    A lock of job and customer keeps other workers off; who comes second passes on. What servers
    remember of a customer's quotas is dropped afterwards.

    Args:
        context: the worker's.
        job: name, for the lock and the log.
        tenants: customers, the most urgent first.
        work: in a transaction of the customer; True: there is more, come again.

    Returns:
        For how many customers it failed.

    Raises:
        psycopg.OperationalError: the database is away: nobody else would do better.
        PoolTimeout: likewise.
    """
    waiting = iter(tenants)
    failed = 0

    async def one(tenant_id: str) -> bool:
        async with context.database.tenant(tenant_id) as connection:
            cursor = await connection.execute(
                "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 7267)) AS mine",
                [f"{job}:{tenant_id}"],
            )
            row = await cursor.fetchone()
            return bool(row and row["mine"]) and await work(connection, tenant_id)

    async def drain() -> None:
        nonlocal failed
        for tenant_id in waiting:
            try:
                while await one(tenant_id):
                    pass
                await context.quota_cache.forget(tenant_id)
            except Exception as error:
                if _database_is_away(error):
                    raise
                failed += 1
                _log.error(
                    "job failed for a customer",
                    job=job,
                    tenant=tenant_id,
                    error=type(error).__name__,
                    detail=str(error),
                )

    ended = await asyncio.gather(*(drain() for _ in range(AT_ONCE)), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error
    context.failing(job, failed)
    return failed


def _database_is_away(error: Exception) -> bool:
    if isinstance(error, psycopg.OperationalError):
        # Without a state, of the connection, or of a server that stops: not a deadlock and such.
        state = error.sqlstate or "08"
        return state.startswith(("08", "57P"))
    return isinstance(error, PoolTimeout)


async def settle_subscriptions(context: WorkerContext) -> None:
    """Make the invoices of boundaries that have come; renew what is in force."""
    moment = context.moment
    async with context.database.nobody() as connection:
        tenants = await subscriptions.due(connection, moment, moment)

    async def work(connection: Connection, tenant_id: str) -> bool:
        _, more = await closing.settle(
            connection,
            context.catalog,
            tenant_id,
            now=context.now(),
            delay=context.invoicing.invoice_delay_seconds,
            due_after=timedelta(days=context.invoicing.invoice_due_days),
        )
        return more

    await each_customer(context, "subscriptions", tenants, work)


async def dun(context: WorkerContext) -> None:
    """Note what is unpaid at its due date; suspend what stays unpaid past its grace."""
    moment = context.moment
    late = moment - timedelta(seconds=DUNNING_SECONDS + GRACE_SECONDS)
    async with context.database.nobody() as connection:
        tenants = {
            *await invoices.debtors(connection, moment),
            *await subscriptions.overdue(connection, late),
        }

    async def work(connection: Connection, tenant_id: str) -> bool:
        now = context.now()
        for row in await invoices.unpaid(connection, tenant_id, context.moment):
            await payments.payment_failed(connection, row["invoice_id"], ACTOR, now=now)
        await dunning.suspend_overdue(connection, tenant_id, actor=ACTOR, now=now)
        return False

    await each_customer(context, "dunning", sorted(tenants), work)


async def tell(context: WorkerContext) -> None:
    """Tell customers of trials and licenses that end."""
    moment = context.moment
    async with context.database.nobody() as connection:
        tenants = await subscriptions.ending(
            connection,
            moment - notices.LOOK_BACK,
            moment + notices.AHEAD,
            timedelta(seconds=DUNNING_SECONDS),
        )

    async def work(connection: Connection, tenant_id: str) -> bool:
        await notices.enqueue_due(connection, context.catalog, tenant_id, now=context.now())
        return False

    await each_customer(context, "notices", tenants, work)


async def watch_ledger(context: WorkerContext) -> None:
    """Say when the ledger's prepared partitions come to an end; only a migration makes more."""
    async with context.database.nobody() as connection:
        end = await ledger.ledger_end(connection)
    if end is None:
        return
    context.metrics.ledger_end.set(end.timestamp())
    if end - context.moment < _LEDGER_WARNING:
        _log.warning("the ledger's partitions end soon: run `billing migrate`", end=end.isoformat())


async def collect(context: WorkerContext) -> None:
    """Bring final invoices to the provider, and what became of them back."""
    await synchronizing.synchronize(context, context.now())


async def watch_costs(context: WorkerContext) -> None:
    """Tell customers whose amounts are reached."""
    await costs.evaluate(context, context.now())


async def deliver(context: WorkerContext) -> None:
    """Send what people are to be told."""
    await delivery.deliver(context, context.now(), context.notifications)


def all_jobs() -> tuple[Job, ...]:
    """Return every job; run once in this order, what one writes the next ones take on."""
    return (
        Job("subscriptions", 60, settle_subscriptions),
        Job("dunning", 60, dun),
        Job("notices", 300, tell),
        Job("ledger", 3600, watch_ledger),
        Job("providers", 300, collect),
        Job("costs", 3600, watch_costs),
        Job("notifications", 30, deliver),
    )
