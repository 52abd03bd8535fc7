"""``brinkbyte license``: look at a token, prove a token; request and import by files."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import jwt
import typer
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from rich.console import Console
from rich.table import Table

from brinkbyte.cli import air_gap
from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.claims import VENDOR_KINDS, Claims, TokenKind
from brinkbyte.license.keys import (
    KeySetError,
    PublicJwk,
    load_roots,
    public_jwk,
    verify_key_set,
)
from brinkbyte.license.tokens import KIND_OF, TokenError, verify

EXIT_INVALID: Final = 1
EXIT_USAGE: Final = 2

app = typer.Typer(no_args_is_help=True, help="Look at licenses and prove them; air gap.")
app.command("request")(air_gap.request)
app.command("import")(air_gap.import_bundle)


def read_token(argument: str) -> str:
    """Return a token given as text, as the path of a file, or as ``-`` for standard input.

    Raises:
        TokenError: the file holds no text.
    """
    try:
        if argument == "-":
            return sys.stdin.read().strip()
        path = Path(argument)
        return path.read_text("utf-8").strip() if path.is_file() else argument
    except UnicodeError:
        raise TokenError("not a signed token: it is not text", reason="Malformed") from None
    except (OSError, ValueError):  # a token is longer than any file name
        return argument


def trusted_keys(jwks: Path, roots: Path | None) -> dict[str, PublicJwk]:
    """Return the keys of a file: as they stand, or root-verified when roots are given.

    Raises:
        typer.BadParameter: one of the files is no set of keys.
        KeySetError: the roots did not sign it, or it has ended.
    """
    text, trusted = _read_keys(jwks, "--jwks"), None
    if roots is not None:
        try:
            trusted = load_roots(_read_keys(roots, "--roots"))
        except KeySetError as error:
            raise typer.BadParameter(f"{roots}: {error.message}") from None
        if not trusted:
            raise typer.BadParameter(f"{roots} holds no root key; take the release's")
    try:
        if trusted is not None:
            return dict(verify_key_set(text, trusted, now=int(time.time())).keys)
        return plain_keys(text)
    except KeySetError as error:
        if error.reason != "MalformedKeySet":
            raise
        raise typer.BadParameter(f"{jwks}: {error.message}") from None


def _read_keys(path: Path, option: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise typer.BadParameter(f"{option} {path} cannot be read: {error}") from None


def plain_keys(document: str) -> dict[str, PublicJwk]:
    """Return the RSA keys of a plain JWKS (RFC 7517) by key id, trusted as they stand.

    Keys that say which kinds of documents they sign are held to it, others sign any. Keys that
    cannot sign RS256 are passed over.

    Raises:
        KeySetError: reason ``MalformedKeySet``: not such a document, or no key is of use.
    """
    try:
        listed = json.loads(document)["keys"]
        found = [_plain_key(key) for key in listed if key.get("kty") == "RSA"]
    except (
        ValueError, KeyError, TypeError, AttributeError, RecursionError, jwt.PyJWTError
    ) as error:  # fmt: skip
        raise KeySetError(
            f"not a JSON Web Key Set of RSA keys ({type(error).__name__}); save the billing API's "
            "/api/v1/keys into this file",
            reason="MalformedKeySet",
        ) from None
    keys = dict(pair for pair in found if pair is not None)
    if not keys:
        raise KeySetError(
            "it holds no RSA key that signs; save the billing API's /api/v1/keys into this file",
            reason="MalformedKeySet",
        )
    return keys


def _plain_key(key: dict[str, Any]) -> tuple[str, PublicJwk] | None:
    if key.get("use", "sig") != "sig" or key.get("alg", "RS256") != "RS256":
        return None
    public = RSAAlgorithm.from_jwk(key)
    if not isinstance(public, RSAPublicKey):
        return None
    kinds = key.get("kinds") or VENDOR_KINDS
    jwk = public_jwk(public, [TokenKind(kind) for kind in kinds])
    return str(key.get("kid") or jwk.kid), jwk


def expected_claims(token: str) -> type[Claims]:
    """Return the claims model that a token's ``typ`` header names.

    Raises:
        TokenError: the type is none of ours.
    """
    try:
        typ = jwt.get_unverified_header(token).get("typ")
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
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
    """Show what a token says, without proving it: exit code 0, or 1 when it says nothing."""
    try:
        text = read_token(token)
        expected_claims(text)
        claims: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    except (TokenError, jwt.PyJWTError, ValueError, RecursionError) as error:
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
