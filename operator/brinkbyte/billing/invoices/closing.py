"""Invoices are made here: one a boundary, everything in one transaction.

At a boundary between two periods an invoice has what late events changed in periods that closed
before, what the period that closed costs beyond what was paid ahead, and what is paid ahead for the
period that begins. The customer's lock and the ledger's are held from the reading of the usage to
the invoice's last line, so an event is in the usage that was rated or in a later adjustment. The
next boundary is written in the same transaction: a rerun goes on where the last one ended.

An invoice without any amount is not made. What would come out below zero is carried on to the next
one, as a pair of lines of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from brinkbyte.billing import audit
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.invoices import repository
from brinkbyte.billing.invoices import usage as used
from brinkbyte.billing.notifications.outbox import Kind, enqueue
from brinkbyte.billing.quotas import service as quotas
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions import repository as subscriptions
from brinkbyte.billing.usage.repository import lock_chain
from brinkbyte.catalog import Catalog, catalog_versions, load_catalog
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.rating import adjustment_lines, closing_lines, opening_lines, period_at
from brinkbyte.rating.model import History, Line, Period

ACTOR: Final = "worker"
DUE: Final = timedelta(days=14)
ADJUSTED_FOR: Final = timedelta(days=400)
"""As long as the ledger takes events of a time in."""
_TICK: Final = timedelta(microseconds=1)
_AT_ONCE: Final = 1000
"""Boundaries that one transaction settles at most."""


@dataclass
class Bill:
    """An invoice as it is put together: (part, begin of the period rated, line)."""

    boundary: datetime
    closed: Period | None
    lines: list[tuple[str, datetime, Line]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    adjusted: dict[str, Any] = field(default_factory=dict)

    def add(self, part: str, period: Period, lines: Sequence[Line]) -> None:
        """Append lines of a part."""
        self.lines += [(part, period.start, line) for line in lines]


@dataclass(frozen=True)
class _Settling:
    """Whose invoices are made, in which transaction, when."""

    connection: Connection
    catalog: Catalog
    tenant_id: str
    row: Row
    rated: History
    moment: datetime
    due_after: timedelta

    @property
    def subscription_id(self) -> UUID:
        found: UUID = self.row["subscription_id"]
        return found


def minor(catalog: Catalog, amount: Decimal) -> int:
    """Return an amount in minor units.

    Raises:
        ValueError: it has a fraction of one.
    """
    scaled = amount.scaleb(catalog.rules.money.minor_units)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{amount} is no whole number of minor units")
    return int(scaled)


def major(catalog: Catalog, amount: int) -> Decimal:
    """Return minor units as an amount in the currency's main unit."""
    return Decimal(amount).scaleb(-catalog.rules.money.minor_units)


def line_of(catalog: Catalog, row: Row) -> Line:
    """Read a row of ``invoice_lines``."""
    return Line(
        line=row["line"],
        kind=row["kind"],
        description=row["description"],
        quantity=row["quantity"],
        unit_price=row["unit_price"],
        per=row["per"],
        days=row["days"],
        of_days=row["of_days"],
        period=Period(start=row["period_start"], end=row["period_end"]),
        amount=major(catalog, row["amount"]),
    )


async def settle_due(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    *,
    now: int,
    delay: int = 0,
    due_after: timedelta = DUE,
    at_most: int = _AT_ONCE,
) -> int:
    """Make the invoices of every boundary that has come, oldest first.

    Args:
        connection: a transaction of the tenant.
        catalog: the price list.
        tenant_id: whose.
        now: Unix seconds.
        delay: seconds that a closed period waits for what is on its way.
        due_after: from the invoice to its due date.
        at_most: boundaries, the rest is left for the next transaction.

    Returns:
        How many boundaries were settled.
    """
    if await customers.lock(connection, tenant_id) is None:
        return 0
    row = await subscriptions.live(connection, tenant_id)
    if row is None:
        return 0
    changes = await history.load(connection, tenant_id, row)
    if not changes:
        return 0
    of = _Settling(
        connection,
        catalog,
        tenant_id,
        row,
        history.history_of(row, changes),
        datetime.fromtimestamp(now, UTC),
        due_after,
    )
    boundary: datetime = row["next_boundary"]
    await lock_chain(connection, tenant_id)
    settled = 0
    while settled < at_most and _has_come(of, boundary, delay):
        newest = max((c for c in changes if c.change.at <= boundary), key=_at, default=changes[0])
        await _write(of, await _bill(of, boundary), newest.change_id)
        failpoint("invoice.written")
        boundary = period_at(of.rated, boundary).end
        await subscriptions.set_next_boundary(connection, tenant_id, of.subscription_id, boundary)
        settled += 1
    return settled


def _at(recorded: history.Recorded) -> datetime:
    return recorded.change.at


def _has_come(of: _Settling, boundary: datetime, delay: int) -> bool:
    # Nothing closes at the first one, so nothing is waited for.
    wait = 0 if boundary <= of.rated.anchor else delay
    return boundary + timedelta(seconds=wait) <= of.moment


