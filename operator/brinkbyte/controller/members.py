"""One level-triggered reconcile for all devices and cameras of a Tenant.

A pass reads one fresh list of each, tells the billing API what is new or changed, writes the
Secrets that came back and every status that differs. Two hundred new cameras are one pass.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from brinkbyte.controller import air_gap, enrollment, inventory
from brinkbyte.controller.asking import Asking, StillAskingError
from brinkbyte.controller.children import secrets
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import camera_revoked
from brinkbyte.controller.events import transitions
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.licenses import ensure_documents
from brinkbyte.controller.member_licenses import obtain_licenses, write_guarded, write_secrets
from brinkbyte.controller.member_pass import Device, Pass, read_pass
from brinkbyte.controller.member_status import (
    CameraView,
    DeviceView,
    camera_status,
    device_status,
)
from brinkbyte.controller.queue import Key
from brinkbyte.controller.status import Seen, of_error, worth_writing
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError, TemporaryError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger
from brinkbyte.resources import names
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.conditions import ConditionType, Reason
from brinkbyte.resources.edge_device import EdgeDevice
from brinkbyte.resources.tenant import Tenant

_log = get_logger(__name__)

RESYNC_SECONDS: Final = 600.0
CONFLICT_SECONDS: Final = 20.0


async def reconcile(ctx: Context, key: Key) -> float | None:
    """Bring the devices and cameras of a Tenant to what they ask for.

    Returns:
        seconds until the next pass at the latest; None when there is nothing to look after.
    """
    times = [ctx.monotonic()]
    tenant_live = await ctx.cluster.get("Tenant", key.namespace, key.name)
    run = await read_pass(ctx, key)
    times.append(ctx.monotonic())
    if tenant_live is None:
        if run.devices or run.cameras:
            await _write_statuses(ctx, run, None, _no_tenant(key.name))
        return None
    try:
        tenant = Tenant.parse(tenant_live)
    except InvalidInputError:
        return None  # the Tenant's own status says so
    if tenant.deleting:
        return None
    memory = ctx.tenant(key.namespace, key.name)
    if not memory.uid:
        memory.uid = tenant.metadata.uid
    await _ensure_tokens(ctx, run)
    await _write_device_list(ctx, tenant, memory, run)
    await air_gap.write_request(ctx, run, tenant=tenant, memory=memory)
    identity = await _identity(ctx, tenant, memory)
    if identity is None:
        await _write_statuses(ctx, run, memory, _not_enrolled(memory))
        return RESYNC_SECONDS
    license_name = f"{tenant.name}{names.LICENSE_SUFFIX}"
    license_live = run.secrets.get(license_name) or await ctx.cluster.get(
        "Secret", run.namespace, license_name
    )
    documents = await ensure_documents(ctx, tenant, identity, memory, license_live)
    line = tenant.spec.billing is not None
    obtain = obtain_licenses if line else air_gap.obtain_licenses
    try:
        if line and identity.air_gap:
            raise StillAskingError("The site has got a line and is being enrolled")
        failed = await obtain(
            ctx,
            run,
            tenant=tenant,
            identity=identity,
            memory=memory,
            documents=documents,
            license_live=license_live,
        )
    except StillAskingError:
        # What is held is put right now; what is asked for is shown once somebody has answered.
        await write_secrets(ctx, run)
        return RESYNC_SECONDS
    times.append(ctx.monotonic())
    await write_secrets(ctx, run)
    times.append(ctx.monotonic())
    await _write_statuses(ctx, run, memory, None)
    times.append(ctx.monotonic())
    _log.debug(
        "pass over devices and cameras",
        tenant=key.name,
        cameras=len(run.cameras),
        read_license_secrets_status=[round(after - before, 3) for before, after in pairwise(times)],
    )
    errors = [*([failed] if failed is not None else []), *run.errors]
    for error in errors:
        if isinstance(error, TemporaryError):
            # What stands in a status need not stand in a stack trace too.
            raise TemporaryError(error.message, reason=error.reason, retry_after=error.retry_after)
    wait = max(1.0, memory.inventory.refresh_at - ctx.monotonic()) if line else RESYNC_SECONDS
    if line and _refused(memory):
        wait = min(wait, inventory.REFUSED_SECONDS)
    if errors or any(camera.conflict is not None for camera in run.cameras):
        # What stands in the way carries no label of ours: nobody tells when it goes.
        wait = min(wait, CONFLICT_SECONDS)
    return min(wait, RESYNC_SECONDS)


async def reconcile_member(ctx: Context, key: Key) -> float | None:
    """Find the Tenant of a device or camera whose Secret has lost the label that names it."""
    for live in await ctx.cluster.list(key.what, key.namespace):
        if live["metadata"]["name"] == key.name:
            ctx.add(Key("Members", key.namespace, live["spec"]["tenantRef"]["name"]), 0.0)
    return None


async def _identity(ctx: Context, tenant: Tenant, memory: TenantMemory) -> Identity | None:
    """Return the Tenant's identity; enrolling it is the Tenant's own reconcile's work."""
    known = memory.identity
    if known is None or known.uid != tenant.metadata.uid:
        known = await enrollment.load_identity(ctx, tenant.metadata.uid)
        if known is None or not known.enrolled:
            return None
        memory.identity = known
    return known if known.enrolled else None


