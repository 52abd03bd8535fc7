"""Signed documents: which ones are held, and what happens when others come along.

Pure: documents, roots and the time are arguments. Whichever way a document came, it is verified
alike, the higher sequence wins, and a bad one never displaces a good one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.claims import LicenseClaims, RevocationsClaims, SeatsClaims, TokenKind
from brinkbyte.license.keys import KeySet, PublicJwk, verify_key_set
from brinkbyte.license.modes import revoked
from brinkbyte.license.seats import SeatList, unpack_seats
from brinkbyte.license.tokens import TokenError, verify
from brinkbyte.license.wire import Held

Documents: TypeAlias = Mapping[TokenKind, str]
"""Raw signed documents by kind: key set, revocations, license, seats."""

ORDER: Final = (TokenKind.KEY_SET, TokenKind.REVOCATIONS, TokenKind.LICENSE, TokenKind.SEATS)
"""Keys first, then what revokes, then what may be revoked."""


@dataclass(frozen=True)
class Refusal:
    """A document that was not accepted.

    Attributes:
        fingerprint: SHA-256 of the document, so that the same refusal is recorded once.
    """

    kind: TokenKind
    reason: str
    message: str
    fingerprint: str


@dataclass(frozen=True)
class Snapshot:
    """The newest verified document of each kind, and the raw text it came as."""

    key_set: KeySet | None = None
    license: LicenseClaims | None = None
    seats: SeatList | None = None
    revocations: RevocationsClaims | None = None
    raw: Mapping[TokenKind, str] = field(default_factory=dict)

    @property
    def held(self) -> Held:
        """The sequence numbers held, as the billing API asks for them."""
        return Held(
            license_sequence=self.sequence(TokenKind.LICENSE),
            seats_sequence=self.sequence(TokenKind.SEATS),
            revocation_sequence=self.sequence(TokenKind.REVOCATIONS),
            key_set_number=self.sequence(TokenKind.KEY_SET),
        )

    def sequence(self, kind: TokenKind) -> int:
        """Return the sequence number held of a kind, 0 without."""
        if kind is TokenKind.KEY_SET:
            return self.key_set.number if self.key_set else 0
        if kind is TokenKind.REVOCATIONS:
            return self.revocations.revocation_sequence if self.revocations else 0
        if kind is TokenKind.LICENSE:
            return self.license.license_sequence if self.license else 0
        return self.seats.sequence if self.seats else 0

    @property
    def newest_signed_time(self) -> int:
        """Newest signing time of any document held, Unix seconds."""
        times = [0]
        if self.key_set:
            times.append(self.key_set.issued_at)
        if self.seats:
            times.append(self.seats.claims.iat)
        times.extend(claims.iat for claims in (self.license, self.revocations) if claims)
        return max(times)

    @property
    def seats_revoked(self) -> bool:
        """Whether the seat list held is on the revocation list."""
        if self.seats is None or self.revocations is None:
            return False
        return revoked(
            self.revocations.entries,
            TokenKind.SEATS,
            self.seats.claims.sub,
            self.seats.sequence,
        )


@dataclass(frozen=True)
class TakenIn:
    """What became of a set of documents."""

    snapshot: Snapshot
    accepted: tuple[TokenKind, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class Verifier:
    """Verifies documents for one instance of one customer.

    Attributes:
        roots: the release's root keys by key id.
        instance_id: what ``aud`` must be; None accepts no token at all.
        customer_id: whom the documents must be about.
    """

    roots: Mapping[str, PublicJwk]
    instance_id: str | None
    customer_id: str

    def take_in(self, held: Snapshot, documents: Documents, *, now: int) -> TakenIn:
        """Return what is held after these documents came along.

        Args:
            held: what is held so far.
            documents: raw documents by kind; kinds left out are left alone.
            now: Unix seconds by the offline clock.
        """
        snapshot = held
        accepted: list[TokenKind] = []
        refused: list[Refusal] = []
        for kind in ORDER:
            document = documents.get(kind)
            if document is None or document == held.raw.get(kind):
                continue
            try:
                newer = self._newer(snapshot, kind, document, now)
            except PermanentError as error:
                refused.append(_refusal(kind, document, error))
                continue
            if newer is not None:
                snapshot = replace(newer, raw={**snapshot.raw, kind: document})
                accepted.append(kind)
                if kind is TokenKind.KEY_SET:
                    snapshot, dropped = self._verify_again(snapshot, now)
                    refused.extend(dropped)
        return TakenIn(snapshot, tuple(accepted), tuple(refused))

    def _newer(self, held: Snapshot, kind: TokenKind, document: str, now: int) -> Snapshot | None:
        """Return the snapshot with the document, None if it is not newer than the one held."""
        if kind is TokenKind.KEY_SET:
            key_set = verify_key_set(document, self.roots, now=now)
            return None if key_set.number <= held.sequence(kind) else replace(held, key_set=key_set)
        verified = self._verify(held, kind, document, now)
        return None if verified.sequence(kind) <= held.sequence(kind) else verified

    def _verify(self, held: Snapshot, kind: TokenKind, document: str, now: int) -> Snapshot:
        keys = held.key_set.keys if held.key_set else {}
        if self.instance_id is None:
            raise TokenError(
                "this instance has no id yet: enroll it, then licenses can be taken in",
                reason="NotEnrolled",
            )
        audience = self.instance_id
        # The end is judged by the mode (grace, offline clock); a revocation never ends.
        if kind is TokenKind.REVOCATIONS:
            listed = verify(
                document, RevocationsClaims, keys, now=now, audience=audience, check_expiry=False
            )
            self._check_customer(listed.customer_id)
            return replace(held, revocations=listed)
        if kind is TokenKind.LICENSE:
            claims = verify(
                document, LicenseClaims, keys, now=now, audience=audience, check_expiry=False
            )
            self._check_customer(claims.customer_id)
            self._check_revocations(held, claims.revocation_sequence)
            return replace(held, license=claims)
        seats = verify(document, SeatsClaims, keys, now=now, audience=audience, check_expiry=False)
        self._check_customer(seats.customer_id)
        self._check_revocations(held, seats.revocation_sequence)
        return replace(held, seats=unpack_seats(seats))

    def _check_customer(self, customer_id: str) -> None:
        if customer_id != self.customer_id:
            raise TokenError(
                f"the document is for customer {customer_id}, this instance is of "
                f"{self.customer_id}; use this customer's documents",
                reason="CustomerMismatch",
            )

    @staticmethod
    def _check_revocations(held: Snapshot, least: int) -> None:
        if held.sequence(TokenKind.REVOCATIONS) < least:
            raise TokenError(
                f"the document goes with revocation list {least} or newer, which is missing; "
                "install it together with its revocation list",
                reason="RevocationListMissing",
            )

    def _verify_again(self, snapshot: Snapshot, now: int) -> tuple[Snapshot, list[Refusal]]:
        """Drop what the new key set no longer vouches for: a key outside it verifies nothing."""
        refused = []
        for kind in ORDER[1:]:
            document = snapshot.raw.get(kind)
            if document is None:
                continue
            try:
                self._verify(snapshot, kind, document, now)
            except TokenError as error:
                refused.append(_refusal(kind, document, error))
                snapshot = _without(snapshot, kind)
        return snapshot, refused


def _refusal(kind: TokenKind, document: str, error: PermanentError) -> Refusal:
    # JSON can say half a character, which no encoding can.
    fingerprint = sha256_hex(document.encode("utf-8", "surrogatepass"))
    return Refusal(kind, error.reason, error.message, fingerprint)


def _without(snapshot: Snapshot, kind: TokenKind) -> Snapshot:
    raw = {key: text for key, text in snapshot.raw.items() if key is not kind}
    if kind is TokenKind.REVOCATIONS:
        return replace(snapshot, revocations=None, raw=raw)
    if kind is TokenKind.LICENSE:
        return replace(snapshot, license=None, raw=raw)
    return replace(snapshot, seats=None, raw=raw)


def newer_documents(snapshot: Snapshot, held: Held) -> Iterator[tuple[TokenKind, int, str]]:
    """Yield kind, sequence and text of each document that is newer than what another holds."""
    theirs = {
        TokenKind.KEY_SET: held.key_set_number,
        TokenKind.REVOCATIONS: held.revocation_sequence,
        TokenKind.LICENSE: held.license_sequence,
        TokenKind.SEATS: held.seats_sequence,
    }
    for kind in ORDER:
        if kind in snapshot.raw and snapshot.sequence(kind) > theirs[kind]:
            yield kind, snapshot.sequence(kind), snapshot.raw[kind]
