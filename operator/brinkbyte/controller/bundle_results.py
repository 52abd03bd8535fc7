"""What a bundle says of each device and camera as the cluster has them now. Pure.

A bundle is an answer of a while ago. What it does not name, and what was changed since it was asked
for, is ``NotInBundle`` until the next one; what it gave before stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from brinkbyte.controller.context import InventoryMemory
from brinkbyte.controller.documents import Documents
from brinkbyte.controller.member_pass import Device, Pass
from brinkbyte.controller.member_status import fits
from brinkbyte.controller.roster import HeldToken, Member
from brinkbyte.license.bundle import AskedCamera, Bundle
from brinkbyte.license.claims import CameraClaims
from brinkbyte.license.wire import CameraResult, DeviceResult
from brinkbyte.resources.conditions import Reason

Verified: TypeAlias = Callable[[str], CameraClaims | None]

_ASK: Final = (
    "make a request (`brinkbyte license request`), send it to the vendor and import the answer "
    "(`brinkbyte license import`)"
)


def judge(
    run: Pass,
    known: InventoryMemory,
    documents: Documents,
    bundle: Bundle | None,
    *,
    verified: Verified,
) -> set[str]:
    """Say of every device and camera what the bundle, or what is held of it, says.

    Args:
        run: the pass, with the tokens that are held.
        known: gets the results.
        documents: what is held.
        bundle: None while the Secret with it is gone.
        verified: reads a camera's token.

    Returns:
        ids of the cameras of which something else is said than before.
    """
    known.device_results = {
        each.model.spec.hardware_id: device_result(each, documents, bundle)
        for each in run.devices
        if each.blocked is None
    }
    results = {each.camera_id: each for each in bundle.content.cameras} if bundle else {}
    asked = {each.camera_id: each for each in bundle.content.asked_cameras} if bundle else {}
    before, known.camera_results = known.camera_results, {}
    news = set()
    for member in run.crew.members.values():
        judged = run.judge(member)
        if judged.blocked is not None or judged.hardware_id is None:
            continue
        camera_id = member.camera_id
        result = results.get(camera_id)
        claims = verified(result.token) if result is not None and result.token else member.held
        verdict = camera_result(
            member,
            judged.hardware_id,
            claims,
            result,
            asked=asked.get(camera_id),
            bundled=bundle is not None,
        )
        if verdict.status == "refused" or (verdict.token and not _has(member, claims)):
            known.camera_results[camera_id] = verdict
        if known.camera_results.get(camera_id) != before.get(camera_id):
            news.add(camera_id)
    return news


def _has(member: Member, claims: CameraClaims | HeldToken | None) -> bool:
    """Tell whether a camera's Secret holds this token, or a newer one."""
    held = member.held
    return (
        held is not None and claims is not None and held.camera_sequence >= claims.camera_sequence
    )


def device_result(device: Device, documents: Documents, bundle: Bundle | None) -> DeviceResult:
    """Return what a bundle, or what is held of it, says of a device as it is now."""
    spec = device.model.spec
    hardware_id = spec.hardware_id
    if bundle is None:
        # The seat list says who is registered, also when the Secret with the bundle is gone.
        if documents.seats is not None and hardware_id in documents.seats.devices:
            return DeviceResult(
                hardware_id=hardware_id, status="registered", message="Registered by a bundle"
            )
        return _device_not_in_bundle(hardware_id, f"No bundle names this device: {_ASK}")
    asked = {each.hardware_id: each.management_tier for each in bundle.content.asked_devices}
    result = next(
        (each for each in bundle.content.devices if each.hardware_id == hardware_id), None
    )
    if result is None or hardware_id not in asked:
        return _device_not_in_bundle(
            hardware_id, f"The imported bundle does not name this device: {_ASK}"
        )
    if asked[hardware_id] != spec.management_tier.value:
        return _device_not_in_bundle(
            hardware_id,
            f"The imported bundle names this device as {asked[hardware_id]}: for "
            f"{spec.management_tier.value} {_ASK}",
        )
    if result.status == "refused":
        return result
    return result.model_copy(update={"message": "Registered by the imported bundle"})


def _device_not_in_bundle(hardware_id: str, message: str) -> DeviceResult:
    return DeviceResult(
        hardware_id=hardware_id, status="refused", reason=Reason.NOT_IN_BUNDLE, message=message
    )


def camera_result(
    member: Member,
    hardware_id: str,
    claims: CameraClaims | HeldToken | None,
    result: CameraResult | None,
    *,
    asked: AskedCamera | None,
    bundled: bool,
) -> CameraResult:
    """Return what a bundle says of a camera as it is now.

    Args:
        member: the camera license.
        hardware_id: of its device.
        claims: of the bundle's token, else of the one held.
        result: of the bundle.
        asked: what the bundle's refusal was about.
        bundled: whether there is a bundle; without one, what is held goes on.
    """
    fitting = claims is not None and fits(member, hardware_id, claims)
    if fitting and (not bundled or (result is not None and result.status != "refused")):
        return result or CameraResult(camera_id=member.camera_id, status="unchanged")
    refused = result is not None and result.status == "refused"
    if result is not None and refused and asked is not None and _same(member, hardware_id, asked):
        return result
    if result is not None:
        why = (
            "This camera's device, mode or growth packs are no longer what the imported bundle "
            f"was made for; what it gave stays as it is: {_ASK}"
        )
    else:
        why = f"The imported bundle does not name this camera: {_ASK}"
    if not bundled:
        why = f"No bundle names this camera as it is now: {_ASK}"
    return CameraResult(
        camera_id=member.camera_id, status="refused", reason=Reason.NOT_IN_BUNDLE, message=why
    )


def _same(member: Member, hardware_id: str, asked: AskedCamera) -> bool:
    return (
        asked.hardware_id == hardware_id
        and asked.mode == member.mode
        and set(asked.growth_packs) == set(member.growth_packs)
    )
