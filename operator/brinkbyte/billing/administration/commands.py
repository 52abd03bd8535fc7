"""``brinkbyte billing admin flags|seats|clones|payment|keys`` and the steps of a key rotation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel
from rich.table import Table

from brinkbyte.billing.admin import ACTOR, with_admin
from brinkbyte.billing.administration import service
from brinkbyte.billing.administration.schemas import InstanceRow, KeyRollout
from brinkbyte.billing.licenses import rotation
from brinkbyte.billing.rollout import service as rollout
from brinkbyte.billing.rollout.service import Rollout
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
from brinkbyte.license.claims import Flags

flags_app = typer.Typer(no_args_is_help=True, help="Feature flags, signed into licenses.")
clones_app = typer.Typer(no_args_is_help=True, help="Instances that seem to run twice.")
payment_app = typer.Typer(no_args_is_help=True, help="Unpaid invoices.")

DirectoryOption = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="BRINKBYTE_SIGNING_KEYS_DIR", help="directory of the signing keys"
    ),
]
RootOption = Annotated[Path, typer.Option("--root", help="the root's private key, PEM")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="pass over who is named; goes into the audit log")
]


def add_commands(admin: typer.Typer, keys: typer.Typer) -> None:
    """Add the commands of the administration, and the steps of a rotation to ``keys``."""
    admin.add_typer(flags_app, name="flags")
    admin.add_typer(clones_app, name="clones")
    admin.add_typer(payment_app, name="payment")
    admin.command("seats")(seats)
    admin.command("keys")(keys_status)
    keys.command("status")(keys_status)
    keys.command("publish")(keys_publish)
    keys.command("switch")(keys_switch)
    keys.command("retire")(keys_retire)


def _now() -> int:
    return int(time.time())


def _wire(answer: BaseModel | Iterable[BaseModel]) -> Any:
    if isinstance(answer, BaseModel):
        return answer.model_dump(mode="json")
    return [each.model_dump(mode="json") for each in answer]


def _time(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


# Feature flags.


def parse_flag(text: str) -> tuple[str, bool]:
    """Read ``name=true`` or ``name=false``; ends with a sentence when it is neither."""
    name, _, value = text.partition("=")
    if name not in Flags.model_fields or value not in {"true", "false"}:
        fail(
            f"{text!r} is not a flag; write name=true or name=false, name one of "
            f"{', '.join(Flags.model_fields)}"
        )
    return name, value == "true"


@flags_app.command("set")
def flags_set(
    customer: CustomerOption,
    flags: Annotated[list[str], typer.Argument(help="such as offline_mode=false")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Set some feature flags; they are in force once the instance has asked, within the hour."""
    with one_sentence_errors():
        changes = dict(parse_flag(text) for text in flags)
        found = with_admin(
            AdminSettings.load(),
            lambda a: service.set_flags(a.database, customer, changes, actor=ACTOR, now=_now()),
        )
        _print_flags(found.customer_id, found.flags, output)


@flags_app.command("show")
def flags_show(customer: CustomerOption, output: OutputOption = Output.TEXT) -> None:
    """Show the feature flags of a customer."""
    with one_sentence_errors():
        found = with_admin(AdminSettings.load(), lambda a: service.get_flags(a.database, customer))
        _print_flags(found.customer_id, found.flags, output)


def _print_flags(customer: str, flags: dict[str, bool], output: Output) -> None:
    if output is Output.JSON:
        print_json({"customerId": customer, "flags": flags})
        return
    for name, value in flags.items():
        typer.echo(f"{name}={str(value).lower()}")


# Clones.