def _refused(memory: TenantMemory) -> bool:
    known = memory.inventory
    return any(each.status == "refused" for each in known.camera_results.values()) or any(
        each.status == "refused" for each in known.device_results.values()
    )


def _no_tenant(name: str) -> Seen:
    return Seen(
        False,
        Reason.TENANT_NOT_FOUND,
        f"spec.tenantRef: there is no Tenant {name} in this namespace; create it",
    )


def _not_enrolled(memory: TenantMemory) -> Seen:
    error = memory.enrollment_error
    if error is None:
        return Seen(None, Reason.TENANT_NOT_ENROLLED, "The Tenant is being enrolled")
    if isinstance(error, TemporaryError):
        _, reason, message = of_error(error)
        return Seen(None, reason, message)
    return Seen(None, Reason.TENANT_NOT_ENROLLED, f"The Tenant is not enrolled: {error.message}")


# ---- devices' tokens ---------------------------------------------------------------------------


async def _ensure_tokens(ctx: Context, run: Pass) -> None:
    async def ensure(device: Device) -> None:
        name = f"{device.model.name}{names.DEVICE_TOKEN_SUFFIX}"
        live = run.secrets.get(name) or await ctx.cluster.get("Secret", run.namespace, name)
        made = secrets.device_credential(live)
        wanted = secrets.member_secret(
            device.model, secrets.DEVICE_TOKEN, name, made.data, hashed=True
        )
        try:
            await ctx.cluster.apply(wanted, live=live)
        except BrinkByteError as error:
            # The billing API goes on knowing the device: only its Secret is not as it should be.
            device.problem = Seen(*of_error(error))
            run.errors.append(error)
            if made.renewed:
                return
        device.token = made.data[names.DEVICE_TOKEN_KEY]
        device.rotated = (
            made.renewed
            and device.problem is None
            and device.model.status.token_secret_ref is not None
        )

    await asyncio.gather(*(ensure(device) for device in run.devices))


async def _write_device_list(ctx: Context, tenant: Tenant, memory: TenantMemory, run: Pass) -> None:
    known = [each for each in run.devices if each.blocked is None]
    name = f"{tenant.name}{names.DEVICES_SUFFIX}"
    live = run.secrets.get(name) or await ctx.cluster.get("Secret", run.namespace, name)
    wanted = secrets.tenant_secret(
        tenant,
        secrets.DEVICES,
        names.DEVICES_SUFFIX,
        {
            names.DEVICES_KEY: secrets.devices_document(
                ((each.model, each.token) for each in known if each.token),
                kept=secrets.decode(live).get(names.DEVICES_KEY, ""),
                keep=frozenset(each.model.spec.hardware_id for each in known if not each.token),
            )
        },
    )
    await write_guarded(ctx, run, memory, wanted, live=live)


# ---- statuses ----------------------------------------------------------------------------------


async def _write_statuses(
    ctx: Context, run: Pass, memory: TenantMemory | None, blocked: Seen | None
) -> None:
    known = memory or TenantMemory(Asking(ctx.monotonic), Asking(ctx.monotonic))
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
    for camera in run.cameras:
        result = known.inventory.camera_results.get(camera.model.spec.camera_id)
        shown = CameraView(
            camera=camera.model,
            now=run.now,
            hardware_id=camera.hardware_id,
            blocked=blocked or camera.blocked,
            result=result,
            error=error,
            claims=camera.claims,
            conflict=camera.conflict,
            revoked=camera.claims is not None and camera_revoked(known.documents, camera.claims),
        )
        writes.append(_write_status(ctx, camera.live, camera_status(shown), camera.model, run.now))
    await asyncio.gather(*writes)


async def _write_status(
    ctx: Context, live: Object, status: Any, model: EdgeDevice | CameraLicense, now: datetime
) -> None:
    wire = status.to_wire()
    ready = next(each for each in status.conditions if each.type == ConditionType.READY)
    ctx.metrics.condition_of(live["kind"], model.namespace, model.name, status.conditions)
    if not worth_writing(live.get("status", {}), wire, now):
        return
    await ctx.cluster.apply_status(live, wire)
    if ready.true and isinstance(model, CameraLicense):
        failpoint("issue.status_written")
    for kind, action, reason, note in transitions(model.status.conditions, status.conditions):
        ctx.events.emit(live, kind, action, reason, note)
