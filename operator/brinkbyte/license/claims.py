"""What each signed document says. Times are Unix seconds; ids and names are bounded text."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from brinkbyte.kit.model import WireModel

ISSUER: Final = "brinkbyte"

Identifier = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][\w.:@-]*$")]
"""An id of a customer, camera, device or instance."""
UnixTime = Annotated[int, Field(strict=True, ge=0, le=253_402_300_799)]
"""Seconds since 1970-01-01 UTC, up to the year 9999."""
Sequence = Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)]
"""Per tenant and kind; only ever grows."""
Limit = Annotated[int, Field(strict=True, ge=0, le=10**9)]
Thumbprint = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""RFC 7638 thumbprint: base64url of SHA-256 over the canonical public JWK."""


class TokenKind(StrEnum):
    """Kinds of signed documents; each has its own ``typ`` header and its own key use."""

    KEY_SET = "keyset"
    LICENSE = "license"
    CAMERA = "camera"
    SEATS = "seats"
    REVOCATIONS = "revocations"
    RECEIPT = "receipt"
    BATCH = "batch"
    ENROLLMENT = "enrollment"
    REQUEST = "request"
    BUNDLE = "bundle"

    @property
    def typ(self) -> str:
        """The JOSE ``typ`` header of this kind."""
        return f"brinkbyte-{self.value}+jwt"

    @property
    def key_use(self) -> TokenKind:
        """The use that a key must have to sign this kind."""
        # A bundle is the license in another wrapping: it brings no key of its own.
        return TokenKind.LICENSE if self is TokenKind.BUNDLE else self


VENDOR_KINDS: Final = frozenset(
    {
        TokenKind.LICENSE,
        TokenKind.CAMERA,
        TokenKind.SEATS,
        TokenKind.REVOCATIONS,
        TokenKind.RECEIPT,
    }
)
"""Kinds signed by keys of the root-signed key set."""


class Claims(WireModel):
    """Claims that every signed document of the vendor has."""

    # Claims of a later release are passed over: an old instance keeps working offline.
    model_config = ConfigDict(extra="ignore", strict=True)

    iss: Literal["brinkbyte"]
    sub: Identifier
    aud: Identifier
    jti: Identifier
    iat: UnixTime
    nbf: UnixTime
    exp: UnixTime


class SignedPart(WireModel):
    """A part of a signed document; members of a later release are passed over."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Confirmation(SignedPart):
    """The key pair of the instance that the token was made for (RFC 7800)."""

    jkt: Thumbprint


class Features(SignedPart):
    """Feature flags of the plan. ``max_devices`` None: unlimited; None elsewhere: not set."""

    max_devices: Limit | None
    data_retention_days: Limit | None
    can_export_data: bool
    has_advanced_alerts: bool
    has_api_access: bool | None
    has_mqtt_access: bool | None
    has_custom_branding: bool


class Limits(SignedPart):
    """Limits of the plan; None: the plan sets none."""

    max_users: Limit | None
    max_alert_rules: Limit | None
    max_dashboards: Limit | None


class Trial(SignedPart):
    """The customer's plan trial."""

    is_active: bool
    ends_at: UnixTime | None


class SubscriptionStatus(StrEnum):
    """State of what the customer has bought."""

    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    CANCELED = "canceled"
    SUSPENDED = "suspended"
    NONE = "none"


class Subscription(SignedPart):
    """Status and end of the current period of the subscription."""

    status: SubscriptionStatus
    current_period_end: UnixTime | None


class Flags(SignedPart):
    """Feature flags that the vendor switches for staged rollout; nobody else can."""

    license_validation: bool = True
    usage_tracking: bool = True
    offline_mode: bool = True
    triton_enforcement: bool = True


class Grant(SignedPart):
    """Names that a license or a pack allows."""

    models: tuple[str, ...] = ()
    analytics: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class QuotaRule(StrEnum):
    """How a quota ends: refused at once, warned and refused later, or charged beyond it."""

    HARD = "hard"
    SOFT = "soft"
    OVERAGE = "overage"


