"""``brinkbyte billing admin provider …``: what the vendor's people do about payments."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer
from rich.table import Table

from brinkbyte.billing import audit
from brinkbyte.billing.customers.service import set_email_in
from brinkbyte.billing.db import Connection, Database
from brinkbyte.billing.providers import local_repository, repository
from brinkbyte.billing.settings import AdminSettings
from brinkbyte.billing.terminal import (
    OUT,
    CustomerOption,
    Output,
    OutputOption,
    fail,
    one_sentence_errors,
    print_json,
)
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.pools import postgres_pool

ACTOR: Final = "cli"
_EMAIL: Final = re.compile(r"[^@\s,;<>]{1,64}@[A-Za-z0-9.-]{1,189}")
provider_app = typer.Typer(no_args_is_help=True, help="Payments, and what the provider lacks.")
InvoiceOption = Annotated[UUID, typer.Option("--invoice", help="invoice id")]
T = TypeVar("T")


@provider_app.command("paid")
def paid(
    customer: CustomerOption,
    invoice: InvoiceOption,
    at: Annotated[datetime | None, typer.Option("--at", help="when, UTC; by default now")] = None,
    note: Annotated[str | None, typer.Option(help="such as the transfer's reference")] = None,
) -> None:
    """Record that an invoice was paid (local provider); counts from the worker's next run."""
    with one_sentence_errors():
        when = None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
        _run(
            customer,
            lambda c: record_state(
                c, customer, invoice, "paid", paid_at=when, note=note, now=_now()
            ),
        )
        typer.echo(f"invoice {invoice}: paid")


@provider_app.command("uncollectible")
def uncollectible(
    customer: CustomerOption,
    invoice: InvoiceOption,
    note: Annotated[str | None, typer.Option(help="why")] = None,
) -> None:
    """Record that an invoice will not be paid (local provider)."""
    with one_sentence_errors():
        _run(
            customer,
            lambda c: record_state(c, customer, invoice, "uncollectible", note=note, now=_now()),
        )
        typer.echo(f"invoice {invoice}: uncollectible")


@provider_app.command("email")
def email(
    customer: CustomerOption,
    address: Annotated[str, typer.Argument(help="where the provider sends invoices")],
) -> None:
    """Set where a customer's invoices and notifications go; Stripe takes none without it."""
    with one_sentence_errors():
        if _EMAIL.fullmatch(address) is None:
            fail(f"{address!r} is not an e-mail address")

        async def work(connection: Connection) -> None:
            await set_email_in(connection, customer, address, actor=ACTOR, now=int(time.time()))
            await repository.try_soon(connection, customer, _now())

        _run(customer, work)
        typer.echo(f"{customer}: invoices go to {address}")


@provider_app.command("list")
def troubled(output: OutputOption = Output.TEXT) -> None:
    """List invoices that the provider lacks, and those that somebody must look at."""
    with one_sentence_errors():
        rows = _run(None, lambda c: repository.troubled(c, now=_now()))
        if output is Output.JSON:
            print_json(rows)
            return
        table = Table("customer", "invoice", "number", "failures", "alarm", "next try", "problem")
        for row in rows:
            next_try = row["next_try_at"]
            table.add_row(
                row["tenant_id"],
                str(row["invoice_id"]),
                row["number"],
                str(row["failures"] or 0),
                row["alarm"] or "",
                "" if next_try is None else next_try.isoformat(timespec="seconds"),
                row["provider_error"] or "",
            )
        OUT.print(table)


async def record_state(
    connection: Connection,
    tenant_id: str,
    invoice_id: UUID,
    state: str,
    *,
    paid_at: datetime | None = None,
    note: str | None = None,
    now: datetime,
) -> None:
    """Move an invoice at the local provider; the worker takes it in.

    Args:
        connection: a transaction of the role ``brinkbyte_admin``.
        tenant_id: whose invoice.
        invoice_id: which.
        state: ``paid`` or ``uncollectible``.
        paid_at: when it was paid; now if None.
        note: for people.
        now: UTC.

    Raises:
        PermanentError: ``UnknownInvoice``; ``NotUnpaid``: it is paid or void; ``PaidInFuture``.
    """
    before = await local_repository.invoice(connection, tenant_id, invoice_id)
    if before is None:
        raise PermanentError(
            f"the local provider has no invoice {invoice_id} of {tenant_id}; it takes them in "
            "within five minutes of their becoming final",
            reason="UnknownInvoice",
        )
    if before["state"] == state:
        return
    if paid_at is not None and paid_at > now:
        raise PermanentError(
            "a payment cannot be of a time to come; correct --at", reason="PaidInFuture"
        )
    moved = await local_repository.set_state(
        connection,
        tenant_id,
        invoice_id,
        state,
        among=("open", "uncollectible") if state == "paid" else ("open",),
        paid_at=(paid_at or now) if state == "paid" else None,
        note=note,
        now=now,
    )
    if not moved:
        raise PermanentError(
            f"invoice {before['number']} is {before['state']}: nothing to record",
            reason="NotUnpaid",
        )
    await repository.read_soon(connection, tenant_id, invoice_id)
    await audit.record(
        connection,
        tenant_id,
        now=int(now.timestamp()),
        actor=ACTOR,
        action=f"payment.{state}",
        subject=str(invoice_id),
        details={"number": before["number"]},
    )


def _now() -> datetime:
    return datetime.fromtimestamp(int(time.time()), UTC)


def _run(customer: str | None, work: Callable[[Connection], Awaitable[T]]) -> T:
    settings = AdminSettings.load()

    async def run() -> T:
        async with postgres_pool(
            settings.admin_database_url.get_secret_value(), max_size=1, name="brinkbyte-admin"
        ) as pool:
            database = Database(pool)
            opened = database.nobody() if customer is None else database.tenant(customer)
            async with opened as connection:
                return await work(connection)

    return asyncio.run(run())
