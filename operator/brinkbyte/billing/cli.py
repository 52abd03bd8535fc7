"""``brinkbyte billing …``: serve, worker, migrate, keys, administration."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from brinkbyte.billing.admin_cli import admin_app
from brinkbyte.billing.administration.commands import add_commands
from brinkbyte.billing.api_keys.commands import key_app, user_app
from brinkbyte.billing.bundle_cli import bundle
from brinkbyte.billing.licenses import keys as key_files
from brinkbyte.billing.migrate import ADMIN, API, WORKER, migrate
from brinkbyte.billing.providers.commands import provider_app
from brinkbyte.billing.settings import MigrationSettings, ServerSettings, WorkerSettings
from brinkbyte.billing.terminal import fail, one_sentence_errors
from brinkbyte.billing.usage.commands import add_commands as add_usage_commands
from brinkbyte.billing.usage_cli import usage_app
from brinkbyte.kit.logging import configure_logging

app = typer.Typer(no_args_is_help=True, help="The global billing API.", add_completion=False)
keys_app = typer.Typer(no_args_is_help=True, help="Root and signing keys.")
app.add_typer(keys_app, name="keys")
app.add_typer(admin_app, name="admin")
add_commands(admin_app, keys_app)
admin_app.command("bundle")(bundle)
admin_app.add_typer(usage_app, name="usage")
add_usage_commands(admin_app)
admin_app.add_typer(provider_app, name="provider")
admin_app.add_typer(key_app, name="key")
admin_app.add_typer(user_app, name="user")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key")] = None,
) -> None:
    """Serve the API. Needs BRINKBYTE_DATABASE_URL, _PEPPER and _SIGNING_KEYS_DIR."""
    import uvicorn  # noqa: PLC0415 - only the server needs it

    from brinkbyte.billing.app import create_app  # noqa: PLC0415

    with one_sentence_errors():
        settings = ServerSettings.load(
            listen_host=host, listen_port=port, tls_cert=tls_cert, tls_key=tls_key
        )
        if (settings.tls_cert is None) != (settings.tls_key is None):
            fail("give both --tls-cert and --tls-key, or neither")
        # Fail with a sentence before the server's own start-up turns it into a traceback.
        key_files.KeyRing(settings.signing_keys_dir, key_files.release_roots())
        configure_logging(level=settings.log_level)
        uvicorn.run(
            create_app(settings),
            host=settings.listen_host,
            port=settings.listen_port,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=20,
        )


@app.command()
def worker(
    host: Annotated[str | None, typer.Option(help="address of /metrics and /health")] = None,
    port: Annotated[int | None, typer.Option(help="port of them")] = None,
    once: Annotated[bool, typer.Option("--once", help="run every job once and end")] = False,
) -> None:
    """Make invoices, end trials, collect and notify. Needs BRINKBYTE_WORKER_DATABASE_URL."""
    from brinkbyte.billing.worker import run_once, serve_worker  # noqa: PLC0415

    with one_sentence_errors():
        settings = WorkerSettings.load(worker_host=host, worker_port=port)
        configure_logging(level=settings.log_level)
        if not once:
            serve_worker(settings)
        elif failed := run_once(settings):
            fail(f"these jobs failed, see the log: {', '.join(failed)}")


@app.command("migrate")
def migrate_command() -> None:
    """Bring the database to this release. Needs BRINKBYTE_MIGRATION_DATABASE_URL."""
    with one_sentence_errors():
        settings = MigrationSettings.load()
        given = {
            API: settings.api_password,
            WORKER: settings.worker_password,
            ADMIN: settings.admin_password,
        }
        passwords = {role: p.get_secret_value() for role, p in given.items() if p is not None}
        applied = migrate(settings.migration_database_url.get_secret_value(), passwords)
        typer.echo(f"applied: {', '.join(applied)}" if applied else "nothing to apply")


@keys_app.command("root")
def keys_root(
    out: Annotated[Path, typer.Option("--out", help="directory for the keys")],
    development: Annotated[bool, typer.Option(help="mark roots.json as not the vendor's")] = False,
) -> None:
    """Make the root key pair, its spare, and roots.json (on a machine without a network)."""
    with one_sentence_errors():
        path = key_files.make_root(out, development=development)
        typer.echo(f"{path}: build it into the release. Keep {out}/*.pem offline.")


@keys_app.command("signing")
def keys_signing(
    out: Annotated[Path, typer.Option("--out", help="directory of the signing keys")],
    root: Annotated[Path, typer.Option("--root", help="the root's private key, PEM")],
    number: Annotated[int | None, typer.Option(help="number of the key set")] = None,
) -> None:
    """Make a new signing key of every kind and the root-signed key set; they sign at once.

    Old public keys stay until nothing that they signed can be in use any more. To change keys that
    are in good hands, publish the next ones first: `keys publish`, `keys switch`.
    """
    with one_sentence_errors():
        made = key_files.make_signing_keys(out, root.read_bytes(), number=number)
        typer.echo(f"{out}: key set {made}")


@keys_app.command("import")
def keys_import(
    directory: Annotated[Path, typer.Option("--dir", help="directory of the signing keys")],
    document: Annotated[Path, typer.Option("--set", help="jwks.json that was signed offline")],
    roots: Annotated[Path, typer.Option("--roots", help="roots.json of the release")],
    force: Annotated[bool, typer.Option("--force", help="though it lacks keys in use")] = False,
) -> None:
    """Take in a key set that was signed offline."""
    with one_sentence_errors():
        number = key_files.import_key_set(
            directory,
            document.read_bytes(),
            roots.read_bytes(),
            now=int(time.time()),
            force=force,
        )
        typer.echo(f"{directory}: key set {number}")


@keys_app.command("sign")
def keys_sign(
    root: Annotated[Path, typer.Option("--root", help="the root's private key, PEM")],
    public: Annotated[Path, typer.Option("--keys", help='JWKS to sign: {"keys": […]}')],
    number: Annotated[int, typer.Option(help="number of the key set")],
    out: Annotated[Path, typer.Option("--out", help="file for the signed set")],
) -> None:
    """Sign a set of public keys (on the machine that has the root key)."""
    with one_sentence_errors():
        try:
            keys = json.loads(public.read_text())["keys"]
            document = key_files.sign_public_keys(root.read_bytes(), keys, number=number)
        except (ValueError, KeyError, TypeError) as error:
            fail(f"{public}: not a JWKS with keys: {error}")
        out.write_text(json.dumps(document, indent=1) + "\n")
        typer.echo(f"{out}: key set {number}")
