"""``brinkbyte billing admin usage import``: what a site without a line has used."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import IO, Annotated

import typer

from brinkbyte.billing.admin import ACTOR
from brinkbyte.billing.settings import ImportSettings
from brinkbyte.billing.standalone import standalone_context
from brinkbyte.billing.terminal import fail, one_sentence_errors
from brinkbyte.billing.usage.air_gap import ImportedUsage, import_usage
from brinkbyte.kit.logging import configure_logging
from brinkbyte.kit.streams import file_or_stdin, write_out

usage_app = typer.Typer(no_args_is_help=True, help="Usage that came as a file.")


@usage_app.callback()
def usage() -> None:
    """Usage of sites without a line."""


@usage_app.command("import")
def import_file(
    file: Annotated[
        str, typer.Argument(help="file that `brinkbyte usage export` wrote, - for stdin")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="file for the receipts, - for stdout")],
    customer: Annotated[
        str | None, typer.Option(help="refuse the file unless it is this customer's")
    ] = None,
) -> None:
    """Take sealed batches into the ledger and write their receipts, to be carried back.

    Needs BRINKBYTE_DATABASE_URL and BRINKBYTE_SIGNING_KEYS_DIR, like the server. The same file
    again gets the same receipts. Exit code 1: nothing was taken in, or the ledger refused a batch:
    then the receipts of those before it are written all the same.
    """
    configure_logging(level="warning")
    with one_sentence_errors():
        settings = ImportSettings.load()
        with file_or_stdin(file) as path, tempfile.TemporaryFile() as receipts:
            done = run_import(settings, path, receipts, customer=customer)
            receipts.seek(0)
            write_out(out, receipts)
        typer.echo(
            f"{done.customer_id}: {done.batches} batches of instance {done.instance} are in the "
            "ledger; carry the receipts back and import them with `brinkbyte usage import`",
            err=True,
        )
        if done.refused is not None:
            refused = done.refused
            fail(
                f"batch {refused.epoch}/{refused.batch_no} was refused: {refused.reason}: "
                f"{refused.message}. The site learns of it by the receipts, exports again after it "
                "has imported them, and loses nothing"
            )


def run_import(
    settings: ImportSettings, file: Path, out: IO[bytes], *, customer: str | None = None
) -> ImportedUsage:
    """Import with a database and signing keys of its own."""

    async def run() -> ImportedUsage:
        async with standalone_context(
            settings.database_url,
            settings.signing_keys_dir,
            settings.catalog,
            name="brinkbyte-import",
        ) as context:
            return await import_usage(context, file, out, actor=ACTOR, customer=customer)

    return asyncio.run(run())
