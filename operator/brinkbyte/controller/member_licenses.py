"""The licenses of a Tenant's cameras: asked for, verified, written into their Secrets."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import partial

from pydantic import ValidationError

from brinkbyte.client import BillingRefusedError
from brinkbyte.controller import enrollment, inventory
from brinkbyte.controller.asking import StillAskingError
from brinkbyte.controller.children import secrets
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import Documents, merge_documents
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.licenses import license_secret
from brinkbyte.controller.member_pass import Pass
from brinkbyte.controller.member_status import fits
from brinkbyte.controller.queue import Key
from brinkbyte.controller.roster import Member
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.wire import (
    InventoryAnswer,
    InventoryCamera,
    InventoryDevice,
    InventoryRequest,
)
from brinkbyte.resources import names
from brinkbyte.resources.tenant import Tenant

_log = get_logger(__name__)

SEATS_SECONDS = 3.0
"""From one list of seats in the license Secret to the next: of ten thousand it is 370 kB."""
USES_SECONDS = 2.0
"""In which the Tenant's status follows the number of seats in use."""


async def obtain_licenses(
    ctx: Context,
    run: Pass,
    todo: Sequence[Member],
    *,
    tenant: Tenant,
    identity: Identity,
    memory: TenantMemory,
    documents: Documents,
    license_live: Object | None,
) -> tuple[set[str], BrinkByteError | None]:
    """Ask for what is missing, new or changed, and take in the answer.

    Returns:
        ids of the cameras that the answer has news of; why there is none.
    """
    await _write_license(ctx, run, memory, documents, tenant=tenant, live=license_live)
    if not documents.complete:
        memory.inventory.revision = None
    other_key = documents.license is not None and documents.license.cnf.jkt != identity.key.kid
    if other_key:
        memory.inventory.revision = None
    again = Key("Members", tenant.namespace, tenant.name)
    for _attempt in range(2):
        wanted, request = _plan(ctx, run, todo, memory, documents)
        if request is not None and request.base_revision is None and memory.writing.going:
            # The complete set says what each camera holds: not before it is written.
            run.errors += await memory.writing.over()
            wanted, request = _plan(ctx, run, todo, memory, documents)
        if request is None:
            return set(), memory.inventory.error
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
            return set(), error
        ctx.metrics.billing_calls.labels("inventory", "ok").inc()
        if answer is None:
            memory.inventory.revision = None
            continue
        if answered is not wanted:
            # It is the answer to what there was a while ago.
            for member in todo:
                run.roster.news(member)
            ctx.add(again, 0.0)
        before = (memory.inventory.error, _uses(memory))
        news = inventory.take_in(
            sent,
            answered,
            answer,
            memory.inventory,
            monotonic=ctx.monotonic(),
            jitter=random.random(),  # noqa: S311 - spreads load
        )
        run.crew.told(sent)
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
            await _write_license(ctx, run, memory, merged, tenant=tenant, live=live)
        if changed:
            only_uses = problem == before[0] and merged.license == documents.license
            tenant_key = Key("Tenant", tenant.namespace, tenant.name)
            ctx.add(tenant_key, USES_SECONDS if only_uses else 0.0)
        return news, problem
    return set(), None


async def _write_license(
    ctx: Context,
    run: Pass,
    memory: TenantMemory,
    documents: Documents,
    *,
    tenant: Tenant,
    live: Object | None,
) -> None:
    """Write the license Secret; while one list of seats chases the other, not each of them."""
    wanted = license_secret(tenant, documents, live)
    if wanted is None:
        return
    ours, theirs = secrets.decode(wanted), secrets.decode(live)
    changed = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    wait = memory.seats_at - ctx.monotonic()
    if live is not None and changed == {names.SEATS_KEY} and wait > 0:
        ctx.add(Key("Members", tenant.namespace, tenant.name), wait)
        return
    await write_guarded(ctx, run, memory, wanted, live=live)
    if names.SEATS_KEY in changed:
        memory.seats_at = ctx.monotonic() + SEATS_SECONDS


def _plan(
    ctx: Context, run: Pass, todo: Sequence[Member], memory: TenantMemory, documents: Documents
) -> tuple[inventory.Wanted, InventoryRequest | None]:
    """Return what there is, as far as it has to be looked at, and what to send of it."""
    known, monotonic = memory.inventory, ctx.monotonic()
    members = run.crew.members
    if not documents.key_set:
        missing = []
    else:
        missing = [
            each
            for each in map(members.get, memory.crew.missing)
            if each is not None and not _is_being_written(each, memory)
        ]
    ids = {each.camera_id for each in todo}
    ids |= {each.camera_id for each in missing} | run.crew.gone
    ids |= inventory.refused_and_due(known, monotonic=monotonic)
    firsts = (run.crew.first(each) for each in ids)
    some = [each for each in firsts if each is not None]
    wanted = inventory.Wanted(_devices(run), _cameras(run, some), looked_at=ids)
    if inventory.complete_is_due(wanted, known, monotonic=monotonic):
        known.revision = None
        wanted = wanted_of(run)
    request = inventory.plan_request(
        wanted,
        known,
        documents.held,
        monotonic=monotonic,
        missing=[each.camera_id for each in missing],
    )
    if request is None:
        run.crew.gone.clear()  # nobody has heard of them
    return wanted, request


def _is_being_written(member: Member, memory: TenantMemory) -> bool:
    """Tell whether a license is here that is on its way into its Secret.

    One that was held already, or was written by now, is not: if it is missing, its Secret has gone.
    """
    result = memory.inventory.camera_results.get(member.camera_id)
    return member.name in memory.writing.names and result is not None and bool(result.token)


def wanted_of(run: Pass) -> inventory.Wanted:
    """Return all devices and cameras as they stand in an inventory."""
    return inventory.Wanted(_devices(run), _cameras(run, run.crew.members.values()))


def _devices(run: Pass) -> dict[str, InventoryDevice]:
    return {
        each.model.spec.hardware_id: inventory.inventory_device(each.model)
        for each in run.devices
        if each.blocked is None
    }


def _cameras(run: Pass, members: Iterable[Member]) -> dict[str, InventoryCamera]:
    found = {}
    for member in members:
        judged = run.judge(member)
        if judged.blocked is not None or judged.hardware_id is None:
            continue
        held = member.held
        fitting = held is not None and fits(member, judged.hardware_id, held)
        try:
            found[member.camera_id] = inventory.inventory_camera(
                member, judged.hardware_id, held.camera_sequence if held and fitting else 0
            )
        except ValidationError:
            continue  # stored under an older and laxer schema; its own status says so
    return found


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
    located = request.model_copy(update={"cluster_fingerprint": await ctx.cluster_fingerprint()})
    return request, wanted, await inventory.send(client, located)


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
    return (answer.device_use, answer.camera_use, answer.clone_alarm) if answer is not None else ()


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
