"""``brinkbyte billing admin …``: customers, subscriptions, enrollments, instances, the ledger."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
import yaml
from rich.table import Table

from brinkbyte.billing.admin import Admin, cost_document, with_admin
from brinkbyte.billing.administration.commands import parse_flag
from brinkbyte.billing.customers.schemas import CustomerCreate
from brinkbyte.billing.settings import AdminSettings
from brinkbyte.billing.subscriptions.schemas import SubscriptionSet
from brinkbyte.billing.terminal import (
    OUT,
    CustomerOption,
    Output,
    OutputOption,
    fail,
    one_sentence_errors,
    print_json,
)
from brinkbyte.catalog import load_catalog, override_keys
from brinkbyte.license.claims import Flags

admin_app = typer.Typer(no_args_is_help=True, help="The vendor's administration.")
customer_app = typer.Typer(no_args_is_help=True, help="Customers.")
subscription_app = typer.Typer(no_args_is_help=True, help="Subscriptions.")
enrollment_app = typer.Typer(no_args_is_help=True, help="One-time enrollment tokens.")
instances_app = typer.Typer(no_args_is_help=True, help="Customer instances.")
operator_app = typer.Typer(no_args_is_help=True, help="Credentials of the vendor's own.")
admin_app.add_typer(customer_app, name="customer")
admin_app.add_typer(subscription_app, name="subscription")
admin_app.add_typer(enrollment_app, name="enrollment")
admin_app.add_typer(instances_app, name="instances")
admin_app.add_typer(operator_app, name="operator")


@customer_app.command("create")
def customer_create(
    customer_id: Annotated[str, typer.Option("--id", help="customer id")],
    name: Annotated[str, typer.Option("--name", help="customer's name")],
    email: Annotated[str | None, typer.Option(help="where invoices and notifications go")] = None,
    flag: Annotated[
        list[str] | None, typer.Option(help="feature flag, such as offline_mode=false")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create a customer; again with the same name is fine."""
    with one_sentence_errors():
        flags = None
        if flag:
            flags = Flags.model_validate(dict(parse_flag(item) for item in flag))
        request = CustomerCreate(customer_id=customer_id, name=name, email=email, flags=flags)
        made = with_admin(AdminSettings.load(), lambda a: a.create_customer(request))
        if output is Output.JSON:
            print_json(made.model_dump(mode="json"))
        else:
            typer.echo(f"customer {made.customer_id} ({made.name})")


@subscription_app.command("set")
def subscription_set(
    *,
    customer: CustomerOption,
    terms: Annotated[
        Path | None, typer.Option(help="YAML or JSON file: plans, quantities, overrides")
    ] = None,
    plan: Annotated[list[str] | None, typer.Option(help="family=plan")] = None,
    quantity: Annotated[list[str] | None, typer.Option(help="sku=quantity")] = None,
    override: Annotated[list[str] | None, typer.Option(help="key=value")] = None,
    trial_days: Annotated[int | None, typer.Option(help="length of the plan trial")] = None,
    status: Annotated[
        str | None, typer.Option(help="trialing, active, past_due, canceled, suspended")
    ] = None,
    hard_end: Annotated[int | None, typer.Option(help="Unix seconds; no token beyond")] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="a correction: less counts at once, too")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Set what a customer has bought: more counts at once, less from the next period."""
    with one_sentence_errors():
        document: dict[str, Any] = {}
        if terms is not None:
            document = _read_terms(terms)
        for item in plan or ():
            family, _, name = item.partition("=")
            document.setdefault("plans", {})[family] = name
        for item in quantity or ():
            sku, _, count = item.partition("=")
            document.setdefault("quantities", {})[sku] = _number(count)
        for item in override or ():
            key, _, value = item.partition("=")
            document.setdefault("overrides", {})[key] = _override(key, value)
        made = with_admin(
            AdminSettings.load(),
            lambda a: a.set_subscription(
                SubscriptionSet.model_validate(
                    {
                        "customer_id": customer,
                        "terms": document,
                        "status": status,
                        "trial_days": trial_days,
                        "hard_end": hard_end,
                        "at_once": at_once,
                    }
                )
            ),
        )
        if output is Output.JSON:
            print_json(made.model_dump(mode="json"))
        else:
            typer.echo(f"{made.customer_id}: {made.status}, plan {made.plan}")


def _read_terms(path: Path) -> dict[str, Any]:
    try:
        found: Any = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        fail(f"{path}: {error}")
    if not isinstance(found, dict):
        fail(f"{path}: a mapping of plans, quantities and overrides is expected")
    return found


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        fail(f"{text!r} is not a quantity; write sku=number")
    return int(text)


def _override(key: str, text: str) -> bool | int | str:
    """Read a value as the catalog wants it under this key; an unknown key is judged later."""
    kind = override_keys(load_catalog()).get(key)
    if kind == "flag" and text in ("true", "false"):
        return text == "true"
    if kind == "limit" and re.fullmatch(r"[0-9]{1,10}", text):
        return int(text)
    return text


@enrollment_app.command("create")
def enrollment_create(
    customer: CustomerOption,
    replace: Annotated[
        bool, typer.Option("--replace", help="may end a live instance elsewhere")
    ] = False,
    ttl: Annotated[int, typer.Option(help="seconds the token is good for", min=1)] = 86_400,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a one-time enrollment token and print it; it is shown only now."""
    with one_sentence_errors():
        token, end = with_admin(
            AdminSettings.load(),
            lambda a: a.create_enrollment(
                customer, replace=replace, life=timedelta(seconds=min(ttl, 86_400))
            ),
        )
        if output is Output.JSON:
            print_json({"token": token, "expiresAt": int(end.timestamp())})
        else:
            typer.echo(token)


