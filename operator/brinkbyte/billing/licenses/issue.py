"""The claims of every license document, and when a document is cut anew. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import uuid4

from brinkbyte.billing.licenses.holdings import HeldSeat
from brinkbyte.billing.subscriptions.standing import Standing
from brinkbyte.catalog import Allowance, Catalog, Entitlements, grants
from brinkbyte.kit.canonical import canonical_json
from brinkbyte.license.claims import (
    ISSUER,
    CameraClaims,
    CameraMode,
    Claims,
    Confirmation,
    Features,
    Flags,
    Grant,
    LicenseClaims,
    Limits,
    QuotaRule,
    Revocation,
    RevocationsClaims,
    SeatsClaims,
    Subscription,
    Trial,
)
from brinkbyte.license.seats import Seat, pack_seats

DAY: Final = 86_400
TOKEN_SECONDS: Final = 45 * DAY
RENEW_BELOW: Final = 31 * DAY
RENEW_GAIN: Final = DAY
REFRESH_AFTER: Final = 3600
BUNDLE_SECONDS: Final = 400 * DAY
BUNDLE_REFRESH_AFTER: Final = 7 * DAY
"""Nobody can be asked where there is no line; the longest that a license may say."""
_VOLATILE: Final = frozenset(
    {
        "iat", "nbf", "exp", "jti", "issuedAt", "expiresAt", "licenseSequence", "seatsSequence",
        "cameraSequence", "revocationSequence",
    }
)  # fmt: skip

_json_text: Final = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Term:
    """How long the documents of an instance go on by themselves.

    Attributes:
        seconds: from signing, at most.
        renew_below: seconds left below which a document is cut anew; None: whenever that gains a
            day, as it only happens when somebody asks.
        ends_at: Unix seconds beyond which nothing reaches, revocations included; None: no such end.
        refresh_after: seconds after which the instance asks again.
        holds_seats: whether a freed seat waits for a re-create; where the next inventory comes
            months later it would only keep others out.
    """

    seconds: int = TOKEN_SECONDS
    renew_below: int | None = RENEW_BELOW
    ends_at: int | None = None
    refresh_after: int = REFRESH_AFTER
    holds_seats: bool = True

    def end(self, issued: int, *ends: int | None) -> int:
        """Return when a document of now ends: the least of its life and the hard ends."""
        every = (self.ends_at, *ends)
        return min([issued + self.seconds, *(end for end in every if end is not None)])


LINE: Final = Term()
"""Of an instance that reaches the billing API."""


def bundle_term(ends_at: int) -> Term:
    """Return the term of a site without a line: until the contract ends, at most 400 days."""
    return Term(BUNDLE_SECONDS, None, ends_at, BUNDLE_REFRESH_AFTER, holds_seats=False)


@dataclass(frozen=True)
class Instance:
    """Whom tokens are cut for; ``settled_for``: what its seats were last decided for."""

    instance_id: str
    key_id: str
    cluster_fingerprint: str
    settled_for: bytes | None = None
    term: Term = LINE


@dataclass(frozen=True)
class Customer:
    """Everything that the documents of a customer say."""

    tenant_id: str
    name: str
    flags: Mapping[str, bool]
    standing: Standing
    entitlements: Entitlements
    instance: Instance


@dataclass(frozen=True)
class Issued:
    """What is stored of the newest document of a kind; ``sequence`` 0: none yet.

    ``key_id``: of the key that signed it; None where there is no token.
    """

    sequence: int = 0
    content_sequence: int = 0
    content_hash: bytes = b""
    expires_at: int = 0
    token: str = ""
    key_id: str | None = None
    issued_at: int = 0


class Stored(Protocol):
    """What is stored of the newest document; ``sequence`` 0: there is none yet."""

    @property
    def sequence(self) -> int:
        """Its number."""

    @property
    def content_hash(self) -> bytes:
        """Hash of what it says."""

    @property
    def expires_at(self) -> int:
        """Unix seconds."""


def next_sequence(stored: int, now: float) -> int:
    """Return the next number: a restored database never falls behind the field.

    Args:
        stored: highest number known.
        now: Unix seconds, with fraction.
    """
    return max(stored + 1, int(now * 1_000_000))


def content_hash(claims: Claims, *, least_revocations: int | None = None) -> bytes:
    """Return the hash of what a document says, times and numbers left out."""
    said = {k: v for k, v in claims.model_dump(mode="json").items() if k not in _VOLATILE}
    if least_revocations is not None:
        said["leastRevocations"] = least_revocations
    return hashlib.sha256(canonical_json(said)).digest()


def must_issue(
    stored: Stored,
    wanted_hash: bytes,
    wanted_end: int,
    now: int,
    *,
    grace: int = 0,
    term: Term = LINE,
) -> bool:
    """Tell whether a document is cut anew.

    It is for other content, for a hard end that came nearer (also one that has passed: who still
    holds a longer one is told), and for a renewal that gains a day.

    Args:
        stored: the newest one.
        wanted_hash: of what it would say now.
        wanted_end: Unix seconds; when it would end.
        now: Unix seconds.
        grace: seconds beyond the end for which a first one is still of use.
        term: of the instance.
    """
    if stored.sequence == 0:
        return now < wanted_end + grace
    if stored.content_hash != wanted_hash:
        return True
    # Only a hard end counts: among servers of one database a clock may be a little behind.
    if wanted_end < min(stored.expires_at, now + term.seconds):
        return True
    due = term.renew_below is None or stored.expires_at - now < term.renew_below
    return now < wanted_end and due and wanted_end - stored.expires_at >= RENEW_GAIN


def must_confirm(stored: Issued, wanted: Claims, now: int) -> bool:
    """Tell whether a license without offline use is signed anew: that confirms it.

    Not at every question: who was told within half a refresh is told again in time.
    """
    return (
        isinstance(wanted, LicenseClaims)
        and not wanted.flags.offline_mode
        and now < wanted.exp
        and now - stored.issued_at >= REFRESH_AFTER // 2
    )


def _common(customer: Customer, subject: str, now: int, end: int) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "sub": subject,
        "aud": customer.instance.instance_id,
        "jti": str(uuid4()),
        "iat": now,
        "nbf": now,
        "exp": end,
    }


def grant_of(catalog: Catalog, packs: Iterable[str], *, base: bool) -> Grant:
    """Return the names that packs add, with or without the base license."""
    found = grants(catalog, packs, base=base)
    return Grant(
        models=tuple(sorted(found.models)),
        analytics=tuple(sorted(found.analytics)),
        outputs=tuple(sorted(found.outputs)),
    )


def quota_rules(allowances: Mapping[str, Allowance]) -> dict[str, QuotaRule]:
    """Return how each limited quota ends, by meter; an unlimited one has no end."""
    return {
        name: (
            QuotaRule.OVERAGE
            if allowance.overage is not None
            # No cap listed: nothing beyond the allowance was ever offered.
            else QuotaRule(allowance.cap or QuotaRule.HARD)
        )
        for name, allowance in sorted(allowances.items())
        if allowance.included is not None
    }


def license_claims(
    catalog: Catalog, customer: Customer, *, now: int, sequence: int, revocations: int
) -> LicenseClaims:
    """Return the tenant license."""
    standing, entitled = customer.standing, customer.entitlements
    end = customer.instance.term.end(now, standing.ends_at)
    features, limits = entitled.features, entitled.limits
    period_end = (
        None if standing.period_anchor is None else int(standing.period(now)[1].timestamp())
    )
    return LicenseClaims(
        **_common(customer, customer.tenant_id, now, end),
        cnf=Confirmation(jkt=customer.instance.key_id),
        customer_id=customer.tenant_id,
        customer_name=customer.name,
        plan=entitled.plan,
        features=Features(
            max_devices=features.max_devices,
            data_retention_days=features.data_retention_days,
            can_export_data=features.can_export_data,
            has_advanced_alerts=features.has_advanced_alerts,
            has_api_access=features.has_api_access,
            has_mqtt_access=features.has_mqtt_access,
            has_custom_branding=features.has_custom_branding,
        ),
        limits=Limits(
            max_users=limits.max_users,
            max_alert_rules=limits.max_alert_rules,
            max_dashboards=limits.max_dashboards,
        ),
        trial=Trial(is_active=standing.trialing, ends_at=standing.trial_ends_at),
        subscription=Subscription(status=standing.status_at(now), current_period_end=period_end),
        issued_at=now,
        expires_at=end,
        license_sequence=sequence,
        revocation_sequence=revocations,
        refresh_after=customer.instance.term.refresh_after,
        grace_seconds=standing.grace_seconds,
        flags=Flags(**customer.flags),
        tenant_packs=tuple(sorted(entitled.tenant_packs)),
        grant=grant_of(catalog, sorted(entitled.tenant_packs), base=False),
        quotas={name: a.included for name, a in sorted(entitled.allowances.items())},
        quota_rules=quota_rules(entitled.allowances),
        cluster_fingerprint=customer.instance.cluster_fingerprint,
    )


def seats_claims(
    catalog: Catalog,
    customer: Customer,
    seats: Iterable[HeldSeat],
    devices: Iterable[str],
    *,
    now: int,
    sequence: int,
    revocations: int,
) -> SeatsClaims:
    """Return the seat list; ``devices`` are hardware ids, longest-registered first."""
    rows = [
        Seat(seat.camera_id, seat.hardware_id, seat.mode, seat.packs, seat.until) for seat in seats
    ]
    end = customer.instance.term.end(now, customer.standing.ends_at)
    return SeatsClaims(
        **_common(customer, customer.tenant_id, now, end),
        customer_id=customer.tenant_id,
        seats_sequence=sequence,
        revocation_sequence=revocations,
        base=grant_of(catalog, (), base=True),
        packs={ref.name: grant_of(catalog, [ref.name], base=False) for ref in catalog.pack_refs()},
        devices=tuple(devices),
        count=len(rows),
        seats=pack_seats(rows),
    )


class CameraContents:
    """What the camera licenses of a customer say beside times and numbers.

    Every camera's is hashed at every inventory, so what they have in common is written once. The
    hash is that of canonical JSON: ``[instance, key, camera, device, seat, mode, packs, until,
    [models, analytics, outputs], grace seconds]``.
    """

    def __init__(self, catalog: Catalog, customer: Customer) -> None:
        self._catalog = catalog
        self._tenant_packs = customer.entitlements.tenant_packs
        instance = customer.instance
        self._head = canonical_json([instance.instance_id, instance.key_id]).decode()[:-1]
        self._grace = customer.standing.grace_seconds
        self._of_packs: dict[tuple[str, ...], tuple[Grant, str, str]] = {}

    def grant(self, packs: tuple[str, ...]) -> Grant:
        """Return what base, a camera's packs and the tenant's add."""
        return self._known(packs)[0]

    def hash(self, seat: HeldSeat) -> bytes:
        """Return the hash of what a camera's license says."""
        _, packs, tail = self._known(seat.packs)
        until = "null" if seat.until is None else seat.until
        said = (
            f"{self._head},{_json_text(seat.camera_id)},{_json_text(seat.hardware_id)},"
            f"{_json_text(seat.seat_id)},{_json_text(seat.mode.value)},{packs},{until},{tail}"
        )
        return hashlib.sha256(said.encode()).digest()

    def _known(self, packs: tuple[str, ...]) -> tuple[Grant, str, str]:
        known = self._of_packs.get(packs)
        if known is None:
            grant = grant_of(self._catalog, sorted({*packs, *self._tenant_packs}), base=True)
            granted = [list(grant.models), list(grant.analytics), list(grant.outputs)]
            tail = canonical_json([granted, self._grace]).decode()[1:]
            known = grant, canonical_json(list(packs)).decode(), tail
            self._of_packs[packs] = known
        return known


