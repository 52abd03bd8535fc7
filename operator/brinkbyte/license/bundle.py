"""The vendor's answer to a site without a line: everything that a line would have brought.

A bundle is a JSON file ``{"keySet": …, "manifest": JWS, "content": text}``. The key set is signed
by a root of the release, the manifest by the license key of that set, and the manifest has the hash
of the content: nothing can be changed, left out or put together from two bundles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError

from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.model import OpenWireModel, first_problem
from brinkbyte.license.claims import (
    BundleClaims,
    CameraClaims,
    CameraMode,
    Identifier,
    LicenseClaims,
    RevocationsClaims,
    SeatsClaims,
)
from brinkbyte.license.keys import KeySet, PublicJwk, verify_key_set
from brinkbyte.license.packing import pack, unpack
from brinkbyte.license.seats import unpack_seats
from brinkbyte.license.tokens import TokenError, verify
from brinkbyte.license.wire import InventoryAnswer

MAX_BUNDLE_BYTES: Final = 64 * 1024 * 1024
_MAX_CONTENT_BYTES: Final = 128 * 1024 * 1024
_AGAIN: Final = "copy the whole file again, or ask the vendor for it"


class BundleError(PermanentError):
    """A bundle is refused; ``reason`` says why.

    Reasons: ``Malformed``, ``ContentChanged``, ``CustomerMismatch``, ``WrongKey``,
    ``WrongCluster``, ``BundleOutdated``, and those of key sets and tokens.
    """


class AskedDevice(OpenWireModel):
    """A device as the request had it."""

    hardware_id: Identifier
    management_tier: Literal["basic", "managed"]


class AskedCamera(OpenWireModel):
    """A camera as the request had it."""

    camera_id: Identifier
    hardware_id: Identifier
    mode: CameraMode
    growth_packs: tuple[Identifier, ...] = ()


class BundleContent(InventoryAnswer):
    """What a bundle holds: the answer to an inventory, and what had been asked.

    ``key_set`` is None: it stands outside, as the rest is verified with it. ``asked_cameras`` are
    those that were refused; the tokens of the others say what was asked.
    """

    asked_devices: tuple[AskedDevice, ...] = ()
    asked_cameras: tuple[AskedCamera, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        key_set_text: the ``jwks.json`` document.
        license: of the tenant, verified.
    """

    claims: BundleClaims
    content: BundleContent
    key_set: KeySet
    key_set_text: str
    license: LicenseClaims

    @property
    def instance_id(self) -> str:
        """The instance that the vendor made for this site."""
        return self.claims.aud


def content_bytes(content: BundleContent) -> bytes:
    """Return the bytes of a content that the manifest's hash covers."""
    return content.model_dump_json(by_alias=True, exclude={"key_set"}).encode()


def write_bundle(manifest: str, content: bytes, key_set: Mapping[str, Any]) -> str:
    """Return a bundle as the text of a file.

    Args:
        manifest: signed :class:`BundleClaims`.
        content: see :func:`content_bytes`.
        key_set: the ``jwks.json`` document.
    """
    document = {"keySet": key_set, "manifest": manifest, "content": pack(content)}
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def read_bundle(
    document: str | bytes, roots: Mapping[str, PublicJwk], *, now: int, check_expiry: bool = True
) -> Bundle:
    """Verify a bundle: key set, manifest, content, and the documents of the tenant in it.

    The cameras' tokens are covered by the manifest; :func:`check_cameras` proves each.

    Args:
        document: the text of the file.
        roots: root public keys of the release.
        now: Unix seconds.
        check_expiry: False where the mode judges the end (grace).

    Raises:
        BundleError, TokenError, KeySetError: with the reason.
    """
    key_set_text, manifest, packed = _split(document)
    key_set = verify_key_set(key_set_text, roots, now=now)
    claims = verify(manifest, BundleClaims, key_set.keys, now=now, check_expiry=check_expiry)
    if claims.key_set_number != key_set.number:
        raise BundleError(
            f"the key set in the bundle is not the one that it was made with; {_AGAIN}",
            reason="ContentChanged",
        )
    try:
        data = unpack(packed, limit=_MAX_CONTENT_BYTES)
    except ValueError as error:
        raise _malformed(str(error)) from None
    if sha256_hex(data) != claims.content_sha256:
        raise BundleError(
            f"the content of the bundle is not the one that was signed; {_AGAIN}",
            reason="ContentChanged",
        )
    try:
        content = BundleContent.model_validate_json(data)
    except ValidationError as error:
        raise _malformed(f"{first_problem(error)}; a newer release may read it") from None
    return Bundle(claims, content, key_set, key_set_text, _documents(content, claims, key_set, now))


