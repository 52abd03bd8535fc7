"""One level-triggered reconcile for all devices and cameras of a Tenant.

A pass tells the billing API what is new or changed, writes the Secrets that came back and every
status that differs. Two hundred new cameras are one pass; with ten thousand in place a pass looks
at those that have news, and now and then at all, some at a time. Where more have news than one pass
looks at, the next one asks while this one's answers are written (``writing``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from brinkbyte.controller import air_gap, enrollment, inventory
from brinkbyte.controller.asking import StillAskingError
from brinkbyte.controller.children import secrets
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import Documents
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.licenses import ensure_documents
from brinkbyte.controller.member_licenses import obtain_licenses, write_guarded
from brinkbyte.controller.member_pass import Device, Pass, read_pass
from brinkbyte.controller.member_tokens import note_missing, read_unread
from brinkbyte.controller.member_writes import (
    CHUNK,
    CONFLICT_SECONDS,
    show_all,
    show_cameras,
    show_devices,
    write_cameras,
)
from brinkbyte.controller.queue import Key
from brinkbyte.controller.roster import Member, chunks
from brinkbyte.controller.status import Seen, of_error
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError, TemporaryError
from brinkbyte.resources import names
from brinkbyte.resources.conditions import Reason
from brinkbyte.resources.tenant import Tenant

RESYNC_SECONDS: Final = 600.0
_ROSTER_SECONDS: Final = 3.0
_BATCH: Final = 1_000
"""Cameras with news that a pass asks the billing API about; more wait for the next one."""


async def reconcile(ctx: Context, key: Key) -> float | None:
    """Bring the devices and cameras of a Tenant to what they ask for.

    Returns:
        seconds until the next pass at the latest; None when there is nothing to look after.
    """
    if not await ctx.roster.ready(_ROSTER_SECONDS):
        return 1.0
    if (early := _gathering(ctx, key)) > 0:
        return early
    tenant_live = await ctx.cluster.get("Tenant", key.namespace, key.name)
    run = await read_pass(ctx, key)
    if tenant_live is None:
        run.crew.news.clear()
        await show_all(ctx, run, None, _no_tenant(key.name))
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
    _who_moved(run, memory)
    todo, begun = _next_batch(ctx, run, memory), ctx.monotonic()
    try:
        failed = await _look_at(ctx, run, todo, tenant=tenant, memory=memory)
    except StillAskingError:
        # What is asked for is shown once somebody has answered.
        _put_back(run, todo)
        return RESYNC_SECONDS
    except BaseException:
        _look_again(run, memory, todo)
        raise
    if run.crew.news:
        memory.crew.gathering.begin(len(run.crew.members), begun=begun)
        ctx.add(key, _gathering(ctx, key))
    errors = [*([failed] if failed is not None else []), *run.errors]
    for error in errors:
        if isinstance(error, TemporaryError):
            # What stands in a status need not stand in a stack trace too.
            raise TemporaryError(error.message, reason=error.reason, retry_after=error.retry_after)
    return _come_back(ctx, memory, errors, line=tenant.spec.billing is not None)


def _gathering(ctx: Context, key: Key) -> float:
    """Return seconds until the next pass of a crowd; each newcomer's event would start one."""
    memory = ctx.tenants.get((key.namespace, key.name))
    if memory is None:
        return 0.0
    crew = ctx.roster.crew(key.namespace, key.name)
    return memory.crew.gathering.seconds(crew, ctx.monotonic())


async def _look_at(
    ctx: Context, run: Pass, todo: list[Member], *, tenant: Tenant, memory: TenantMemory
) -> BrinkByteError | None:
    """Do what there is to do for devices, and for cameras that have news; return what failed."""
    identity = await _identity(ctx, tenant, memory)
    if identity is not None:
        return await _licenses(ctx, run, todo, tenant=tenant, identity=identity, memory=memory)
    run.errors += await memory.writing.over()
    blocked = _not_enrolled(memory)
    if _all_are_due(ctx, memory, ("blocked", blocked)):
        await show_all(ctx, run, memory, blocked)
        _all_were_looked_at(ctx, memory, ("blocked", blocked))
    else:
        await show_devices(ctx, run, memory, blocked)
        await show_cameras(ctx, run, memory, todo, blocked)
    return None


def _come_back(
    ctx: Context, memory: TenantMemory, errors: Iterable[BrinkByteError], *, line: bool
) -> float:
    now = ctx.monotonic()
    wait = max(1.0, memory.inventory.refresh_at - now) if line else RESYNC_SECONDS
    if line and _refused(memory):
        wait = min(wait, inventory.REFUSED_SECONDS)
    if errors or memory.crew.again:
        # What stands in the way carries no label of ours: nobody tells when it goes.
        wait = min(wait, CONFLICT_SECONDS)
    return min(wait, RESYNC_SECONDS, max(1.0, memory.crew.all_at - now))


def _who_moved(run: Pass, memory: TenantMemory) -> None:
    """Look again at the cameras of devices that came, went or changed."""
    places, before = run.places, memory.crew.places
    memory.crew.places = places
    if before is None or before == places:
        return
    moved = {name for name in places.keys() | before.keys() if places.get(name) != before.get(name)}
    run.crew.news.update(
        member.name for member in run.crew.members.values() if member.device in moved
    )


