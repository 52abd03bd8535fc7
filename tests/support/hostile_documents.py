"""Documents as an attacker, a broken disk or a careless hand would make them."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import hashes, hmac, serialization

from brinkbyte.license.claims import CameraMode, Claims, TokenKind
from brinkbyte.license.documents import Snapshot, Verifier
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.seats import Seat
from support.licensing import (
    CUSTOMER,
    INSTANCE,
    NOW,
    license_claims,
    revocations_claims,
    seats_claims,
    vendor,
)

VERIFIER: Final = Verifier(vendor().roots, INSTANCE, CUSTOMER)
KINDS: Final = (TokenKind.LICENSE, TokenKind.SEATS, TokenKind.REVOCATIONS)
SEQUENCE: Final = {
    TokenKind.LICENSE: "licenseSequence",
    TokenKind.SEATS: "seatsSequence",
    TokenKind.REVOCATIONS: "revocationSequence",
}
NEWER: Final = 99
"""Above what is held: what is refused is not refused for its number."""
Payload = dict[str, Any]


def payload(kind: TokenKind, sequence: int = NEWER, **over: Any) -> Payload:
    """The claims of a good document, with some members replaced."""
    seats = [Seat("cam-1", "hw-1", CameraMode.BASE, ("retail",))]
    claims: Claims = {
        TokenKind.LICENSE: license_claims(),
        TokenKind.SEATS: seats_claims(seats),
        TokenKind.REVOCATIONS: revocations_claims([]),
    }[kind]
    return {**claims.model_dump(mode="json"), SEQUENCE[kind]: sequence, **over}


def token(
    kind: TokenKind,
    claims: Mapping[str, Any] | bytes,
    *,
    key: SigningKey | None = None,
    alg: str = "RS256",
    **headers: Any,
) -> str:
    """A compact JWS; header members that are None are left out."""
    signer = key or vendor().keys[kind]
    header = {"typ": kind.typ, "kid": signer.kid, **headers}
    data = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    if "typ" in header and header["typ"] is None:
        # The library puts JWT where nothing is said.
        return raw_token({"alg": alg, **{k: v for k, v in header.items() if v is not None}}, data)
    return jwt.api_jws.encode(data, signer.private_key, algorithm=alg, headers=header)


def part(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw_token(header: Mapping[str, Any] | bytes, claims: bytes, signature: bytes = b"") -> str:
    """A token of any header, with a signature that is none."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return ".".join([part(head), part(claims), part(signature)])


def with_public_key_as_secret(kind: TokenKind, claims: Payload, alg: str) -> str:
    """The classic: HMAC with the public key, which everybody has."""
    key = vendor().keys[kind]
    secret = key.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = part(json.dumps({"alg": alg, "typ": kind.typ, "kid": key.kid}).encode())
    text = f"{head}.{part(json.dumps(claims).encode())}"
    mac = hmac.HMAC(secret, {"HS256": hashes.SHA256(), "HS512": hashes.SHA512()}[alg])
    mac.update(text.encode())
    return f"{text}.{part(mac.finalize())}"


@lru_cache(maxsize=1)
def held() -> Snapshot:
    """What a site holds before the attack: one good document of each kind, number 7."""
    documents = {TokenKind.KEY_SET: vendor().key_set(number=7)}
    documents |= {kind: token(kind, payload(kind, 7)) for kind in KINDS}
    taken = VERIFIER.take_in(Snapshot(), documents, now=NOW)
    assert taken.refused == ()
    return taken.snapshot


