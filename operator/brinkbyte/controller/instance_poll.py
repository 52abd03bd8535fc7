"""One question to a Tenant's instance: license, devices, metering, models as they are now."""

from __future__ import annotations

from typing import Final

import httpx
from pydantic import ValidationError

from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.queue import Key
from brinkbyte.license.wire import CloneAlarm
from brinkbyte.resources.state import InstanceState

PERIOD_SECONDS: Final = 13.0
"""With its jitter: at most every 15 seconds."""
REFERENCES_SECONDS: Final = 45.0
"""Secrets that users refer to carry no label of ours: they are read again this often."""
ALARM_SECONDS: Final = 600
"""How long an alarm counts that only an inventory was answered with; heartbeats come oftener."""
_TIMEOUT: Final = httpx.Timeout(5.0)
_FAILURES: Final = 3
"""Questions in a row without an answer, about a minute, until the instance counts as silent."""
_HOUR: Final = 3600


async def reconcile(ctx: Context, key: Key) -> float | None:
    """Ask, and wake the reconciles that care about what changed."""
    memory = ctx.tenants.get((key.namespace, key.name))
    if memory is None:
        return None
    await _references(ctx, key, memory)
    if memory.instance_url and memory.operator_token:
        before = memory.state
        await ask(ctx, key, memory)
        _wake(ctx, key, memory, before)
    return PERIOD_SECONDS


async def ask(ctx: Context, key: Key, memory: TenantMemory) -> None:
    """Ask once; remember the answer, or why there is none."""
    since = memory.state.revision if memory.state is not None else 0
    try:
        response = await ctx.http.get(
            f"{memory.instance_url}/internal/v1/state",
            params={"since": str(since)},
            headers={"Authorization": f"Bearer {memory.operator_token}"},
            timeout=_TIMEOUT,
        )
        response.raise_for_status()
        state = InstanceState.model_validate_json(response.content)
    except (httpx.HTTPError, ValidationError, ValueError) as error:
        memory.asked = True
        memory.state_failures += 1
        if memory.state_failures >= _FAILURES:
            memory.state_error = (
                f"The instance does not tell its state ({_words(error)}); look at its log, and at "
                "NetworkPolicies between operator and instance"
            )
            memory.state = None
        return
    if since > state.revision:
        memory.online.clear()
    memory.asked = True
    memory.state_failures = 0
    memory.state_error = ""
    memory.state = state
    memory.online.update({each.hardware_id: each for each in state.devices})
    ctx.metrics.backlog.labels(key.namespace, key.name).set(state.metering.backlog)
    ctx.metrics.used.labels(key.namespace, key.name, "devices").set(state.device_use.used)
    ctx.metrics.used.labels(key.namespace, key.name, "cameras").set(state.camera_use.used)


def _words(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answers {error.response.status_code}"
    if isinstance(error, httpx.HTTPError):
        return str(error) or type(error).__name__
    return "its answer cannot be read"


def summary(memory: TenantMemory) -> tuple[object, ...]:
    """Return what of the instance's state a Tenant's status is made of."""
    state = memory.state
    if state is None:
        return (memory.asked, bool(memory.state_error))
    metering = state.metering
    reported = metering.last_reported_at
    return (
        state.triton.ready,
        state.triton.message,
        metering.last_error_reason,
        reported is None,
        (reported or 0) // _HOUR,
        metering.oldest_unacknowledged_at,
        state.clone_alarm,
    )


def clone_alarm(memory: TenantMemory, now: int) -> CloneAlarm | None:
    """Return the alarm that the newest inventory was answered with, unless it is old.

    The instance is told every few minutes, the operator perhaps once an hour: of an alarm that was
    acknowledged the instance hears first, and the next resync takes ours away.

    Args:
        memory: of the Tenant.
        now: Unix seconds.
    """
    answer = memory.inventory.answer
    if answer is None or (memory.state is not None and now - answer.server_time >= ALARM_SECONDS):
        return None
    return answer.clone_alarm


def _wake(ctx: Context, key: Key, memory: TenantMemory, before: InstanceState | None) -> None:
    state = memory.state
    tenant, members = Key("Tenant", *key[1:]), Key("Members", *key[1:])
    shown = summary(memory)
    if shown != memory.shown:
        memory.shown = shown
        ctx.add(tenant, 0.0)
    if state is None:
        return
    if state.devices and (before is None or state.revision != before.revision):
        ctx.add(members, 0.0)
    held = memory.documents.held
    newer = (
        state.license.sequence > held.license_sequence
        or state.license.seats_sequence > held.seats_sequence
        or state.license.key_set_number > held.key_set_number
    )
    if newer:
        # The instance has heard of something new before us: ask now, not in an hour.
        memory.inventory.revision = None
        ctx.add(members, 0.0)


async def _references(ctx: Context, key: Key, memory: TenantMemory) -> None:
    identity = memory.identity
    if identity is None or ctx.monotonic() < memory.references_at:
        return
    memory.references_at = ctx.monotonic() + REFERENCES_SECONDS
    changed = False
    if memory.ca_secret:
        version = await _version(ctx, key, memory.ca_secret)
        changed, memory.ca_version = version != memory.ca_version, version
    if memory.bundle_secret:
        version = await _version(ctx, key, memory.bundle_secret)
        changed = changed or version != memory.bundle_version
        memory.bundle_version = version
    if changed:
        ctx.add(Key("Tenant", *key[1:]), 0.0)


async def _version(ctx: Context, key: Key, secret: str) -> str:
    live = await ctx.cluster.get("Secret", key.namespace, secret)
    return str(live["metadata"]["resourceVersion"]) if live else ""