async def _bill(of: _Settling, boundary: datetime) -> Bill:
    """Put the invoice of a boundary together, and note what it was rated from."""
    first = period_at(of.rated, of.rated.changes[0].at).start
    closed = None if boundary <= first else period_at(of.rated, boundary - _TICK)
    bill = Bill(boundary, closed)
    if closed is not None:
        await _adjust(of, bill)
        usage = await used.of_period(of.connection, of.catalog, of.tenant_id, closed)
        bill.usage = used.stored(usage)
        bill.add("closing", closed, closing_lines(of.catalog, of.rated, closed, usage))
        await _note(of, closed, of.catalog.version, bill.usage)
    begins = period_at(of.rated, boundary)
    bill.add("opening", begins, opening_lines(of.catalog, of.rated, begins))
    return bill


async def _adjust(of: _Settling, bill: Bill) -> None:
    """Add what events that came late change in periods that closed before."""
    since = of.moment - ADJUSTED_FOR
    for closed in await repository.closed_periods(
        of.connection, of.tenant_id, of.subscription_id, since
    ):
        period = Period(start=closed["period_start"], end=closed["period_end"])
        then = catalog_of(of.catalog, closed["catalog_version"])
        usage = await used.of_period(of.connection, then, of.tenant_id, period)
        stored = used.stored(usage)
        if stored == closed["usage"]:
            continue
        rows = await repository.lines_of_period(
            of.connection, of.tenant_id, of.subscription_id, period.start
        )
        invoiced = [line_of(then, line) for line in rows]
        bill.add("adjustment", period, adjustment_lines(then, of.rated, period, usage, invoiced))
        bill.adjusted[period.start.date().isoformat()] = stored
        await _note(of, period, then.version, stored)


async def _note(of: _Settling, period: Period, version: str, usage: dict[str, Any]) -> None:
    await repository.close_period(
        of.connection,
        of.tenant_id,
        of.subscription_id,
        period,
        catalog_version=version,
        usage=usage,
        now=of.moment,
    )


def catalog_of(catalog: Catalog, version: str) -> Catalog:
    """Return the price list of a version; the one in use where it is not there any more."""
    if version == catalog.version or version not in catalog_versions():
        return catalog
    return load_catalog(version)


async def _write(of: _Settling, bill: Bill, change_id: str) -> None:
    """Write an invoice and make it final, unless it has no amount."""
    if not any(line.amount for _, _, line in bill.lines):
        return
    connection, catalog, tenant_id, moment = of.connection, of.catalog, of.tenant_id, of.moment
    lines = [(part, start, line, minor(catalog, line.amount)) for part, start, line in bill.lines]
    lines += await _balance(of, bill, sum(item[3] for item in lines))
    total = sum(item[3] for item in lines)
    invoice_id = uuid7()
    await repository.insert_draft(
        connection,
        tenant_id,
        invoice_id,
        of.subscription_id,
        boundary=bill.boundary,
        closed=bill.closed,
        currency=catalog.currency,
        catalog_version=catalog.version,
        total=total,
        rated_from={"usage": bill.usage, "adjusted": bill.adjusted, "change": change_id},
        now=moment,
    )
    await repository.insert_lines(connection, tenant_id, invoice_id, lines)
    number = f"{tenant_id}-{await repository.numbered(connection, tenant_id) + 1:04d}"
    due_at = moment + of.due_after
    await repository.finalize(
        connection,
        tenant_id,
        invoice_id,
        number=number,
        # Nobody has to pay nothing.
        status="open" if total > 0 else "paid",
        due_at=due_at,
        now=moment,
    )
    await audit.record(
        connection,
        tenant_id,
        now=int(moment.timestamp()),
        actor=ACTOR,
        action="invoice.issued",
        subject=str(invoice_id),
        details={"number": number, "total": total, "boundary": bill.boundary.isoformat()},
    )
    await enqueue(
        connection,
        tenant_id,
        Kind.INVOICE_ISSUED,
        key=f"invoice_issued:{invoice_id}",
        payload={
            "invoiceId": str(invoice_id),
            "number": number,
            "currency": catalog.currency,
            "total": format(major(catalog, total), "f"),
            "dueAt": int(due_at.timestamp()),
        },
        now=int(moment.timestamp()),
    )


async def _balance(of: _Settling, bill: Bill, total: int) -> list[tuple[str, datetime, Line, int]]:
    """Return lines that use credit up, or carry on what would come out below zero."""
    credit = await repository.balance(of.connection, of.tenant_id)
    taken = min(credit, max(0, total))
    found = []
    if taken > 0:
        found.append(("credit.used", "Credit of earlier invoices", -taken))
    if total < 0:
        found.append(("credit.carried", "Credit carried on to the next invoice", -total))
    period = Period(start=bill.boundary, end=bill.boundary)
    return [
        (
            "balance",
            bill.boundary,
            Line(
                line=name,
                kind="adjustment",
                description=description,
                quantity=Decimal(1),
                period=period,
                amount=major(of.catalog, amount),
            ),
            amount,
        )
        for name, description, amount in found
    ]


async def settle(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    *,
    now: int,
    delay: int,
    due_after: timedelta,
) -> tuple[int, bool]:
    """Do what time demands of one customer, once: a boundary's invoice, the row in force.

    Returns:
        Boundaries settled, and whether more is left.

    Raises:
        CatalogError: what was bought has no price in this price list; named.
    """
    if await customers.lock(connection, tenant_id) is None:
        return 0, False
    if await history.renew(connection, catalog, tenant_id, now):
        await quotas.renew_current(connection, catalog, tenant_id, now)
    settled = await settle_due(
        connection, catalog, tenant_id, now=now, delay=delay, due_after=due_after, at_most=1
    )
    return settled, settled > 0
