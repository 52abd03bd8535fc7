"""Which mode a license is in, why, and what to do about it: one function of claims and time."""

from __future__ import annotations

from collections.abc import Iterable
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


FULL_MODES: Final = frozenset({LicenseMode.ACTIVE, LicenseMode.TRIAL, LicenseMode.GRACE})
"""Modes in which everything the license grants is in force."""


@dataclass(frozen=True)
class ModeDecision:
    """The mode, a stable reason and a sentence that says where to fix it."""

    mode: LicenseMode
    reason: str
    message: str

    @property
    def full(self) -> bool:
        """Whether everything the license grants is in force."""
        return self.mode in FULL_MODES


def revoked(revocations: Iterable[Revocation], kind: TokenKind, subject: str, number: int) -> bool:
    """Tell whether a document of this kind, subject and sequence number is revoked."""
    return any(
        entry.kind == kind and entry.subject == subject and number <= entry.up_to
        for entry in revocations
    )


def decide_mode(
    claims: LicenseClaims | None, *, now: int, revocations: Iterable[Revocation] = ()
) -> ModeDecision:
    """Return the mode of the newest verified license.

    Args:
        claims: verified signature and audience, expiry not checked; None without a license.
        now: Unix seconds by the offline clock.
        revocations: entries of the newest revocation list.
    """
    if claims is None:
        return ModeDecision(
            LicenseMode.UNLICENSED,
            "NoLicense",
            "No license is installed: 3 devices and 7 days of data. "
            f"Enroll this instance, or buy a plan at {UPGRADE_URL}",
        )
    if revoked(revocations, TokenKind.LICENSE, claims.sub, claims.license_sequence):
        return ModeDecision(
            LicenseMode.REVOKED,
            "LicenseRevoked",
            f"The vendor revoked this license. See {UPGRADE_URL} or contact support",
        )
    if claims.subscription.status is SubscriptionStatus.SUSPENDED:
        return ModeDecision(
            LicenseMode.SUSPENDED,
            "SubscriptionSuspended",
            f"The subscription is suspended. Settle the open invoice at {UPGRADE_URL}",
        )
    lapsed = claims.exp + claims.grace_seconds
    if not claims.flags.offline_mode and confirmed_until(claims) <= now < lapsed:
        return ModeDecision(
            LicenseMode.EXPIRED,
            "LicenseUnconfirmed",
            "This license holds while the billing API confirms it, and it has not for an hour: the "
            "three longest-registered devices go on with the base models, nothing is deleted. "
            f"Connect the site to the billing API; offline use is a matter of the plan, see "
            f"{UPGRADE_URL}",
        )
    if now < claims.exp:
        if claims.trial.is_active:
            return ModeDecision(
                LicenseMode.TRIAL, "TrialActive", f"Trial. Choose a plan at {UPGRADE_URL}"
            )
        return ModeDecision(LicenseMode.ACTIVE, "LicenseValid", "The license is valid")
    canceled = claims.subscription.status is SubscriptionStatus.CANCELED
    # Grace never extends a cancellation, whatever the license says.
    if now < claims.exp + claims.grace_seconds and not canceled:
        return ModeDecision(
            LicenseMode.GRACE,
            "InGrace",
            "The license has ended and runs on grace. Connect the site to the billing API, or "
            "import a new bundle",
        )
    return ModeDecision(
        LicenseMode.EXPIRED,
        "TrialEnded" if claims.trial.is_active else "LicenseExpired",
        f"The {'subscription was canceled' if canceled else 'license has ended'}: the three "
        "longest-registered devices go on with the base models, "
        f"nothing is deleted. Connect the site, import a new bundle, or renew at {UPGRADE_URL}",
    )
