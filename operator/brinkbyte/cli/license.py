"""``brinkbyte license``: look at a token, prove a token; request and import by files."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import jwt
import typer
from rich.console import Console
from rich.table import Table

from brinkbyte.cli import air_gap
from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.claims import Claims
from brinkbyte.license.keys import PublicJwk, load_roots, verify_key_set
from brinkbyte.license.tokens import KIND_OF, TokenError, verify

EXIT_INVALID: Final = 1
EXIT_USAGE: Final = 2

app = typer.Typer(no_args_is_help=True, help="Look at licenses and prove them; air gap.")
app.command("request")(air_gap.request)
app.command("import")(air_gap.import_bundle)


def read_token(argument: str) -> str:
    """Return a token given as text, as the path of a file, or as ``-`` for standard input."""
    if argument == "-":
        return sys.stdin.read().strip()
    path = Path(argument)
    if argument.count(".") != 2 and path.is_file():
        return path.read_text().strip()
    try:
        return path.read_text().strip() if path.is_file() else argument
    except OSError:  # a token is longer than any file name
        return argument


def trusted_keys(jwks: Path, roots: Path | None) -> dict[str, PublicJwk]:
    """Return the keys of a file: as they stand, or root-verified when roots are given.

    Raises:
        PermanentError: the file is not a key set, or the roots did not sign it.
    """
    text = jwks.read_text()
    if roots is not None:
        return dict(verify_key_set(text, load_roots(roots.read_text()), now=int(time.time())).keys)
    return load_roots(text)


def expected_claims(token: str) -> type[Claims]:
    """Return the claims model that a token's ``typ`` header names.

    Raises:
        TokenError: the type is none of ours.
    """
    try:
        typ = jwt.get_unverified_header(token).get("typ")
    except (jwt.PyJWTError, ValueError) as error:
        raise TokenError(f"not a signed token: {error}", reason="Malformed") from None
    for model, kind in KIND_OF.items():
        if kind.typ == typ:
            return model
    raise TokenError(f"type {typ!r} is none of ours", reason="WrongType")


def show(claims: dict[str, Any], title: str) -> None:
    """Draw claims as a table; times in UTC beside the number."""
    table = Table("claim", "value", title=title, title_justify="left")
    for name, value in claims.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if name in {"iat", "nbf", "exp", "issuedAt", "expiresAt"} and isinstance(value, int):
            text = f"{value}  ({time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime(value))})"
        table.add_row(name, text if len(text) <= 160 else text[:157] + "…")
    Console().print(table)


@app.command()
def inspect(
    token: Annotated[str, typer.Argument(help="the token, a file with it, or - for stdin")],
    output: Annotated[str, typer.Option(help="table or json")] = "table",
) -> None:
    """Show what a token says, without proving it."""
    try:
        text = read_token(token)
        expected_claims(text)
        claims: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    except (TokenError, jwt.PyJWTError) as error:
        typer.echo(f"not valid: {error}", err=True)
        raise typer.Exit(EXIT_INVALID) from None
    if output == "json":
        typer.echo(json.dumps(claims))
    else:
        show(claims, "Not verified. Use `brinkbyte license verify` to prove it.")


@app.command("verify")
def verify_command(
    token: Annotated[str, typer.Argument(help="the token, a file with it, or - for stdin")],
    jwks: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="file of trusted keys")],
    roots: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="root keys that must have signed --jwks"),
    ] = None,
    audience: Annotated[str | None, typer.Option(help="instance id it must be for")] = None,
    output: Annotated[str, typer.Option(help="table or json")] = "table",
) -> None:
    """Prove a token: exit code 0 valid, 1 not valid with the reason, 2 usage."""
    try:
        text = read_token(token)
        claims = verify(
            text,
            expected_claims(text),
            trusted_keys(jwks, roots),
            now=int(time.time()),
            audience=audience,
        )
    except PermanentError as error:
        typer.echo(f"not valid: {error.reason}: {error.message}", err=True)
        raise typer.Exit(EXIT_INVALID) from None
    if output == "json":
        typer.echo(claims.model_dump_json(by_alias=True))
    else:
        show(claims.model_dump(mode="json"), "Valid: the signature verifies.")
