"""Sealed batches: signed, numbered without gaps, chained.

On the wire a batch is ``{"header": "<compact JWS>", "events": [...]}`` where the bytes of
``events`` are exactly the canonical payload: the server hashes the bytes it got.

``chainHash = SHA-256(previousHash as ASCII hex + canonical header without chainHash)``, hex.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ConfigDict, Field, ValidationError

from brinkbyte.kit.canonical import canonical_json, sha256_hex
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import Identifier, ReceiptClaims, Sequence, TokenKind, UnixTime
from brinkbyte.license.keys import PublicJwk, SigningKey
from brinkbyte.license.tokens import TokenError, verify
from brinkbyte.metering.events import UsageEvent

MAX_EVENTS: Final = 1000
NO_HASH: Final = "0" * 64
_MAX_HEADER_BYTES: Final = 8192

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Epoch = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
]
"""A UUIDv7 in lower case."""


class BatchError(PermanentError):
    """A batch is refused as a whole; ``reason`` says why.

    Reasons: ``MalformedBatch``, ``UnknownInstanceKey``, ``BadSignature``, ``PayloadMismatch``,
    ``ChainMismatch``.
    """


class BatchHeader(WireModel):
    """What the instance key pair signs.

    ``follows`` is set on the first batch of an epoch: the epoch that it closes, if any.
    """

    model_config = ConfigDict(strict=True)

    instance: Identifier
    epoch: Epoch
    batch_no: Annotated[int, Field(ge=1, le=2**53 - 1)]
    count: Annotated[int, Field(ge=1, le=MAX_EVENTS)]
    payload_sha256: Hash = Field(alias="payloadSha256")
    previous_hash: Hash
    chain_hash: Hash
    follows: Epoch | None = None

    def to_wire(self) -> dict[str, str | int]:
        """Return the members that are set."""
        return self.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class SealedBatch:
    """A batch as it is stored and sent.

    Attributes:
        header: what is signed.
        token: the header's compact JWS.
        payload: canonical JSON array of the events.
    """

    header: BatchHeader
    token: str
    payload: bytes

    def to_wire(self) -> bytes:
        """Return the request body."""
        return b'{"events":' + self.payload + b',"header":"' + self.token.encode() + b'"}'


def payload_bytes(events: Iterable[UsageEvent]) -> bytes:
    """Return the canonical bytes of events, sorted by id."""
    ordered = sorted(events, key=lambda event: event.id)
    return canonical_json([event.to_wire() for event in ordered])  # type: ignore[misc]


def chain_hash(header_without_hash: Mapping[str, str | int], previous_hash: str) -> str:
    """Return the chain hash of a header."""
    return sha256_hex(previous_hash.encode("ascii") + canonical_json(header_without_hash))


def seal(
    events: Iterable[UsageEvent],
    key: SigningKey,
    *,
    instance: str,
    epoch: str,
    batch_no: int,
    previous_hash: str,
    follows: str | None = None,
) -> SealedBatch:
    """Seal 1 to 1,000 events.

    Raises:
        BatchError: no events, too many, or an id twice.
    """
    listed = list(events)
    if not 0 < len(listed) <= MAX_EVENTS or len({event.id for event in listed}) != len(listed):
        raise BatchError(
            f"a batch holds 1 to {MAX_EVENTS} events, each id once", reason="MalformedBatch"
        )
    payload = payload_bytes(listed)
    members: dict[str, str | int] = {
        "instance": instance,
        "epoch": epoch,
        "batchNo": batch_no,
        "count": len(listed),
        "payloadSha256": sha256_hex(payload),
        "previousHash": previous_hash,
    }
    if follows is not None:
        members["follows"] = follows
    members["chainHash"] = chain_hash(members, previous_hash)
    header = BatchHeader.model_validate(members)
    token = jwt.encode(
        header.to_wire(),
        key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.BATCH.typ, "kid": key.kid},
    )
    return SealedBatch(header, token, payload)


def verify_batch_header(token: str, keys: Mapping[str, rsa.RSAPublicKey]) -> BatchHeader:
    """Verify a header's signature and its own chain hash.

    Args:
        token: compact JWS.
        keys: the instance's registered keys by thumbprint.

    Raises:
        BatchError: see that class.
    """
    if len(token) > _MAX_HEADER_BYTES:
        raise BatchError("the batch header is too large", reason="MalformedBatch")
    try:
        jose = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise BatchError("the batch header is not a JWS", reason="MalformedBatch") from None
    if jose.get("alg") != "RS256" or jose.get("typ") != TokenKind.BATCH.typ:
        raise BatchError("the batch header is not an RS256 batch JWS", reason="MalformedBatch")
    kid = jose.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise BatchError(
            "the batch is signed by a key that this instance has not registered; register it",
            reason="UnknownInstanceKey",
        )
    try:
        claims = jwt.decode(token, key, algorithms=["RS256"])
        header = BatchHeader.model_validate(claims)
        members = header.to_wire()
        del members["chainHash"]
        expected = chain_hash(members, header.previous_hash)
    except jwt.InvalidSignatureError:
        raise BatchError(
            "the signature of the batch does not verify", reason="BadSignature"
        ) from None
    except (jwt.PyJWTError, ValidationError, ValueError, RecursionError):
        raise BatchError("the batch header is malformed", reason="MalformedBatch") from None
    if expected != header.chain_hash:
        raise BatchError("the chain hash is not the header's", reason="ChainMismatch")
    return header


def check_payload(header: BatchHeader, payload: bytes) -> None:
    """Check that the payload is the one that was signed.

    Raises:
        BatchError: reason ``PayloadMismatch``.
    """
    if sha256_hex(payload) != header.payload_sha256:
        raise BatchError("the events are not the ones that were signed", reason="PayloadMismatch")


def verify_receipt(
    token: str, batch: BatchHeader, keys: Mapping[str, PublicJwk], *, now: int
) -> ReceiptClaims:
    """Verify that a receipt is the vendor's and is for exactly this batch.

    Raises:
        TokenError: refused; reason ``WrongReceipt`` when it is for another batch.
    """
    claims = verify(token, ReceiptClaims, keys, now=now, audience=batch.instance)
    same = (
        claims.instance == batch.instance
        and claims.epoch == batch.epoch
        and claims.batch_no == batch.batch_no
        and claims.chain_hash == batch.chain_hash
        and claims.payload_sha256 == batch.payload_sha256
        and claims.count == batch.count
    )
    if not same:
        raise TokenError("the receipt is for another batch", reason="WrongReceipt")
    return claims


class UsageHead(OpenWireModel):
    """``GET /api/v1/usage/head``: where this instance's chain goes on; None: nothing yet.

    An instance without an epoch of its own is told the open one of the customer's instance before
    it: its first batch follows that one. ``customer_id`` is whose usage the ledger takes it for;
    None: an older server does not say.
    """

    server_time: UnixTime
    customer_id: Identifier | None = None
    epoch: str | None = None
    batch_no: Sequence = 0
    chain_hash: Hash | None = None


class BatchAnswer(OpenWireModel):
    """``POST /api/v1/usage/batch`` 200: the signed receipt, the stored one on a repeat.

    Errors: 409 ``EpochClosed``, ``ChainMismatch`` or ``EpochConflict`` (open a new epoch); 409
    ``Gap`` with ``missing`` ``[first, last]`` (send those first); 422 ``MalformedBatch``,
    ``PayloadMismatch``; 403 ``UnknownInstanceKey``, ``BadSignature``; 413; 429 with Retry-After.
    """

    receipt: str
