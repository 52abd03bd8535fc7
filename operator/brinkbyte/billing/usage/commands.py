"""``brinkbyte billing admin quarantine|ledger-hold``."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from brinkbyte.billing.admin import ACTOR, Admin, with_admin
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Row
from brinkbyte.billing.settings import AdminSettings
from brinkbyte.billing.terminal import (
    OUT,
    CustomerOption,
    Output,
    OutputOption,
    one_sentence_errors,
    print_json,
)
from brinkbyte.billing.usage import quarantine, quarantine_rows

quarantine_app = typer.Typer(no_args_is_help=True, help="Usage events that were set aside.")
hold_app = typer.Typer(no_args_is_help=True, help="Keep the ledger beyond its time, for a dispute.")


def add_commands(admin: typer.Typer) -> None:
    """Add the commands to the administration."""
    admin.add_typer(quarantine_app, name="quarantine")
    admin.add_typer(hold_app, name="ledger-hold")


@quarantine_app.command("list")
def quarantine_list(
    customer: CustomerOption,
    limit: Annotated[int, typer.Option(help="how many at most", min=1)] = 100,
    output: OutputOption = Output.TEXT,
) -> None:
    """List what waits for its release, in the order in which it was set aside."""
    with one_sentence_errors():

        async def work(a: Admin) -> list[Row]:
            async with a.database.tenant(customer) as connection:
                if await customers.find(connection, customer) is None:
                    raise unknown_customer(customer)
                return await quarantine_rows.waiting(connection, customer, None, limit)

        rows = with_admin(AdminSettings.load(), work)
        if output is Output.JSON:
            print_json(
                [{**row, "event": bytes(row["event"]).decode(errors="replace")} for row in rows]
            )
            return
        table = Table("EVENT", "REASON", "INSTANCE", "BATCH", "CAME")
        for row in rows:
            table.add_row(
                row["event_id"],
                row["reason"],
                row["instance_id"],
                "" if row["batch_no"] is None else str(row["batch_no"]),
                row["received_at"].isoformat(),
            )
        OUT.print(table)


@quarantine_app.command("release")
def quarantine_release(customer: CustomerOption, output: OutputOption = Output.TEXT) -> None:
    """Judge again what was set aside; what is good now goes into the ledger, each event once."""
    with one_sentence_errors():
        found = with_admin(
            AdminSettings.load(),
            lambda a: quarantine.release(
                a.database, a.catalog, customer, actor=ACTOR, clock=a.clock
            ),
        )
        if output is Output.JSON:
            print_json({"released": found.released, "known": found.known, "kept": dict(found.kept)})
            return
        kept = ", ".join(f"{count} {reason}" for reason, count in sorted(found.kept.items()))
        typer.echo(
            f"{customer}: {found.released} released, {found.known} were in the ledger already, "
            f"kept: {kept or 'none'}"
        )


@hold_app.command("open")
def hold_open(
    customer: CustomerOption,
    since: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="day of the oldest event in dispute")
    ],
    reason: Annotated[str, typer.Option(help="for the audit log")],
) -> None:
    """Keep the ledger from a day on until the hold is closed."""
    with one_sentence_errors():
        made = with_admin(
            AdminSettings.load(),
            lambda a: quarantine.hold(
                a.database,
                customer,
                since.replace(tzinfo=UTC),
                reason,
                actor=ACTOR,
                now=int(time.time()),
            ),
        )
        typer.echo(f"{customer}: hold {made}")


@hold_app.command("close")
def hold_close(customer: CustomerOption) -> None:
    """Close a customer's holds; the next `billing migrate` may drop what is past its time."""
    with one_sentence_errors():
        count = with_admin(
            AdminSettings.load(),
            lambda a: quarantine.end_hold(a.database, customer, actor=ACTOR, now=int(time.time())),
        )
        typer.echo(f"{customer}: {count} closed")
