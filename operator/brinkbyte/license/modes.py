"""Modes of a license: one table of what they rest on, one of what they allow, one of the moves.

``decide_mode`` reads ``RULES`` and keeps nothing: the mode follows from the newest signed
documents held and the offline clock alone, so a restart at any moment changes none. ``MOVES`` says
the same as a table of events, for people; a test holds the two together. ``docs/license-modes.md``
is written from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from brinkbyte.license.claims import (
    LicenseClaims,
    Revocation,
    SubscriptionStatus,
    TokenKind,
)
from brinkbyte.license.confirmation import confirmed_until

UPGRADE_URL: Final = "https://portal.brinkbyte.io/billing"
UNLICENSED_DEVICES: Final = 3
UNLICENSED_RETENTION_DAYS: Final = 7


class LicenseMode(StrEnum):
    """Modes of a tenant license."""

    ACTIVE = "active"
    TRIAL = "trial"
    GRACE = "grace"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    UNLICENSED = "unlicensed"


class Basis(StrEnum):
    """What the newest signed documents say; the first that fits counts."""

    ABSENT = "no license is held"
    REVOKED = "the revocation list names the license"
    SUSPENDED = "the subscription is suspended"
    UNBOUGHT = "there is no subscription"
    CANCELED = "the subscription is canceled"
    TRIAL = "the plan is on trial"
    PAID = "the subscription is active or past due"


class Phase(StrEnum):
    """Where the offline clock stands in the life of the newest license."""

    RUNNING = "before its end"
    OVERTIME = "in the grace after its end"
    UNCONFIRMED = "not confirmed in time, without offline use"
    OVER = "after that"


@dataclass(frozen=True)
class ModeDecision:
    """The mode, a stable reason and a sentence that says where to fix it."""

    mode: LicenseMode
    reason: str
    message: str

    @property
    def allows(self) -> Allowance:
        """What the mode allows."""
        return ALLOWS[self.mode]

    @property
    def full(self) -> bool:
        """Whether everything the license grants is in force."""
        return self.allows.full


@dataclass(frozen=True)
class Allowance:
    """What a mode allows.

    Attributes:
        full: features, limits, seats and retention are those of the license; otherwise the
            longest-registered devices go on with the base models, and retention is frozen:
            nothing is dropped that the last good license kept.
        devices: how many devices go on; None: as many as the license says.
        readable_days: how many days of telemetry may be read; None: all that is kept.
    """

    full: bool
    devices: int | None
    readable_days: int | None


_FULL: Final = Allowance(full=True, devices=None, readable_days=None)
_BASE: Final = Allowance(
    full=False, devices=UNLICENSED_DEVICES, readable_days=UNLICENSED_RETENTION_DAYS
)

ALLOWS: Final[Mapping[LicenseMode, Allowance]] = {
    LicenseMode.ACTIVE: _FULL,
    LicenseMode.TRIAL: _FULL,
    LicenseMode.GRACE: _FULL,
    LicenseMode.EXPIRED: _BASE,
    LicenseMode.REVOKED: _BASE,
    LicenseMode.SUSPENDED: _BASE,
    LicenseMode.UNLICENSED: _BASE,
}
"""What each mode allows."""

FULL_MODES: Final = frozenset(mode for mode, allowed in ALLOWS.items() if allowed.full)
"""Modes in which everything the license grants is in force."""


_GOES_ON: Final = (
    "the three longest-registered devices go on with the base models, nothing is deleted"
)
_RENEW: Final = f"Connect the site, import a new bundle, or renew at {UPGRADE_URL}"
_ACTIVE: Final = ModeDecision(LicenseMode.ACTIVE, "LicenseValid", "The license is valid")
_GRACE: Final = ModeDecision(
    LicenseMode.GRACE,
    "InGrace",
    "The license has ended and runs on grace. Connect the site to the billing API, or import a new "
    "bundle",
)
_EXPIRED: Final = ModeDecision(
    LicenseMode.EXPIRED, "LicenseExpired", f"The license has ended: {_GOES_ON}. {_RENEW}"
)
_UNCONFIRMED: Final = ModeDecision(
    LicenseMode.EXPIRED,
    "LicenseUnconfirmed",
    "This license holds while the billing API confirms it, and it has not for an hour: "
    f"{_GOES_ON}. Connect the site to the billing API; offline use is a matter of the plan, see "
    f"{UPGRADE_URL}",
)
_CANCELED: Final = ModeDecision(
    LicenseMode.EXPIRED, "LicenseExpired", f"The subscription was canceled: {_GOES_ON}. {_RENEW}"
)
_TRIAL: Final = ModeDecision(
    LicenseMode.TRIAL, "TrialActive", f"Trial. Choose a plan at {UPGRADE_URL}"
)
_TRIAL_ENDED: Final = ModeDecision(
    LicenseMode.EXPIRED, "TrialEnded", f"The trial has ended: {_GOES_ON}. {_RENEW}"
)
_REVOKED: Final = ModeDecision(
    LicenseMode.REVOKED,
    "LicenseRevoked",
    f"The vendor revoked this license. See {UPGRADE_URL} or contact support",
)
_SUSPENDED: Final = ModeDecision(
    LicenseMode.SUSPENDED,
    "SubscriptionSuspended",
    f"The subscription is suspended. Settle the open invoice at {UPGRADE_URL}",
)
_ABSENT: Final = ModeDecision(
    LicenseMode.UNLICENSED,
    "NoLicense",
    "No license is installed: 3 devices and 7 days of data. "
    f"Enroll this instance, or buy a plan at {UPGRADE_URL}",
)
_UNBOUGHT: Final = ModeDecision(
    LicenseMode.UNLICENSED,
    "NoSubscription",
    f"Nothing has been bought: 3 devices and 7 days of data. Choose a plan at {UPGRADE_URL}",
)

RULES: Final[Mapping[Basis, Mapping[Phase, ModeDecision]]] = {
    Basis.ABSENT: dict.fromkeys(Phase, _ABSENT),
    Basis.REVOKED: dict.fromkeys(Phase, _REVOKED),
    Basis.SUSPENDED: dict.fromkeys(Phase, _SUSPENDED),
    Basis.UNBOUGHT: dict.fromkeys(Phase, _UNBOUGHT),
    # Grace extends neither a cancellation nor a trial, whatever the license says.
    Basis.CANCELED: {
        Phase.RUNNING: _ACTIVE,
        Phase.OVERTIME: _CANCELED,
        Phase.UNCONFIRMED: _UNCONFIRMED,
        Phase.OVER: _CANCELED,
    },
    Basis.TRIAL: {
        Phase.RUNNING: _TRIAL,
        Phase.OVERTIME: _TRIAL_ENDED,
        Phase.UNCONFIRMED: _UNCONFIRMED,
        Phase.OVER: _TRIAL_ENDED,
    },
    Basis.PAID: {
        Phase.RUNNING: _ACTIVE,
        Phase.OVERTIME: _GRACE,
        Phase.UNCONFIRMED: _UNCONFIRMED,
        Phase.OVER: _EXPIRED,
    },
}
"""The mode for what the documents say and where the clock stands."""


class Event(StrEnum):
    """What moves a license from one mode to another; nothing else does."""

    PAID = "a paid license is taken in"
    TRIAL = "a trial license is taken in"
    CANCELED = "a canceled license is taken in"
    SUSPENDED = "a suspended license is taken in"
    UNBOUGHT = "a license of no subscription is taken in"
    REVOKED = "it, or what replaces it, is on the revocation list"
    REINSTATED = "a revocation list without it is taken in"
    WITHDRAWN = "a key set without its key is taken in, or no copy is left"
    UNCONFIRMED = "it is not confirmed in time, without offline use"
    ENDED = "its end passes"
    HARD_ENDED = "the end of its trial or cancellation passes"
    GRACE_ENDED = "its grace passes"
    CLOCK_RIGHT = "a clock that was ahead is right again"


_M = LicenseMode
_ANY: Final = frozenset(LicenseMode)


def _from(sources: Iterable[LicenseMode], *to: LicenseMode) -> dict[LicenseMode, frozenset[_M]]:
    return dict.fromkeys(sources, frozenset(to))


MOVES: Final[Mapping[Event, Mapping[LicenseMode, frozenset[LicenseMode]]]] = {
    # A document that comes late, or under a clock that is ahead, has ended when it comes.
    Event.PAID: _from(_ANY, _M.ACTIVE, _M.GRACE, _M.EXPIRED),
    Event.TRIAL: _from(_ANY, _M.TRIAL, _M.EXPIRED),
    Event.CANCELED: _from(_ANY, _M.ACTIVE, _M.EXPIRED),
    Event.SUSPENDED: _from(_ANY, _M.SUSPENDED),
    Event.UNBOUGHT: _from(_ANY, _M.UNLICENSED),
    Event.REVOKED: _from(_ANY, _M.REVOKED),
    Event.REINSTATED: _from([_M.REVOKED], *(_ANY - {_M.REVOKED})),
    Event.WITHDRAWN: _from(_ANY, _M.UNLICENSED),
    Event.UNCONFIRMED: _from([_M.ACTIVE, _M.TRIAL, _M.GRACE], _M.EXPIRED),
    Event.ENDED: _from([_M.ACTIVE], _M.GRACE),
    Event.HARD_ENDED: _from([_M.ACTIVE, _M.TRIAL], _M.EXPIRED),
    # From active where there is no grace, or nobody ran meanwhile.
    Event.GRACE_ENDED: _from([_M.ACTIVE, _M.GRACE], _M.EXPIRED),
    Event.CLOCK_RIGHT: {
        _M.GRACE: frozenset({_M.ACTIVE}),
        _M.EXPIRED: frozenset({_M.ACTIVE, _M.TRIAL, _M.GRACE}),
    },
}
"""For each event and the mode before it, the modes it may lead to; others it leaves alone."""


def revoked(revocations: Iterable[Revocation], kind: TokenKind, subject: str, number: int) -> bool:
    """Tell whether a document of this kind, subject and sequence number is revoked."""
    return any(
        entry.kind == kind and entry.subject == subject and number <= entry.up_to
        for entry in revocations
    )


def basis_of(claims: LicenseClaims | None, revocations: Iterable[Revocation] = ()) -> Basis:
    """Return what the newest license and revocation list say."""
    if claims is None:
        return Basis.ABSENT
    if revoked(revocations, TokenKind.LICENSE, claims.sub, claims.license_sequence):
        return Basis.REVOKED
    status = claims.subscription.status
    if status is SubscriptionStatus.SUSPENDED:
        return Basis.SUSPENDED
    if status is SubscriptionStatus.NONE:
        return Basis.UNBOUGHT
    if status is SubscriptionStatus.CANCELED:
        return Basis.CANCELED
    return Basis.TRIAL if claims.trial.is_active else Basis.PAID


def phase_of(claims: LicenseClaims, now: int) -> Phase:
    """Return where the offline clock stands, Unix seconds, in the life of a license."""
    if now >= claims.exp + claims.grace_seconds:
        return Phase.OVER
    if not claims.flags.offline_mode and now >= confirmed_until(claims):
        return Phase.UNCONFIRMED
    return Phase.RUNNING if now < claims.exp else Phase.OVERTIME


def lapses_at(claims: LicenseClaims) -> int:
    """Return the Unix seconds at which a license is out of force if nothing replaces it."""
    in_grace = RULES[basis_of(claims)][Phase.OVERTIME].full
    end = claims.exp + (claims.grace_seconds if in_grace else 0)
    return end if claims.flags.offline_mode else min(end, confirmed_until(claims))


def decide_mode(
    claims: LicenseClaims | None, *, now: int, revocations: Iterable[Revocation] = ()
) -> ModeDecision:
    """Return the mode of the newest verified license.

    Args:
        claims: verified signature and audience, expiry not checked; None without a license.
        now: Unix seconds by the offline clock.
        revocations: entries of the newest revocation list.
    """
    phase = Phase.RUNNING if claims is None else phase_of(claims, now)
    return RULES[basis_of(claims, revocations)][phase]
