"""When one instance seems to run twice, and what is said about it. Nothing is cut off for it.

An instance is in one cluster at a time. A cluster that it was not in before, while the other was
seen within the last hour, or a cluster that comes back after another was seen: two of them run. A
cluster restored elsewhere, hours after the old one went silent, is a move and no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from brinkbyte.billing import audit
from brinkbyte.billing.auth import InstanceCaller
from brinkbyte.billing.clones import repository
from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.instances import repository as instances
from brinkbyte.license.wire import CloneAlarm

TWO_CLUSTERS: Final = "TwoClusters"
TWO_EPOCHS: Final = "TwoEpochs"
UNKNOWN: Final = "unknown"
"""What an operator says that may not read its cluster's id: that tells nothing."""
SILENT_AFTER: Final = timedelta(hours=1)
"""A cluster that was not heard from for so long may have been replaced by another one; instances
send a heartbeat at least every 5 minutes."""

REOPENED_TOO_OFTEN: Final = 3
"""Epochs within :data:`SILENT_AFTER` that follow another one. A restored database opens one."""


@dataclass(frozen=True)
class Sighting:
    """When an instance was seen in a cluster."""

    fingerprint: str
    first_seen_at: datetime
    last_seen_at: datetime


def other_cluster(
    seen: Iterable[Sighting],
    fingerprint: str,
    now: datetime,
    acknowledged_at: datetime | None = None,
) -> Sighting | None:
    """Return the other cluster that an instance runs in too, None when there is no sign of one.

    Args:
        seen: where it was seen so far.
        fingerprint: where it is seen now.
        now: the time.
        acknowledged_at: what was seen before is settled.
    """
    listed = sorted(seen, key=lambda each: each.last_seen_at, reverse=True)
    known = next((each for each in listed if each.fingerprint == fingerprint), None)
    for other in listed:
        if other.fingerprint == fingerprint:
            continue
        if acknowledged_at is not None and other.last_seen_at <= acknowledged_at:
            continue
        returned = known is not None and known.last_seen_at < other.last_seen_at
        if returned or (known is None and other.last_seen_at > now - SILENT_AFTER):
            return other
    return None


async def note_cluster(
    connection: Connection, context: Context, caller: InstanceCaller, fingerprint: str
) -> None:
    """Note where an instance is seen; two clusters at a time raise the alarm."""
    if fingerprint == UNKNOWN:
        return
    tenant_id, instance_id, now = caller.tenant_id, caller.instance_id, _moment(context)
    rows = await repository.clusters(connection, tenant_id, instance_id)
    seen = [Sighting(**row) for row in rows]
    settled = (
        await repository.last_acknowledged(connection, tenant_id, instance_id, TWO_CLUSTERS)
        if any(each.fingerprint != fingerprint for each in seen)
        else None
    )
    other = other_cluster(seen, fingerprint, now, settled)
    await repository.see_cluster(connection, tenant_id, instance_id, fingerprint, now)
    if other is not None:
        await raise_alarm(
            connection,
            context,
            caller,
            reason=TWO_CLUSTERS,
            first_party=other.fingerprint,
            second_party=fingerprint,
            details={"firstSeenLastAt": other.last_seen_at.isoformat()},
        )


async def note_reopened(
    connection: Connection, context: Context, caller: InstanceCaller, *, follows: str, epoch: str
) -> None:
    """Judge an epoch that was just opened after another one; several at a time raise the alarm.

    Two copies of a database whose reporters take turns are never refused: each reads the other's
    head and opens an epoch that follows it, again and again.
    """
    since = _moment(context) - SILENT_AFTER
    opened = await repository.epochs_reopened(
        connection, caller.tenant_id, caller.instance_id, since
    )
    if opened >= REOPENED_TOO_OFTEN:
        await raise_alarm(
            connection,
            context,
            caller,
            reason=TWO_EPOCHS,
            first_party=follows,
            second_party=epoch,
            details={"openedWithinTheHour": opened},
        )


async def raise_alarm(
    connection: Connection,
    context: Context,
    caller: InstanceCaller,
    *,
    reason: str,
    first_party: str,
    second_party: str,
    details: dict[str, Any],
) -> None:
    """Open an alarm, or count the one that is open for the same reason."""
    now = _moment(context)
    await instances.clone_alarm(connection, caller.tenant_id, caller.instance_id, now)
    new = await repository.raise_alarm(
        connection,
        caller.tenant_id,
        caller.instance_id,
        reason=reason,
        first_party=first_party,
        second_party=second_party,
        details=details,
        now=now,
    )
    if new:
        context.metrics.clone_alarms.labels(reason).inc()
        await audit.record(
            connection,
            caller.tenant_id,
            now=context.now(),
            actor=caller.actor,
            action="clone_alarm.raised",
            subject=caller.instance_id,
            details={"reason": reason, "first": first_party, "second": second_party, **details},
        )


async def open_alarm(connection: Connection, caller: InstanceCaller) -> CloneAlarm | None:
    """Return what an instance and its operator are told."""
    row = await repository.open_alarm(connection, caller.tenant_id, caller.instance_id)
    return None if row is None else alarm_of(row)


def alarm_of(row: Row) -> CloneAlarm:
    """Put an alarm into words."""
    first, second = row["first_party"], row["second_party"]
    what = (
        f"This license is in use in two clusters, {first} and {second}: delete one of the two "
        "Tenants, or give one a customer of its own"
        if row["reason"] == TWO_CLUSTERS
        else f"Two copies of this instance's database report usage, epochs {first} and {second}: "
        "stop one of them"
    )
    return CloneAlarm(
        reason=row["reason"],
        message=f"{what}. Was it meant, as in a move? Then ask the vendor to acknowledge it",
        since=int(row["raised_at"].timestamp()),
        first_party=first,
        second_party=second,
    )


def _moment(context: Context) -> datetime:
    return datetime.fromtimestamp(context.now(), UTC)
