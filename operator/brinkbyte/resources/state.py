"""What an instance tells its operator: ``GET /internal/v1/state?since=<revision>``.

Bearer token: ``operator-token`` of the access Secret. The operator asks every 15 seconds; devices
are only those whose online state changed after ``since`` (all of them for 0).
"""

from __future__ import annotations

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel
from brinkbyte.license.claims import Identifier, UnixTime
from brinkbyte.license.modes import LicenseMode
from brinkbyte.license.wire import CloneAlarm, Count, CredentialHash, Use


class DeviceCredential(OpenWireModel):
    """One entry of ``devices.json``, a JSON array: a device and the hash of its token."""

    hardware_id: Identifier
    name: Identifier
    management_tier: Identifier
    token_sha256: CredentialHash = Field(alias="tokenSha256")
    created_at: UnixTime


class LicenseState(OpenWireModel):
    """The license in force inside the instance."""

    mode: LicenseMode
    reason: str
    message: str
    plan: str | None = None
    expires_at: UnixTime | None = None
    sequence: int = 0
    seats_sequence: int = 0
    key_set_number: int = 0


class DeviceState(OpenWireModel):
    """Online while a heartbeat came within the last 90 seconds."""

    hardware_id: Identifier
    online: bool
    last_seen: UnixTime | None = None


class MeteringState(OpenWireModel):
    """How the outbox stands."""

    backlog: Count = Field(description="events without a receipt")
    oldest_unacknowledged_at: UnixTime | None = None
    last_reported_at: UnixTime | None = None
    last_receipt: str | None = Field(None, description="epoch/batchNo of the newest receipt")
    last_error_reason: str | None = None
    last_error_message: str | None = None
    epochs_opened: int = Field(0, description="grows when a new epoch had to be opened")


class TritonState(OpenWireModel):
    """Ready: every licensed model is ready on every Triton pod, and no other is loaded."""

    ready: bool
    message: str
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class InstanceState(OpenWireModel):
    """Answer 200."""

    revision: int
    license: LicenseState
    devices: tuple[DeviceState, ...] = ()
    device_use: Use
    camera_use: Use
    metering: MeteringState
    triton: TritonState
    clone_alarm: CloneAlarm | None = None
