"""The licenses of a Tenant's cameras: asked for, verified, written into their Secrets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Set
from functools import partial
from typing import Final

from brinkbyte.client import BillingRefusedError
from brinkbyte.controller import enrollment, inventory
from brinkbyte.controller.asking import StillAskingError
from brinkbyte.controller.children import secrets
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import Documents, merge_documents
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.licenses import license_secret
from brinkbyte.controller.member_pass import Camera, Pass
from brinkbyte.controller.member_status import fits
from brinkbyte.controller.queue import Key
from brinkbyte.kit.errors import BrinkByteError, TemporaryError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.tokens import TokenError
from brinkbyte.license.wire import InventoryAnswer, InventoryRequest
from brinkbyte.resources import names
from brinkbyte.resources.tenant import Tenant

_log = get_logger(__name__)

_MANY: Final = 4
"""From here on one list of names is cheaper than asking for each Secret."""


async def obtain_licenses(
    ctx: Context,
    run: Pass,
    *,
    tenant: Tenant,
    identity: Identity,
    memory: TenantMemory,
    documents: Documents,
    license_live: Object | None,
) -> BrinkByteError | None:
    """Read the tokens held, ask for what is missing, new or changed, take in the answer."""
    await read_camera_tokens(ctx, identity, documents, memory, run)
    take_tokens(ctx, identity, documents, memory, run)
    wanted_secret = license_secret(tenant, documents, license_live)
    await write_guarded(ctx, run, memory, wanted_secret, live=license_live)
    if not documents.complete:
        memory.inventory.revision = None
    other_key = documents.license is not None and documents.license.cnf.jkt != identity.key.kid
    if other_key:
        memory.inventory.revision = None
    again = Key("Members", tenant.namespace, tenant.name)
    for _attempt in range(2):
        wanted = wanted_of(run)
        request = inventory.plan_request(
            wanted,
            memory.inventory,
            documents.held,
            monotonic=ctx.monotonic(),
            missing=_missing(run, memory) if documents.key_set else (),
        )
        if request is None:
            return memory.inventory.error
        try:
            sent, answered, answer = await memory.taking_inventory.ask(
                partial(_talk, ctx, identity, request, wanted, register=other_key),
                about=(identity.instance_id, identity.billing_url, identity.ca, identity.key.kid),
                wake=lambda: ctx.add(again, 0.0),
            )
        except StillAskingError:
            raise
        except BrinkByteError as error:
            ctx.metrics.billing_calls.labels("inventory", "error").inc()
            await _failed(ctx, tenant, identity, memory, error)
            return error
        ctx.metrics.billing_calls.labels("inventory", "ok").inc()
        if answer is None:
            memory.inventory.revision = None
            continue
        if answered is not wanted:
            ctx.add(again, 0.0)  # it is the answer to what there was a while ago
        before = (memory.inventory.error, _uses(memory))
        inventory.take_in(
            sent,
            answered,
            answer,
            memory.inventory,
            monotonic=ctx.monotonic(),
            jitter=random.random(),  # noqa: S311 - spreads load
        )
        merged = merge_documents(
            documents, answer, ctx.roots.keys, instance=identity.instance_id, now=ctx.now
        )
        problem = next(iter(merged.problems.values()), None)
        memory.inventory.error = problem
        changed = merged.texts != documents.texts or before != (problem, _uses(memory))
        memory.documents = merged
        if merged.texts != documents.texts:
            name = f"{tenant.name}{names.LICENSE_SUFFIX}"
            live = await ctx.cluster.get("Secret", tenant.namespace, name)
            wanted_secret = license_secret(tenant, merged, live)
            await write_guarded(ctx, run, memory, wanted_secret, live=live)
        take_tokens(ctx, identity, merged, memory, run)
        if changed:
            ctx.add(Key("Tenant", tenant.namespace, tenant.name), 0.0)
        return problem
    return None


async def _talk(
    ctx: Context,
    identity: Identity,
    request: InventoryRequest,
    wanted: inventory.Wanted,
    *,
    register: bool,
) -> tuple[InventoryRequest, inventory.Wanted, InventoryAnswer | None]:
    """Send an inventory, a new key pair before it; return what was sent and the answer."""
    if register:
        await enrollment.register_key(ctx, identity)
    client = enrollment.billing_client(ctx, identity)
    return request, wanted, await inventory.send(client, request)


async def write_guarded(
    ctx: Context, run: Pass, memory: TenantMemory, wanted: Object | None, *, live: Object | None
) -> None:
    """Write a Secret of the Tenant; the Tenant shows why it cannot be written."""
    if wanted is None:
        return
    meta = wanted["metadata"]
    component = meta["labels"][names.LABEL_COMPONENT]
    before = memory.unwritten.pop(component, None)
    try:
        if live is None:
            live = await ctx.cluster.get("Secret", meta["namespace"], meta["name"])
        await ctx.cluster.apply(wanted, live=live)
    except BrinkByteError as error:
        run.errors.append(error)
        memory.unwritten[component] = error
    after = memory.unwritten.get(component)
    if (before.reason if before else "") != (after.reason if after else ""):
        ctx.add(Key("Tenant", run.namespace, run.name), 0.0)


def _uses(memory: TenantMemory) -> tuple[object, ...]:
    answer = memory.inventory.answer
    return (answer.device_use, answer.camera_use) if answer is not None else ()


async def _failed(
    ctx: Context,
    tenant: Tenant,
    identity: Identity,
    memory: TenantMemory,
    error: BrinkByteError,
) -> None:
    inventory.lose(memory.inventory)
    first = memory.inventory.error is None or memory.inventory.error.reason != error.reason
    memory.inventory.error = error
    refused = isinstance(error, BillingRefusedError) and (
        error.status == 401 or error.reason == "InstanceEnded"
    )
    if refused:
        try:
            if await enrollment.reenroll_if_renewed(ctx, tenant, memory, identity):
                first = True
        except BrinkByteError as why:
            _log.info("not enrolled again", tenant=tenant.name, error=why.message)
    if first:
        ctx.add(Key("Tenant", tenant.namespace, tenant.name), 0.0)


async def read_camera_tokens(
    ctx: Context, identity: Identity, documents: Documents, memory: TenantMemory, run: Pass
) -> None:
    """Verify the tokens that the cameras' Secrets hold."""
    for camera in run.cameras:
        name = camera.model.secret_name
        live = run.secrets.get(name)
        if live is None and camera.model.status.secret_ref is not None:
            # Written before: its labels may have been taken away.
            live = await ctx.cluster.get("Secret", run.namespace, name)
            if live is not None:
                run.secrets[name] = live
        token = secrets.decode(live).get(names.CAMERA_TOKEN_KEY, "")
        if not token or documents.key_set is None:
            continue
        try:
            claims = ctx.camera_tokens.verify(
                token, documents.key_set, instance=identity.instance_id, now=ctx.now
            )
        except TokenError as error:
            # Another takes its place as soon as the billing API can be asked.
            if memory.newly_told(name, token):
                ctx.events.emit(
                    camera.live,
                    "Warning",
                    "Issued",
                    error.reason,
                    f"{names.CAMERA_TOKEN_KEY} in Secret {name} is not good: {error.message}",
                )
            continue
        if claims.camera_id == camera.model.spec.camera_id and claims.cnf.jkt == identity.key.kid:
            camera.claims, camera.token = claims, token


