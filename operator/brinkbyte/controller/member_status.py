"""Status of EdgeDevice and CameraLicense as functions of what is wanted and what is known. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from brinkbyte.controller.documents import RENEWAL_SECONDS
from brinkbyte.controller.roster import HeldToken, Member
from brinkbyte.controller.status import Seen, moment, of_error
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.license.claims import CameraClaims
from brinkbyte.license.wire import CameraResult, DeviceResult
from brinkbyte.resources.camera_license import (
    CameraFeatures,
    CameraLicense,
    CameraLicenseSpec,
    CameraLicenseStatus,
)
from brinkbyte.resources.common import SecretReference, UsedOfLimit
from brinkbyte.resources.conditions import (
    Condition,
    ConditionType,
    Reason,
    condition,
    find,
    headline,
    merge_conditions,
)
from brinkbyte.resources.edge_device import EdgeDevice, EdgeDeviceStatus
from brinkbyte.resources.names import DEVICE_TOKEN_SUFFIX
from brinkbyte.resources.state import DeviceState


@dataclass(frozen=True)
class DeviceView:
    """What is known of a device.

    Attributes:
        blocked: why it was not even sent to the billing API.
        result: the billing API's newest answer; None: none since the operator started.
        error: why the newest call failed.
        online: what the instance says; None: it was not asked yet, or never saw the device.
        asked: whether the instance was asked since the operator started.
        rotated: its token was made anew just now.
    """

    device: EdgeDevice
    now: datetime
    blocked: Seen | None = None
    result: DeviceResult | None = None
    error: BrinkByteError | None = None
    online: DeviceState | None = None
    asked: bool = False
    rotated: bool = False
    has_token: bool = True


def device_status(view: DeviceView) -> EdgeDeviceStatus:
    """Return the status of an EdgeDevice."""
    device, old = view.device, view.device.status
    generation = device.metadata.generation
    registered = _registered(view)
    online = _online(view)
    seen = {
        ConditionType.REGISTERED: registered,
        ConditionType.ONLINE: online,
        ConditionType.READY: registered,
    }
    conditions = _conditions(old.conditions, seen, view.now, generation)
    registered_at = old.registered_at
    if registered.ready and registered_at is None:
        registered_at = view.now
    refused = view.result is not None and view.result.status == "refused"
    use = view.result.use if view.result is not None else None
    last_seen = old.last_seen
    before, after = find(old.conditions, ConditionType.ONLINE), conditions[1]
    changed = before is None or before.status != after.status
    if changed and view.online is not None and view.online.last_seen is not None:
        last_seen = moment(view.online.last_seen)
    return EdgeDeviceStatus(
        observed_generation=generation,
        conditions=conditions,
        headline=headline(conditions),
        registered_at=registered_at,
        last_seen=last_seen,
        usage=UsedOfLimit.of(use) if refused and use is not None else None,
        token_secret_ref=SecretReference(name=f"{device.name}{DEVICE_TOKEN_SUFFIX}")
        if view.has_token
        else old.token_secret_ref,
    )


def _registered(view: DeviceView) -> Seen:
    if view.blocked is not None:
        return view.blocked
    if view.result is not None:
        if view.result.status == "registered":
            known = view.result.message or "The billing API knows this device"
            return Seen(True, Reason.REGISTERED, known)
        return Seen(False, view.result.reason, _refusal(view.result.message, view.result))
    old = view.device.status
    before = find(old.conditions, ConditionType.REGISTERED)
    if before is not None and old.observed_generation == view.device.metadata.generation:
        if before.status != "Unknown":
            # Known before, unchanged since: a lost line changes nothing.
            return Seen(before.true, before.reason, before.message)
    elif before is not None and before.true and view.error is None:
        return Seen(True, before.reason, before.message)
    if view.error is not None:
        _, reason, message = of_error(view.error)
        return Seen(None, reason, message)
    return Seen(None, Reason.PENDING, "Waiting for the billing API")


def _online(view: DeviceView) -> Seen:
    before = find(view.device.status.conditions, ConditionType.ONLINE)
    rotated = before is not None and before.reason == Reason.CREDENTIAL_ROTATED
    if view.rotated:
        return _rotated(view.device)
    online = view.online
    if rotated and before is not None:
        since = before.last_transition_time.timestamp()
        if online is None or online.last_seen is None or online.last_seen <= since:
            return _rotated(view.device)
    if online is None:
        if before is not None and not view.asked:
            words = {"True": True, "False": False}
            return Seen(words.get(before.status), before.reason, before.message)
        return Seen(None, Reason.NEVER_SEEN, "The device has sent no heartbeat yet")
    if online.online:
        return Seen(True, Reason.HEARTBEAT, "Heartbeats arrive")
    if online.last_seen is None:
        return Seen(None, Reason.NEVER_SEEN, "The device has sent no heartbeat yet")
    return Seen(
        False,
        Reason.HEARTBEAT_MISSING,
        "No heartbeat for 90 seconds. Check the device's power and its line to the instance",
    )


def _rotated(device: EdgeDevice) -> Seen:
    return Seen(
        None,
        Reason.CREDENTIAL_ROTATED,
        f"The device's token was made anew: copy it from Secret {device.name}"
        f"{DEVICE_TOKEN_SUFFIX} to the device",
    )


@dataclass(frozen=True)
class CameraView:
    """What is known of a camera license.

    Attributes:
        blocked: why it was not even sent to the billing API.
        result: the billing API's newest answer; None: none since the operator started.
        error: why the newest call failed.
        claims: of the verified token that is in the Secret now; None: there is none.
        conflict: why the Secret cannot be written.
    """

    camera: CameraLicense
    now: datetime
    hardware_id: str | None = None
    blocked: Seen | None = None
    result: CameraResult | None = None
    error: BrinkByteError | None = None
    claims: CameraClaims | None = None
    conflict: BrinkByteError | None = None
    revoked: bool = False


def fits(
    wanted: CameraLicenseSpec | Member, hardware_id: str | None, held: CameraClaims | HeldToken
) -> bool:
    """Tell whether a token is for what is asked for."""
    return (
        held.camera_id == wanted.camera_id
        and held.hardware_id == hardware_id
        and held.mode == wanted.mode
        and set(held.growth_packs) == set(wanted.growth_packs)
    )


def camera_status(view: CameraView) -> CameraLicenseStatus:
    """Return the status of a CameraLicense."""
    camera, old = view.camera, view.camera.status
    generation = camera.metadata.generation
    issued = _issued(view)
    seen = {ConditionType.ISSUED: issued, ConditionType.READY: issued}
    conditions = _conditions(old.conditions, seen, view.now, generation)
    claims = view.claims
    refused = view.result is not None and view.result.status == "refused"
    use = view.result.use if view.result is not None else None
    status = CameraLicenseStatus(
        observed_generation=generation,
        conditions=conditions,
        headline=headline(conditions),
        usage=UsedOfLimit.of(use) if refused and use is not None else None,
    )
    if claims is None:
        return status
    return status.model_copy(
        update={
            "seat": claims.seat,
            "sequence": claims.camera_sequence,
            "hardware_id": claims.hardware_id,
            "valid_until": moment(claims.exp),
            "renewal_time": moment(max(claims.iat, claims.exp - RENEWAL_SECONDS)),
            "features": CameraFeatures(
                models=claims.grant.models,
                analytics=claims.grant.analytics,
                outputs=claims.grant.outputs,
            ),
            "secret_ref": SecretReference(name=camera.secret_name),
        }
    )


def _issued(view: CameraView) -> Seen:
    if view.blocked is not None:
        return view.blocked
    if view.conflict is not None:
        return Seen(*of_error(view.conflict))
    if view.result is not None and view.result.status == "refused":
        return Seen(False, view.result.reason, _refusal(view.result.message, view.result))
    claims = view.claims
    if claims is not None and fits(view.camera.spec, view.hardware_id, claims):
        if view.revoked:
            return Seen(False, "LicenseRevoked", "The vendor revoked this license. Contact support")
        if view.now.timestamp() >= claims.exp + claims.grace_seconds:
            return Seen(
                False,
                "LicenseExpired",
                "The license has ended. Connect the site to the billing API, or import a new "
                "bundle",
            )
        return Seen(
            True, Reason.ISSUED, f"Seat {claims.seat}, license in Secret {view.camera.secret_name}"
        )
    old = view.camera.status
    before = find(old.conditions, ConditionType.ISSUED)
    same = old.observed_generation == view.camera.metadata.generation
    if before is not None and same and before.status == "False" and view.result is None:
        return Seen(False, before.reason, before.message)
    if view.error is not None:
        _, reason, message = of_error(view.error)
        return Seen(None, reason, message)
    return Seen(None, Reason.PENDING, "Waiting for the billing API to issue the license")


def _refusal(message: str, result: DeviceResult | CameraResult) -> str:
    if result.use is not None and result.use.limit is not None:
        count = f"{result.use.used} of {result.use.limit} used"
        if count not in message:
            return f"{message} ({count})" if message else count
    return message or f"The billing API refuses it: {result.reason}"


def _conditions(
    old: tuple[Condition, ...], seen: dict[ConditionType, Seen], now: datetime, generation: int
) -> tuple[Condition, ...]:
    return merge_conditions(
        old,
        [
            condition(kind, each.ready, each.reason, each.message, now=now, generation=generation)
            for kind, each in seen.items()
        ],
    )
