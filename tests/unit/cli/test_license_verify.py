"""``brinkbyte license verify``: plain key sets, and every bad input with its exit code."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from typer.testing import CliRunner

from brinkbyte.cli.main import build_app
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey, public_jwk
from support.hostile_documents import forgeries, payload, token
from support.licensing import DAY, vendor

pytestmark = pytest.mark.unit
runner = CliRunner()
KIND = TokenKind.LICENSE


def run(*arguments: str, stdin: str | bytes | None = None) -> tuple[int, str]:
    result = runner.invoke(build_app(list(arguments)), list(arguments), input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def fresh(key: SigningKey | None = None, **headers: Any) -> str:
    now = int(time.time())
    claims = payload(KIND, iat=now, nbf=now, exp=now + DAY)
    return token(KIND, claims, key=key, **headers)


def jwks(path: Path, *keys: dict[str, Any]) -> str:
    path.write_text(json.dumps({"keys": keys}))
    return str(path)


def plain(key: SigningKey, **over: Any) -> dict[str, Any]:
    whole = public_jwk(key.private_key.public_key()).model_dump(mode="json")
    return {"kty": "RSA", "n": whole["n"], "e": whole["e"], **over}


def test_a_plain_set_of_keys_is_trusted_as_it_stands(tmp_path: Path) -> None:
    own = vendor().instance_key
    elliptic = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
    for key, kid in (
        (plain(own), own.kid),
        (plain(own, kid="key-1"), "key-1"),
        (plain(own, kid="key-1", use="sig", alg="RS256", x5t="x"), "key-1"),
    ):
        file = jwks(tmp_path / "jwks.json", {"kty": "oct", "k": "AAAA"}, elliptic, key)
        code, output = run("license", "verify", "--jwks", file, fresh(own, kid=kid))
        assert (code, "Valid" in output) == (0, True), output
        assert run("license", "verify", "--jwks", file, fresh())[0] == 1


def test_a_key_that_says_what_it_signs_is_held_to_it(tmp_path: Path) -> None:
    own = vendor().instance_key
    for kinds, code in (["license"], 0), (["seats"], 1):
        file = jwks(tmp_path / "jwks.json", plain(own, kid=own.kid, kinds=kinds))
        assert run("license", "verify", "--jwks", file, fresh(own))[0] == code


@pytest.mark.parametrize("name", forgeries())
def test_every_forgery_is_exit_code_1_with_its_reason(name: str, tmp_path: Path) -> None:
    make, _ = forgeries()[name]
    file = tmp_path / "jwks.json"
    file.write_text(vendor().key_set(now=int(time.time())))
    held = tmp_path / "token"
    held.write_bytes(make(KIND).encode("utf-8", "surrogatepass"))
    code, output = run("license", "verify", "--jwks", str(file), str(held))
    assert code == 1, output
    # The claims are of another time: whose signature is good has ended or not begun.
    assert output.startswith("not valid: ")
    assert run("license", "inspect", str(held))[0] in {0, 1}


def test_a_token_that_has_ended_is_not_valid(tmp_path: Path) -> None:
    file = jwks(tmp_path / "jwks.json", plain(vendor().keys[KIND]))
    then = int(time.time()) - 60 * DAY
    old = token(KIND, payload(KIND, iat=then, nbf=then, exp=then + 45 * DAY))
    code, output = run("license", "verify", "--jwks", file, old)
    assert code == 1
    assert "Expired" in output


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"keys": 1}',
        b'{"keys": [1]}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "EC"}]}',
        b'{"keys": [{"kty": "RSA"}]}',
        b'{"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]}',
        b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": 7}]}',
        b"[" * 100_000,
    ],
)
def test_a_file_that_is_no_set_of_keys_is_wrong_usage(content: bytes, tmp_path: Path) -> None:
    file, good = tmp_path / "jwks.json", tmp_path / "good.json"
    file.write_bytes(content)
    good.write_text(vendor().key_set(now=int(time.time())))
    code, output = run("license", "verify", "--jwks", str(file), fresh())
    assert code == 2, output
    assert run("license", "verify", "--jwks", str(good), "--roots", str(file), fresh())[0] == 2


@pytest.mark.parametrize(
    "arguments", [[], ["--jwks"], ["--jwks", "."], ["--jwks", "{jwks}"], ["--what", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    file = jwks(tmp_path / "jwks.json", plain(vendor().root))
    words = [word.format(jwks=file) for word in arguments]
    assert run("license", "verify", *words)[0] == 2
    assert run("license", "inspect")[0] == 2
    assert run("license", "inspect", "--output")[0] == 2


def test_standard_input_that_is_no_text_is_not_valid(tmp_path: Path) -> None:
    file = jwks(tmp_path / "jwks.json", plain(vendor().root))
    assert run("license", "verify", "--jwks", file, "-", stdin=b"\xff\xfe\x00")[0] == 1
    assert run("license", "inspect", "-", stdin=b"\xff\xfe\x00")[0] == 1
    assert run("license", "inspect", "-", stdin="")[0] == 1
