"""``brinkbyte instance …``: serve the API, migrate its schema, write the model repository."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from rich.console import Console

from brinkbyte.catalog import load_catalog
from brinkbyte.instance.app import create_app
from brinkbyte.instance.settings import InstanceSettings
from brinkbyte.instance.triton.repository import write_models
from brinkbyte.kit.logging import configure_logging
from brinkbyte.store import DatabaseSettings
from brinkbyte.store import migrate as migrate_schema

app = typer.Typer(no_args_is_help=True, help="The customer-instance API.")
_out = Console()
_GRACE_SECONDS = 20


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [0.0.0.0].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8080].")] = None,
    customer_id: Annotated[
        str | None, typer.Option(help="The customer whose instance this is.")
    ] = None,
    triton_host: Annotated[
        str | None, typer.Option(help="Name that resolves to every Triton pod.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error.")] = None,
) -> None:
    """Serve the API until told to stop. Every setting is also a BRINKBYTE_… variable."""
    settings = InstanceSettings.load(
        host=host, port=port, customer_id=customer_id, triton_host=triton_host, log_level=log_level
    )
    configure_logging(level=settings.log_level)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": _GRACE_SECONDS,
    }
    app = create_app(settings)
    # What was made so far stays for good: without it a full collection stops no call for long.
    gc.collect()
    gc.freeze()
    uvicorn.run(app, **options)


@app.command()
def migrate() -> None:
    """Bring the instance's database schema up to date; safe to run again and at once."""
    applied = migrate_schema(DatabaseSettings.load().dsn())
    _out.print(
        f"applied migrations: {', '.join(f'{version:04d}' for version in applied)}"
        if applied
        else "the schema is up to date"
    )


@app.command()
def models(
    directory: Annotated[Path, typer.Argument(help="Triton's --model-repository.")],
) -> None:
    """Write the Triton model repository: one model per catalog model."""
    names = write_models(directory, load_catalog())
    _out.print(f"{len(names)} models written to {directory}")