def forgeries() -> dict[str, tuple[Callable[[TokenKind], str], set[str]]]:
    """Every way of forging a token, by name: how it is made, and the reasons to refuse it."""
    own = vendor().instance_key
    jwk = own.jwk.model_dump(mode="json")
    far = {"url": "https://keys.example/jwks"}

    def other(kind: TokenKind) -> SigningKey:
        return vendor().keys[KINDS[(KINDS.index(kind) + 1) % len(KINDS)]]

    def kid(kind: TokenKind) -> str:
        return vendor().keys[kind].kid

    def good(kind: TokenKind) -> str:
        return token(kind, payload(kind))

    def data(kind: TokenKind) -> bytes:
        return json.dumps(payload(kind)).encode()

    algorithm, unknown, broken = {"WrongAlgorithm"}, {"UnknownKey"}, {"Malformed"}
    return {
        "alg none": (
            lambda k: raw_token({"alg": "none", "typ": k.typ, "kid": kid(k)}, data(k)),
            algorithm,
        ),
        "alg None": (
            lambda k: raw_token({"alg": "None", "typ": k.typ, "kid": kid(k)}, data(k)),
            algorithm,
        ),
        "alg of a list": (
            lambda k: raw_token({"alg": ["RS256"], "typ": k.typ, "kid": kid(k)}, data(k)),
            algorithm | broken,
        ),
        "alg missing": (lambda k: raw_token({"typ": k.typ, "kid": kid(k)}, data(k)), algorithm),
        "HS256 with the public key": (
            lambda k: with_public_key_as_secret(k, payload(k), "HS256"),
            algorithm,
        ),
        "HS512 with the public key": (
            lambda k: with_public_key_as_secret(k, payload(k), "HS512"),
            algorithm,
        ),
        "PS256 by the right key": (lambda k: token(k, payload(k), alg="PS256"), algorithm),
        "RS512 by the right key": (lambda k: token(k, payload(k), alg="RS512"), algorithm),
        "the customer's own key": (lambda k: token(k, payload(k), key=own), unknown),
        "own key under the vendor's kid": (
            lambda k: token(k, payload(k), key=own, kid=kid(k)),
            {"BadSignature"},
        ),
        "kid of another key of the vendor": (
            lambda k: token(k, payload(k), kid=other(k).kid),
            {"WrongKeyUse"},
        ),
        "the vendor's key of another kind": (
            lambda k: token(k, payload(k), key=other(k)),
            {"WrongKeyUse"},
        ),
        "the root itself": (lambda k: token(k, payload(k), key=vendor().root), unknown),
        "kid missing": (lambda k: token(k, payload(k), key=own, kid=""), unknown),
        "kid of a path": (lambda k: token(k, payload(k), key=own, kid="../../roots"), unknown),
        "jwk header": (lambda k: token(k, payload(k), key=own, jwk=jwk), unknown),
        "jwk header, vendor's kid": (
            lambda k: token(k, payload(k), key=own, jwk=jwk, kid=kid(k)),
            {"BadSignature"},
        ),
        "jku header": (lambda k: token(k, payload(k), key=own, jku=far["url"]), unknown),
        "x5u header": (lambda k: token(k, payload(k), key=own, x5u=far["url"]), unknown),
        "x5c header": (lambda k: token(k, payload(k), key=own, x5c=["MIIB"]), unknown),
        "critical extension": (lambda k: token(k, payload(k), crit=["exp"]), broken),
        "b64 false": (
            lambda k: raw_token(
                {"alg": "RS256", "typ": k.typ, "kid": kid(k), "b64": False}, data(k), b"x"
            ),
            broken,
        ),
        "many header members": (
            lambda k: token(k, payload(k), **{f"x{n}": n for n in range(40)}),
            broken,
        ),
        "typ missing": (
            lambda k: token(k, payload(k), typ=None),
            {"WrongType", "Malformed", "BadSignature"},
        ),
        "typ JWT": (lambda k: token(k, payload(k), typ="JWT"), {"WrongType"}),
        "typ of another kind": (
            lambda k: token(k, payload(k), typ=KINDS[(KINDS.index(k) + 1) % 3].typ),
            {"WrongType"},
        ),
        "another instance's": (lambda k: token(k, payload(k, aud="inst-2")), {"WrongAudience"}),
        "audience of a list": (lambda k: token(k, payload(k, aud=[INSTANCE])), {"InvalidClaims"}),
        "another customer's": (
            lambda k: token(k, payload(k, customerId="other", sub="other")),
            {"CustomerMismatch"},
        ),
        "another issuer's": (lambda k: token(k, payload(k, iss="own")), {"InvalidClaims"}),
        "of tomorrow": (
            lambda k: token(k, payload(k, iat=NOW + 86_400, nbf=NOW + 86_400)),
            {"NotYetValid"},
        ),
        "truncated": (lambda k: good(k)[:-30], {"BadSignature", "Malformed"}),
        "truncated in its claims": (
            lambda k: good(k)[: good(k).index(".") + 20],
            broken,
        ),
        "without signature": (lambda k: good(k).rpartition(".")[0] + ".", {"BadSignature"}),
        "space": (lambda _: "  \n", broken),
        "two dots": (lambda _: "..", broken),
        "huge": (lambda k: good(k) + "A" * 5_000_000, broken),
        "half a character": (lambda k: good(k)[:50] + "\ud800" + good(k)[51:], broken),
        "binary": (lambda _: bytes(range(256)).decode("latin-1"), broken),
        "claims that are a list": (lambda k: token(k, b"[1, 2]"), broken),
        "claims that are text": (lambda k: token(k, b'"x"'), broken),
        "claims that are nothing": (lambda k: token(k, b""), broken),
        "claims too deep": (
            lambda k: token(k, b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
            broken | {"InvalidClaims"},
        ),
        "claims nearly too deep": (
            lambda k: token(k, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"),
            broken | {"InvalidClaims"},
        ),
        "header too deep": (
            lambda k: raw_token(b'{"alg":' + b"[" * 50_000 + b"]" * 50_000 + b"}", data(k)),
            broken,
        ),
        "header that is a list": (lambda k: raw_token(b"[]", data(k)), broken),
        "NaN": (
            lambda k: token(k, json.dumps(payload(k, exp=float("nan"))).encode()),
            broken | {"InvalidClaims"},
        ),
        "a number without end": (
            lambda k: token(k, data(k).replace(b'"exp": ', b'"exp": ' + b"9" * 10_000)),
            broken | {"InvalidClaims"},
        ),
    }


def deflated(rows: bytes) -> str:
    """A seats claim of any bytes."""
    return part(zlib.compress(rows, 9))


def broken_seat_lists() -> dict[str, dict[str, Any]]:
    """Members of a seat list that make it no seat list; the vendor's signature is good."""
    row = '["cam-{}","hw-1","base",[],null]'

    def rows(*names: object) -> bytes:
        return f"[{','.join(row.format(name) for name in names)}]".encode()

    return {
        "bomb of spaces": {"seats": deflated(b" " * 60_000_000), "count": 0},
        "bomb of lists": {"seats": deflated(b"[" * 16_000_000), "count": 0},
        "bomb of a bomb": {
            "seats": part(zlib.compress(zlib.compress(b"0" * 50_000_000))),
            "count": 0,
        },
        "more than it says": {"seats": deflated(rows(1, 2)), "count": 1},
        "fewer than it says": {"seats": deflated(rows(1)), "count": 2},
        "the same camera twice": {"seats": deflated(rows(1, 1)), "count": 2},
        "the same camera twice, said once": {"seats": deflated(rows(1, 1)), "count": 1},
        "no list": {"seats": deflated(b'{"a":1}'), "count": 1},
        "nothing": {"seats": "", "count": 0},
        "not base64": {"seats": "§", "count": 0},
        "not deflated": {"seats": part(b"[]"), "count": 0},
        "cut off": {"seats": deflated(rows(*range(50)))[:-9], "count": 50},
        "short rows": {"seats": deflated(b'[["cam-1","hw-1"]]'), "count": 1},
        "a seat without end of another type": {
            "seats": deflated(b'[["cam-1","hw-1","base",[],"never"]]'),
            "count": 1,
        },
        "a seat that ends in NaN": {
            "seats": deflated(b'[["cam-1","hw-1","base",[],NaN]]'),
            "count": 1,
        },
        "packs of numbers": {"seats": deflated(b'[["cam-1","hw-1","base",[1],null]]'), "count": 1},
        "packs of a text": {
            "seats": deflated(b'[["cam-1","hw-1","base","retail",null]]'),
            "count": 1,
        },
        "an unknown mode": {"seats": deflated(b'[["cam-1","hw-1","free",[],null]]'), "count": 1},
        "a mode of a list": {"seats": deflated(b'[["cam-1","hw-1",[],[],null]]'), "count": 1},
        "a camera of a number": {"seats": deflated(b'[[1,"hw-1","base",[],null]]'), "count": 1},
        "half characters": {"seats": deflated(b'[["\xff","hw-1","base",[],null]]'), "count": 1},
        "a negative count": {"seats": deflated(b"[]"), "count": -1},
        "a count of a text": {"seats": deflated(b"[]"), "count": "0"},
        "longer than any of ours": {"seats": "A" * 4_000_001, "count": 0},
    }
