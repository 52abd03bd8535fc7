"""What a Tenant has, as the billing API is told: the complete set, or what changed since.

Building and taking in are pure; :func:`send` makes the one call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from brinkbyte.client import BillingClient, BillingRefusedError
from brinkbyte.controller.context import InventoryMemory
from brinkbyte.controller.roster import Member
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.wire import (
    Held,
    InventoryAnswer,
    InventoryCamera,
    InventoryDevice,
    InventoryRequest,
)
from brinkbyte.resources.edge_device import EdgeDevice

REFUSED_SECONDS: Final = 20.0
"""How often what was refused is asked for again: it may have been bought meanwhile."""


@dataclass(frozen=True)
class Wanted:
    """Devices and cameras as the cluster has them now, by id.

    Attributes:
        looked_at: ids of the cameras that were looked at; None: all. One of these that is not in
            ``cameras`` is gone.
    """

    devices: Mapping[str, InventoryDevice]
    cameras: Mapping[str, InventoryCamera]
    looked_at: Collection[str] | None = None


def created_at(resource: EdgeDevice) -> int:
    """Return when an object was created, Unix seconds."""
    created = resource.metadata.creation_timestamp
    return int(created.timestamp()) if created else 0


def inventory_device(device: EdgeDevice) -> InventoryDevice:
    """Return a device as the billing API is told."""
    return InventoryDevice(
        hardware_id=device.spec.hardware_id,
        name=device.name,
        uid=device.metadata.uid,
        management_tier=device.spec.management_tier.value,
        site=device.spec.site,
        created_at=created_at(device),
    )


def inventory_camera(member: Member, hardware_id: str, held: int) -> InventoryCamera:
    """Return a camera as the billing API is told.

    Args:
        member: the camera license.
        hardware_id: of its device.
        held: sequence of the token that is held and fits, 0 without.
    """
    return InventoryCamera(
        camera_id=member.camera_id,
        name=member.name,
        uid=member.uid,
        hardware_id=hardware_id,
        mode=member.mode,
        growth_packs=member.growth_packs,
        created_at=member.created_at,
        held_sequence=held,
    )


_UID_BYTES: Final = 8


def _content(item: InventoryDevice | InventoryCamera) -> bytes:
    """Return what tells the object of an entry, then what makes two entries the same.

    That is all but the token that is held.
    """
    said = item.model_dump_json(exclude={"held_sequence"}).encode()
    return (
        hashlib.blake2b(item.uid.encode(), digest_size=_UID_BYTES).digest()
        + hashlib.blake2b(said, digest_size=16).digest()
    )


def _renamed(
    wanted: Mapping[str, InventoryDevice | InventoryCamera], sent: Mapping[str, bytes]
) -> bool:
    for key, item in wanted.items():
        before = sent.get(key)
        if before is not None:
            now = _content(item)
            if now != before and now[:_UID_BYTES] != before[:_UID_BYTES]:
                return True
    return False


def complete_is_due(wanted: Wanted, memory: InventoryMemory, *, monotonic: float) -> bool:
    """Tell whether the complete set has to be sent, not what changed.

    That is also so when another object has an id by now: the billing API knows devices and cameras
    by the objects' names, and has to hear that the former one is gone.
    """
    return (
        memory.revision is None
        or monotonic >= memory.refresh_at
        or _renamed(wanted.devices, memory.devices)
        or _renamed(wanted.cameras, memory.cameras)
    )


def refused_and_due(memory: InventoryMemory, *, monotonic: float) -> set[str]:
    """Return ids of refused cameras that are to be asked for again."""
    if monotonic < memory.retry_refused_at:
        return set()
    return {key for key, each in memory.camera_results.items() if each.status == "refused"}


def plan_request(
    wanted: Wanted, memory: InventoryMemory, held: Held, *, monotonic: float, missing: Iterable[str]
) -> InventoryRequest | None:
    """Return what to send now, or None when the billing API knows everything.

    Args:
        wanted: what there is.
        memory: what was sent.
        held: numbers of the documents held.
        monotonic: seconds.
        missing: camera ids whose token is not there and not refused.
    """
    if complete_is_due(wanted, memory, monotonic=monotonic):
        return InventoryRequest(
            held=held,
            devices=tuple(wanted.devices.values()),
            cameras=tuple(wanted.cameras.values()),
        )
    again = set(missing) | refused_and_due(memory, monotonic=monotonic)
    refused_devices: set[str] = set()
    if monotonic >= memory.retry_refused_at:
        refused_devices = {
            k for k, each in memory.device_results.items() if each.status == "refused"
        }
    devices = tuple(
        item
        for key, item in wanted.devices.items()
        if memory.devices.get(key) != _content(item) or key in refused_devices
    )
    cameras = tuple(
        item
        for key, item in wanted.cameras.items()
        if memory.cameras.get(key) != _content(item) or key in again
    )
    removed_devices = tuple(sorted(memory.devices.keys() - wanted.devices.keys()))
    looked_at = memory.cameras.keys() if wanted.looked_at is None else wanted.looked_at
    removed_cameras = tuple(
        sorted(key for key in looked_at if key in memory.cameras and key not in wanted.cameras)
    )
    if not (devices or cameras or removed_devices or removed_cameras):
        return None
    return InventoryRequest(
        base_revision=memory.revision,
        held=held,
        devices=devices,
        cameras=cameras,
        removed_devices=removed_devices,
        removed_cameras=removed_cameras,
    )


def take_in(
    request: InventoryRequest,
    wanted: Wanted,
    answer: InventoryAnswer,
    memory: InventoryMemory,
    *,
    monotonic: float,
    jitter: float,
) -> set[str]:
    """Remember an answer.

    Args:
        request: what was sent.
        wanted: what there was.
        answer: to it.
        memory: is changed.
        monotonic: seconds.
        jitter: from 0 to 1; the next complete inventory comes at 75 to 95 % of ``refreshAfter``.

    Returns:
        ids of the cameras that the answer has news of.
    """
    complete = request.base_revision is None
    refused = {key for key, each in memory.camera_results.items() if each.status == "refused"}
    if complete:
        memory.device_results.clear()
        memory.camera_results.clear()
        memory.cameras.clear()
        memory.refresh_at = monotonic + answer.refresh_after * (0.75 + 0.2 * jitter)
    for key in request.removed_devices:
        memory.device_results.pop(key, None)
    for key in request.removed_cameras:
        memory.camera_results.pop(key, None)
        memory.cameras.pop(key, None)
    memory.device_results.update({each.hardware_id: each for each in answer.devices})
    news = set()
    for each in answer.cameras:
        if each.status != "unchanged" or each.camera_id in refused:
            news.add(each.camera_id)
        if each.status == "refused" or each.token:
            memory.camera_results[each.camera_id] = each
        else:
            memory.camera_results.pop(each.camera_id, None)
    memory.devices = {key: _content(item) for key, item in wanted.devices.items()}
    memory.cameras.update({item.camera_id: _content(item) for item in request.cameras})
    memory.revision = answer.revision
    memory.answer = answer.model_copy(update={"cameras": (), "seats": None})
    memory.error = None
    memory.retry_refused_at = monotonic + REFUSED_SECONDS
    return news


def lose(memory: InventoryMemory) -> None:
    """Note that no answer came: whether it was taken in nobody knows, so all of it is sent next."""
    memory.revision = None


async def send(client: BillingClient, request: InventoryRequest) -> InventoryAnswer | None:
    """Put an inventory.

    Returns:
        the answer; None: the server has another revision and wants the complete set.
    """
    failpoint("inventory.sent")
    try:
        answer = await client.put_inventory(request)
    except BillingRefusedError as error:
        if error.reason == "RevisionMismatch" and request.base_revision is not None:
            return None
        raise
    failpoint("inventory.answered")
    return answer