def wanted_of(run: Pass) -> inventory.Wanted:
    """Return devices and cameras as they stand in an inventory."""
    return inventory.Wanted(
        devices={
            each.model.spec.hardware_id: inventory.inventory_device(each.model)
            for each in run.devices
            if each.blocked is None
        },
        cameras={
            each.model.spec.camera_id: inventory.inventory_camera(
                each.model,
                each.hardware_id,
                each.claims.camera_sequence
                if each.claims and fits(each.model, each.hardware_id, each.claims)
                else 0,
            )
            for each in run.cameras
            if each.blocked is None and each.hardware_id is not None
        },
    )


def _missing(run: Pass, memory: TenantMemory) -> list[str]:
    """Return cameras that should have a token that fits and have none."""
    found = []
    for camera in run.cameras:
        if camera.blocked is not None:
            continue
        result = memory.inventory.camera_results.get(camera.model.spec.camera_id)
        refused = result is not None and result.status == "refused"
        held = camera.claims is not None and fits(camera.model, camera.hardware_id, camera.claims)
        if not refused and not held:
            found.append(camera.model.spec.camera_id)
    return found


def take_tokens(
    ctx: Context, identity: Identity, documents: Documents, memory: TenantMemory, run: Pass
) -> None:
    """Take the tokens of the newest answer where they are newer than what is held."""
    if documents.key_set is None:
        return
    for camera in run.cameras:
        result = memory.inventory.camera_results.get(camera.model.spec.camera_id)
        if camera.blocked is not None or result is None or not result.token:
            continue
        try:
            claims = ctx.camera_tokens.verify(
                result.token, documents.key_set, instance=identity.instance_id, now=ctx.now
            )
        except TokenError as error:
            camera.conflict = error
            continue
        if camera.claims is None or claims.camera_sequence >= camera.claims.camera_sequence:
            camera.claims, camera.token = claims, result.token


async def write_secrets(ctx: Context, run: Pass) -> None:
    """Write every camera's token into its Secret; a Secret that is not ours is a conflict."""
    unknown = {
        camera.model.secret_name
        for camera in run.cameras
        if camera.token and camera.model.secret_name not in run.secrets
    }
    taken: Set[str] = unknown
    if len(unknown) > _MANY:
        taken = await ctx.cluster.names("Secret", run.namespace)

    async def write(camera: Camera) -> None:
        if not camera.token:
            return
        name = camera.model.secret_name
        live = run.secrets.get(name)
        if live is None and name in taken:
            live = await ctx.cluster.get("Secret", run.namespace, name)
        wanted = secrets.member_secret(
            camera.model,
            secrets.CAMERA_LICENSE,
            name,
            {names.CAMERA_TOKEN_KEY: camera.token},
        )
        try:
            await ctx.cluster.apply(wanted, live=live)
        except BrinkByteError as error:
            camera.conflict = error
            if isinstance(error, TemporaryError):
                run.errors.append(error)
            return
        failpoint("issue.secret_written")

    await asyncio.gather(*(write(camera) for camera in run.cameras))
    await _remove_former_secrets(ctx, run)


async def _remove_former_secrets(ctx: Context, run: Pass) -> None:
    """Delete the Secret that a CameraLicense had under a former ``secretName``."""
    wanted = {camera.model.metadata.uid: camera for camera in run.cameras}
    for name, live in run.secrets.items():
        meta = live["metadata"]
        if meta.get("labels", {}).get(names.LABEL_COMPONENT) != secrets.CAMERA_LICENSE:
            continue
        for owner in meta.get("ownerReferences", ()):
            camera = wanted.get(owner.get("uid", ""))
            moved = camera is not None and camera.model.secret_name != name
            if moved and camera is not None and camera.token and camera.conflict is None:
                await ctx.cluster.delete("Secret", run.namespace, name, uid=meta["uid"])