@enrollment_app.command("list")
def enrollment_list(customer: CustomerOption, output: OutputOption = Output.TEXT) -> None:
    """List a customer's enrollment tokens by id; the tokens themselves are stored nowhere."""
    with one_sentence_errors():
        rows = with_admin(AdminSettings.load(), lambda a: a.list_enrollments(customer))
        if output is Output.JSON:
            print_json([{k: v for k, v in row.items() if v is not None} for row in rows])
            return
        table = Table("ID", "CREATED", "ENDS", "USED", "INSTANCE", "REVOKED")
        for row in rows:
            table.add_row(
                str(row["credential_id"]),
                *(_time(row[name]) for name in ("created_at", "expires_at", "used_at")),
                row["instance_id"] or "",
                _time(row["revoked_at"]),
            )
        OUT.print(table)


@enrollment_app.command("revoke")
def enrollment_revoke(
    customer: CustomerOption, token_id: Annotated[UUID, typer.Argument(help="see list")]
) -> None:
    """Revoke an enrollment token; the instance that it made goes on."""
    with one_sentence_errors():
        with_admin(AdminSettings.load(), lambda a: a.revoke_enrollment(customer, token_id))
        typer.echo(f"{token_id}: revoked")


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="seconds")


@operator_app.command("list")
def operator_list(output: OutputOption = Output.TEXT) -> None:
    """List the vendor's own credentials by id; their secrets are stored nowhere."""
    with one_sentence_errors():
        rows = with_admin(AdminSettings.load(), Admin.list_operators)
        if output is Output.JSON:
            print_json([{k: v for k, v in row.items() if v is not None} for row in rows])
            return
        table = Table("ID", "NAME", "REPORTS", "ENDS", "REVOKED")
        for row in rows:
            table.add_row(
                str(row["credential_id"]),
                row["name"],
                " ".join(row["families"]),
                _time(row["expires_at"]),
                _time(row["revoked_at"]),
            )
        OUT.print(table)


@operator_app.command("revoke")
def operator_revoke(credential_id: Annotated[UUID, typer.Argument(help="see list")]) -> None:
    """Revoke a credential of the vendor's own."""
    with one_sentence_errors():
        with_admin(AdminSettings.load(), lambda a: a.revoke_operator(credential_id))
        typer.echo(f"{credential_id}: revoked")


