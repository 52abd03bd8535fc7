"""Sign and verify the vendor's tokens: RS256 only, one ``typ`` and one key use per kind.

``jku``, ``x5u`` and ``jwk`` headers are ignored; a key comes from the verified key set or from
nowhere. Verification says why it refuses, never how to get past it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

import jwt
from jwt.algorithms import RSAAlgorithm
from pydantic import BaseModel, ValidationError

from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.claims import (
    BundleClaims,
    CameraClaims,
    Claims,
    LicenseClaims,
    ReceiptClaims,
    RevocationsClaims,
    SeatsClaims,
    TokenKind,
)
from brinkbyte.license.keys import PublicJwk, SigningKey

LEEWAY_SECONDS: Final = 300
"""How far the signer's clock may be ahead of ours."""
MAX_TOKEN_BYTES: Final = 5_000_000
_MAX_HEADER_MEMBERS: Final = 16
_COMPACT: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)")
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)

C = TypeVar("C", bound=Claims)
M = TypeVar("M", bound=BaseModel)

KIND_OF: Final[Mapping[type[Claims], TokenKind]] = {
    LicenseClaims: TokenKind.LICENSE,
    CameraClaims: TokenKind.CAMERA,
    SeatsClaims: TokenKind.SEATS,
    RevocationsClaims: TokenKind.REVOCATIONS,
    ReceiptClaims: TokenKind.RECEIPT,
    BundleClaims: TokenKind.BUNDLE,
}


class TokenError(PermanentError):
    """A token is refused; ``reason`` says why.

    Reasons: ``Malformed``, ``WrongType``, ``WrongAlgorithm``, ``UnknownKey``, ``WrongKeyUse``,
    ``BadSignature``, ``NotYetValid``, ``Expired``, ``WrongAudience``, ``InvalidClaims``, and
    ``WrongReceipt`` for a receipt of another batch.
    """


def sign(claims: Claims, key: SigningKey) -> str:
    """Return the compact JWS of a document.

    Raises:
        ValueError: the key is not for this kind of document.
    """
    kind = KIND_OF[type(claims)]
    if kind.key_use not in key.kinds:
        raise ValueError(f"key {key.kid} does not sign {kind} documents")
    return jwt.encode(
        claims.model_dump(mode="json"),
        key.private_key,
        algorithm="RS256",
        headers={"typ": kind.typ, "kid": key.kid},
    )


def verify(
    token: str | bytes,
    expected: type[C],
    keys: Mapping[str, PublicJwk],
    *,
    now: int,
    audience: str | None = None,
    check_expiry: bool = True,
) -> C:
    """Verify a token and return its claims.

    Args:
        token: compact JWS.
        expected: the claims model; it decides which ``typ`` and key use are accepted.
        keys: keys of the verified key set by key id.
        now: Unix seconds.
        audience: the instance id that ``aud`` must be; None accepts any (inspection only).
        check_expiry: False where the caller judges the end itself (grace, offline clock).

    Raises:
        TokenError: with one of the reasons of that class.
    """
    claims = verify_signature(token, KIND_OF[expected], expected, keys)
    if claims.nbf > now + LEEWAY_SECONDS or claims.iat > now + LEEWAY_SECONDS:
        raise TokenError("the token is not valid yet; check the clock", reason="NotYetValid")
    if check_expiry and claims.exp <= now:
        raise TokenError("the token has ended; renew it", reason="Expired")
    if audience is not None and claims.aud != audience:
        raise TokenError(
            "the token was made for another instance; use the one of this instance",
            reason="WrongAudience",
        )
    return claims


def verify_signature(
    token: str | bytes, kind: TokenKind, expected: type[M], keys: Mapping[str, PublicJwk]
) -> M:
    """Verify type and signature of a signed document and return what it says; no times.

    Raises:
        TokenError: with one of the reasons of that class.
    """
    parts = _split(token)
    key = _select_key(parts.header, kind, keys)
    if not _RS256.verify(parts.signed, key.public_key, parts.signature):
        raise TokenError("the signature does not verify", reason="BadSignature")
    return _read(parts.payload, expected)


class _Parts(NamedTuple):
    """A compact JWS taken apart; ``signed`` is what the signature is of."""

    header: dict[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes


def _split(token: str | bytes) -> _Parts:
    """Take a token apart, once and strictly.

    PyJWT's own way decodes every part twice and looks at each character in Python: three times the
    cost of the signature, and an operator that starts verifies every token there is.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError("the token is larger than any of ours", reason="Malformed")
    try:
        text = (token.encode("ascii") if isinstance(token, str) else token).strip()
        found = _COMPACT.fullmatch(text)
        if found is None:
            raise ValueError("not three parts of base64url")
        header = json.loads(_bytes_of(found[1]))
        if not isinstance(header, dict):
            raise TypeError("the header is no object")
        payload, signature = _bytes_of(found[2]), _bytes_of(found[3])
    except (UnicodeError, ValueError, TypeError, RecursionError):
        raise TokenError("not a signed token; fetch it again", reason="Malformed") from None
    return _Parts(header, payload, text[: found.end(2)], signature)


def _bytes_of(segment: bytes) -> bytes:
    return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def _select_key(
    header: Mapping[str, Any], kind: TokenKind, keys: Mapping[str, PublicJwk]
) -> PublicJwk:
    if header.get("alg") != "RS256":
        raise TokenError("only RS256 tokens are accepted", reason="WrongAlgorithm")
    if len(header) > _MAX_HEADER_MEMBERS or "crit" in header or "b64" in header:
        raise TokenError("the token has extensions we do not accept", reason="Malformed")
    if header.get("typ") != kind.typ:
        raise TokenError(f"this is not a {kind} token", reason="WrongType")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenError(
            "the token is signed by a key that is not in the key set; refresh the key set",
            reason="UnknownKey",
        )
    if kind.key_use not in key.kinds:
        raise TokenError(f"the key does not sign {kind} tokens", reason="WrongKeyUse")
    return key


def _read(payload: bytes, expected: type[M]) -> M:
    try:
        claims = json.loads(payload)
        if not isinstance(claims, dict):
            raise TypeError("no object")
    except (ValueError, TypeError, RecursionError):
        raise TokenError("not a signed token; fetch it again", reason="Malformed") from None
    try:
        # JSON mode: arrays become tuples and text becomes enums, numbers stay strict.
        return expected.model_validate_json(_dumps(claims))
    except (ValidationError, ValueError, RecursionError) as error:
        fields = (
            ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()}))
            if isinstance(error, ValidationError)
            else "number"
        )
        raise TokenError(f"claims missing or mistyped: {fields}", reason="InvalidClaims") from None


def _dumps(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, allow_nan=False).encode()
