"""One console script; each group of commands loads only the room it belongs to."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

import typer

from brinkbyte import __version__
from brinkbyte.kit.errors import BrinkByteError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

# name → (module with a Typer application ``app``, one line of help)
GROUPS: Final[dict[str, tuple[str, str]]] = {
    "operator": ("brinkbyte.controller.cli", "the Kubernetes operator"),
    "instance": ("brinkbyte.instance.cli", "the customer-instance API"),
    "usage": (
        "brinkbyte.reporter.cli",
        "report metered usage, carry it as a file, compare it with the ledger",
    ),
    "billing": ("brinkbyte.billing.cli", "the global billing API and its administration"),
    "migrate": ("brinkbyte.importer.cli", "bring old databases into the instance's"),
    "license": ("brinkbyte.cli.license", "look at licenses and prove them"),
    "device": ("brinkbyte.cli.device", "who this edge device is, outside Kubernetes"),
}

# The same, for a command without a group: a module with a function ``run``.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "quote": ("brinkbyte.cli.quote", "what a folder of manifests will cost a month"),
}


def build_app(arguments: list[str]) -> typer.Typer:
    """Return the application, with the named group's commands in full and the others by name.

    A reporter that runs every two minutes on a small machine should not load a web framework and
    a Kubernetes client that it never uses.
    """
    app = typer.Typer(
        name="brinkbyte",
        help=f"BrinkByte Vision {__version__}: operator, instance, metering and billing.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module, help_text) in GROUPS.items():
        group = import_module(module).app if name == wanted else typer.Typer(no_args_is_help=True)
        app.add_typer(group, name=name, help=help_text)
    for name, (module, help_text) in COMMANDS.items():
        run = import_module(module).run if name == wanted else _unloaded
        app.command(name, help=help_text)(run)

    @app.callback(invoke_without_command=True)
    def root(
        version: bool = typer.Option(False, "--version", help="Print the version and end."),
    ) -> None:
        if version:
            typer.echo(__version__)
            raise typer.Exit

    return app


def _unloaded() -> None:
    """Stand for a command that was not called."""


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 1."""
    try:
        build_app(sys.argv[1:])()
    except BrinkByteError as error:
        from rich.console import Console  # noqa: PLC0415 - three megabytes that no service needs

        Console(stderr=True).print(f"[bold red]{error.reason}[/]: {error.message}", highlight=False)
        raise SystemExit(EXIT_FAILED) from None


if __name__ == "__main__":
    main()
