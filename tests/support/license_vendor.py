"""A vendor of one customer, for tests of the rules alone: what was bought, and documents of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from brinkbyte.license.claims import CameraMode, TokenKind
from brinkbyte.license.documents import Documents
from brinkbyte.license.seats import Seat
from brinkbyte.license.tokens import sign
from brinkbyte.license.wire import Held
from support.licensing import (
    CUSTOMER,
    DAY,
    license_claims,
    revocations_claims,
    seats_claims,
    vendor,
)

TOKEN_SECONDS: Final = 45 * DAY
RENEW_BELOW: Final = 31 * DAY
GRACE: Final = 7 * DAY
PACKS: Final = {"retail": {"models": ["trolley"]}, "airports": {"models": ["plane"]}}
BASE: Final = {"models": ["person"], "analytics": ["counting"], "outputs": ["api"]}


@dataclass(frozen=True)
class Cut:
    """What a document says, in the test's own words.

    Attributes:
        hard_end: whether the end is one that no grace extends.
    """

    kind: TokenKind
    sequence: int
    signed_at: int
    text: str
    status: str = ""
    end: int = 0
    devices: int = 0
    packs: tuple[str, ...] = ()
    cameras: int = 0
    up_to: int = 0


@dataclass
class PretendedVendor:
    """Cuts documents as the billing API does: numbers only grow, also after a restore.

    Attributes:
        now: the true time, Unix seconds.
        end: Unix seconds of a hard end; None: renews.
    """

    now: int
    status: str = "active"
    end: int | None = None
    devices: int = 50
    packs: tuple[str, ...] = ("retail",)
    cameras: int = 4
    revoked_up_to: int = 0
    newest: dict[TokenKind, Cut] = field(default_factory=dict)
    _said: dict[TokenKind, tuple[Any, ...]] = field(default_factory=dict)

    def key_set(self) -> str:
        """The root-signed keys, as old as this customer."""
        return vendor().key_set()

    def restore(self, stored: dict[TokenKind, Cut]) -> None:
        """Fall back to what an older backup had."""
        self.newest = dict(stored)
        self._said = {}

    def newer(self, held: Held) -> Documents:
        """Return what is newer than what a site holds, cut anew where it must be."""
        self._cut_revocations()
        self._cut_license()
        self._cut_seats()
        theirs = {
            TokenKind.LICENSE: held.license_sequence,
            TokenKind.SEATS: held.seats_sequence,
            TokenKind.REVOCATIONS: held.revocation_sequence,
        }
        found = {k: cut.text for k, cut in self.newest.items() if cut.sequence > theirs[k]}
        return {TokenKind.KEY_SET: self.key_set(), **found}

    def revoke(self) -> None:
        """Revoke every license cut so far."""
        self.revoked_up_to = self._sequence(TokenKind.LICENSE)

    def _sequence(self, kind: TokenKind) -> int:
        return self.newest[kind].sequence if kind in self.newest else 0

    def _next(self, kind: TokenKind) -> int:
        return max(self._sequence(kind) + 1, self.now * 1_000_000)

    def _stale(self, kind: TokenKind, said: tuple[Any, ...]) -> bool:
        before = self.newest.get(kind)
        if before is None or self._said.get(kind) != said:
            return True
        wanted = self._end()
        return before.end - self.now < RENEW_BELOW and wanted - before.end >= DAY

    def _end(self) -> int:
        latest = self.now + TOKEN_SECONDS
        return latest if self.end is None else min(latest, self.end)

    def _times(self, end: int) -> dict[str, int]:
        return {"iat": self.now, "nbf": self.now, "exp": end}

    def _cut_revocations(self) -> None:
        kind, said = TokenKind.REVOCATIONS, (self.revoked_up_to,)
        if not self.revoked_up_to or self._said.get(kind) == said:
            return
        number = self._next(kind)
        entry = {"kind": "license", "subject": CUSTOMER, "upTo": self.revoked_up_to}
        claims = revocations_claims(
            [entry], revocationSequence=number, **self._times(self.now + TOKEN_SECONDS)
        )
        text = sign(claims, vendor().keys[kind])
        self.newest[kind] = Cut(kind, number, self.now, text, up_to=self.revoked_up_to)
        self._said[kind] = said

    def _cut_license(self) -> None:
        kind, said = TokenKind.LICENSE, (self.status, self.devices, self.end)
        if not self._stale(kind, said):
            return
        number, end = self._next(kind), self._end()
        features = license_claims().features.model_dump(mode="json") | {"maxDevices": self.devices}
        claims = license_claims(
            licenseSequence=number,
            features=features,
            trial={"isActive": self.status == "trialing", "endsAt": self.end},
            subscription={"status": self.status, "currentPeriodEnd": None},
            # Grace is signed also where it must not count: the site has to know better.
            graceSeconds=GRACE,
            issuedAt=self.now,
            expiresAt=end,
            **self._times(end),
        )
        self.newest[kind] = Cut(
            kind,
            number,
            self.now,
            sign(claims, vendor().keys[kind]),
            status=self.status,
            end=end,
            devices=self.devices,
        )
        self._said[kind] = said

    def _cut_seats(self) -> None:
        kind, said = TokenKind.SEATS, (self.packs, self.cameras, self.end)
        if not self._stale(kind, said):
            return
        number, end = self._next(kind), self._end()
        seats = [
            Seat(f"cam-{n}", f"hw-{n}", CameraMode.BASE, self.packs)
            for n in range(1, self.cameras + 1)
        ]
        claims = seats_claims(
            seats,
            seatsSequence=number,
            base=BASE,
            packs=PACKS,
            devices=[f"hw-{n}" for n in range(1, 6)],
            **self._times(end),
        )
        self.newest[kind] = Cut(
            kind,
            number,
            self.now,
            sign(claims, vendor().keys[kind]),
            end=end,
            packs=self.packs,
            cameras=self.cameras,
        )
        self._said[kind] = said
