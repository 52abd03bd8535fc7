"""``brinkbyte usage``: the reporter's commands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from brinkbyte.kit.logging import configure_logging
from brinkbyte.reporter.run import Outcome, Result, run_report
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
    """Report metered usage to the billing API."""


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
