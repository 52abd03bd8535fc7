"""Requests and answers between operator, instance and billing API about licenses.

All are JSON; errors are problem+json with a ``reason``. Authentication is
``Authorization: Bearer <instance credential>`` unless said otherwise. Answers of a newer server
may have more members; requests may not.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import CameraMode, Identifier, Sequence, UnixTime
from brinkbyte.license.keys import PublicJwk

Text = Annotated[str, Field(max_length=400)]
Count = Annotated[int, Field(ge=0, le=10**9)]
CredentialHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_UUID7 = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


class CloneAlarm(OpenWireModel):
    """Two copies of one instance seem to run. Its license goes on; somebody has to look.

    ``reason`` is TwoClusters or TwoEpochs; the parties are cluster fingerprints or epochs.
    """

    reason: Identifier
    message: Text
    since: UnixTime
    first_party: Text
    second_party: Text


class EnrollmentRequest(WireModel):
    """``POST /api/v1/enrollments`` (no credential; the one-time token is one).

    ``proof`` is a JWS of kind enrollment by the instance key over ``{sub: SHA-256 hex of the token,
    iat, exp, jti}``. The same token with the same key may be sent again within its 24 hours: the
    answer is the same credential for the same proof, and a fresh one of the same instance for a
    new proof, which lets those of before end within 24 hours.

    Refusals: 401 ``EnrollmentInvalid``, 410 ``EnrollmentExpired``, 409 ``EnrollmentUsed``, 409
    ``InstanceExists``, 403 ``CustomerMismatch``.
    """

    token: Annotated[str, Field(min_length=16, max_length=256)]
    customer_id: Identifier
    public_key: PublicJwk
    proof: Annotated[str, Field(max_length=4096)]
    name: Identifier = Field(description="namespace/name of the Tenant, dots for slashes")
    uid: Identifier = Field(description="uid of the Tenant resource")
    cluster_fingerprint: Identifier = Field(description="uid of the kube-system namespace")
    version: Identifier


class Enrollment(OpenWireModel):
    """Answer 201."""

    instance_id: Identifier
    customer_id: Identifier
    credential: str
    credential_expires_at: UnixTime
    key_set: dict[str, Any]


class CredentialRotation(OpenWireModel):
    """``POST /api/v1/instance/credential``: a new credential; the old one is good for 24 h more."""

    credential: str
    credential_expires_at: UnixTime


class InstanceKeyRequest(WireModel):
    """``PUT /api/v1/instance/key``: registers a new instance key pair.

    ``proof`` is as in enrollment, by the new key, ``sub`` the instance id. Tokens are cut anew.
    """

    public_key: PublicJwk
    proof: Annotated[str, Field(max_length=4096)]


class Held(WireModel):
    """What the caller holds, so that only what is newer comes back."""

    license_sequence: Sequence = 0
    seats_sequence: Sequence = 0
    revocation_sequence: Sequence = 0
    key_set_number: Sequence = 0


class InventoryDevice(WireModel):
    """One EdgeDevice."""

    hardware_id: Identifier
    name: Identifier
    uid: Identifier
    management_tier: Literal["basic", "managed"]
    site: Text = ""
    created_at: UnixTime


class InventoryCamera(WireModel):
    """One CameraLicense."""

    camera_id: Identifier
    name: Identifier
    uid: Identifier
    hardware_id: Identifier
    mode: CameraMode
    growth_packs: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    created_at: UnixTime
    held_sequence: Sequence = Field(0, description="camera_sequence of the token held, 0 without")


class InventoryRequest(WireModel):
    """``PUT /api/v1/inventory``: the complete set of devices and cameras, or a delta.

    ``base_revision`` None: complete; what is missing is freed (the seat is held 10 minutes for a
    re-create). Otherwise only changes since that revision; 409 ``RevisionMismatch`` asks for the
    complete set.
    """

    base_revision: Sequence | None = None
    held: Held = Held()
    cluster_fingerprint: Identifier | None = Field(
        None, description="as in enrollment: of the cluster that this is sent from"
    )
    devices: Annotated[tuple[InventoryDevice, ...], Field(max_length=10_000)] = ()
    cameras: Annotated[tuple[InventoryCamera, ...], Field(max_length=20_000)] = ()
    removed_devices: Annotated[tuple[Identifier, ...], Field(max_length=10_000)] = ()
    removed_cameras: Annotated[tuple[Identifier, ...], Field(max_length=20_000)] = ()


class Use(OpenWireModel):
    """Used of a limit; ``limit`` None: unlimited."""

    used: Count
    limit: Count | None


class DeviceResult(OpenWireModel):
    """What became of a device.

    Refused: ``reason`` QuotaExceeded, DeviceConflict, SubscriptionInactive or TrialEnded. A device
    whose change of tier is refused stays registered as it was, and the message says so.
    """

    hardware_id: Identifier
    status: Literal["registered", "refused"]
    reason: Identifier = "Registered"
    message: Text = ""
    use: Use | None = None


class CameraResult(OpenWireModel):
    """What became of a camera.

    Refused: ``reason`` QuotaExceeded, UnknownPack, CameraConflict, DeviceNotRegistered,
    TrialEnded, SubscriptionInactive, Revoked. ``unchanged``: the token held is still the newest.
    """

    camera_id: Identifier
    status: Literal["issued", "unchanged", "refused"]
    token: str | None = None
    seat: Identifier | None = None
    reason: Identifier = "Issued"
    message: Text = ""
    sku: Identifier | None = None
    use: Use | None = None


class Tokens(OpenWireModel):
    """``GET /api/v1/instance/tokens?licenseSequence=…``: the members of :class:`Held` as query.

    304 when nothing is newer. A member None: not newer than what the caller holds.
    """

    server_time: UnixTime
    license: str | None = None
    seats: str | None = None
    revocations: str | None = None
    key_set: dict[str, Any] | None = None


class InventoryAnswer(Tokens):
    """Answer to an inventory: results for everything that was sent."""

    revision: Sequence
    devices: tuple[DeviceResult, ...] = ()
    cameras: tuple[CameraResult, ...] = ()
    device_use: Use
    camera_use: Use
    refresh_after: Annotated[int, Field(ge=1, le=604_800)] = 3600
    clone_alarm: CloneAlarm | None = None


class Heartbeat(WireModel):
    """``POST /api/v1/heartbeat``: sent by the instance at least every 5 minutes."""

    version: Identifier
    cluster_fingerprint: Identifier
    devices_online: Count = 0
    backlog: Count = Field(0, description="events not yet acknowledged")
    key_set_number: Sequence = 0
    license_sequence: Sequence = 0


class HeartbeatAnswer(OpenWireModel):
    """Answer 200."""

    server_time: UnixTime
    refresh: bool = Field(False, description="something newer is waiting: ask for tokens now")
    clone_alarm: CloneAlarm | None = None


class ValidateRequest(WireModel):
    """``POST /api/v1/licenses/validate``; snake_case, as the devices in the field send it."""

    camera_id: Identifier = Field(alias="camera_id")
    tenant_id: Identifier = Field(alias="tenant_id")
    device_id: Identifier = Field(alias="device_id")


class ValidateAnswer(OpenWireModel):
    """Answer 200, snake_case."""

    is_valid: bool = Field(alias="is_valid")
    license_mode: str = Field(alias="license_mode")
    enabled_growth_packs: tuple[str, ...] = Field(alias="enabled_growth_packs")
    valid_until: str | None = Field(alias="valid_until", description="RFC 3339")
    cameras_allowed: int | None = Field(alias="cameras_allowed", description="None: unlimited")
    reason: str = ""
    message: str = ""


class EntitlementCheck(WireModel):
    """``POST /api/v1/entitlements/check``: one of model, analytic, output, or a meter's quota.

    A service of the vendor's own names the ``customerId`` (an instance is its own), asks for meters
    only, and with ``reserve`` counts the quantity if it fits; under an ``eventId`` (UUIDv7) once,
    however often it asks.
    """

    kind: Literal["model", "analytic", "output", "meter"]
    name: Identifier
    camera_id: Identifier | None = None
    quantity: Annotated[int, Field(ge=0, le=10**12)] = 1
    customer_id: Identifier | None = None
    reserve: bool = False
    event_id: Annotated[str, Field(pattern=_UUID7)] | None = None


class EntitlementAnswer(OpenWireModel):
    """Answer 200. ``remaining`` None: unlimited, or not counted.

    ``message`` beside ``allowed`` is a warning; ``event_id`` is the ledger's, where it counted.
    """

    allowed: bool
    remaining: int | None = None
    used: int | None = None
    limit: int | None = None
    reason: str = ""
    message: str = ""
    upgrade_url: str | None = None
    event_id: str | None = None