def _next_batch(ctx: Context, run: Pass, memory: TenantMemory) -> list[Member]:
    """Take the camera licenses that this pass is to look at."""
    crew, known = run.crew, memory.crew
    if known.again and ctx.monotonic() >= known.again_at:
        crew.news.update(known.again & crew.members.keys())
        known.again.clear()
    if ctx.monotonic() >= known.all_at:
        batch = sorted(crew.news)  # all are looked at anyway
    else:
        batch = sorted(crew.news, key=lambda name: (name not in crew.tampered, name))[:_BATCH]
    crew.news.difference_update(batch)
    crew.tampered &= crew.news
    return [crew.members[name] for name in batch]


def _put_back(run: Pass, todo: Iterable[Member]) -> None:
    for member in todo:
        run.roster.news(member)


def _look_again(run: Pass, memory: TenantMemory, todo: Iterable[Member]) -> None:
    """Note that a pass ended before its time: nobody knows how far it came."""
    _put_back(run, todo)
    memory.crew.all_at = 0.0


async def _licenses(
    ctx: Context,
    run: Pass,
    todo: list[Member],
    *,
    tenant: Tenant,
    identity: Identity,
    memory: TenantMemory,
) -> BrinkByteError | None:
    """Obtain, write and show the licenses of cameras that have news; return what failed."""
    license_name = f"{tenant.name}{names.LICENSE_SUFFIX}"
    license_live = run.secret(license_name) or await ctx.cluster.get(
        "Secret", run.namespace, license_name
    )
    documents = await ensure_documents(ctx, tenant, identity, memory, license_live)
    _forget_verdicts(run, memory, identity, documents)
    await read_unread(ctx, run, identity=identity, documents=documents, memory=memory)
    everybody = _all_are_due(ctx, memory, _common(identity, documents))
    note_missing(run, memory, run.crew.members.values() if everybody else todo)
    line = tenant.spec.billing is not None
    obtain = obtain_licenses if line else air_gap.obtain_licenses
    try:
        if line and identity.air_gap:
            raise StillAskingError("The site has got a line and is being enrolled")
        news, failed = await obtain(
            ctx,
            run,
            todo,
            tenant=tenant,
            identity=identity,
            memory=memory,
            documents=documents,
            license_live=license_live,
        )
    except StillAskingError:
        # What is held is put right now.
        for some in chunks(todo, CHUNK):
            await write_cameras(ctx, run, memory, some, identity=identity, show=False)
        raise
    run.errors += await memory.writing.over()
    await show_devices(ctx, run, memory, None)
    common = _common(identity, memory.documents)
    everybody = _all_are_due(ctx, memory, common)
    members = run.crew.members
    looked_at = members if everybody else _with_news(run, memory, todo, news, failed)
    some = [members[each] for each in sorted(looked_at) if each in members]
    # A pass of its own list of errors: these come when this one has told its own.
    write = _write(ctx, replace(run, errors=[]), memory, some, identity=identity)
    if line and run.crew.news and not everybody:
        memory.writing.start(write, (each.name for each in some))
        return failed
    run.errors += await write
    if everybody:
        _all_were_looked_at(ctx, memory, common)
    return failed


async def _write(
    ctx: Context, run: Pass, memory: TenantMemory, members: list[Member], *, identity: Identity
) -> list[BrinkByteError]:
    """Write the Secrets and statuses of cameras; return what could not be written."""
    try:
        for some in chunks(members, CHUNK):
            await write_cameras(ctx, run, memory, some, identity=identity)
    except BaseException:
        _look_again(run, memory, members)
        raise
    return run.errors


def _with_news(
    run: Pass,
    memory: TenantMemory,
    todo: Iterable[Member],
    news: Iterable[str],
    failed: BrinkByteError | None,
) -> set[str]:
    """Return the names of those to look at after the billing API was asked."""
    answered = (run.crew.first(each) for each in news)
    found = {each.name for each in (*todo, *answered) if each is not None}
    reason = failed.reason if failed is not None else ""
    if reason != memory.crew.error:
        memory.crew.error = reason
        found |= memory.crew.missing
    return found


def _common(identity: Identity, documents: Documents) -> tuple[object, ...]:
    """Return what every camera's status depends on."""
    revocations = documents.revocations
    return (
        identity.instance_id,
        identity.key.kid,
        documents.key_set.number if documents.key_set else 0,
        revocations.revocation_sequence if revocations else 0,
    )


def _forget_verdicts(
    run: Pass, memory: TenantMemory, identity: Identity, documents: Documents
) -> None:
    """Have every token verified again under another key set or identity."""
    verified = (identity.instance_id, identity.key.kid, documents.held.key_set_number)
    if memory.crew.verified != verified:
        memory.crew.verified = verified
        for member in run.crew.members.values():
            member.unread = True


def _all_are_due(ctx: Context, memory: TenantMemory, shown: tuple[object, ...]) -> bool:
    return memory.crew.shown != shown or ctx.monotonic() >= memory.crew.all_at


def _all_were_looked_at(ctx: Context, memory: TenantMemory, shown: tuple[object, ...]) -> None:
    memory.crew.shown = shown
    memory.crew.all_at = ctx.monotonic() + RESYNC_SECONDS


async def reconcile_member(ctx: Context, key: Key) -> float | None:
    """Find the Tenant of a device or camera whose Secret has lost the label that names it."""
    live = await ctx.cluster.get(key.what, key.namespace, key.name)
    if live is not None:
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
        live = run.secret(name) or await ctx.cluster.get("Secret", run.namespace, name)
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
    live = run.secret(name) or await ctx.cluster.get("Secret", run.namespace, name)
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
