"""``brinkbyte billing admin bundle``: the answer to a request of a site without a line."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from brinkbyte.billing.admin import ACTOR
from brinkbyte.billing.licenses.bundles import BundleRefusedError, MadeBundle, make_bundle
from brinkbyte.billing.settings import BundleSettings
from brinkbyte.billing.standalone import standalone_context
from brinkbyte.billing.terminal import fail, one_sentence_errors
from brinkbyte.kit.logging import configure_logging
from brinkbyte.license.request import SiteRequest, read_request


def bundle(
    request: Annotated[str, typer.Option(help="file of the site's request, - for stdin")],
    out: Annotated[str, typer.Option("--out", "-o", help="file for the bundle, - for stdout")],
    until: Annotated[
        str | None,
        typer.Option(help="last day, YYYY-MM-DD (UTC); may only shorten the contract"),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="may end a live instance elsewhere")
    ] = False,
    customer: Annotated[
        str | None, typer.Option(help="refuse the request unless it is this customer's")
    ] = None,
) -> None:
    """Answer the request of a site without a line: license, seats, cameras, keys in one file.

    The same request again makes the same bundle; after a renewal, a newer one.
    """
    # Logs go to stderr: stdout may be the bundle.
    configure_logging(level="warning")
    with one_sentence_errors():
        asked = read_request(_read(request), now=int(time.time()))
        if customer is not None and customer != asked.claims.sub:
            raise BundleRefusedError(
                f"the request is of customer {asked.claims.sub}, not of {customer}; ask who sent "
                "it",
                reason="CustomerMismatch",
            )
        end = None if until is None else _end_of_day(until)
        made = make(BundleSettings.load(), asked, until=end, replace=replace)
        if out == "-":
            typer.echo(made.text, nl=False)
        else:
            _write(Path(out), made.text)
        for line in summary(made):
            typer.echo(line, err=out == "-")


def make(
    settings: BundleSettings, asked: SiteRequest, *, until: int | None = None, replace: bool = False
) -> MadeBundle:
    """Make a bundle with a database and signing keys of its own."""

    async def run() -> MadeBundle:
        async with standalone_context(
            settings.admin_database_url,
            settings.signing_keys_dir,
            settings.catalog,
            name="brinkbyte-admin",
        ) as context:
            return await make_bundle(
                context, asked, actor=ACTOR, until=until, replace_instance=replace
            )

    return asyncio.run(run())


def summary(made: MadeBundle) -> list[str]:
    """Return what a person wants to know of a bundle."""
    content = made.content
    issued = sum(each.status != "refused" for each in content.cameras)
    end = datetime.fromtimestamp(made.claims.exp, UTC)
    lines = [
        f"{made.claims.customer_id}: {'bundle' if made.new else 'the same bundle as before'} for "
        f"instance {made.claims.aud}, good until {end:%Y-%m-%d %H:%M} UTC",
        f"{issued} of {len(content.cameras)} cameras licensed, "
        f"{sum(each.status == 'registered' for each in content.devices)} of "
        f"{len(content.devices)} devices registered",
    ]
    lines += [
        f"refused: device {each.hardware_id}: {each.reason}: {each.message}"
        for each in content.devices
        if each.status == "refused"
    ]
    lines += [
        f"refused: camera {each.camera_id}: {each.reason}: {each.message}"
        for each in content.cameras
        if each.status == "refused"
    ]
    return lines


def _read(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _write(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _end_of_day(text: str) -> int:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        fail(f"--until {text!r} is not a day; write YYYY-MM-DD")
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int((midnight + timedelta(days=1)).timestamp())
