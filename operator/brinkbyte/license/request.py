"""What a site without a line asks for: its inventory, signed with the instance key.

A request is a JSON file ``{"publicKey": JWK, "request": JWS, "inventory": text}``. The signature is
the proof that whoever asks has the private key that the bundle will be cut for; it covers the
inventory by its hash. Nothing in it is secret.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final

import jwt
from pydantic import Field, ValidationError

from brinkbyte.kit.canonical import canonical_json, sha256_hex
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.model import first_problem
from brinkbyte.license.claims import Identifier, SignedPart, TokenKind, UnixTime
from brinkbyte.license.keys import PublicJwk, SigningKey
from brinkbyte.license.packing import pack, unpack
from brinkbyte.license.tokens import TokenError, verify_signature
from brinkbyte.license.wire import InventoryRequest

MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
CLOCK_LEEWAY_SECONDS: Final = 86_400
"""How far the clock of a site, which no time server reaches, may be ahead of the vendor's."""
_MAX_INVENTORY_BYTES: Final = 32 * 1024 * 1024
_AGAIN: Final = "make it again with `brinkbyte license request` and send the whole file"


class RequestError(PermanentError):
    """A request cannot be answered; ``reason`` says why.

    Reasons: ``Malformed``, ``WeakKey``, ``InventoryChanged``, ``NotYetValid``, and those of
    :class:`~brinkbyte.license.tokens.TokenError`.
    """


class RequestClaims(SignedPart):
    """Who asks. ``sub`` is the customer.

    Attributes:
        name: of the Tenant, as namespace.name.
        uid: of the Tenant.
        cluster_fingerprint: uid of the namespace kube-system.
        version: of the operator.
    """

    sub: Identifier
    jti: Identifier
    iat: UnixTime
    name: Identifier
    uid: Identifier
    cluster_fingerprint: Identifier
    version: Identifier
    inventory_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class SiteRequest:
    """A verified request.

    Attributes:
        public_key: of the instance; the bundle is cut for it.
        inventory: the complete set of devices and cameras, and the numbers held.
    """

    claims: RequestClaims
    public_key: PublicJwk
    inventory: InventoryRequest


def inventory_bytes(inventory: InventoryRequest) -> bytes:
    """Return the bytes of an inventory that the signature covers."""
    return canonical_json(inventory.model_dump(mode="json"))


def sign_request(claims: RequestClaims, inventory: bytes, key: SigningKey) -> str:
    """Return the request as the text of a file.

    Args:
        claims: who asks; ``inventory_sha256`` is that of the inventory.
        inventory: see :func:`inventory_bytes`.
        key: the instance key pair.
    """
    token = jwt.encode(
        claims.model_dump(mode="json"),
        key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.REQUEST.typ, "kid": key.kid},
    )
    document = {
        "publicKey": key.jwk.model_copy(update={"kinds": ()}).model_dump(mode="json"),
        "request": token,
        "inventory": pack(inventory),
    }
    return json.dumps(document, indent=1) + "\n"


def read_request(document: str | bytes, *, now: int) -> SiteRequest:
    """Verify a request.

    Args:
        document: the text of the file.
        now: Unix seconds.

    Raises:
        RequestError: it is not whole, not signed by its own key, or from the future.
    """
    public_key, token, packed = _split(document)
    try:
        claims = verify_signature(
            token,
            TokenKind.REQUEST,
            RequestClaims,
            {public_key.kid: public_key.model_copy(update={"kinds": (TokenKind.REQUEST,)})},
        )
        data = unpack(packed, limit=_MAX_INVENTORY_BYTES)
    except TokenError as error:
        raise RequestError(
            f"the request is not signed by its own key ({error.message}); {_AGAIN}",
            reason=error.reason,
        ) from None
    except ValueError as error:
        raise _malformed(f"its inventory: {error}") from None
    if sha256_hex(data) != claims.inventory_sha256:
        raise RequestError(
            f"the inventory is not the one that was signed; {_AGAIN}", reason="InventoryChanged"
        )
    if claims.iat > now + CLOCK_LEEWAY_SECONDS:
        raise RequestError(
            f"the request is from the future; set the clock of the site, then {_AGAIN}",
            reason="NotYetValid",
        )
    try:
        inventory = InventoryRequest.model_validate_json(data)
    except ValidationError as error:
        raise _malformed(f"its inventory: {first_problem(error)}") from None
    if inventory.base_revision is not None:
        raise _malformed("its inventory is not a complete one")
    return SiteRequest(claims, public_key, inventory)


def _split(document: str | bytes) -> tuple[PublicJwk, str, str]:
    if len(document) > MAX_REQUEST_BYTES:
        raise _malformed("it is larger than any of ours")
    try:
        outer: Any = json.loads(document)
        token, packed = outer["request"], outer["inventory"]
        public_key = PublicJwk.model_validate_json(json.dumps(outer["publicKey"]))
        public_key.public_key  # noqa: B018 - building the key is the check
    except PermanentError as error:
        raise RequestError(f"{error.message}; {_AGAIN}", reason="WeakKey") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _malformed("it is not whole, or another file") from None
    if not isinstance(token, str) or not isinstance(packed, str):
        raise _malformed("it is not whole, or another file")
    return public_key, token, packed


def _malformed(why: str) -> RequestError:
    return RequestError(f"not a license request ({why}); {_AGAIN}", reason="Malformed")
