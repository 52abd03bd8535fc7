"""Licenses as the operator holds them: verified before they are written, newest wins. Pure."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.claims import (
    CameraClaims,
    LicenseClaims,
    RevocationsClaims,
    SeatsClaims,
    TokenKind,
)
from brinkbyte.license.keys import KeySet, PublicJwk, verify_key_set
from brinkbyte.license.modes import revoked
from brinkbyte.license.tokens import TokenError, verify
from brinkbyte.license.wire import Held, Tokens
from brinkbyte.resources import names

RENEWAL_SECONDS: Final = 31 * 86_400
"""A token is issued again when less than this is left."""


@dataclass(frozen=True)
class Documents:
    """A Tenant's signed documents, each verified or absent.

    Attributes:
        texts: by key of the license Secret; only what verified.
        problems: why a document that was there is not taken, by key.
        instance: the instance id that they were verified for.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, PermanentError] = field(default_factory=dict)
    key_set: KeySet | None = None
    license: LicenseClaims | None = None
    seats: SeatsClaims | None = None
    revocations: RevocationsClaims | None = None
    instance: str = ""

    @property
    def held(self) -> Held:
        """Numbers of what is held, for the billing API to send only what is newer."""
        return Held(
            license_sequence=self.license.license_sequence if self.license else 0,
            seats_sequence=self.seats.seats_sequence if self.seats else 0,
            revocation_sequence=self.revocations.revocation_sequence if self.revocations else 0,
            key_set_number=self.key_set.number if self.key_set else 0,
        )

    @property
    def newest_signed_time(self) -> int:
        """Newest signing time of what is held, Unix seconds; before it nothing can be."""
        signed = (self.license, self.seats, self.revocations)
        times = [each.iat for each in signed if each is not None]
        return max([self.key_set.issued_at if self.key_set else 0, *times])

    @property
    def complete(self) -> bool:
        """Whether a license and the keys to verify it with are held."""
        return self.key_set is not None and self.license is not None


def read_documents(
    texts: Mapping[str, str], roots: Mapping[str, PublicJwk], *, instance: str, now: int
) -> Documents:
    """Verify the values of a license Secret.

    Signatures, types and audience are checked; an end that has passed is not: how long an ended
    license goes on is for the modes to say.

    Args:
        texts: by key of the license Secret.
        roots: root public keys of the release.
        instance: the instance id that the documents must be for.
        now: Unix seconds.
    """
    good: dict[str, str] = {}
    problems: dict[str, PermanentError] = {}
    key_set = None
    if names.KEY_SET_KEY in texts:
        try:
            key_set = verify_key_set(texts[names.KEY_SET_KEY], roots, now=now)
            good[names.KEY_SET_KEY] = texts[names.KEY_SET_KEY]
        except PermanentError as error:
            problems[names.KEY_SET_KEY] = error
    found: dict[str, Any] = {}
    for key, model in (
        (names.LICENSE_KEY, LicenseClaims),
        (names.SEATS_KEY, SeatsClaims),
        (names.REVOCATIONS_KEY, RevocationsClaims),
    ):
        if key not in texts or key_set is None:
            continue
        try:
            found[key] = verify(
                texts[key],
                model,
                key_set.keys,
                now=now,
                audience=instance,
                check_expiry=False,
            )
            good[key] = texts[key]
        except TokenError as error:
            problems[key] = error
    return Documents(
        texts=good,
        problems=problems,
        key_set=key_set,
        license=found.get(names.LICENSE_KEY),
        seats=found.get(names.SEATS_KEY),
        revocations=found.get(names.REVOCATIONS_KEY),
        instance=instance,
    )


def merge_documents(
    held: Documents,
    answer: Tokens,
    roots: Mapping[str, PublicJwk],
    *,
    instance: str,
    now: int,
) -> Documents:
    """Take in what an answer brings; a lower number never replaces a higher one.

    What does not verify is not taken: the problems of the result say why, and what was held stays.
    """
    offered = dict(held.texts)
    if answer.key_set is not None:
        offered[names.KEY_SET_KEY] = json.dumps(
            answer.key_set, separators=(",", ":"), sort_keys=True
        )
    tokens = {
        names.LICENSE_KEY: answer.license,
        names.SEATS_KEY: answer.seats,
        names.REVOCATIONS_KEY: answer.revocations,
    }
    offered.update({key: token for key, token in tokens.items() if token is not None})
    new = read_documents(offered, roots, instance=instance, now=now)
    texts = dict(held.texts)
    before, after = held.held, new.held
    for key, old_number, new_number in (
        (names.KEY_SET_KEY, before.key_set_number, after.key_set_number),
        (names.LICENSE_KEY, before.license_sequence, after.license_sequence),
        (names.SEATS_KEY, before.seats_sequence, after.seats_sequence),
        (names.REVOCATIONS_KEY, before.revocation_sequence, after.revocation_sequence),
    ):
        if key in new.texts and new_number >= old_number:
            texts[key] = new.texts[key]
    if texts == new.texts:
        return new  # a seat list of ten thousand takes tens of milliseconds: not twice
    merged = read_documents(texts, roots, instance=instance, now=now)
    return replace(merged, problems=new.problems)


class CameraTokens:
    """Verifies camera tokens and remembers the last verdicts: a pass asks for each twice.

    Args:
        size: verdicts kept; each takes some kilobytes.
    """

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._claims: OrderedDict[tuple[str, int], CameraClaims] = OrderedDict()

    def verify(self, token: str, key_set: KeySet, *, instance: str, now: int) -> CameraClaims:
        """Return the claims of a camera token; its end is not judged.

        Raises:
            TokenError: it is not the vendor's, or not for this instance.
        """
        known = self._claims.get((token, key_set.number))
        if known is None:
            known = verify(
                token, CameraClaims, key_set.keys, now=now, audience=instance, check_expiry=False
            )
            self._claims[token, key_set.number] = known
            if len(self._claims) > self._size:
                self._claims.popitem(last=False)
        if known.aud != instance:
            raise TokenError("the token is for another instance", reason="WrongAudience")
        return known


def camera_revoked(documents: Documents, claims: CameraClaims) -> bool:
    """Tell whether the vendor has revoked a camera token."""
    entries = documents.revocations.entries if documents.revocations else ()
    return revoked(entries, TokenKind.CAMERA, claims.sub, claims.camera_sequence)
