"""What a Tenant has, as the billing API is told: the complete set, or what changed since.

Building and taking in are pure; :func:`send` makes the one call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from brinkbyte.client import BillingClient, BillingRefusedError
from brinkbyte.controller.context import InventoryMemory
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.wire import (
    Held,
    InventoryAnswer,
    InventoryCamera,
    InventoryDevice,
    InventoryRequest,
)
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.edge_device import EdgeDevice

REFUSED_SECONDS: Final = 20.0
"""How often what was refused is asked for again: it may have been bought meanwhile."""


@dataclass(frozen=True)
class Wanted:
    """Devices and cameras as the cluster has them now, by id."""

    devices: Mapping[str, InventoryDevice]
    cameras: Mapping[str, InventoryCamera]


def created_at(resource: EdgeDevice | CameraLicense) -> int:
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


def inventory_camera(camera: CameraLicense, hardware_id: str, held: int) -> InventoryCamera:
    """Return a camera as the billing API is told.

    Args:
        camera: the resource.
        hardware_id: of its device.
        held: sequence of the token that is held and fits, 0 without.
    """
    return InventoryCamera(
        camera_id=camera.spec.camera_id,
        name=camera.name,
        uid=camera.metadata.uid,
        hardware_id=hardware_id,
        mode=camera.spec.mode,
        growth_packs=tuple(sorted(camera.spec.growth_packs)),
        created_at=created_at(camera),
        held_sequence=held,
    )


def _content(item: InventoryDevice | InventoryCamera) -> str:
    """Return what makes two entries the same: all but the token that is held."""
    return item.model_dump_json(exclude={"held_sequence"})


def _renamed(
    wanted: Mapping[str, InventoryDevice | InventoryCamera], sent: Mapping[str, str]
) -> bool:
    """Tell whether another object has an id by now.

    The billing API knows devices and cameras by the objects' names: of the former one it has to
    hear that it is gone, which only the complete set says.
    """
    return any(
        key in sent and sent[key] != _content(item) and json.loads(sent[key])["uid"] != item.uid
        for key, item in wanted.items()
    )


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
    renamed = _renamed(wanted.devices, memory.devices) or _renamed(wanted.cameras, memory.cameras)
    if memory.revision is None or renamed or monotonic >= memory.refresh_at:
        return InventoryRequest(
            held=held,
            devices=tuple(wanted.devices.values()),
            cameras=tuple(wanted.cameras.values()),
        )
    again = set(missing)
    refused_devices: set[str] = set()
    if monotonic >= memory.retry_refused_at:
        again |= {k for k, each in memory.camera_results.items() if each.status == "refused"}
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
    removed_cameras = tuple(sorted(memory.cameras.keys() - wanted.cameras.keys()))
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
) -> None:
    """Remember an answer.

    Args:
        request: what was sent.
        wanted: what there was.
        answer: to it.
        memory: is changed.
        monotonic: seconds.
        jitter: from 0 to 1; the next complete inventory comes at 75 to 95 % of ``refreshAfter``.
    """
    complete = request.base_revision is None
    if complete:
        memory.device_results.clear()
        memory.camera_results.clear()
        memory.refresh_at = monotonic + answer.refresh_after * (0.75 + 0.2 * jitter)
    for key in request.removed_devices:
        memory.device_results.pop(key, None)
    for key in request.removed_cameras:
        memory.camera_results.pop(key, None)
    memory.device_results.update({each.hardware_id: each for each in answer.devices})
    memory.camera_results.update({each.camera_id: each for each in answer.cameras})
    memory.devices = {key: _content(item) for key, item in wanted.devices.items()}
    memory.cameras = {key: _content(item) for key, item in wanted.cameras.items()}
    memory.revision = answer.revision
    memory.answer = answer
    memory.error = None
    memory.retry_refused_at = monotonic + REFUSED_SECONDS


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
