"""What one pass over a Tenant's devices and cameras works on: read once, judged, then changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from brinkbyte.controller import inventory
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context
from brinkbyte.controller.invalid import write_invalid
from brinkbyte.controller.queue import Key
from brinkbyte.controller.status import Seen
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError
from brinkbyte.license.claims import CameraClaims
from brinkbyte.resources import names
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.conditions import Reason
from brinkbyte.resources.edge_device import EdgeDevice

R = TypeVar("R", EdgeDevice, CameraLicense)


@dataclass
class Device:
    """A device of the pass: as read, why it cannot be sent, its token.

    Attributes:
        problem: why its Secret is not as it should be.
        rotated: the token was made anew just now.
    """

    live: Object
    model: EdgeDevice
    blocked: Seen | None = None
    problem: Seen | None = None
    token: str = ""
    rotated: bool = False


@dataclass
class Camera:
    """A camera of the pass: as read, why it cannot be sent, the token that is held.

    Attributes:
        claims: of the token, verified.
        conflict: why its Secret cannot be written.
    """

    live: Object
    model: CameraLicense
    blocked: Seen | None = None
    device: Device | None = None
    claims: CameraClaims | None = None
    token: str = ""
    conflict: BrinkByteError | None = None

    @property
    def hardware_id(self) -> str | None:
        """Device that the spec names."""
        return self.device.model.spec.hardware_id if self.device else None


@dataclass
class Pass:
    """What one pass works on."""

    namespace: str
    name: str
    now: datetime
    devices: list[Device]
    cameras: list[Camera]
    secrets: dict[str, Object]
    errors: list[BrinkByteError] = field(default_factory=list)


async def read_pass(ctx: Context, key: Key) -> Pass:
    """Read the members of a Tenant and the Secrets of both, and judge what can be licensed."""
    devices, cameras, found = await asyncio.gather(
        ctx.cluster.list("EdgeDevice", key.namespace),
        ctx.cluster.list("CameraLicense", key.namespace),
        ctx.cluster.list("Secret", key.namespace, labels=f"{names.LABEL_TENANT}={key.name}"),
    )
    now = datetime.fromtimestamp(ctx.now, UTC)
    run = Pass(key.namespace, key.name, now, [], [], {})
    run.secrets = {each["metadata"]["name"]: each for each in found}
    for live, device in await _parsed(ctx, devices, EdgeDevice, key.name):
        run.devices.append(Device(live, device))
    for live, camera in await _parsed(ctx, cameras, CameraLicense, key.name):
        run.cameras.append(Camera(live, camera))
    others = {
        each["metadata"]["name"]: each["spec"]["tenantRef"]["name"]
        for each in devices
        if not each["metadata"].get("deletionTimestamp")
    }
    _judge(run, others)
    return run


async def _parsed(
    ctx: Context, items: Iterable[Object], model: type[R], tenant: str
) -> list[tuple[Object, R]]:
    """Return the members of a Tenant that are to stay, oldest first."""
    found: list[tuple[Object, R]] = []
    for live in items:
        if live.get("spec", {}).get("tenantRef", {}).get("name") != tenant:
            continue
        if live["metadata"].get("deletionTimestamp"):
            continue
        try:
            found.append((live, model.parse(live)))
        except InvalidInputError as error:
            await write_invalid(ctx, live, error)
    found.sort(key=lambda pair: (inventory.created_at(pair[1]), pair[1].metadata.uid))
    return found


def _judge(run: Pass, tenant_of_device: Mapping[str, str]) -> None:
    """Find what cannot be sent: duplicates, cameras without a device."""
    owner: dict[str, EdgeDevice] = {}
    by_name: dict[str, Device] = {}
    for device in run.devices:
        first = owner.setdefault(device.model.spec.hardware_id, device.model)
        if first is not device.model:
            device.blocked = Seen(
                False,
                Reason.DEVICE_CONFLICT,
                f"spec.hardwareId {device.model.spec.hardware_id} is EdgeDevice {first.name}'s: "
                "delete one of the two",
            )
        by_name[device.model.name] = device
    cameras: dict[str, CameraLicense] = {}
    for camera in run.cameras:
        spec = camera.model.spec
        earlier = cameras.setdefault(spec.camera_id, camera.model)
        camera.device = by_name.get(spec.device_ref.name)
        if earlier is not camera.model:
            camera.blocked = Seen(
                False,
                Reason.CAMERA_CONFLICT,
                f"spec.cameraId {spec.camera_id} is CameraLicense {earlier.name}'s, on EdgeDevice "
                f"{earlier.spec.device_ref.name}: the older of two has it. Delete one",
            )
        elif camera.device is not None and camera.device.blocked is not None:
            camera.blocked = Seen(
                False,
                Reason.DEVICE_NOT_REGISTERED,
                f"EdgeDevice {spec.device_ref.name} is not registered: "
                f"{camera.device.blocked.message}",
            )
        elif camera.device is None and spec.device_ref.name in tenant_of_device:
            camera.blocked = Seen(
                False,
                Reason.DEVICE_OF_OTHER_TENANT,
                f"spec.deviceRef: EdgeDevice {spec.device_ref.name} is of Tenant "
                f"{tenant_of_device[spec.device_ref.name]}: name a device of {run.name}",
            )
        elif camera.device is None:
            camera.blocked = Seen(
                False,
                Reason.DEVICE_NOT_FOUND,
                f"spec.deviceRef: there is no EdgeDevice {spec.device_ref.name}; create it, or "
                "name another",
            )
