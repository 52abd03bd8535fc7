"""``brinkbyte license request|import``: a site without a line, with files that somebody carries."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from brinkbyte.kit.errors import BrinkByteError, PermanentError
from brinkbyte.trust import load_release_roots

if TYPE_CHECKING:
    from brinkbyte.cli.site import Import

EXIT_INVALID: Final = 1

NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="of the Tenant; by default the kubeconfig context's"),
]
KubeconfigOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="kubeconfig; by default kubectl's")
]


def request(
    tenant: Annotated[str, typer.Argument(help="name of the Tenant")],
    namespace: NamespaceOption = None,
    out: Annotated[
        str, typer.Option("--out", "-o", help="file for the request, - for stdout")
    ] = "-",
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Copy out what a site without a line asks the vendor for: its inventory, signed.

    The operator keeps it up to date and signs it; nothing in the file is secret.
    """
    # Tokens are proven on machines without a cluster: its client is loaded where it is needed.
    from brinkbyte.cli import site  # noqa: PLC0415
    from brinkbyte.controller.kubeconfig import current_namespace  # noqa: PLC0415

    async def run() -> tuple[str, int, int]:
        where = namespace or current_namespace(kubeconfig)
        async with site.open_cluster(kubeconfig) as cluster:
            text, found = await site.site_request(cluster, where, tenant)
        return text, len(found.inventory.devices), len(found.inventory.cameras)

    try:
        text, devices, cameras = asyncio.run(run())
    except BrinkByteError as error:
        _fail(error, "error")
    if out == "-":
        typer.echo(text, nl=False)
    else:
        _write(Path(out), text)
    typer.echo(
        f"{devices} devices and {cameras} cameras. Send the file to the vendor, then import the "
        "answer with `brinkbyte license import`",
        err=True,
    )


def import_bundle(
    file: Annotated[str, typer.Argument(help="bundle of the vendor, - for stdin")],
    *,
    namespace: NamespaceOption = None,
    tenant: Annotated[
        str | None, typer.Option(help="name of the Tenant; by default the bundle's customer's")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only verify, and say what would be written")
    ] = False,
    kubeconfig: KubeconfigOption = None,
    output: Annotated[str, typer.Option(help="text or json")] = "text",
) -> None:
    """Verify a bundle and put it into the Secret that the Tenant names.

    Exit code 0: it is there; 1: it is not valid, with the reason, and nothing was changed; 2:
    usage.
    """
    from brinkbyte.cli import site  # noqa: PLC0415
    from brinkbyte.controller.kubeconfig import current_namespace  # noqa: PLC0415

    async def run(text: str) -> Import:
        roots = load_release_roots().keys
        where = namespace or current_namespace(kubeconfig)
        async with site.open_cluster(kubeconfig) as cluster:
            planned = await site.plan_import(cluster, text, roots, namespace=where, tenant=tenant)
            if not dry_run and not planned.same:
                await site.carry_out(cluster, planned)
        return planned

    try:
        planned = asyncio.run(run(_read(file)))
    except BrinkByteError as error:
        _fail(error)
    facts = site.facts(planned)
    typer.echo(
        json.dumps(facts)
        if output == "json"
        else "\n".join(_lines(planned, facts["refused"], dry_run))
    )


def _lines(planned: Import, refused: list[dict[str, str]], dry_run: bool) -> list[str]:
    content = planned.bundle.content
    until = time.strftime("%Y-%m-%d", time.gmtime(planned.bundle.claims.exp))
    done = "would be written" if dry_run else "written"
    if planned.same:
        done = "holds this bundle already"
    lines = [
        f"Valid until {until}: {planned.cameras} of {len(content.cameras)} cameras licensed",
        f"Secret {planned.namespace}/{planned.secret} {done}; Tenant {planned.tenant} takes it in "
        "within a minute",
    ]
    lines += [
        f"refused by the vendor: {each['kind']} {each['id']}: {each['reason']}: {each['message']}"
        for each in refused
    ]
    return lines


def _read(name: str) -> str:
    data = sys.stdin.buffer.read() if name == "-" else _file(Path(name))
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        _fail(PermanentError("not a license bundle (not plain text)", reason="Malformed"))


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None


def _fail(error: BrinkByteError, word: str = "not valid") -> NoReturn:
    typer.echo(f"{word}: {error.reason}: {error.message}", err=True)
    raise typer.Exit(EXIT_INVALID) from None
