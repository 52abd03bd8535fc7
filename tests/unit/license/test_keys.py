"""The root of trust: only a set that a root of the release signed verifies anything."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import (
    KEY_SET_SECONDS,
    KeySetError,
    SigningKey,
    load_roots,
    public_jwk,
    sign_key_set,
    verify_key_set,
)
from support.licensing import NOW, vendor

pytestmark = pytest.mark.unit


def refuse(document: str, **over: Any) -> str:
    with pytest.raises(KeySetError) as caught:
        verify_key_set(document, over.pop("roots", vendor().roots), now=over.pop("now", NOW))
    return caught.value.reason


def test_a_root_signed_set_verifies() -> None:
    keys = verify_key_set(vendor().key_set(number=5), vendor().roots, now=NOW)
    assert keys.number == 5
    assert set(keys.keys) == set(vendor().public)
    assert keys.keys[vendor().keys[TokenKind.SEATS].kid].kinds == (TokenKind.SEATS,)


def test_a_set_of_the_customers_own_root_is_untrusted() -> None:
    own = vendor().instance_key
    document = json.dumps(sign_key_set(own, [own.jwk], number=99, now=NOW))
    assert refuse(document) == "UntrustedKeySet"


def test_a_set_signed_under_the_roots_name_by_another_key_is_untrusted() -> None:
    own = vendor().instance_key
    document = sign_key_set(own, [own.jwk], number=99, now=NOW)
    payload = jwt.decode(document["signed"], options={"verify_signature": False})
    document["signed"] = jwt.encode(
        payload,
        own.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.KEY_SET.typ, "kid": vendor().root.kid},
    )
    assert refuse(json.dumps(document)) == "UntrustedKeySet"


def test_a_key_added_by_hand_is_noticed() -> None:
    document = json.loads(vendor().key_set())
    document["keys"].append(vendor().instance_key.jwk.model_dump(mode="json"))
    assert refuse(json.dumps(document)) == "UntrustedKeySet"


def test_a_set_ends_after_800_days() -> None:
    assert KEY_SET_SECONDS == 800 * 86_400
    assert refuse(vendor().key_set(), now=NOW + KEY_SET_SECONDS) == "KeySetExpired"
    assert refuse(vendor().key_set(), now=NOW - 3600) == "KeySetExpired"
    assert verify_key_set(vendor().key_set(), vendor().roots, now=NOW + KEY_SET_SECONDS - 1)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"keys":[],"signed":1}',
        "[" * 100_000,
        "x" * 300_000,
        '{"signed":"a.b.c"}',
    ],
)
def test_what_is_no_key_set_is_malformed(document: str) -> None:
    assert refuse(document) == "MalformedKeySet"


def test_an_empty_set_or_a_broken_key_is_malformed() -> None:
    root = vendor().root
    assert refuse(json.dumps(sign_key_set(root, [], number=1, now=NOW))) == "MalformedKeySet"
    jwk = vendor().instance_key.jwk.model_copy(update={"kid": vendor().root.kid})
    assert refuse(json.dumps(sign_key_set(root, [jwk], number=1, now=NOW))) == "MalformedKeySet"


def test_weak_keys_are_refused() -> None:
    weak = public_jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key())
    with pytest.raises(InvalidInputError, match="2048"):
        _ = weak.public_key
    small = public_jwk(rsa.generate_private_key(public_exponent=3, key_size=2048).public_key())
    with pytest.raises(InvalidInputError, match="exponent"):
        _ = small.public_key


def test_a_private_key_survives_its_pem_and_never_shows() -> None:
    key = vendor().instance_key
    again = SigningKey.from_pem(key.to_pem())
    assert again.kid == key.kid
    assert SigningKey.from_pem(key.to_pem().decode()).kid == key.kid
    assert repr(key) == f"SigningKey(kid={key.kid!r})"


def test_other_private_keys_are_refused() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for data in (pem, b"", b"-----BEGIN PRIVATE KEY-----\n"):
        with pytest.raises(InvalidInputError):
            SigningKey.from_pem(data)


@settings(max_examples=200)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_damaged_private_key_is_refused_or_signs_all_the_same(position: int, flip: int) -> None:
    key = vendor().instance_key
    form = serialization.PrivateFormat.PKCS8
    data = bytearray(
        key.private_key.private_bytes(
            serialization.Encoding.DER, form, serialization.NoEncryption()
        )
    )
    data[position % len(data)] ^= flip
    pem = f"-----BEGIN PRIVATE KEY-----\n{b64encode(data).decode()}\n-----END PRIVATE KEY-----\n"
    again = None
    with suppress(InvalidInputError):
        again = SigningKey.from_pem(pem)
    if again is not None:
        # One of the numbers that only make signing quicker: the rest says who it is.
        assert again.kid == key.kid
        signed = jwt.encode({}, again.private_key, algorithm="RS256")
        jwt.decode(signed, key.private_key.public_key(), algorithms=["RS256"])


def test_a_key_whose_parts_do_not_belong_together_is_refused() -> None:
    numbers = vendor().instance_key.private_key.private_numbers()
    other = vendor().root.private_key.private_numbers()
    mixed = rsa.RSAPrivateNumbers(
        p=numbers.p, q=numbers.q, d=other.d, dmp1=other.dmp1, dmq1=other.dmq1, iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)  # fmt: skip
    pem = mixed.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(InvalidInputError, match="damaged"):
        SigningKey.from_pem(pem)


def test_roots_are_read_from_a_plain_jwks() -> None:
    document = json.dumps({"keys": [vendor().root.jwk.model_dump(mode="json")]})
    assert set(load_roots(document)) == {vendor().root.kid}
    for broken in ("", "{}", '{"keys":[{}]}', '{"keys":[1]}'):
        with pytest.raises(KeySetError):
            load_roots(broken)


@given(position=st.integers(0, 10_000), flip=st.integers(1, 127))
def test_no_changed_byte_widens_the_set(position: int, flip: int) -> None:
    good = vendor().key_set()
    data = bytearray(good.encode())
    data[position % len(data)] ^= flip
    try:
        keys = verify_key_set(bytes(data), vendor().roots, now=NOW)
    except KeySetError:
        return
    assert set(keys.keys) == set(vendor().public)