def _split(document: str | bytes) -> tuple[str, str, str]:
    if len(document) > MAX_BUNDLE_BYTES:
        raise _malformed("it is larger than any of ours")
    try:
        outer: Any = json.loads(document)
        key_set, manifest, packed = outer["keySet"], outer["manifest"], outer["content"]
        text = json.dumps(key_set, separators=(",", ":"), sort_keys=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _malformed("it is not whole, or another file") from None
    if not isinstance(manifest, str) or not isinstance(packed, str):
        raise _malformed("it is not whole, or another file")
    return text, manifest, packed


def _documents(
    content: BundleContent, claims: BundleClaims, key_set: KeySet, now: int
) -> LicenseClaims:
    """Verify the tenant's documents and return the license."""
    if content.license is None or content.seats is None:
        raise _malformed("there is no license in it")

    def mine(customer_id: str) -> None:
        if customer_id != claims.customer_id:
            raise BundleError(
                f"a document in the bundle is for customer {customer_id}; {_AGAIN}",
                reason="CustomerMismatch",
            )

    given: dict[str, Any] = {"now": now, "audience": claims.aud, "check_expiry": False}
    license_ = verify(content.license, LicenseClaims, key_set.keys, **given)
    mine(license_.customer_id)
    seats = verify(content.seats, SeatsClaims, key_set.keys, **given)
    mine(seats.customer_id)
    unpack_seats(seats)
    listed = 0
    if content.revocations is not None:
        revocations = verify(content.revocations, RevocationsClaims, key_set.keys, **given)
        mine(revocations.customer_id)
        listed = revocations.revocation_sequence
    if max(license_.revocation_sequence, seats.revocation_sequence) > listed:
        raise BundleError(
            f"the revocation list that the license goes with is not in the bundle; {_AGAIN}",
            reason="RevocationListMissing",
        )
    if license_.cnf.jkt != claims.cnf.jkt:
        raise BundleError(
            f"the license in the bundle is for another key pair; {_AGAIN}", reason="WrongKey"
        )
    return license_


def check_cameras(bundle: Bundle, *, now: int) -> int:
    """Prove every camera's token in a bundle; returns how many there are.

    Raises:
        TokenError, BundleError: one is not good; the message names the camera.
    """
    count = 0
    for result in bundle.content.cameras:
        if not result.token:
            continue
        try:
            claims = verify(
                result.token,
                CameraClaims,
                bundle.key_set.keys,
                now=now,
                audience=bundle.instance_id,
                check_expiry=False,
            )
        except TokenError as error:
            raise TokenError(
                f"camera {result.camera_id}: {error.message}", reason=error.reason
            ) from None
        if claims.camera_id != result.camera_id or claims.customer_id != bundle.claims.customer_id:
            raise BundleError(
                f"camera {result.camera_id}: the token is another camera's; {_AGAIN}",
                reason="ContentChanged",
            )
        count += 1
    return count


def check_for(bundle: Bundle, *, customer_id: str, key_id: str | None, cluster: str | None) -> None:
    """Refuse a bundle of another customer or of another instance.

    Args:
        bundle: verified.
        customer_id: whose instance it is to be for.
        key_id: thumbprint of the instance key; None where it is not known.
        cluster: fingerprint of the cluster; None where it is not known.

    Raises:
        BundleError: reason ``CustomerMismatch``, ``WrongKey`` or ``WrongCluster``.
    """
    if bundle.claims.customer_id != customer_id:
        raise BundleError(
            f"the bundle is for customer {bundle.claims.customer_id}, this instance is of "
            f"{customer_id}; import this customer's bundle",
            reason="CustomerMismatch",
        )
    if key_id is not None and bundle.claims.cnf.jkt != key_id:
        raise BundleError(
            "the bundle was made for another instance key: for another site, or before the key "
            "pair was made anew. Send the vendor a new request of this site (`brinkbyte license "
            "request`) and import the answer",
            reason="WrongKey",
        )
    made_for = bundle.license.cluster_fingerprint
    if cluster is not None and made_for is not None and made_for != cluster:
        raise BundleError(
            "the bundle was made for another cluster, of which this one may be a copy; send the "
            "vendor a new request of this site (`brinkbyte license request`) and import the answer",
            reason="WrongCluster",
        )


def check_newer(bundle: Bundle, sequence: int) -> bool:
    """Tell whether a bundle is newer than the one of this number; False: it is the same one.

    Raises:
        BundleError: reason ``BundleOutdated``.
    """
    if bundle.claims.bundle_sequence < sequence:
        raise BundleError(
            "a newer bundle was imported before; it stays in force. Import the newest one, or "
            "send the vendor a new request",
            reason="BundleOutdated",
        )
    return bundle.claims.bundle_sequence > sequence


def _malformed(why: str) -> BundleError:
    return BundleError(f"not a license bundle ({why}); {_AGAIN}", reason="Malformed")
