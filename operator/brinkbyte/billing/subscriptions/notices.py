"""What customers are told of their subscription's times, once each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.notifications.outbox import Kind, enqueue
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.standing import standing_of
from brinkbyte.catalog import Catalog

AHEAD: Final = timedelta(days=7)
LOOK_BACK: Final = timedelta(days=14)
"""Ends longer ago are no news."""
_TRIAL_DAYS: Final = (1, 7)
"""Days before a trial's end at which it is told, the last one first."""


async def enqueue_due(
    connection: Connection, catalog: Catalog, tenant_id: str, *, now: int
) -> None:
    """Write the notifications that are due to a customer.

    Args:
        connection: a transaction of the tenant.
        catalog: the price list.
        tenant_id: whose.
        now: Unix seconds.
    """
    row = await history.current(connection, catalog, tenant_id, now)
    if row is None:
        return
    changes = await history.load(connection, tenant_id, row)
    moment = datetime.fromtimestamp(now, UTC)
    wished = changes[-1].change.status if changes else row["status"]
    # Who has bought meanwhile is on trial no more.
    trial_end = row["trial_ends_at"] if wished == "trialing" else None
    if trial_end is not None:
        await _of_trial(connection, tenant_id, row, trial_end, moment)
    elif row["status"] != "suspended":
        await _of_license(connection, tenant_id, row, moment)


async def _of_trial(
    connection: Connection, tenant_id: str, row: Row, end: datetime, moment: datetime
) -> None:
    of = f"{row['subscription_id']}:{int(end.timestamp())}"
    facts = {"endsAt": int(end.timestamp())}
    now = int(moment.timestamp())
    if moment >= end:
        # What is paid for goes on after its trial: nothing has ended.
        if row["status"] == "trialing" and moment - end <= LOOK_BACK:
            await enqueue(
                connection,
                tenant_id,
                Kind.TRIAL_ENDED,
                key=f"trial_ended:{of}",
                payload=facts,
                now=now,
            )
        return
    for days in _TRIAL_DAYS:
        told_at = end - timedelta(days=days)
        if row["created_at"] < told_at <= moment:
            await enqueue(
                connection,
                tenant_id,
                Kind.TRIAL_EXPIRING,
                key=f"trial_expiring:{of}:{days}",
                payload={**facts, "daysRemaining": max(1, -(-(end - moment) // timedelta(days=1)))},
                now=now,
            )
            return


async def _of_license(connection: Connection, tenant_id: str, row: Row, moment: datetime) -> None:
    standing = standing_of(row)
    now = int(moment.timestamp())
    end = standing.ends_at
    if end is None or not now < end <= now + AHEAD.total_seconds():
        return
    payload: dict[str, Any] = {"endsAt": end, "status": standing.status.value}
    await enqueue(
        connection,
        tenant_id,
        Kind.LICENSE_EXPIRING,
        key=f"license_expiring:{row['subscription_id']}:{end}",
        payload=payload,
        now=now,
    )
