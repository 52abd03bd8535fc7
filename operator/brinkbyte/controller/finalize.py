"""A Tenant goes: its seats are freed, its data kept or removed, its finalizer let go in time.

Only ``deletionPolicy: Delete`` waits, for receipts, and never beyond the limit. Ending the instance
at the billing API needs no waiting: the record in the operator's namespace remembers it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Final

from brinkbyte.controller import enrollment
from brinkbyte.controller.children import common, reporter, secrets
from brinkbyte.controller.children.common import Plan
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.ownership import controller_of
from brinkbyte.controller.queue import Key
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.resources import names
from brinkbyte.resources.defaults import resolve
from brinkbyte.resources.tenant import DeletionPolicy, Tenant

_log = get_logger(__name__)

WAIT_SECONDS: Final = 230
"""How long ``Delete`` waits for receipts; the finalizer must go within 300."""
_QUICK_SECONDS: Final = 5.0
_FINAL_SUFFIX: Final = "-btn-final"
_AGAIN_SECONDS: Final = 3.0


async def finalize(
    ctx: Context, live: Object, tenant: Tenant | None, memory: TenantMemory
) -> float | None:
    """Do what is left before a Tenant may go.

    Args:
        ctx: dependencies.
        live: the object.
        tenant: the same, parsed; None when it cannot be read: then its data stays.
        memory: of the Tenant.

    Returns:
        seconds until the next look, None when it may go.
    """
    meta = live["metadata"]
    if names.FINALIZER not in meta.get("finalizers", ()):
        return None
    memory.drop()
    late = ctx.now - _seconds(meta["deletionTimestamp"]) >= WAIT_SECONDS
    try:
        wait = await _data(ctx, live, tenant, late=late) if tenant is not None else None
        if wait is not None:
            return wait
        identity = memory.identity or await enrollment.load_identity(ctx, meta["uid"])
        if identity is not None:
            await _end(ctx, identity)
    except BrinkByteError as error:
        if not late:
            raise
        # Whatever it is, the finalizer must not hold the namespace up.
        _log.warning("not everything is tidied up", tenant=meta["name"], error=error.message)
    await _release(ctx, live)
    return None


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


async def _data(ctx: Context, live: Object, tenant: Tenant, *, late: bool) -> float | None:
    """Remove the data if that is wanted and everything has its receipt.

    Returns:
        seconds until the next look, None when there is nothing to wait for (any more).
    """
    if tenant.spec.deletion_policy is not DeletionPolicy.DELETE:
        return None
    try:
        done = await _drained(ctx, tenant)
    except BrinkByteError as error:
        _log.warning("cannot remove the data yet", tenant=tenant.name, error=error.message)
        done = False
    if done:
        await _remove_data(ctx, tenant)
    elif not late:
        return _AGAIN_SECONDS
    else:
        ctx.events.emit(
            live,
            "Warning",
            "Delete",
            "DataKept",
            "Usage events still have no receipt, so the data stays as under deletionPolicy "
            "Retain. Create the Tenant again to report them, or delete the volumes yourself",
        )
    return None


async def _end(ctx: Context, identity: Identity) -> None:
    """Note that the instance is to be ended, and try once, briefly."""
    ending = replace(identity, ending=True)
    await enrollment.save_identity(ctx, ending)
    try:
        async with asyncio.timeout(_QUICK_SECONDS):
            await enrollment.end_instance(ctx, ending)
    except (BrinkByteError, TimeoutError) as error:
        _log.info("instance is ended later", instance=ending.instance_id, error=str(error))
        ctx.add(Key("Identity", ctx.settings.operator_namespace, ending.record_name), 5.0)


async def _release(ctx: Context, live: Object) -> None:
    meta = live["metadata"]
    left = [each for each in meta.get("finalizers", ()) if each != names.FINALIZER]
    await ctx.cluster.patch(
        "Tenant",
        meta["namespace"],
        meta["name"],
        {"metadata": {"finalizers": left or None, "resourceVersion": meta["resourceVersion"]}},
    )


async def reconcile_identity(ctx: Context, key: Key) -> float | None:
    """End the instance of a record whose Tenant is gone; runs until the billing API has heard."""
    live = await ctx.cluster.get("Secret", key.namespace, key.name)
    identity = Identity.from_data(secrets.decode(live)) if live else None
    if identity is None:
        return None
    tenant = await ctx.cluster.get("Tenant", identity.namespace, identity.name)
    if tenant is not None and tenant["metadata"]["uid"] == identity.uid:
        return None
    await enrollment.end_instance(ctx, identity)
    return None


# ---- deletionPolicy Delete ---------------------------------------------------------------------


async def _drained(ctx: Context, tenant: Tenant) -> bool:
    """Stop the instance, then report until everything has its receipt.

    Nothing can write an event once the instance's pods are gone; a last Job of the reporter that
    ends well has then had a receipt for every one.
    """
    namespace = tenant.namespace
    if not await ctx.cluster.list("PersistentVolumeClaim", namespace, labels=_of_data(tenant)):
        return True  # it never had a database
    deployment = f"{tenant.name}{names.INSTANCE_SUFFIX}"
    await ctx.cluster.patch("Deployment", namespace, deployment, {"spec": {"replicas": 0}})
    cron_job = f"{tenant.name}{names.REPORTER_SUFFIX}"
    await ctx.cluster.patch("CronJob", namespace, cron_job, {"spec": {"suspend": True}})
    if await _pods(ctx, tenant, common.INSTANCE):
        return False
    name = f"{tenant.name}{_FINAL_SUFFIX}"
    job = await ctx.cluster.get("Job", namespace, name)
    owner = controller_of(job) if job is not None else None
    if job is not None and (owner is None or owner.get("uid") != tenant.metadata.uid):
        # A former Tenant's: what it reported says nothing about this one's events.
        await ctx.cluster.delete("Job", namespace, name, uid=job["metadata"]["uid"])
        return False
    if job is None:
        if await _reporting(ctx, tenant):
            return False
        await ctx.cluster.apply(_final_job(ctx, tenant, name), live=None)
        return False
    status = job.get("status", {})
    if status.get("succeeded"):
        return True
    if any(
        each.get("type") == "Failed" and each.get("status") == "True"
        for each in status.get("conditions", ())
    ):
        await ctx.cluster.delete("Job", namespace, name, uid=job["metadata"]["uid"])
    return False


async def _reporting(ctx: Context, tenant: Tenant) -> bool:
    """Tell whether a Job of the reporter is under way, its pod there or not."""
    jobs = await ctx.cluster.list(
        "Job", tenant.namespace, labels=_selector(tenant, common.REPORTER)
    )
    return any(
        not any(
            each.get("type") in {"Complete", "Failed"} and each.get("status") == "True"
            for each in job.get("status", {}).get("conditions", ())
        )
        for job in jobs
    )


def _selector(tenant: Tenant, component: str) -> str:
    return common.query(common.selector(tenant.name, component))


def _of_data(tenant: Tenant) -> str:
    return f"{names.LABEL_TENANT}={tenant.name},{names.LABEL_CUSTOMER}={tenant.spec.customer_id}"


async def _pods(ctx: Context, tenant: Tenant, component: str) -> list[Object]:
    pods = await ctx.cluster.list("Pod", tenant.namespace, labels=_selector(tenant, component))
    return [
        each for each in pods if each.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
    ]


def _final_job(ctx: Context, tenant: Tenant, name: str) -> Object:
    plan = Plan(
        tenant=tenant,
        resolved=resolve(tenant.spec, ctx.settings.images),
        operator_namespace=ctx.settings.operator_namespace,
        operator_pod_name=ctx.settings.operator_pod_name,
        image_pull_policy=ctx.settings.image_pull_policy,
    )
    job = common.child(
        plan,
        "batch/v1",
        "Job",
        common.REPORTER,
        spec=reporter.job_template(plan, final=True)["spec"],
    )
    job["metadata"]["name"] = name
    return job


async def _remove_data(ctx: Context, tenant: Tenant) -> None:
    for name in (names.POSTGRES_SUFFIX, names.REDIS_SUFFIX):
        await ctx.cluster.delete("StatefulSet", tenant.namespace, f"{tenant.name}{name}")
    for kind in ("PersistentVolumeClaim", "Secret"):
        for each in await ctx.cluster.list(kind, tenant.namespace, labels=_of_data(tenant)):
            meta = each["metadata"]
            await ctx.cluster.delete(kind, tenant.namespace, meta["name"], uid=meta["uid"])
