"""Root and signing keys on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from brinkbyte.billing.cli import app
from brinkbyte.billing.licenses.keys import (
    RETIRED_SECONDS,
    KeyDirectoryError,
    KeyRing,
    import_key_set,
    make_root,
    make_signing_keys,
    sign_public_keys,
)
from brinkbyte.license.claims import VENDOR_KINDS, TokenKind
from brinkbyte.license.keys import (
    MAX_KEYS,
    KeySetError,
    PublicJwk,
    SigningKey,
    load_roots,
    verify_key_set,
)
from brinkbyte.trust import load_release_roots, parse_roots

pytestmark = pytest.mark.unit
NOW = 1_800_000_000
DAY = 86_400
UNSIGNED = jwt.encode({"number": "x", "keys": [1]}, "k" * 32, algorithm="HS256")


def ring_of(keys: Path, roots: Mapping[str, PublicJwk] | None = None) -> KeyRing:
    return KeyRing(keys, roots, clock=lambda: NOW)


def test_root_has_one_in_use_and_one_spare_and_is_never_overwritten(root: Path) -> None:
    roots = parse_roots((root / "roots.json").read_bytes())
    assert len(roots.keys) == 2
    assert roots.development
    assert (root / "root.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyDirectoryError, match="empty directory"):
        make_root(root)


def test_source_tree_carries_no_root() -> None:
    with pytest.raises(KeySetError, match="carries no root keys"):
        load_release_roots()


def test_signing_keys_are_one_a_kind_and_signed_by_the_root(root: Path, keys: Path) -> None:
    ring = ring_of(keys)
    found = verify_key_set(
        (keys / "jwks.json").read_bytes(),
        load_roots((root / "roots.json").read_bytes()),
        now=NOW,
    )
    assert {ring.key(kind).kid for kind in VENDOR_KINDS} == set(found.keys)
    for kind in VENDOR_KINDS:
        assert found.keys[ring.key(kind).kid].kinds == (kind,)
        assert (keys / f"{kind}.pem").stat().st_mode & 0o777 == 0o600
    assert (ring.number, ring.expires_at) == (1, NOW + 800 * 86_400)
    assert ring.document["keys"]


def test_rotation_keeps_the_old_public_keys(root: Path, keys: Path) -> None:
    old = ring_of(keys)
    assert make_signing_keys(keys, (root / "root.pem").read_bytes(), now=NOW) == 2
    new = ring_of(keys)
    assert set(old.public) < set(new.public)
    assert new.key(TokenKind.LICENSE).kid != old.key(TokenKind.LICENSE).kid
    with pytest.raises(KeyDirectoryError, match="higher"):
        make_signing_keys(keys, (root / "root.pem").read_bytes(), number=2)


def kids(keys: Path) -> set[str]:
    return {key["kid"] for key in json.loads((keys / "jwks.json").read_text())["keys"]}


def test_old_public_keys_go_when_nothing_they_signed_is_left(root: Path, keys: Path) -> None:
    pem, first = (root / "root.pem").read_bytes(), kids(keys)
    retired = NOW + 300 * DAY
    # In use until the rotation: their time starts only now.
    make_signing_keys(keys, pem, now=retired)
    assert first < kids(keys)
    make_signing_keys(keys, pem, now=retired + RETIRED_SECONDS - 1)
    assert first < kids(keys)
    make_signing_keys(keys, pem, now=retired + RETIRED_SECONDS)
    assert not first & kids(keys)
    assert len(kids(keys)) == 15
    # Without its note a key counts as in use until now.
    (keys / "retired.json").unlink()
    before = kids(keys)
    make_signing_keys(keys, pem, now=retired + 2 * RETIRED_SECONDS)
    assert before < kids(keys)


def test_more_keys_than_verifiers_accept_are_refused(
    root: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_KEYS >= 60
    monkeypatch.setattr("brinkbyte.billing.licenses.keys.MAX_KEYS", 9)
    before = (keys / "jwks.json").read_bytes()
    with pytest.raises(KeyDirectoryError, match="at most 9"):
        make_signing_keys(keys, (root / "root.pem").read_bytes(), now=NOW)
    assert (keys / "jwks.json").read_bytes() == before
    ring_of(keys)


def test_rotation_killed_after_the_set_keeps_what_goes_on_signing(root: Path, keys: Path) -> None:
    pem, old = (root / "root.pem").read_bytes(), kids(keys)
    private = {path.name: path.read_bytes() for path in keys.glob("*.pem")}
    make_signing_keys(keys, pem, now=NOW)
    for name, data in private.items():
        (keys / name).write_bytes(data)
    make_signing_keys(keys, pem, now=NOW + 400 * DAY)
    make_signing_keys(keys, pem, now=NOW + RETIRED_SECONDS + DAY)
    assert old < kids(keys)


def test_set_that_no_root_of_the_release_signed_is_refused(root: Path, keys: Path) -> None:
    roots = load_roots((root / "roots.json").read_bytes())
    assert ring_of(keys, roots).number == 1
    other = SigningKey.generate()
    with pytest.raises(KeyDirectoryError, match="not signed by a root key"):
        ring_of(keys, {other.kid: other.jwk})
    document = json.loads((keys / "jwks.json").read_text())
    document["keys"] = document["keys"][:4]
    (keys / "jwks.json").write_text(json.dumps(document))
    for known in (roots, None):
        with pytest.raises(KeyDirectoryError, match="edited"):
            ring_of(keys, known)


EC_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("jwks.json", b""),
        ("jwks.json", b"\xff"),
        ("jwks.json", b"[" * 9_000),
        ("jwks.json", b'{"signed": 1, "keys": []}'),
        ("jwks.json", f'{{"signed": "{UNSIGNED}", "keys": [1]}}'.encode()),
        ("license.pem", b"\x00"),
        ("license.pem", EC_KEY),
        ("license.pem", None),
    ],
)
def test_malformed_new_files_leave_the_old_keys_in_force(
    keys: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None
) -> None:
    ring = ring_of(keys)
    before = ring.key(TokenKind.LICENSE).kid
    monkeypatch.setattr("brinkbyte.billing.licenses.keys._RELOAD_SECONDS", 0.0)
    good = (keys / name).read_bytes()
    (keys / name).unlink()
    if content is not None:
        (keys / name).write_bytes(content)
    ring.refresh()
    assert (ring.number, ring.key(TokenKind.LICENSE).kid) == (1, before)
    assert ring.document["keys"]
    (keys / name).write_bytes(good)
    ring.refresh()
    assert ring.number == 1


def test_set_signed_offline_is_taken_in_only_if_it_fits(root: Path, keys: Path) -> None:
    pem, roots = (root / "root.pem").read_bytes(), (root / "roots.json").read_bytes()
    public = json.loads((keys / "jwks.json").read_text())["keys"]

    def take(document: Any) -> int:
        return import_key_set(keys, json.dumps(document).encode(), roots, now=NOW)

    assert take(sign_public_keys(pem, public, number=7, now=NOW)) == 7
    with pytest.raises(KeyDirectoryError, match="number 7"):
        take(sign_public_keys(pem, public, number=7, now=NOW))
    with pytest.raises(KeyDirectoryError, match="lacks the public half"):
        take(sign_public_keys(pem, public[1:], number=8, now=NOW))
    foreign = (keys / "license.pem").read_bytes()
    with pytest.raises(KeySetError, match="not signed by a root key"):
        take(sign_public_keys(foreign, public, number=8, now=NOW))
    assert ring_of(keys).number == 7


def test_set_signed_offline_that_lacks_keys_in_use_is_refused(root: Path, keys: Path) -> None:
    pem, roots = (root / "root.pem").read_bytes(), (root / "roots.json").read_bytes()
    old = kids(keys)
    make_signing_keys(keys, pem, now=NOW)
    public = json.loads((keys / "jwks.json").read_text())["keys"]
    fewer = [key for key in public if key["kid"] not in old]

    def take(number: int, now: int, **how: bool) -> int:
        document = sign_public_keys(pem, fewer, number=number, now=NOW)
        return import_key_set(keys, json.dumps(document).encode(), roots, now=now, **how)

    with pytest.raises(KeyDirectoryError, match="lacks 5 keys"):
        take(7, NOW + DAY)
    assert old < kids(keys)
    assert take(7, NOW + RETIRED_SECONDS) == 7
    make_signing_keys(keys, pem, now=NOW + RETIRED_SECONDS)
    fewer = json.loads((keys / "jwks.json").read_text())["keys"][:5]
    assert take(9, NOW + RETIRED_SECONDS, force=True) == 9


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("license.pem", None, "cannot read"),
        ("license.pem", "x", "not an unencrypted private key"),
        ("jwks.json", None, "cannot read"),
        ("jwks.json", "{", "not a signed key set"),
        ("jwks.json", "{}", "not a signed key set"),
        ("jwks.json", '{"signed": "x"}', "not a signed key set"),
        ("jwks.json", f'{{"signed": "{UNSIGNED}", "keys": []}}', "malformed"),
    ],
)
def test_directory_that_does_not_fit_is_refused(
    keys: Path, name: str, content: str | None, named: str
) -> None:
    (keys / name).unlink()
    if content is not None:
        (keys / name).write_text(content)
    with pytest.raises(KeyDirectoryError, match=named):
        ring_of(keys)


def test_private_key_outside_the_set_is_refused(keys: Path) -> None:
    (keys / "seats.pem").write_bytes(SigningKey.generate().to_pem())
    with pytest.raises(KeyDirectoryError, match="lacks the public half of seats"):
        ring_of(keys)


def test_key_commands(root: Path, tmp_path: Path) -> None:
    runner = CliRunner()

    def run(*arguments: object, fails: bool = False) -> str:
        result = runner.invoke(app, ["keys", *map(str, arguments)])
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    keys, public, signed = tmp_path / "k", tmp_path / "p.json", tmp_path / "s.json"
    pem = root / "root.pem"
    assert "key set 1" in run("signing", "--out", keys, "--root", pem)
    public.write_text((keys / "jwks.json").read_text())
    run("sign", "--root", pem, "--keys", public, "--number", 5, "--out", signed)
    out = run("import", "--dir", keys, "--set", signed, "--roots", root / "roots.json")
    assert "key set 5" in out
    public.write_text("[]")
    run("sign", "--root", pem, "--keys", public, "--number", 6, "--out", signed, fails=True)
    run("signing", "--out", keys, "--root", root / "nothing.pem", fails=True)
    run("root", "--out", root, fails=True)
