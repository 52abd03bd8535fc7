"""What a pass writes: the Secrets of cameras, the statuses of devices and cameras."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from brinkbyte.controller.asking import Asking
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import camera_revoked
from brinkbyte.controller.events import transitions
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.member_pass import Camera, Pass, open_cameras
from brinkbyte.controller.member_status import (
    CameraView,
    DeviceView,
    camera_status,
    device_status,
)
from brinkbyte.controller.member_tokens import (
    note_missing,
    read_token,
    take_token,
    write_secret,
)
from brinkbyte.controller.roster import Member, chunks
from brinkbyte.controller.status import Seen, worth_writing
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.conditions import ConditionType
from brinkbyte.resources.edge_device import EdgeDevice

CONFLICT_SECONDS: Final = 20.0
CHUNK: Final = 100
"""Cameras that are open, and written, at a time: each takes tens of kilobytes."""


async def show_all(ctx: Context, run: Pass, memory: TenantMemory | None, blocked: Seen) -> None:
    """Write the statuses of all devices and cameras, which nobody can license now."""
    await show_devices(ctx, run, memory, blocked)
    await show_cameras(ctx, run, memory, list(run.crew.members.values()), blocked)


async def show_devices(
    ctx: Context, run: Pass, memory: TenantMemory | None, blocked: Seen | None
) -> None:
    """Write the statuses of all devices; ``blocked``: why nobody can register them now."""
    known = memory or _nothing(ctx)
    error = known.inventory.error
    writes = []
    for device in run.devices:
        hardware_id = device.model.spec.hardware_id
        view = DeviceView(
            device=device.model,
            now=run.now,
            blocked=blocked or device.blocked or device.problem,
            result=known.inventory.device_results.get(hardware_id),
            error=error,
            online=known.online.get(hardware_id),
            asked=known.asked and known.state is not None,
            rotated=device.rotated,
            has_token=bool(device.token),
        )
        writes.append(_write_status(ctx, device.live, device_status(view), device.model, run.now))
    await asyncio.gather(*writes)


def _nothing(ctx: Context) -> TenantMemory:
    return TenantMemory(Asking(ctx.monotonic), Asking(ctx.monotonic))


async def show_cameras(
    ctx: Context, run: Pass, memory: TenantMemory | None, members: list[Member], blocked: Seen
) -> None:
    """Write the statuses of cameras that nobody can license now."""
    known = memory or _nothing(ctx)
    for some in chunks(members, CHUNK):
        cameras = await open_cameras(ctx, run, some)
        await asyncio.gather(*(_show_camera(ctx, run, known, each, blocked) for each in cameras))


async def _show_camera(
    ctx: Context, run: Pass, known: TenantMemory, camera: Camera, blocked: Seen | None
) -> Object | None:
    shown = CameraView(
        camera=camera.model,
        now=run.now,
        hardware_id=camera.hardware_id,
        blocked=blocked or camera.blocked,
        result=known.inventory.camera_results.get(camera.member.camera_id),
        error=known.inventory.error,
        claims=camera.claims,
        conflict=camera.conflict,
        revoked=camera.claims is not None and camera_revoked(known.documents, camera.claims),
    )
    written = await _write_status(ctx, camera.live, camera_status(shown), camera.model, run.now)
    if written is not None:
        run.roster.put(written)
    return written


async def write_cameras(
    ctx: Context,
    run: Pass,
    memory: TenantMemory,
    members: Iterable[Member],
    *,
    identity: Identity,
    show: bool = True,
) -> None:
    """Write the Secrets and statuses of cameras."""
    cameras = await open_cameras(ctx, run, members)
    for camera in cameras:
        read_token(ctx, camera, identity=identity, documents=memory.documents, memory=memory)
        take_token(ctx, camera, identity=identity, documents=memory.documents, memory=memory)

    async def write(camera: Camera) -> None:
        member = camera.member
        secret = status = None
        run.roster.begin(member)
        try:
            secret = await write_secret(ctx, run, camera)
            if show:
                status = await _show_camera(ctx, run, memory, camera, None)
        except BrinkByteError as error:
            run.errors.append(error)
            run.roster.news(member)
        finally:
            run.roster.end(member, secret, status)
        if camera.conflict is not None:
            if not memory.crew.again:
                memory.crew.again_at = ctx.monotonic() + CONFLICT_SECONDS
            memory.crew.again.add(member.name)
        elif camera.token and show:
            _license_is_written(memory, member)

    await asyncio.gather(*(write(camera) for camera in cameras))
    note_missing(run, memory, (each.member for each in cameras))


def _license_is_written(memory: TenantMemory, member: Member) -> None:
    result = memory.inventory.camera_results.get(member.camera_id)
    if result is not None and result.status != "refused":
        del memory.inventory.camera_results[member.camera_id]


async def _write_status(
    ctx: Context, live: Object, status: Any, model: EdgeDevice | CameraLicense, now: datetime
) -> Object | None:
    wire = status.to_wire()
    ready = next(each for each in status.conditions if each.type == ConditionType.READY)
    ctx.metrics.condition_of(live["kind"], model.namespace, model.name, status.conditions)
    if not worth_writing(live.get("status", {}), wire, now):
        return None
    written = await ctx.cluster.apply_status(live, wire)
    if ready.true and isinstance(model, CameraLicense):
        failpoint("issue.status_written")
    for kind, action, reason, note in transitions(model.status.conditions, status.conditions):
        ctx.events.emit(live, kind, action, reason, note)
    return written
