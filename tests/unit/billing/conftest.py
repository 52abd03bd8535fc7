"""Keys for tests of the billing API's rules, which make dozens."""

from __future__ import annotations

import shutil
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from brinkbyte.billing.licenses.keys import make_root, make_signing_keys

NOW = 1_800_000_000
_made = count()
_generate = rsa.generate_private_key


@cache
def _key(number: int, bits: int) -> rsa.RSAPrivateKey:
    return _generate(public_exponent=65537, key_size=bits)


@pytest.fixture(autouse=True)
def few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand out the same two dozen keys in turn: making one takes a tenth of a second."""

    def generate(*, public_exponent: int, key_size: int, **_: Any) -> rsa.RSAPrivateKey:
        assert public_exponent == 65537
        return _key(next(_made) % 24, key_size)

    monkeypatch.setattr(rsa, "generate_private_key", generate)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root")
    make_root(path, development=True)
    return path


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys")
    make_signing_keys(path, (root / "root.pem").read_bytes(), now=NOW)
    return path


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "keys"))
