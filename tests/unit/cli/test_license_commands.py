"""``brinkbyte license``: exit code 0 valid, 1 not valid with the reason, 2 usage."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from brinkbyte.cli.main import build_app
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.tokens import sign
from support.licensing import DAY, license_claims, vendor

pytestmark = pytest.mark.unit
runner = CliRunner()


@pytest.fixture
def token() -> str:
    now = int(time.time())
    return sign(license_claims(iat=now, nbf=now, exp=now + DAY), vendor().keys[TokenKind.LICENSE])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    jwks, roots = tmp_path / "jwks.json", tmp_path / "roots.json"
    jwks.write_text(vendor().key_set(now=int(time.time())))
    roots.write_text(json.dumps({"keys": [vendor().root.jwk.model_dump(mode="json")]}))
    return {"jwks": str(jwks), "roots": str(roots)}


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
    result = runner.invoke(build_app(list(arguments)), list(arguments), input=stdin)
    return result.exit_code, result.output


def test_a_valid_token_is_proven(token: str, files: dict[str, str], tmp_path: Path) -> None:
    arguments = ["--jwks", files["jwks"], "--roots", files["roots"], "--output", "json"]
    code, output = run("license", "verify", token, *arguments)
    assert code == 0
    assert json.loads(output)["customerId"] == "acme"
    path = tmp_path / "token"
    path.write_text(token + "\n")
    assert run("license", "verify", str(path), "--jwks", files["jwks"])[0] == 0
    code, output = run("license", "verify", "-", "--jwks", files["jwks"], stdin=token)
    assert code == 0
    assert "Valid" in output


def test_a_forged_token_is_not_valid_and_says_why(token: str, files: dict[str, str]) -> None:
    code, output = run("license", "verify", token[:-8] + "AAAAAAAA", "--jwks", files["jwks"])
    assert code == 1
    assert "BadSignature" in output
    code, output = run(
        "license", "verify", token, "--jwks", files["jwks"], "--audience", "somebody-else"
    )
    assert code == 1
    assert "WrongAudience" in output


def test_keys_that_the_roots_did_not_sign_prove_nothing(
    token: str, files: dict[str, str], tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"keys": [vendor().instance_key.jwk.model_dump(mode="json")]}))
    code, output = run("license", "verify", token, "--jwks", files["jwks"], "--roots", str(own))
    assert code == 1
    assert "UntrustedKeySet" in output


def test_wrong_usage_is_exit_code_2(token: str) -> None:
    assert run("license", "verify", token)[0] == 2
    assert run("license", "verify", token, "--jwks", "/nonexistent")[0] == 2


def test_inspect_shows_claims_and_says_that_it_proved_nothing(token: str) -> None:
    code, output = run("license", "inspect", token)
    assert code == 0
    assert "Not verified" in output
    assert json.loads(run("license", "inspect", token, "--output", "json")[1])["plan"]
    assert run("license", "inspect", "nonsense")[0] == 1


def test_version_and_help() -> None:
    assert run("--version") == (0, "0.1.0\n")
    assert "billing" in run("--help")[1]
