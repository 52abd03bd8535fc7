"""Keys for tests of the billing API's rules, which make dozens."""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

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
