"""Every five minutes: final invoices that the provider lacks go there, states come back.

One run at a time in the whole installation (an advisory lock). What one invoice fails at is noted
with it and never stops another; when the provider itself does not answer, the rest waits for the
next run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Final, Protocol
from uuid import UUID

from brinkbyte.billing.db import Database, Row
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.providers import repository
from brinkbyte.billing.providers.base import BillingProvider
from brinkbyte.billing.providers.errors import BillingProviderError
from brinkbyte.billing.providers.invoice_copies import Copies, moment
from brinkbyte.billing.providers.payments import InvoicePayments, Payments
from brinkbyte.billing.webhooks import service as webhooks
from brinkbyte.kit.errors import TemporaryError
from brinkbyte.kit.logging import get_logger

AT_ONCE: Final = 4
"""Customers worked on at a time; each needs one connection of the worker's pool."""
RUN_LIMIT: Final = 1000
READ_AGAIN: Final = timedelta(hours=1)
"""How old what we know of an unpaid invoice gets when no event names it."""
GIVE_UP_AFTER: Final = 5
"""Invoices in a row at which the provider did not answer: the rest waits for the next run."""
_LOCK: Final = 7_266_746_240
_log = get_logger(__name__)


class Synchronized(Protocol):
    """What a run needs of the worker."""

    @property
    def database(self) -> Database:
        """Transactions of the role ``brinkbyte_worker``."""
        ...

    @property
    def provider(self) -> BillingProvider:
        """Who collects."""
        ...

    @property
    def metrics(self) -> Metrics:
        """The worker's."""
        ...


@dataclass(frozen=True)
class Run:
    """What a run has done; ``busy``: another one is at it."""

    sent: int = 0
    read: int = 0
    failed: int = 0
    events: int = 0
    busy: bool = False


async def synchronize(context: Synchronized, now: int, *, payments: Payments | None = None) -> Run:
    """Bring invoices to the provider and its states back.

    Args:
        context: database, provider and metrics.
        now: Unix seconds.
        payments: takes in what became of an invoice; by default ``invoices``.
    """
    copies = Copies(
        context.database,
        context.provider,
        payments or InvoicePayments(),
        context.metrics,
        moment(now),
    )
    async with _alone(context.database) as admitted:
        if not admitted:
            return Run(busy=True)
        try:
            await webhooks.fetch(context.database, context.provider, copies.now)
        except BillingProviderError as error:
            _log.warning("provider: events were not fetched", reason=error.reason)
        events = await webhooks.process(context.database, context.provider.name, copies.now)
        async with context.database.nobody() as connection:
            lacking = await repository.to_push(
                connection, context.provider.name, now=copies.now, limit=RUN_LIMIT
            )
        sent, not_sent = await _each(lacking, copies.push)
        async with context.database.nobody() as connection:
            stale = await repository.to_read(
                connection,
                context.provider.name,
                before=copies.now - READ_AGAIN,
                limit=RUN_LIMIT,
            )
        read, not_read = await _each(stale, copies.read_back)
    return Run(sent, read, not_sent + not_read, events)


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[bool]:
    """Hold the lock of a run as long as its transaction is open; a killed run lets go of it."""
    async with database.nobody() as connection:
        cursor = await connection.execute(
            "SELECT pg_try_advisory_xact_lock(%s) AS admitted", [_LOCK]
        )
        row = await cursor.fetchone()
        yield bool(row and row["admitted"])


async def _each(
    rows: Sequence[Row], work: Callable[[str, UUID], Awaitable[bool]]
) -> tuple[int, int]:
    """Work on invoices, some customers at a time; returns how many were done, and how many not."""
    by_customer: dict[str, list[Row]] = {}
    for row in rows:
        by_customer.setdefault(row["tenant_id"], []).append(row)
    waiting = iter(by_customer.values())
    done = failed = in_a_row = 0

    async def one_after_another() -> None:
        nonlocal done, failed, in_a_row
        # The iterator is shared: whoever is free takes the next customer.
        for row in chain.from_iterable(waiting):
            if in_a_row >= GIVE_UP_AFTER:
                return
            try:
                worked = await work(row["tenant_id"], row["invoice_id"])
            except TemporaryError:
                failed, in_a_row = failed + 1, in_a_row + 1
            except Exception as error:  # noqa: BLE001 - one invoice never stops another
                failed += 1
                _log.error(
                    "provider: an invoice could not be worked on",
                    tenant=row["tenant_id"],
                    invoice=str(row["invoice_id"]),
                    error=type(error).__name__,
                )
            else:
                done, failed, in_a_row = done + worked, failed + (not worked), 0

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return done, failed
