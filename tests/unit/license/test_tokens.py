"""Tokens: what verifies, and every way of forging one that is refused with its reason."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.license.claims import CameraClaims, Claims, LicenseClaims, TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.tokens import KIND_OF, TokenError, sign, verify
from support.licensing import (
    DAY,
    INSTANCE,
    NOW,
    camera_claims,
    license_claims,
    license_payload,
    receipt_claims,
    revocations_claims,
    seats_claims,
    vendor,
)

pytestmark = pytest.mark.unit


def signed(payload: dict[str, Any], *, key: SigningKey | None = None, **headers: Any) -> str:
    signer = key or vendor().keys[TokenKind.LICENSE]
    return jwt.encode(
        payload,
        signer.private_key,
        algorithm=headers.pop("alg", "RS256"),
        headers={"typ": TokenKind.LICENSE.typ, "kid": signer.kid, **headers},
    )


def refuse(token: str | bytes, **over: Any) -> str:
    with pytest.raises(TokenError) as caught:
        verify(
            token,
            over.pop("expected", LicenseClaims),
            vendor().public,
            now=over.pop("now", NOW),
            audience=INSTANCE,
            **over,
        )
    return caught.value.reason


@pytest.mark.parametrize(
    "claims",
    [
        license_claims(),
        camera_claims(),
        seats_claims([]),
        revocations_claims([{"kind": "license", "subject": "acme", "upTo": 3}]),
        receipt_claims(),
    ],
    ids=lambda claims: type(claims).__name__,
)
def test_every_kind_comes_back_as_it_was_signed(claims: Claims) -> None:
    token = sign(claims, vendor().keys[KIND_OF[type(claims)]])
    assert verify(token, type(claims), vendor().public, now=NOW, audience=INSTANCE) == claims


def test_a_key_signs_only_its_own_kind() -> None:
    with pytest.raises(ValueError, match="does not sign"):
        sign(license_claims(), vendor().keys[TokenKind.CAMERA])


def test_a_camera_key_cannot_make_a_license() -> None:
    assert refuse(signed(license_payload(), key=vendor().keys[TokenKind.CAMERA])) == "WrongKeyUse"


def test_a_camera_token_is_not_a_license() -> None:
    token = sign(camera_claims(), vendor().keys[TokenKind.CAMERA])
    assert refuse(token) == "WrongType"
    assert verify(token, CameraClaims, vendor().public, now=NOW).camera_id == "cam-1"


def test_algorithm_none_is_refused() -> None:
    key = vendor().keys[TokenKind.LICENSE]
    token = jwt.encode(
        license_payload(),
        None,
        algorithm="none",
        headers={"typ": TokenKind.LICENSE.typ, "kid": key.kid},
    )
    assert refuse(token) == "WrongAlgorithm"


def test_hs256_with_the_public_key_as_secret_is_refused() -> None:
    key = vendor().keys[TokenKind.LICENSE]
    secret = key.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    header = {"alg": "HS256", "typ": TokenKind.LICENSE.typ, "kid": key.kid}
    text = part(header) + b"." + part(license_payload())
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(text)
    token = text + b"." + base64.urlsafe_b64encode(mac.finalize()).rstrip(b"=")
    assert refuse(token) == "WrongAlgorithm"


def test_ps256_by_the_right_key_is_refused() -> None:
    assert refuse(signed(license_payload(), alg="PS256")) == "WrongAlgorithm"


def test_a_foreign_key_under_our_key_id_is_refused() -> None:
    foreign = vendor().instance_key
    token = signed(license_payload(), key=foreign, kid=vendor().keys[TokenKind.LICENSE].kid)
    assert refuse(token) == "BadSignature"


def test_a_foreign_key_offered_in_the_header_is_refused() -> None:
    foreign = vendor().instance_key
    jwk = foreign.jwk.model_dump(mode="json")
    for name, value in {"jwk": jwk, "jku": "https://evil.example/jwks", "x5u": "x"}.items():
        assert refuse(signed(license_payload(), key=foreign, **{name: value})) == "UnknownKey"


def test_critical_extensions_are_refused() -> None:
    assert refuse(signed(license_payload(), crit=["exp"])) == "Malformed"


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "x" * 100, "é.é.é", "A" * 5_000_001])
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refuse(text) == "Malformed"
    assert refuse(text.encode()) == "Malformed"


@pytest.mark.parametrize("name", sorted(license_payload()))
def test_a_missing_claim_is_refused(name: str) -> None:
    payload = license_payload()
    del payload[name]
    assert refuse(signed(payload)) == "InvalidClaims"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp", str(NOW)),
        ("exp", NOW + 0.5),
        ("exp", -1),
        ("exp", True),
        ("iat", 10**15),
        ("licenseSequence", -1),
        ("licenseSequence", 1.0),
        ("iss", "other"),
        ("sub", ""),
        ("sub", ["acme"]),
        ("graceSeconds", 10**9),
        ("features", {"maxDevices": -1}),
        ("limits", {"maxUsers": "10"}),
        ("trial", None),
        ("cnf", {"jkt": "short"}),
    ],
)
def test_a_mistyped_claim_is_refused(name: str, value: Any) -> None:
    assert refuse(signed(license_payload(**{name: value}))) in {"InvalidClaims", "Malformed"}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    text = json.dumps(license_payload()).replace(
        '"graceSeconds": 604800', f'"graceSeconds": {number}'
    )
    assert number in text
    key = vendor().keys[TokenKind.LICENSE]
    token = jwt.api_jws.encode(
        text.encode(),
        key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.LICENSE.typ, "kid": key.kid},
    )
    assert refuse(token) in {"InvalidClaims", "Malformed"}


def test_deeply_nested_json_is_refused() -> None:
    key = vendor().keys[TokenKind.LICENSE]
    token = jwt.api_jws.encode(
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.LICENSE.typ, "kid": key.kid},
    )
    assert refuse(token) in {"InvalidClaims", "Malformed"}


def test_another_instances_token_is_refused() -> None:
    assert refuse(signed(license_payload(aud="inst-2"))) == "WrongAudience"


def test_times_are_checked_against_the_given_clock() -> None:
    token = signed(license_payload())
    assert refuse(token, now=NOW + 45 * DAY) == "Expired"
    assert refuse(token, now=NOW - DAY) == "NotYetValid"
    late = verify(token, LicenseClaims, vendor().public, now=NOW + 60 * DAY, check_expiry=False)
    assert late.exp == NOW + 45 * DAY


def test_claims_of_a_later_release_are_passed_over() -> None:
    token = signed(license_payload(novelty={"x": 1}))
    assert verify(token, LicenseClaims, vendor().public, now=NOW).plan == "professional"


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(position: int, flip: int) -> None:
    token = bytearray(sign(license_claims(), vendor().keys[TokenKind.LICENSE]).encode())
    index = position % len(token)
    token[index] ^= flip
    try:
        claims = verify(bytes(token), LicenseClaims, vendor().public, now=NOW, audience=INSTANCE)
    except TokenError:
        return
    # Only the unused low bits of a base64url character can change without changing the bytes.
    assert claims == license_claims()


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_and_crash_nothing(data: bytes) -> None:
    assert refuse(data) in {"Malformed", "WrongAlgorithm", "WrongType"}
