"""``brinkbyte billing admin key|user …``: customers' API keys, and the first of their people."""

from __future__ import annotations

import time
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from brinkbyte.billing.admin import ACTOR, Admin, with_admin
from brinkbyte.billing.api_keys import service
from brinkbyte.billing.api_keys.schemas import DEFAULT_LIFE_DAYS, ApiKeyCreate
from brinkbyte.billing.settings import AdminSettings
from brinkbyte.billing.terminal import (
    OUT,
    CustomerOption,
    Output,
    OutputOption,
    one_sentence_errors,
    print_json,
)
from brinkbyte.billing.users import service as users
from brinkbyte.billing.users.schemas import UserInvite

key_app = typer.Typer(no_args_is_help=True, help="API keys of customers' own programs.")
user_app = typer.Typer(no_args_is_help=True, help="Customers' people.")
_LISTED = 1000


def _now() -> int:
    return int(time.time())


@key_app.command("create")
def key_create(
    customer: CustomerOption,
    name: Annotated[str, typer.Option(help="what it is for")],
    scope: Annotated[list[str] | None, typer.Option(help="billing:read, billing:write")] = None,
    days: Annotated[int, typer.Option(help="how long it is good")] = DEFAULT_LIFE_DAYS,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make an API key and print it; it is shown only now. Needs BRINKBYTE_PEPPER."""
    with one_sentence_errors():
        request = ApiKeyCreate.model_validate(
            {"name": name, "scopes": tuple(scope or ("billing:read",)), "life_days": days}
        )

        async def work(admin: Admin) -> Any:
            async with admin.database.tenant(customer) as connection:
                return await service.create_in(
                    connection, admin.need_secrets(), customer, request, actor=ACTOR, now=_now()
                )

        _print_made(with_admin(AdminSettings.load(), work), output)


@key_app.command("rotate")
def key_rotate(
    customer: CustomerOption,
    key_id: Annotated[UUID, typer.Argument(help="see list")],
    overlap: Annotated[int, typer.Option(help="hours that the old one stays good", min=0)] = 24,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a key in place of another and print it. Needs BRINKBYTE_PEPPER."""
    with one_sentence_errors():

        async def work(admin: Admin) -> Any:
            async with admin.database.tenant(customer) as connection:
                return await service.rotate_in(
                    connection,
                    admin.need_secrets(),
                    customer,
                    key_id,
                    overlap_hours=overlap,
                    actor=ACTOR,
                    now=_now(),
                )

        _print_made(with_admin(AdminSettings.load(), work), output)


def _print_made(made: Any, output: Output) -> None:
    if output is Output.JSON:
        print_json(made.model_dump(mode="json"))
    else:
        typer.echo(made.secret)


@key_app.command("list")
def key_list(customer: CustomerOption, output: OutputOption = Output.TEXT) -> None:
    """List a customer's API keys; the keys themselves are stored nowhere."""
    with one_sentence_errors():

        async def work(admin: Admin) -> Any:
            async with admin.database.tenant(customer) as connection:
                return await service.page_in(connection, customer, before=None, limit=_LISTED)

        found = with_admin(AdminSettings.load(), work)
        if output is Output.JSON:
            print_json([key.model_dump(mode="json") for key in found])
            return
        table = Table("ID", "NAME", "SCOPES", "MADE BY", "STATE")
        for key in found:
            ended = "ended" if key.expires_at <= _now() else "good"
            state = ended if key.revoked_at is None else "revoked"
            table.add_row(key.key_id, key.name, " ".join(key.scopes), key.created_by, state)
        OUT.print(table)


@key_app.command("revoke")
def key_revoke(
    customer: CustomerOption, key_id: Annotated[UUID, typer.Argument(help="see list")]
) -> None:
    """Revoke an API key at once."""
    with one_sentence_errors():

        async def work(admin: Admin) -> None:
            async with admin.database.tenant(customer) as connection:
                await service.revoke_in(connection, customer, key_id, actor=ACTOR, now=_now())

        with_admin(AdminSettings.load(), work)
        typer.echo(f"{key_id}: revoked")


@user_app.command("invite")
def user_invite(
    customer: CustomerOption,
    email: Annotated[str, typer.Option(help="where the invitation goes")],
    role: Annotated[str, typer.Option(help="owner, billing or viewer")] = "owner",
    output: OutputOption = Output.TEXT,
) -> None:
    """Invite a person to a customer, such as its first owner. Needs BRINKBYTE_PEPPER."""
    with one_sentence_errors():
        request = UserInvite.model_validate({"email": email, "role": role})

        async def work(admin: Admin) -> Any:
            async with admin.database.tenant(customer) as connection:
                return await users.invite_in(
                    connection, admin.need_secrets(), customer, request, actor=ACTOR, now=_now()
                )

        made = with_admin(AdminSettings.load(), work)
        if output is Output.JSON:
            print_json(made.model_dump(mode="json"))
        else:
            typer.echo(f"{made.user_id}: {made.email} is invited as {made.role}")
