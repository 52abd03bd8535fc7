"""A Tenant goes: its seats are freed, its data kept or removed, its finalizer let go in time.

Only ``deletionPolicy: Delete`` waits, for receipts, and never beyond the limit. Ending the instance
at the billing API needs no waiting: the record in the operator's namespace remembers it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from brinkbyte.controller import enrollment
from brinkbyte.controller.children import common, reporter, secrets
from brinkbyte.controller.children.common import Plan
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.identity import Identity
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
    ctx: Context, live: Object, tenant: Tenant, memory: TenantMemory
) -> float | None:
    """Do what is left before a Tenant may go.

    Returns:
        seconds until the next look, None when it may go.
    """
    if names.FINALIZER not in tenant.metadata.finalizers:
        return None
    if tenant.spec.deletion_policy is DeletionPolicy.DELETE:
        waited = (
            ctx.now - int(tenant.metadata.deletion_timestamp.timestamp())
            if (tenant.metadata.deletion_timestamp)
            else WAIT_SECONDS
        )
        try:
            done = await _drained(ctx, tenant)
        except BrinkByteError as error:
            _log.warning("cannot remove the data yet", tenant=tenant.name, error=error.message)
            done = False
        if done:
            await _remove_data(ctx, tenant)
        elif waited < WAIT_SECONDS:
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
    identity = memory.identity or await enrollment.load_identity(ctx, tenant.metadata.uid)
    if identity is not None:
        await _end(ctx, identity)
    await _release(ctx, live, tenant)
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


async def _release(ctx: Context, live: Object, tenant: Tenant) -> None:
    left = [each for each in tenant.metadata.finalizers if each != names.FINALIZER]
    await ctx.cluster.patch(
        "Tenant",
        tenant.namespace,
        tenant.name,
        {
            "metadata": {
                "finalizers": left or None,
                "resourceVersion": live["metadata"]["resourceVersion"],
            }
        },
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
    deployment = f"{tenant.name}{names.INSTANCE_SUFFIX}"
    await ctx.cluster.patch("Deployment", namespace, deployment, {"spec": {"replicas": 0}})
    cron_job = f"{tenant.name}{names.REPORTER_SUFFIX}"
    await ctx.cluster.patch("CronJob", namespace, cron_job, {"spec": {"suspend": True}})
    if await _pods(ctx, tenant, common.INSTANCE):
        return False
    name = f"{tenant.name}{_FINAL_SUFFIX}"
    job = await ctx.cluster.get("Job", namespace, name)
    if job is None:
        if await _pods(ctx, tenant, common.REPORTER):
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


async def _pods(ctx: Context, tenant: Tenant, component: str) -> list[Object]:
    selector = common.selector(tenant.name, component)
    pods = await ctx.cluster.list(
        "Pod",
        tenant.namespace,
        labels=",".join(f"{key}={value}" for key, value in selector.items()),
    )
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
        spec=reporter.job_template(plan, at_once=True)["spec"],
    )
    job["metadata"]["name"] = name
    return job


async def _remove_data(ctx: Context, tenant: Tenant) -> None:
    selector = (
        f"{names.LABEL_TENANT}={tenant.name},{names.LABEL_CUSTOMER}={tenant.spec.customer_id}"
    )
    for name in (names.POSTGRES_SUFFIX, names.REDIS_SUFFIX):
        await ctx.cluster.delete("StatefulSet", tenant.namespace, f"{tenant.name}{name}")
    for kind in ("PersistentVolumeClaim", "Secret"):
        for each in await ctx.cluster.list(kind, tenant.namespace, labels=selector):
            meta = each["metadata"]
            await ctx.cluster.delete(kind, tenant.namespace, meta["name"], uid=meta["uid"])
