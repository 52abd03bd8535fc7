"""``brinkbyte usage``: the reporter's commands."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer

from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.kit.logging import configure_logging
from brinkbyte.kit.streams import file_or_stdin, write_out
from brinkbyte.reporter.run import Outcome, Result, release_roots, run_report
from brinkbyte.reporter.settings import ReporterSettings

EXIT_CODES: Final = {
    Result.DONE: 0,
    Result.BUSY: 0,
    Result.TEMPORARY: 75,  # EX_TEMPFAIL
    Result.PERMANENT: 1,
}

app = typer.Typer(no_args_is_help=True)


@app.callback()
def usage() -> None:
    """Report metered usage to the billing API, carry it there as a file, compare both."""


@app.command()
def report(  # noqa: PLR0917 - flags, by their names
    database_url: Annotated[
        str | None, typer.Option(help="PostgreSQL of the instance [BRINKBYTE_DATABASE_URL]")
    ] = None,
    identity_dir: Annotated[
        Path | None, typer.Option(help="identity directory [BRINKBYTE_IDENTITY_DIR]")
    ] = None,
    license_dir: Annotated[
        Path | None, typer.Option(help="license directory [BRINKBYTE_LICENSE_DIR]")
    ] = None,
    deadline_seconds: Annotated[
        float | None, typer.Option(help="end by then [BRINKBYTE_REPORT_DEADLINE_SECONDS]")
    ] = None,
    final: Annotated[
        bool | None,
        typer.Option(
            "--final",
            help="succeed only when every event has its receipt, and wait for another reporter "
            "[BRINKBYTE_REPORT_FINAL]",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(envvar="BRINKBYTE_LOG_LEVEL")] = "info",
) -> None:
    """Seal, send and mark whatever is not acknowledged, once.

    Exit code 0: everything is acknowledged, the site has no line, or (never with --final) another
    reporter is at work.
    75: a temporary failure, the next run goes on. 1: somebody must change something; the message
    says what.
    """
    configure_logging(level=log_level)
    settings = ReporterSettings.load(
        database_url=database_url,
        identity_dir=identity_dir,
        license_dir=license_dir,
        report_deadline_seconds=deadline_seconds,
        report_final=final,
    )
    outcome = asyncio.run(run_report(settings))
    typer.echo(summary(outcome), err=outcome.result not in {Result.DONE, Result.BUSY})
    raise typer.Exit(EXIT_CODES[outcome.result])


def summary(outcome: Outcome) -> str:
    """Return one line about a run."""
    done = outcome.progress
    counts = f"{done.acknowledged} batches acknowledged"
    if done.quarantined:
        counts += f", {done.quarantined} events set aside by the ledger"
    if done.epochs_opened:
        counts += f", {done.epochs_opened} epochs opened"
    if outcome.result is Result.DONE:
        return outcome.message or counts
    if outcome.result is Result.BUSY:
        return outcome.message
    return f"{outcome.reason}: {outcome.message} ({counts})"


DatabaseOption = Annotated[
    str | None, typer.Option(help="PostgreSQL of the instance [BRINKBYTE_DATABASE_URL]")
]
IdentityOption = Annotated[
    Path | None, typer.Option(help="identity directory [BRINKBYTE_IDENTITY_DIR]")
]
LicenseOption = Annotated[
    Path | None, typer.Option(help="license directory [BRINKBYTE_LICENSE_DIR]")
]


@app.command("export")
def export_file(
    out: Annotated[str, typer.Option("--out", "-o", help="file for the batches, - for stdout")],
    *,
    customer: Annotated[
        str | None,
        typer.Option(help="by default the license's [BRINKBYTE_CUSTOMER_ID]"),
    ] = None,
    acknowledged: Annotated[
        bool,
        typer.Option("--acknowledged", help="also batches with a receipt, for a restored ledger"),
    ] = False,
    database_url: DatabaseOption = None,
    identity_dir: IdentityOption = None,
    license_dir: LicenseOption = None,
) -> None:
    """Write what has no receipt into a file, for a site without a line.

    Nothing is marked by it: until the receipts are imported, the next export has it again. Exit
    code 75: a temporary failure; 1: somebody must change something; the message says what.
    """
    from brinkbyte.reporter import air_gap  # noqa: PLC0415 - the reporter runs without

    configure_logging(level="warning")
    settings = _settings(database_url, identity_dir, license_dir, customer)
    with _exit_codes(), tempfile.TemporaryFile() as file:
        done = asyncio.run(air_gap.export_usage(settings, file, acknowledged=acknowledged))
        file.seek(0)
        write_out(out, file)
        typer.echo(
            f"{done.events} events in {done.batches} batches. The vendor takes the file in with "
            "`brinkbyte billing admin usage import`; import the receipts that come back with "
            "`brinkbyte usage import`",
            err=True,
        )


@app.command("import")
def import_file(
    file: Annotated[str, typer.Argument(help="receipts from the vendor, - for stdin")],
    *,
    database_url: DatabaseOption = None,
    identity_dir: IdentityOption = None,
    license_dir: LicenseOption = None,
) -> None:
    """Verify receipts that came as a file and mark what they acknowledge.

    Exit code 0: they are marked, or were; 1: the file is not valid and nothing was changed, or
    the ledger refused a batch; 75: a temporary failure.
    """
    from brinkbyte.reporter import air_gap  # noqa: PLC0415 - the reporter runs without

    configure_logging(level="warning")
    settings = _settings(database_url, identity_dir, license_dir)
    with _exit_codes():
        roots = release_roots()
        with file_or_stdin(file) as path:
            done = asyncio.run(air_gap.import_receipts(settings, path, roots))
        typer.echo(
            f"{done.marked} batches acknowledged, {done.known} were already; "
            f"{done.left} events have no receipt"
        )
        if done.unknown:
            typer.echo(f"{done.unknown} receipts are for batches that are not here (any more)")
        for line in done.quarantined:
            typer.echo(f"set aside by the ledger: {line}")
        if done.epoch_opened:
            typer.echo(f"a new epoch was opened ({done.epoch_opened}): export again")
        if done.refused:
            typer.echo(f"refused by the ledger: {done.refused}", err=True)
            raise typer.Exit(EXIT_CODES[Result.PERMANENT])


@app.command("reconcile")
def reconcile_ledger(
    *,
    days: Annotated[int, typer.Option(min=1, max=90, help="how far back")] = 90,
    output: Annotated[
        str, typer.Option("--output", "-o", help="text or json (a line each)")
    ] = "text",
    database_url: DatabaseOption = None,
    identity_dir: IdentityOption = None,
    license_dir: LicenseOption = None,
) -> None:
    """Compare the outbox with the vendor's ledger, and name every difference.

    Exit code 0: equal; 1: there are differences; 2: usage, or it cannot be compared; 75: a
    temporary failure.
    """
    from brinkbyte.reporter import reconciling  # noqa: PLC0415 - the reporter runs without

    if output not in {"text", "json"}:
        raise typer.BadParameter("text or json", param_hint="--output")
    configure_logging(level="warning")
    settings = _settings(database_url, identity_dir, license_dir)

    def tell(found: reconciling.Difference) -> None:
        if output == "json":
            members = {"kind": found.kind.value, "subject": found.subject, "detail": found.detail}
            typer.echo(json.dumps(members))
        else:
            detail = f" ({found.detail})" if found.detail else ""
            typer.echo(f"{found.kind}: {found.subject}: {reconciling.MEANING[found.kind]}{detail}")

    with _exit_codes(permanent=2):
        done = asyncio.run(reconciling.reconcile(settings, tell, days=days))
    counts = {kind.value: count for kind, count in sorted(done.differences.items())}
    if output == "json":
        members = {"equal": done.equal, "waiting": done.waiting, "received": done.received}
        typer.echo(json.dumps({**members, "differences": counts}))
    else:
        typer.echo(
            f"{done.equal} events are equal, {done.waiting} wait for the next report, "
            f"{done.received} are in the ledger and wait for their receipt; "
            f"{sum(counts.values())} differences"
        )
    raise typer.Exit(1 if counts else 0)


def _settings(
    database_url: str | None,
    identity_dir: Path | None,
    license_dir: Path | None,
    customer_id: str | None = None,
) -> ReporterSettings:
    return ReporterSettings.load(
        database_url=database_url,
        identity_dir=identity_dir,
        license_dir=license_dir,
        customer_id=customer_id,
    )


@contextmanager
def _exit_codes(permanent: int = EXIT_CODES[Result.PERMANENT]) -> Iterator[None]:
    """End with one sentence and the exit code of its kind."""
    try:
        yield
    except TemporaryError as error:
        typer.echo(f"{error.reason}: {error.message}", err=True)
        raise typer.Exit(EXIT_CODES[Result.TEMPORARY]) from None
    except PermanentError as error:
        typer.echo(f"{error.reason}: {error.message}", err=True)
        raise typer.Exit(permanent) from None
    except psycopg.errors.UndefinedTable:
        typer.echo(
            "SchemaNotReady: the database has no metering schema yet; `brinkbyte instance "
            "migrate` makes it",
            err=True,
        )
        raise typer.Exit(EXIT_CODES[Result.TEMPORARY]) from None
    except psycopg.OperationalError as error:
        typer.echo(f"DatabaseUnreachable: {str(error).strip()}; try again", err=True)
        raise typer.Exit(EXIT_CODES[Result.TEMPORARY]) from None
    except OSError as error:
        typer.echo(f"{error.filename or 'file'}: {error.strerror}", err=True)
        raise typer.Exit(permanent) from None