@operator_app.command("create")
def operator_create(
    name: Annotated[str, typer.Option(help="who uses it")],
    family: Annotated[
        list[str] | None, typer.Option(help="product line whose usage it may report")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a credential of the vendor's own and print it; it is shown only now."""
    with one_sentence_errors():
        secret = with_admin(AdminSettings.load(), lambda a: a.create_operator(name, family or ()))
        if output is Output.JSON:
            print_json({"credential": secret})
        else:
            typer.echo(secret)


@instances_app.command("list")
def instances_list(output: OutputOption = Output.TEXT) -> None:
    """List every instance of every customer."""
    with one_sentence_errors():
        rows = with_admin(AdminSettings.load(), Admin.list_instances)
        if output is Output.JSON:
            print_json([{k: v for k, v in row.items() if v is not None} for row in rows])
            return
        table = Table("CUSTOMER", "INSTANCE", "NAME", "STATE", "LAST SEEN", "BACKLOG")
        for row in rows:
            state = "live" if row["ended_at"] is None else f"ended ({row['ended_reason']})"
            if row["air_gapped"]:
                state += ", no line"
            if row["clone_alarm_at"] is not None:
                state += ", CLONE ALARM"
            table.add_row(
                row["tenant_id"],
                row["instance_id"],
                row["name"],
                state,
                "never" if row["last_seen_at"] is None else row["last_seen_at"].isoformat(),
                "" if row["backlog"] is None else str(row["backlog"]),
            )
        OUT.print(table)


@instances_app.command("free")
def instances_free(instance_id: Annotated[str, typer.Argument(help="instance id")]) -> None:
    """End an instance that will not come back: seats are free, its credentials are revoked."""
    with one_sentence_errors():
        ended = with_admin(AdminSettings.load(), lambda a: a.free_instance(instance_id))
        typer.echo(f"{instance_id}: {'ended' if ended else 'had ended already'}")


@instances_app.command("revoke-credentials")
def instances_revoke(instance_id: Annotated[str, typer.Argument(help="instance id")]) -> None:
    """Revoke an instance's credentials; it keeps its seats and enrolls again with a new token."""
    with one_sentence_errors():
        count = with_admin(AdminSettings.load(), lambda a: a.revoke_credentials(instance_id))
        typer.echo(f"{instance_id}: {count} revoked; make a new enrollment token for it")


@admin_app.command("revoke")
def revoke(
    customer: CustomerOption,
    camera: Annotated[str | None, typer.Option(help="only this camera's license")] = None,
    reason: Annotated[str, typer.Option(help="for the audit log")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="take the revocation back")] = False,
) -> None:
    """Revoke a customer's license, or one camera's."""
    with one_sentence_errors():
        with_admin(
            AdminSettings.load(),
            lambda a: a.revoke(customer, camera_id=camera, reason=reason, undo=undo),
        )
        what = f"camera {camera} of {customer}" if camera else f"the license of {customer}"
        typer.echo(f"{what}: {'in force again' if undo else 'revoked'}")


@admin_app.command("ledger")
def ledger(
    customer: CustomerOption,
    as_json: Annotated[bool, typer.Option("--json", help="everything, as JSON")] = False,
) -> None:
    """Show a customer's ledger: events with their keys, batches, receipts."""
    with one_sentence_errors():
        found = with_admin(AdminSettings.load(), lambda a: a.ledger(customer))
        if as_json:
            print_json(found)
            return
        table = Table("EPOCH", "BATCH", "EVENTS", "NEW", "QUARANTINED", "RECEIVED")
        for batch in found["batches"]:
            table.add_row(
                batch["epoch"],
                str(batch["batchNo"]),
                str(batch["count"]),
                str(batch["inserted"]),
                str(batch["quarantined"]),
                batch["receivedAt"],
            )
        OUT.print(table)
        typer.echo(f"{len(found['events'])} events, {len(found['quarantined'])} quarantined")


@admin_app.command("cost")
def cost(customer: CustomerOption, output: OutputOption = Output.TEXT) -> None:
    """Show what the billing period costs a customer so far."""
    with one_sentence_errors():

        async def work(a: Admin) -> dict[str, Any]:
            return cost_document(a.catalog, *await a.cost(customer))

        found = with_admin(AdminSettings.load(), work)
        if output is Output.JSON:
            print_json(found)
            return
        table = Table("LINE", "DESCRIPTION", "QUANTITY", f"AMOUNT ({found['currency']})")
        for line in found["lines"]:
            table.add_row(line["line"], line["description"], line["quantity"], line["amount"])
        table.add_row("total", "", "", found["total"], style="bold")
        OUT.print(table)