@clones_app.command("list")
def clones_list(
    all_: Annotated[bool, typer.Option("--all", help="also acknowledged ones")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List instances that seem to run twice, with both parties."""
    with one_sentence_errors():
        found = with_admin(
            AdminSettings.load(), lambda a: service.clone_alarms(a.database, acknowledged=all_)
        )
        if output is Output.JSON:
            print_json(_wire(found))
            return
        table = Table("CUSTOMER", "INSTANCE", "REASON", "FIRST", "SECOND", "LAST SEEN", "STATE")
        for row in found:
            table.add_row(
                row.customer_id,
                row.instance_id,
                row.reason,
                row.first_party,
                row.second_party,
                _time(row.last_seen_at),
                f"open, {row.times} times"
                if row.acknowledged_at is None
                else f"acknowledged by {row.acknowledged_by} {row.note}".strip(),
            )
        OUT.print(table)


@clones_app.command("acknowledge")
def clones_acknowledge(
    customer: CustomerOption,
    note: Annotated[str, typer.Option(help="why it is fine, for the audit log")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Acknowledge a customer's clone alarms; they come back if it goes on."""
    with one_sentence_errors():
        found = with_admin(
            AdminSettings.load(),
            lambda a: service.acknowledge_clones(
                a.database, customer, note=note, actor=ACTOR, now=_now()
            ),
        )
        if output is Output.JSON:
            print_json(_wire(found))
        else:
            typer.echo(f"{customer}: {len(found)} acknowledged")


# Payments.


@payment_app.command("failed")
def payment_failed(
    customer: CustomerOption,
    due: Annotated[datetime, typer.Option(help="due date of the invoice, UTC")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Note an unpaid invoice: past due, and the license ends 14 days after the due date."""
    with one_sentence_errors():
        _payment(customer, int(due.replace(tzinfo=UTC).timestamp()), output)


@payment_app.command("received")
def payment_received(customer: CustomerOption, output: OutputOption = Output.TEXT) -> None:
    """Note that nothing is unpaid any more."""
    with one_sentence_errors():
        _payment(customer, None, output)


def _payment(customer: str, due_at: int | None, output: Output) -> None:
    found = with_admin(
        AdminSettings.load(),
        lambda a: service.note_payment(a.database, customer, due_at, actor=ACTOR, now=_now()),
    )
    if output is Output.JSON:
        print_json(_wire(found))
        return
    end = "" if found.ends_at is None else f", ends {_time(found.ends_at)}"
    typer.echo(f"{customer}: {found.status}{end}")


# Seats.


def seats(
    customer: CustomerOption,
    camera: Annotated[str | None, typer.Option(help="only this camera id")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a customer's camera seats and what happened to them: who, from, to, when."""
    with one_sentence_errors():
        found = with_admin(
            AdminSettings.load(),
            lambda a: service.seats_of(a.database, a.catalog, customer, camera, now=_now()),
        )
        if output is Output.JSON:
            print_json(_wire(found))
            return
        typer.echo(
            f"seats: {found.base.used} of {found.base.limit} used, "
            f"trial: {found.trial.used} of {found.trial.limit}"
        )
        table = Table("CAMERA", "SEAT", "DEVICE", "MODE", "PACKS", "UNTIL", "STATE")
        for seat in found.seats:
            table.add_row(
                seat.camera_id,
                seat.seat,
                seat.hardware_id,
                seat.mode.value,
                " ".join(seat.growth_packs),
                _time(seat.until),
                "in use" if seat.held_until is None else f"waits until {_time(seat.held_until)}",
            )
        OUT.print(table)
        table = Table("WHEN", "CAMERA", "WHAT", "FROM", "TO", "WHO", "WHY")
        for change in found.history:
            table.add_row(
                _time(change.at),
                change.camera_id,
                change.action,
                change.from_hardware_id or "",
                change.hardware_id,
                change.actor,
                change.reason,
            )
        OUT.print(table)


# Keys.


def _progress(directory: Path) -> Rollout:
    state = rotation.read_state(directory)
    return with_admin(
        AdminSettings.load(), lambda a: rollout.progress(a.database, state, now=_now())
    )


def keys_status(directory: DirectoryOption, output: OutputOption = Output.TEXT) -> None:
    """Show the signing keys and how far their rollout is. Needs BRINKBYTE_ADMIN_DATABASE_URL."""
    with one_sentence_errors():
        found = service.key_rollout(_progress(directory))
        if output is Output.JSON:
            print_json(_wire(found))
            return
        _print_rollout(found)


def _print_rollout(found: KeyRollout) -> None:
    step = {
        "settled": "no change of keys is under way",
        "published": "the next keys are published and sign nothing yet; `keys switch` comes next",
        "overlap": "old keys are still in the set; they go by themselves, or with `keys retire`",
    }
    typer.echo(f"key set {found.number}, ends {_time(found.expires_at)}: {step[found.phase]}")
    typer.echo(f"{found.seen} of {found.instances} live instances have seen the newest keys")
    table = Table("KEY", "SIGNS", "STATE", "SINCE SET", "GOES")
    for key in found.keys:
        table.add_row(
            key.key_id,
            " ".join(key.kinds),
            key.state,
            str(key.key_set_number),
            _time(key.goes_at),
        )
    OUT.print(table)
    if found.lacking:
        OUT.print(_instances("LACKS THE NEWEST KEYS", found.lacking))
    if found.needing:
        OUT.print(_instances("NEEDS THE OLD KEYS", found.needing))


def _instances(title: str, rows: Iterable[InstanceRow]) -> Table:
    table = Table("CUSTOMER", title, "HAS SET", "BY", "LAST CONTACT", "OLD KEYS UNTIL")
    for row in rows:
        table.add_row(
            row.customer_id,
            row.instance_id,
            str(row.key_set_number),
            row.via,
            _time(row.last_contact_at) or "never",
            _time(row.needs_old_key_until),
        )
    return table


def keys_publish(directory: DirectoryOption, root: RootOption) -> None:
    """Make the next keys and publish their public halves; nothing is signed with them yet."""
    with one_sentence_errors():
        number = rotation.publish(directory, root.read_bytes(), now=_now())
        typer.echo(f"{directory}: key set {number}. Give it to the servers, then `keys status`")


def keys_switch(directory: DirectoryOption, force: ForceOption = False) -> None:
    """Sign with the next keys, once every instance that is in touch has seen them."""
    with one_sentence_errors():
        found = _progress(directory)
        if not force:
            rollout.refuse_switch(found)
        _record(found, "switch", forced=force)
        number = rotation.switch(directory, now=_now())
        typer.echo(f"{directory}: signs with the keys of set {number}")
        _name("passed over", found.waiting)


def keys_retire(directory: DirectoryOption, root: RootOption, force: ForceOption = False) -> None:
    """Take retired public keys out of the set, once nobody needs them."""
    with one_sentence_errors():
        found = _progress(directory)
        if not force:
            rollout.refuse_retirement(found)
        root_pem = root.read_bytes()
        _record(found, "retire", forced=force)
        number = rotation.retire(directory, root_pem, now=_now())
        typer.echo(f"{directory}: key set {number} without the old keys")
        _name("passed over", found.needing)


def _record(found: Rollout, step: Literal["switch", "retire"], *, forced: bool) -> None:
    with_admin(
        AdminSettings.load(),
        lambda a: rollout.record_step(
            a.database, found, step, actor=ACTOR, forced=forced, now=_now()
        ),
    )


def _name(what: str, instances: Iterable[rollout.InstanceProgress]) -> None:
    for each in instances:
        typer.echo(f"{what}: {each.tenant_id} ({each.instance_id})")