def camera_end(customer: Customer, until: int | None, now: int) -> int:
    """Return the end of a camera license cut now; ``until``: Unix seconds, the seat's own end."""
    return customer.instance.term.end(now, customer.standing.ends_at, until)


def camera_claims(
    customer: Customer,
    seat: HeldSeat,
    grant: Grant,
    *,
    now: int,
    sequence: int,
    seats_sequence: int,
) -> CameraClaims:
    """Return the license of one camera; ``grant`` is what base, its packs and the tenant's add."""
    trial = seat.mode is CameraMode.TRIAL
    return CameraClaims(
        **_common(customer, seat.camera_id, now, camera_end(customer, seat.until, now)),
        cnf=Confirmation(jkt=customer.instance.key_id),
        customer_id=customer.tenant_id,
        camera_id=seat.camera_id,
        hardware_id=seat.hardware_id,
        seat=seat.seat_id,
        mode=seat.mode,
        growth_packs=seat.packs,
        grant=grant,
        camera_sequence=sequence,
        seats_sequence=seats_sequence,
        refresh_after=customer.instance.term.refresh_after,
        grace_seconds=0 if trial else customer.standing.grace_seconds,
    )


def revocations_claims(
    customer: Customer, entries: Iterable[Revocation], *, now: int, sequence: int
) -> RevocationsClaims:
    """Return the revocation list; a hard end does not shorten it."""
    return RevocationsClaims(
        **_common(customer, customer.tenant_id, now, customer.instance.term.end(now)),
        customer_id=customer.tenant_id,
        revocation_sequence=sequence,
        entries=tuple(entries),
    )
