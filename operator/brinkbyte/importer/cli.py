"""``brinkbyte migrate``: old databases into the instance's."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import Field
from rich.console import Console

from brinkbyte.importer.outcome import Outcome
from brinkbyte.importer.report import (
    REJECTS,
    REPORT,
    Bars,
    bars,
    show,
    show_removed,
    summary,
    write_rejects,
    write_report,
)
from brinkbyte.importer.rollback import roll_back
from brinkbyte.importer.run import ImportRun, check_shape, connection
from brinkbyte.importer.source import (
    Backup,
    OldDatabase,
    check_file,
    make_backup,
    open_backup,
    reading,
)
from brinkbyte.importer.values import Unreadable, identifier
from brinkbyte.kit.errors import InvalidInputError, PermanentError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.claims import Identifier
from brinkbyte.store.database import DatabaseSettings
from brinkbyte.store.sqlite_journal import Journal
from brinkbyte.store.sqlite_rows import Connection

EXIT_DIFFERS: Final = 1
EXIT_SET_ASIDE: Final = 3
_DEVICE_SETTINGS: Final = ("hardware_id", "device_id", "device.id", "edge_device_id")

app = typer.Typer(no_args_is_help=True, help="Bring old databases into the instance's.")
_out = Console()


class ImportSettings(DatabaseSettings):
    """``BRINKBYTE_…`` variables, or flags."""

    customer_id: Identifier = Field(description="the customer whose instance it is")


@app.callback()
def migrate() -> None:
    """Bring old databases into the instance's."""


@app.command("sqlite")
def sqlite_command(  # noqa: PLR0917 - flags, by their names
    source: Annotated[Path, typer.Argument(help="The old edge service's SQLite file.")],
    customer_id: Annotated[
        str | None, typer.Option(help="The customer [BRINKBYTE_CUSTOMER_ID].")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="The instance's PostgreSQL [BRINKBYTE_DATABASE_URL].")
    ] = None,
    source_name: Annotated[
        str | None,
        typer.Option(
            help="Name of the old database, of which all its rows' ids come: by default "
            "its configured device id, else the file's name."
        ),
    ] = None,
    hardware_id: Annotated[
        str | None,
        typer.Option(help="Device of rows that name none: by default the configured one."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where backup, rejects and report go [brinkbyte-import-<name>]."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse, and write nothing, if any row is set aside.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Take the import back: remove what it wrote.")
    ] = False,
) -> None:
    """Carry an old edge database over, or take that back.

    Interrupted, it is run again and goes on; run again when it is done, it changes nothing. Exit
    code 0: all is there and compared. 3: so it is, but rows were set aside, see rejects.jsonl. 1:
    refused, or what is there differs; the message says what to do. 2: usage.
    """
    settings = ImportSettings.load(customer_id=customer_id, database_url=database_url)
    if rollback:
        _roll_back(settings, source, source_name)
        return
    check_file(source)
    with connection(settings.dsn()) as conn:
        journal = Journal(conn, settings.customer_id)
        journal.lock()
        with bars(_out) as shown:
            name, where, backup = _backed_up(journal, source, source_name, folder, shown)
            with closing(OldDatabase(backup)) as old:
                check_shape(old)
                device = _device(old, hardware_id)
                run = ImportRun(
                    conn, journal, old,
                    source=name, hardware_id=device, now=datetime.now(UTC), shown=shown,
                )  # fmt: skip
                outcome, counts = _carry_out(conn, journal, run, where, dry=dry_run, strict=strict)
                said = summary(outcome, old, counts)
        write_report(where / REPORT, said)
    show(_out, outcome, said, where)
    _end(outcome, dry=dry_run)


def _carry_out(
    conn: Connection, journal: Journal, run: ImportRun, where: Path, *, dry: bool, strict: bool
) -> tuple[Outcome, Counter[tuple[str, str]]]:
    if dry or strict:
        outcome, rejects = run.check()
        counts = write_rejects(where / REJECTS, rejects)
        if strict and counts:
            raise PermanentError(
                f"{counts.total()} rows would be set aside and nothing was written; they are in "
                f"{where / REJECTS}: mend them in a copy of the file, or leave out --strict",
                reason="RowsSetAside",
            )
        if dry:
            return outcome, counts
    outcome = run.run()
    began = outcome.began
    if began is None:
        raise RuntimeError("a run without an import")
    with conn.transaction():
        counts = write_rejects(where / REJECTS, journal.rejects(began.id))
    return outcome, counts


def _backed_up(
    journal: Journal, source: Path, given: str | None, folder: Path | None, shown: Bars
) -> tuple[str, Path, Backup]:
    """Return the source's name, the import's folder, and the backup that is read."""
    name = given or _name_inside(source)
    where = folder or Path(f"brinkbyte-import-{name}")
    where.mkdir(parents=True, exist_ok=True)
    known = journal.find(name)
    kept = (
        open_backup(where, known.source_sha256)
        if known is not None and not known.finished
        else None
    )
    backup = kept or make_backup(source, where, progress=shown.pages)
    failpoint("import.backed_up")
    _out.print(f"backup of {source}: {backup.path}, SHA-256 {backup.sha256}", highlight=False)
    return name, where, backup


def _name_inside(source: Path) -> str:
    """Return the configured device id of an old database, else the file's name."""
    with reading(source), closing(OldDatabase(Backup(source, ""))) as old:
        configured = old.setting(*_DEVICE_SETTINGS)
    return _file_name(configured or source.stem)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "edge"


def _device(old: OldDatabase, given: str | None) -> str:
    wanted = given or old.setting(*_DEVICE_SETTINGS) or ""
    if not wanted:
        return ""
    try:
        return identifier(wanted, "hardware_id")
    except Unreadable as error:
        raise InvalidInputError(
            f"{error.message}; give the device's id with --hardware-id", reason="InvalidDevice"
        ) from None


def _roll_back(settings: ImportSettings, source: Path, given: str | None) -> None:
    with connection(settings.dsn()) as conn:
        journal = Journal(conn, settings.customer_id)
        journal.lock()
        name = given or (_name_inside(source) if source.is_file() else _file_name(source.stem))
        began = journal.find(name)
        if began is None:
            others = ", ".join(journal.sources()) or "none"
            raise InvalidInputError(
                f"there is no import of {name!r} to take back; imports here: {others}. Name one "
                "with --source-name",
                reason="NoImport",
            )
        removed = roll_back(conn, journal, began)
    show_removed(_out, removed)
    _out.print(f"the import of {began.source} is taken back", highlight=False)


def _end(outcome: Outcome, *, dry: bool) -> None:
    if dry:
        _out.print("dry run: nothing was written")
    elif not outcome.equal:
        _out.print("[red]what is there differs from the old database; look at report.json[/]")
        raise typer.Exit(EXIT_DIFFERS)
    elif outcome.new_rows:
        _out.print("[green]counts and checksums are equal[/]")
    else:
        _out.print("[green]nothing is new since the import before; all is there[/]")
    if outcome.set_aside:
        raise typer.Exit(EXIT_SET_ASIDE)
