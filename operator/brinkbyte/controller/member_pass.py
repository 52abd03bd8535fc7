"""What one pass over a Tenant's devices and cameras works on: read, judged, then changed.

Devices are few and read afresh. Cameras stand in the roster; only those that a pass looks at are
opened, some at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from brinkbyte.controller import inventory
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context
from brinkbyte.controller.invalid import write_invalid
from brinkbyte.controller.queue import Key
from brinkbyte.controller.roster import Crew, Member, Roster
from brinkbyte.controller.status import Seen
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError
from brinkbyte.license.claims import CameraClaims
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.conditions import Reason
from brinkbyte.resources.edge_device import EdgeDevice


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
    """A camera that the pass looks at: as the watch told, why it cannot be sent, its token.

    Attributes:
        claims: of the token, verified.
        token: what belongs into its Secret; empty: none is known.
        conflict: why its Secret cannot be written.
    """

    live: Object
    model: CameraLicense
    member: Member
    secret: Object | None = None
    blocked: Seen | None = None
    hardware_id: str | None = None
    claims: CameraClaims | None = None
    token: str = ""
    conflict: BrinkByteError | None = None


@dataclass(frozen=True)
class Judged:
    """Where a camera is, or why it cannot be sent to the billing API."""

    blocked: Seen | None = None
    hardware_id: str | None = None


@dataclass
class Pass:
    """What one pass works on.

    Attributes:
        now: the time.
        crew: the cameras of the Tenant.
        others: Tenant of every device of the namespace, by the device's name.
    """

    namespace: str
    name: str
    now: datetime
    devices: list[Device]
    crew: Crew
    roster: Roster
    others: Mapping[str, str]
    errors: list[BrinkByteError] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find devices that claim the same hardware."""
        owner: dict[str, EdgeDevice] = {}
        for device in self.devices:
            first = owner.setdefault(device.model.spec.hardware_id, device.model)
            if first is not device.model:
                device.blocked = Seen(
                    False,
                    Reason.DEVICE_CONFLICT,
                    f"spec.hardwareId {device.model.spec.hardware_id} is EdgeDevice "
                    f"{first.name}'s: delete one of the two",
                )
        self._by_name = {device.model.name: device for device in self.devices}

    def secret(self, name: str) -> Object | None:
        """Return a Secret that carries our label."""
        return self.roster.secret(self.namespace, name)

    def judge(self, member: Member) -> Judged:
        """Find what cannot be sent: a camera of a taken id, or without a device."""
        first = self.crew.first(member.camera_id)
        device = self._by_name.get(member.device)
        hardware_id = device.model.spec.hardware_id if device else None
        if first is not None and first is not member:
            reason, message = (
                Reason.CAMERA_CONFLICT,
                f"spec.cameraId {member.camera_id} is CameraLicense {first.name}'s, on EdgeDevice "
                f"{first.device}: the older of two has it. Delete one",
            )
        elif device is not None and device.blocked is not None:
            reason, message = (
                Reason.DEVICE_NOT_REGISTERED,
                f"EdgeDevice {member.device} is not registered: {device.blocked.message}",
            )
        elif device is None and member.device in self.others:
            reason, message = (
                Reason.DEVICE_OF_OTHER_TENANT,
                f"spec.deviceRef: EdgeDevice {member.device} is of Tenant "
                f"{self.others[member.device]}: name a device of {self.name}",
            )
        elif device is None:
            reason, message = (
                Reason.DEVICE_NOT_FOUND,
                f"spec.deviceRef: there is no EdgeDevice {member.device}; create it, or name "
                "another",
            )
        else:
            return Judged(hardware_id=hardware_id)
        return Judged(Seen(False, reason, message), hardware_id)

    @property
    def places(self) -> dict[str, tuple[str, bool]]:
        """What cameras are judged by of each device that they may name."""
        found = {name: (tenant, True) for name, tenant in self.others.items()}
        for name, device in self._by_name.items():
            found[name] = (device.model.spec.hardware_id, device.blocked is None)
        return found


async def read_pass(ctx: Context, key: Key) -> Pass:
    """Read the devices of a Tenant."""
    devices = await ctx.cluster.list("EdgeDevice", key.namespace)
    others = {
        each["metadata"]["name"]: each["spec"]["tenantRef"]["name"]
        for each in devices
        if not each["metadata"].get("deletionTimestamp")
    }
    return Pass(
        key.namespace,
        key.name,
        datetime.fromtimestamp(ctx.now, UTC),
        [Device(live, model) for live, model in await _parsed(ctx, devices, key.name)],
        ctx.roster.crew(key.namespace, key.name),
        ctx.roster,
        {name: tenant for name, tenant in others.items() if tenant != key.name},
    )


async def _parsed(
    ctx: Context, items: Iterable[Object], tenant: str
) -> list[tuple[Object, EdgeDevice]]:
    """Return the devices of a Tenant that are to stay, oldest first."""
    found: list[tuple[Object, EdgeDevice]] = []
    for live in items:
        if live.get("spec", {}).get("tenantRef", {}).get("name") != tenant:
            continue
        if live["metadata"].get("deletionTimestamp"):
            continue
        try:
            found.append((live, EdgeDevice.parse(live)))
        except InvalidInputError as error:
            await write_invalid(ctx, live, error)
    found.sort(key=lambda pair: (inventory.created_at(pair[1]), pair[1].metadata.uid))
    return found


async def open_cameras(ctx: Context, run: Pass, members: Iterable[Member]) -> list[Camera]:
    """Return camera licenses as objects; one that cannot be read says so itself."""
    found = []
    for member in members:
        live = run.roster.camera(member)
        try:
            model = CameraLicense.parse(live)
        except InvalidInputError as error:
            await write_invalid(ctx, live, error)
            continue
        judged = run.judge(member)
        found.append(
            Camera(
                live,
                model,
                member,
                secret=run.secret(member.secret_name),
                blocked=judged.blocked,
                hardware_id=judged.hardware_id,
            )
        )
    return found
