"""Keys: RSA signing keys, public JWKs with a use, and the root-signed key set.

The root public keys are a file inside the release (one in use, one spare); a key that no root
has signed verifies nothing, whatever a URL, a Secret or a header says.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import jwt
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import Field, ValidationError

from brinkbyte.kit.canonical import canonical_json, sha256_hex
from brinkbyte.kit.errors import InvalidInputError, PermanentError
from brinkbyte.kit.model import WireModel
from brinkbyte.license.claims import ISSUER, Thumbprint, TokenKind, UnixTime

KEY_BITS: Final = 2048
MIN_KEY_BITS: Final = 2048
MAX_KEY_BITS: Final = 4096
PUBLIC_EXPONENT: Final = 65537
KEY_SET_SECONDS: Final = 800 * 86_400
"""A key set ends 800 days after signing: longer than the longest air-gap bundle (400 days)."""
MAX_KEYS: Final = 64
"""Keys of a set at most."""
_MAX_DOCUMENT_BYTES: Final = 256 * 1024


class KeySetError(PermanentError):
    """A key set is not the vendor's, is broken, or has ended."""


class PublicJwk(WireModel):
    """An RSA public key (RFC 7517) and the kinds of documents it may sign."""

    kty: str = Field(pattern="^RSA$")
    kid: Thumbprint
    alg: str = Field(pattern="^RS256$")
    use: str = Field(pattern="^sig$")
    n: str = Field(max_length=1024, pattern=r"^[A-Za-z0-9_-]+$")
    e: str = Field(max_length=8, pattern=r"^[A-Za-z0-9_-]+$")
    kinds: tuple[TokenKind, ...] = ()

    @cached_property
    def public_key(self) -> rsa.RSAPublicKey:
        """The key itself.

        Raises:
            InvalidInputError: not an RSA key of 2048 to 4096 bits with exponent 65537, or the key
                id is not its thumbprint.
        """
        numbers = rsa.RSAPublicNumbers(_to_int(self.e), _to_int(self.n))
        bits = numbers.n.bit_length()
        if numbers.e != PUBLIC_EXPONENT or not MIN_KEY_BITS <= bits <= MAX_KEY_BITS:
            raise InvalidInputError(
                f"key {self.kid}: RSA of {MIN_KEY_BITS} to {MAX_KEY_BITS} bits with exponent "
                f"{PUBLIC_EXPONENT} is required, not {bits} bits",
                reason="WeakKey",
            )
        try:
            key = numbers.public_key()
        except ValueError as error:
            raise InvalidInputError(
                f"key {self.kid} is not an RSA key: {error}", reason="MalformedKey"
            ) from None
        if thumbprint(key) != self.kid:
            raise InvalidInputError(
                f"key id {self.kid} is not the key's thumbprint", reason="MalformedKey"
            )
        return key