class LicenseClaims(Claims):
    """Tenant license. ``sub`` is the customer, ``aud`` the instance id."""

    cnf: Confirmation
    customer_id: Identifier
    customer_name: Annotated[str, Field(max_length=200)]
    plan: Annotated[str, Field(max_length=64)]
    features: Features
    limits: Limits
    trial: Trial
    subscription: Subscription
    issued_at: UnixTime
    expires_at: UnixTime
    license_sequence: Sequence
    revocation_sequence: Sequence = Field(description="least revocation list this goes with")
    refresh_after: Annotated[int, Field(strict=True, ge=60, le=604_800, description="seconds")]
    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=2_592_000)]
    flags: Flags
    tenant_packs: tuple[str, ...] = ()
    grant: Grant = Field(description="what tenant-wide packs allow to every camera")
    quotas: dict[str, int | None] = Field(
        default_factory=dict, description="allowance per period by meter; None: unlimited"
    )
    quota_rules: dict[str, QuotaRule] = Field(
        default_factory=dict,
        description="how each limited quota ends; licenses of before do not say it",
    )
    cluster_fingerprint: str | None = None


class CameraMode(StrEnum):
    """A bought seat, or a seat of the camera trial (2 cameras, 90 days)."""

    BASE = "base"
    TRIAL = "trial"


class CameraClaims(Claims):
    """Camera license. ``sub`` is the camera id; good on its device only."""

    cnf: Confirmation
    customer_id: Identifier
    camera_id: Identifier
    hardware_id: Identifier
    seat: Identifier
    mode: CameraMode
    growth_packs: tuple[str, ...]
    grant: Grant
    camera_sequence: Sequence
    seats_sequence: Sequence = Field(description="number of the seat list it was cut from")
    refresh_after: Annotated[int, Field(strict=True, ge=60, le=604_800)]
    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=2_592_000)]


class SeatsClaims(Claims):
    """Every seat of a customer in one compressed list (see ``seats``)."""

    customer_id: Identifier
    seats_sequence: Sequence
    revocation_sequence: Sequence
    base: Grant = Field(description="what every seat allows")
    packs: dict[str, Grant] = Field(description="what each growth pack adds")
    devices: tuple[Identifier, ...] = Field(description="hardware ids, longest-registered first")
    count: Limit
    seats: str = Field(
        description="base64url of deflated canonical JSON rows", max_length=4_000_000
    )


class Revocation(SignedPart):
    """Everything of a subject up to and including a sequence number is revoked."""

    kind: TokenKind
    subject: Identifier
    up_to: Sequence


class RevocationsClaims(Claims):
    """The revocation list of a customer."""

    customer_id: Identifier
    revocation_sequence: Sequence
    entries: tuple[Revocation, ...]


class Quarantined(SignedPart):
    """An event that the ledger set aside, and why."""

    id: Identifier
    reason: Annotated[str, Field(max_length=64)]


class ReceiptClaims(Claims):
    """The ledger's answer for one batch. ``sub`` and ``aud`` are the instance id."""

    instance: Identifier
    epoch: Identifier
    batch_no: Annotated[int, Field(strict=True, ge=1, le=2**53 - 1)]
    chain_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    payload_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    count: Annotated[int, Field(strict=True, ge=0, le=1000)]
    quarantined: tuple[Quarantined, ...] = ()


class BundleClaims(Claims):
    """What an air-gap bundle is: for whom, and the hash of all that it holds.

    ``sub`` is the customer, ``aud`` the instance id, ``cnf`` the key pair that asked for it.
    """

    cnf: Confirmation
    customer_id: Identifier
    bundle_sequence: Sequence
    request_id: Identifier = Field(description="jti of the request that it answers")
    key_set_number: Sequence
    content_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
