"""One level-triggered reconcile for a Tenant: identity, Secrets, children, status."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from brinkbyte.controller import air_gap, enrollment, finalize, instance_poll, volumes
from brinkbyte.controller.asking import StillAskingError
from brinkbyte.controller.children import build, common, secrets
from brinkbyte.controller.children.common import Plan
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.events import transitions
from brinkbyte.controller.invalid import write_invalid
from brinkbyte.controller.licenses import ensure_documents
from brinkbyte.controller.ownership import controller_of
from brinkbyte.controller.queue import Key
from brinkbyte.controller.status import (
    METERING_SECONDS,
    Seen,
    TenantView,
    tenant_status,
    workload_seen,
    worth_writing,
)
from brinkbyte.controller.tenant_pass import (
    CHILD_KINDS,
    TenantPass,
    autoscaled,
    billing_address,
    read_children,
)
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError, PermanentError, TemporaryError
from brinkbyte.kit.logging import get_logger
from brinkbyte.resources import names
from brinkbyte.resources.conditions import ConditionType, Reason
from brinkbyte.resources.defaults import ResolvedTenant, resolve
from brinkbyte.resources.tenant import Tenant

_log = get_logger(__name__)

RESYNC_SECONDS: Final = 600.0
_NOT_READY_SECONDS: Final = 10.0
_REFUSED_SECONDS: Final = 20.0
_PRUNED_KINDS: Final = frozenset(CHILD_KINDS) - {"Secret", "PersistentVolumeClaim"}
_INSTANCE_PARTS: Final = (common.INSTANCE, secrets.ACCESS, secrets.IDENTITY, secrets.DEVICES)
"""Components without which the instance does not do its job."""
_WORKLOADS: Final = {
    ConditionType.POSTGRES_READY: ("StatefulSet", common.POSTGRES, "PostgreSQL"),
    ConditionType.REDIS_READY: ("StatefulSet", common.REDIS, "Redis"),
    ConditionType.TRITON_READY: ("Deployment", common.TRITON, "Triton"),
    ConditionType.INSTANCE_READY: ("Deployment", common.INSTANCE, "The instance"),
}


async def reconcile(ctx: Context, key: Key) -> float | None:
    """Bring a Tenant to what it asks for.

    Returns:
        seconds until the next reconcile at the latest; None when the Tenant is gone.
    """
    live = await ctx.cluster.get("Tenant", key.namespace, key.name)
    if live is None:
        await ctx.forget(key.namespace, key.name)
        return None
    try:
        tenant = Tenant.parse(live)
    except InvalidInputError as error:
        if live["metadata"].get("deletionTimestamp"):
            return await finalize.finalize(ctx, live, None, ctx.tenant(key.namespace, key.name))
        await write_invalid(ctx, live, error)
        return RESYNC_SECONDS
    memory = ctx.tenant(key.namespace, key.name)
    if memory.uid != tenant.metadata.uid:
        await ctx.forget(key.namespace, key.name)
        memory = ctx.tenant(key.namespace, key.name)
        memory.uid = tenant.metadata.uid
    if tenant.deleting:
        return await finalize.finalize(ctx, live, tenant, memory)
    await _ensure_finalizer(ctx, live, tenant)
    failure = await _identity(ctx, tenant, memory)
    run = TenantPass(tenant, live, children=await read_children(ctx, tenant))
    resolved = await _provision(ctx, run, memory)
    view = await _observe(ctx, run, memory, resolved, failure)
    await _write_status(ctx, run, view, memory)
    ctx.add(Key("State", key.namespace, key.name), instance_poll.PERIOD_SECONDS)
    return _come_back(ctx, view, memory, run, failure)


def _come_back(
    ctx: Context,
    view: TenantView,
    memory: TenantMemory,
    run: TenantPass,
    failure: BrinkByteError | None,
) -> float:
    for error in (failure, *run.errors.values()):
        if isinstance(error, TemporaryError):
            raise TemporaryError(error.message, reason=error.reason, retry_after=error.retry_after)
    if failure is not None or run.errors:
        return _REFUSED_SECONDS
    if view.drift is not None:
        return max(1.0, memory.drift_until - ctx.monotonic())
    if any(each.ready is not True for each in view.components.values()):
        return _NOT_READY_SECONDS
    return RESYNC_SECONDS


async def _ensure_finalizer(ctx: Context, live: Object, tenant: Tenant) -> None:
    if names.FINALIZER in tenant.metadata.finalizers:
        return
    await ctx.cluster.patch(
        "Tenant",
        tenant.namespace,
        tenant.name,
        {
            "metadata": {
                "finalizers": [*tenant.metadata.finalizers, names.FINALIZER],
                "resourceVersion": live["metadata"]["resourceVersion"],
            }
        },
    )


# ---- identity ----------------------------------------------------------------------------------


async def _identity(ctx: Context, tenant: Tenant, memory: TenantMemory) -> BrinkByteError | None:
    """Enroll if need be; return why there is no (current) identity."""
    before = memory.identity
    failed_before = memory.enrollment_error
    again = Key("Tenant", tenant.namespace, tenant.name)
    try:
        if tenant.spec.billing is None:
            await air_gap.ensure_identity(ctx, tenant, memory)
        else:
            await enrollment.ensure_identity(ctx, tenant, memory, lambda: ctx.add(again, 0.0))
        memory.enrollment_error = None
    except StillAskingError:
        pass  # what was known of it stays
    except BrinkByteError as error:
        memory.enrollment_error = error
    billing = tenant.spec.billing
    memory.bundle_secret = air_gap.bundle_secret(tenant)
    memory.ca_secret = billing.ca_secret_ref.name if billing and billing.ca_secret_ref else ""
    failed = memory.enrollment_error
    reason_changed = (failed.reason if failed else "") != (
        failed_before.reason if failed_before else ""
    )
    identity, moved = memory.identity, False
    if identity is not None and before is not None:
        moved = (identity.billing_url, identity.ca) != (before.billing_url, before.ca)
    if moved:
        # Whoever answers there now has to hear of everything.
        memory.inventory.revision = None
    if memory.identity != before or reason_changed:
        ctx.add(Key("Members", tenant.namespace, tenant.name), 0.0)
    return failed


# ---- children ----------------------------------------------------------------------------------


async def _provision(ctx: Context, run: TenantPass, memory: TenantMemory) -> ResolvedTenant:
    tenant = run.tenant
    live_sets = {
        component: run.child("StatefulSet", component)
        for component in (common.POSTGRES, common.REDIS)
    }
    taken = tenant.status.resolved
    adjusted = volumes.adjust(
        resolve(tenant.spec, ctx.settings.images),
        live_sets,
        running=taken.postgres_image if taken else None,
    )
    if adjusted.grow and not tenant.spec.paused:
        grown = await volumes.grow_volumes(ctx.cluster, adjusted, live_sets)
        if grown.resolved != adjusted.resolved:
            run.children = await read_children(ctx, tenant)
        adjusted = grown
    run.notes = adjusted.notes
    _retained_conflict(run)
    plan = _plan(ctx, run, adjusted.resolved)
    hashes = await _credentials(ctx, run, memory, plan)
    plan = _plan(ctx, run, adjusted.resolved, hashes)
    wanted = build(plan)
    if tenant.spec.paused:
        # Metering is never paused.
        wanted = [
            each
            for each in wanted
            if each["metadata"]["labels"][names.LABEL_COMPONENT] == common.REPORTER
        ]
    await asyncio.gather(
        *(_apply(ctx, run, each) for each in wanted if not _without_credential(run, each))
    )
    if not tenant.spec.paused:
        await _prune(ctx, run, wanted)
    return adjusted.resolved


def _without_credential(run: TenantPass, child: Object) -> bool:
    """Tell whether a workload needs a credential whose Secret could not be written.

    It keeps what it has: a value that stands in no Secret would restart it for nothing.
    """
    component = child["metadata"]["labels"][names.LABEL_COMPONENT]
    if child["kind"] not in {"StatefulSet", "Deployment"}:
        return False
    return component in run.unwritten or (component == common.INSTANCE and bool(run.unwritten))


def _plan(
    ctx: Context,
    run: TenantPass,
    resolved: ResolvedTenant,
    hashes: Mapping[str, str] | None = None,
) -> Plan:
    billing = run.tenant.spec.billing
    port, namespace = billing_address(billing.url) if billing else (None, "")
    return Plan(
        tenant=run.tenant,
        resolved=resolved,
        operator_namespace=ctx.settings.operator_namespace,
        operator_pod_name=ctx.settings.operator_pod_name,
        credential_hashes=hashes or {},
        billing_port=port,
        billing_namespace=namespace,
        image_pull_policy=ctx.settings.image_pull_policy,
        instance_replicas=not autoscaled(run.child("Deployment", common.INSTANCE)),
    )


def _retained_conflict(run: TenantPass) -> None:
    """Refuse data that a Tenant of this name but of another customer has left."""
    tenant = run.tenant
    for (kind, name), live in run.children.items():
        labels = live["metadata"].get("labels", {})
        kept = kind == "PersistentVolumeClaim" or (kind == "Secret" and not controller_of(live))
        theirs = labels.get(names.LABEL_CUSTOMER)
        if kept and theirs and theirs != tenant.spec.customer_id:
            component = labels.get(names.LABEL_COMPONENT, common.POSTGRES)
            conflict = PermanentError(
                f"{kind} {name} holds data of customer {theirs}, kept by deletionPolicy Retain. "
                "Give this Tenant another name, or delete that data",
                reason=Reason.RETAINED_DATA_CONFLICT,
            )
            # Nor may an instance run that would be opened by the former customer's tokens.
            run.errors |= dict.fromkeys((component, common.POSTGRES, common.INSTANCE), conflict)


async def _credentials(
    ctx: Context, run: TenantPass, memory: TenantMemory, plan: Plan
) -> dict[str, str]:
    tenant = run.tenant

    async def live(suffix: str) -> Object | None:
        name = f"{tenant.name}{suffix}"
        known = run.children.get(("Secret", name))
        return known or await ctx.cluster.get("Secret", tenant.namespace, name)

    made: dict[str, secrets.Generated] = {}
    for component, suffix in (
        (common.POSTGRES, names.POSTGRES_SUFFIX),
        (common.REDIS, names.REDIS_SUFFIX),
        (common.TRITON, names.TRITON_SUFFIX),
        (secrets.ACCESS, names.ACCESS_SUFFIX),
    ):
        existing = await live(suffix)
        if (
            existing is not None
            and tenant.spec.paused
            and run.child("StatefulSet", common.POSTGRES)
        ):
            # Whoever uses the value could not be told of another one.
            made[component] = secrets.as_it_is(existing)
            continue
        if component == common.POSTGRES:
            generated = secrets.postgres_credential(existing, plan)
        elif component == common.REDIS:
            generated = secrets.redis_credential(existing, plan)
        elif component == common.TRITON:
            generated = secrets.triton_credential(existing)
        else:
            generated = secrets.access_credential(existing)
        made[component] = generated
        wanted = secrets.tenant_secret(tenant, component, suffix, generated.data, hashed=True)
        if not await _apply(ctx, run, wanted, live=existing):
            run.unwritten.add(component)
        elif generated.renewed and existing is not None:
            ctx.events.emit(
                run.live,
                "Normal",
                "Rotate",
                "CredentialRotated",
                f"The values of Secret {tenant.name}{suffix} had been changed; made anew",
            )
    if secrets.ACCESS not in run.unwritten:
        memory.operator_token = made[secrets.ACCESS].data.get(names.OPERATOR_TOKEN_KEY, "")
    identity = memory.identity
    known = identity is not None and (identity.enrolled or identity.air_gap)
    if known and identity is not None and identity.uid == tenant.metadata.uid:
        data = identity.to_identity_secret(await ctx.cluster_fingerprint())
        wanted = secrets.tenant_secret(tenant, secrets.IDENTITY, names.IDENTITY_SUFFIX, data)
        await _apply(ctx, run, wanted, live=await live(names.IDENTITY_SUFFIX))
    return {
        component: generated.hash
        for component, generated in made.items()
        if component != secrets.ACCESS
    }


async def _apply(
    ctx: Context, run: TenantPass, wanted: Object, *, live: Object | None = None
) -> bool:
    """Bring one child to what is wanted; return whether it is so now."""
    meta = wanted["metadata"]
    component = meta["labels"][names.LABEL_COMPONENT]
    if component in run.errors and run.errors[component].reason == Reason.RETAINED_DATA_CONFLICT:
        return False
    key = (wanted["kind"], meta["name"])
    try:
        existing = live or run.children.get(key)
        if existing is None:
            existing = await ctx.cluster.get(key[0], meta["namespace"], meta["name"])
        run.children[key] = await ctx.cluster.apply(wanted, live=existing)
    except BrinkByteError as error:
        run.errors[component] = error
        _log.warning("child not applied", kind=key[0], name=key[1], error=error.message)
        return False
    return True


async def _prune(ctx: Context, run: TenantPass, wanted: list[Object]) -> None:
    keep = {(each["kind"], each["metadata"]["name"]) for each in wanted}
    uid = run.tenant.metadata.uid
    for (kind, name), live in list(run.children.items()):
        owner = controller_of(live)
        ours = owner is not None and owner.get("uid") == uid
        if kind in _PRUNED_KINDS and ours and (kind, name) not in keep:
            _log.info("child is no longer wanted", kind=kind, name=name)
            await ctx.cluster.delete(kind, run.tenant.namespace, name, uid=live["metadata"]["uid"])


# ---- status ------------------------------------------------------------------------------------


async def _observe(
    ctx: Context,
    run: TenantPass,
    memory: TenantMemory,
    resolved: ResolvedTenant,
    failure: BrinkByteError | None,
) -> TenantView:
    if secrets.DEVICES in memory.unwritten:
        run.errors.setdefault(secrets.DEVICES, memory.unwritten[secrets.DEVICES])
    components = {}
    for kind, (workload_kind, component, title) in _WORKLOADS.items():
        components[kind] = await _seen(ctx, run, workload_kind, component, title)
    service = run.child("Service", common.INSTANCE)
    address = (service or {}).get("spec", {}).get("clusterIP", "")
    up = components[ConditionType.INSTANCE_READY].ready is True or memory.state is not None
    memory.instance_url = ""
    if address and up:
        host = f"[{address}]" if ":" in address else address
        memory.instance_url = f"http://{host}:{names.INSTANCE_PORT}"
    if components[ConditionType.INSTANCE_READY].ready and not memory.asked:
        key = Key("State", run.tenant.namespace, run.tenant.name)
        await instance_poll.ask(ctx, key, memory)
    memory.shown = instance_poll.summary(memory)
    identity = memory.identity
    if identity is not None and memory.documents.license is None:
        # After a start: the pass that reads them for the cameras waits for the list of all cameras.
        live = run.children.get(("Secret", f"{run.tenant.name}{names.LICENSE_SUFFIX}"))
        await ensure_documents(ctx, run.tenant, identity, memory, live)
    answer = memory.inventory.answer
    drifted = memory.drift is not None and ctx.monotonic() < memory.drift_until
    claims = memory.documents.license
    if claims is not None:
        gauge = ctx.metrics.license_expiry.labels(run.tenant.namespace, run.tenant.name)
        gauge.set(claims.exp)
    return TenantView(
        tenant=run.tenant,
        resolved=resolved,
        components=components,
        now=datetime.fromtimestamp(ctx.now, UTC),
        enrolled=identity is not None and identity.enrolled,
        instance_id=identity.instance_id if identity else "",
        error=failure or memory.inventory.error,
        drift=memory.drift if drifted else None,
        undelivered=memory.unwritten.get(secrets.LICENSE),
        reporter=_refused(run.errors[common.REPORTER]) if common.REPORTER in run.errors else None,
        documents=memory.documents,
        development_root=ctx.roots.development,
        device_use=answer.device_use if answer else None,
        camera_use=answer.camera_use if answer else None,
        asked=memory.asked,
        state=memory.state,
        state_error=memory.state_error,
        clone_alarm=instance_poll.clone_alarm(memory, ctx.now),
    )


async def _seen(ctx: Context, run: TenantPass, kind: str, component: str, title: str) -> Seen:
    external = {
        common.POSTGRES: run.tenant.spec.postgres.external,
        common.REDIS: run.tenant.spec.redis.external,
    }.get(component)
    if external is not None:
        return Seen(
            False,
            Reason.NOT_SUPPORTED,
            f"spec.{component}.external is not supported by this release: remove it",
        )
    parts = _INSTANCE_PARTS if component == common.INSTANCE else (component,)
    error = next((run.errors[each] for each in parts if each in run.errors), None)
    if error is not None:
        return _refused(error)
    workload = run.child(kind, component)
    seen = workload_seen(title, workload, ())
    if seen.ready is not True and workload is not None:
        selector = common.query(common.selector(run.tenant.name, component))
        pods = await ctx.cluster.list("Pod", run.tenant.namespace, labels=selector)
        seen = workload_seen(title, workload, pods)
    return run.notes.get(component, seen) if seen.ready else seen


def _refused(error: BrinkByteError) -> Seen:
    """Return what is seen of a component of which something could not be written."""
    if isinstance(error, TemporaryError):
        return Seen(None, Reason.PENDING, error.message)
    refused = error.reason == "KubernetesRefused"
    return Seen(False, Reason.CHILD_REFUSED if refused else error.reason, error.message)


async def _write_status(
    ctx: Context, run: TenantPass, view: TenantView, memory: TenantMemory
) -> None:
    status = tenant_status(view)
    wire = status.to_wire()
    tenant = run.tenant
    ctx.metrics.condition_of(tenant.KIND, tenant.namespace, tenant.name, status.conditions)
    before = run.live.get("status", {})
    # Without a line there is no report whose time would say how old the figures are.
    figures = tenant.spec.billing is None and before.get("metering") != wire.get("metering")
    due = figures and ctx.monotonic() >= memory.figures_at
    if not due and not worth_writing(before, wire, view.now):
        return
    memory.figures_at = ctx.monotonic() + METERING_SECONDS
    await ctx.cluster.apply_status(run.live, wire)
    for kind, action, reason, note in transitions(tenant.status.conditions, status.conditions):
        ctx.events.emit(run.live, kind, action, reason, note)