def _to_int(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _to_text(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def thumbprint(key: rsa.RSAPublicKey) -> str:
    """Return the RFC 7638 SHA-256 thumbprint of a public key."""
    numbers = key.public_numbers()
    canonical = canonical_json({"e": _to_text(numbers.e), "kty": "RSA", "n": _to_text(numbers.n)})
    digest = bytes.fromhex(sha256_hex(canonical))
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def public_jwk(key: rsa.RSAPublicKey, kinds: Iterable[TokenKind] = ()) -> PublicJwk:
    """Return the JWK of a public key, its thumbprint as key id."""
    numbers = key.public_numbers()
    return PublicJwk(
        kty="RSA",
        kid=thumbprint(key),
        alg="RS256",
        use="sig",
        n=_to_text(numbers.n),
        e=_to_text(numbers.e),
        kinds=tuple(kinds),
    )


def _signs(key: rsa.RSAPrivateKey) -> bool:
    try:
        signature = key.sign(b"brinkbyte", padding.PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, b"brinkbyte", padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, InternalError, ValueError, UnsupportedAlgorithm):
        return False
    return True


@dataclass(frozen=True)
class SigningKey:
    """A private RSA key; its representation never shows it."""

    private_key: rsa.RSAPrivateKey
    kinds: tuple[TokenKind, ...] = ()

    @classmethod
    def generate(cls, kinds: Iterable[TokenKind] = (), *, bits: int = KEY_BITS) -> SigningKey:
        """Make a new key pair."""
        key = rsa.generate_private_key(public_exponent=PUBLIC_EXPONENT, key_size=bits)
        return cls(key, tuple(kinds))

    @classmethod
    def from_pem(cls, pem: bytes | str, kinds: Iterable[TokenKind] = ()) -> SigningKey:
        """Read an unencrypted PKCS#8 PEM.

        Raises:
            InvalidInputError: it is not an RSA private key in PEM.
        """
        data = pem.encode() if isinstance(pem, str) else pem
        try:
            # Proving the primes takes 50 ms a key, at each start and each new key set; a signature
            # that verifies says as much of a key that we made ourselves, in one.
            key = serialization.load_pem_private_key(
                data, password=None, unsafe_skip_rsa_key_validation=True
            )
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InvalidInputError(
                "not an unencrypted private key in PEM; create it again with "
                "`brinkbyte billing keys`",
                reason="MalformedKey",
            ) from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise InvalidInputError("an RSA key is required", reason="MalformedKey")
        if not _signs(key):
            raise InvalidInputError(
                "the key is damaged: what it signs does not verify; put it back from its backup",
                reason="MalformedKey",
            )
        return cls(key, tuple(kinds))

    @cached_property
    def kid(self) -> str:
        """RFC 7638 thumbprint."""
        return thumbprint(self.private_key.public_key())

    @property
    def jwk(self) -> PublicJwk:
        """The public half."""
        return public_jwk(self.private_key.public_key(), self.kinds)

    def to_pem(self) -> bytes:
        """Return the private key as unencrypted PKCS#8 PEM."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


class _KeySetPayload(WireModel):
    iss: str = Field(pattern=f"^{ISSUER}$")
    number: int = Field(strict=True, ge=1, le=2**53 - 1)
    iat: UnixTime
    exp: UnixTime
    keys: tuple[PublicJwk, ...] = Field(min_length=1, max_length=MAX_KEYS)

    @property
    def key_set(self) -> KeySet:
        return KeySet(self.number, self.iat, self.exp, {key.kid: key for key in self.keys})


@dataclass(frozen=True)
class KeySet:
    """A verified key set: keys of the vendor by key id.

    Attributes:
        number: grows with every set; a lower number never replaces a higher one.
        expires_at: Unix seconds after which the set verifies nothing.
        keys: by key id.
    """

    number: int
    issued_at: int
    expires_at: int
    keys: Mapping[str, PublicJwk]


def load_roots(document: bytes | str) -> dict[str, PublicJwk]:
    """Read the release's root public keys, a plain JWKS ``{"keys": […]}``.

    Raises:
        KeySetError: the file is not such a document.
    """
    try:
        keys = json.loads(document)["keys"]
        roots = [PublicJwk.model_validate(_as_wire(key)) for key in keys]
        return {root.kid: root for root in roots if root.public_key}
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        PermanentError,
    ) as error:
        raise KeySetError(
            f"the release's root keys cannot be read ({error}); install the release again",
            reason="MalformedKeySet",
        ) from None


def _as_wire(key: Mapping[str, Any]) -> dict[str, Any]:
    return {**key, "kinds": tuple(key.get("kinds", ()))}


def sign_key_set(
    root: SigningKey, keys: Iterable[PublicJwk], *, number: int, now: int
) -> dict[str, Any]:
    """Return the ``jwks.json`` document: the plain keys and the root-signed set of them."""
    members = [key.model_dump(mode="json") for key in keys]
    payload = {
        "iss": ISSUER,
        "number": number,
        "iat": now,
        "exp": now + KEY_SET_SECONDS,
        "keys": members,
    }
    signed = jwt.encode(
        payload,
        root.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.KEY_SET.typ, "kid": root.kid},
    )
    return {"keys": members, "signed": signed}


def _split(document: bytes | str) -> tuple[str, Any]:
    """Return the signed set and the plain keys of a document."""
    if len(document) > _MAX_DOCUMENT_BYTES:
        raise KeySetError("the key set is larger than any of ours", reason="MalformedKeySet")
    try:
        outer = json.loads(document)
        signed, plain = outer["signed"], outer["keys"]
        jwt.get_unverified_header(signed)
    except (ValueError, KeyError, TypeError, RecursionError, jwt.PyJWTError):
        raise KeySetError(
            "the key set is not a signed key set document; restore it from the billing API",
            reason="MalformedKeySet",
        ) from None
    return signed, plain


def _malformed() -> KeySetError:
    return KeySetError(
        "the root-signed key set is malformed; upgrade the release or fetch the set again",
        reason="MalformedKeySet",
    )


def _payload(claims: Mapping[str, Any], plain: object) -> _KeySetPayload:
    try:
        payload = _KeySetPayload.model_validate(
            {**claims, "keys": tuple(_as_wire(key) for key in claims.get("keys", ()))}
        )
        for key in payload.keys:
            key.public_key  # noqa: B018 - building the key is the check
    except (ValidationError, PermanentError, TypeError, ValueError, AttributeError, RecursionError):
        raise _malformed() from None
    if plain != claims["keys"]:
        raise KeySetError(
            "the plain keys differ from the root-signed ones: the file was edited; it is fetched "
            "again from the billing API",
            reason="UntrustedKeySet",
        )
    return payload


def parse_key_set(document: bytes | str) -> KeySet:
    """Read a key set without asking who signed it, for who made it; it proves nothing.

    Raises:
        KeySetError: reason ``MalformedKeySet`` or ``UntrustedKeySet`` (edited).
    """
    signed, plain = _split(document)
    try:
        claims = jwt.decode(signed, options={"verify_signature": False}, algorithms=["RS256"])
    except (jwt.PyJWTError, TypeError, ValueError, RecursionError):
        raise _malformed() from None
    return _payload(claims, plain).key_set


def verify_key_set(
    document: bytes | str, roots: Mapping[str, PublicJwk], *, now: int, leeway: int = 300
) -> KeySet:
    """Verify a ``jwks.json`` document against the release's roots.

    Args:
        document: the JSON text.
        roots: root public keys by key id, see :func:`load_roots`.
        now: Unix seconds.
        leeway: seconds that the signing time may lie in the future.

    Raises:
        KeySetError: reason ``MalformedKeySet``, ``UntrustedKeySet`` or ``KeySetExpired``.
    """
    signed, plain = _split(document)
    header = jwt.get_unverified_header(signed)
    root = roots.get(str(header.get("kid")))
    if root is None or header.get("alg") != "RS256" or header.get("typ") != TokenKind.KEY_SET.typ:
        raise KeySetError(
            "the key set is not signed by a root key of this release; check billing.url and that "
            "the release is the vendor's",
            reason="UntrustedKeySet",
        )
    try:
        claims = jwt.decode(
            signed,
            root.public_key,
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_aud": False},
        )
    except jwt.InvalidSignatureError:
        raise KeySetError(
            "the root signature of the key set does not verify; it was changed on the way",
            reason="UntrustedKeySet",
        ) from None
    except (jwt.PyJWTError, TypeError, ValueError, RecursionError):
        raise _malformed() from None
    payload = _payload(claims, plain)
    if now >= payload.exp or payload.iat > now + leeway:
        raise KeySetError(
            "the key set has ended or is not valid yet; check the clock, then connect the site or "
            "import a new bundle",
            reason="KeySetExpired",
        )
    return payload.key_set
