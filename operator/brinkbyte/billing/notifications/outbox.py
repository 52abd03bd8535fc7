"""What somebody shall be told: written in the transaction of what happened, once per key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection
from brinkbyte.kit.uuid7 import uuid7


class Kind(StrEnum):
    """What people are told of."""

    TRIAL_EXPIRING = "trial_expiring"
    TRIAL_ENDED = "trial_ended"
    PAYMENT_FAILED = "payment_failed"
    LIMIT_APPROACHING = "limit_approaching"
    LIMIT_REACHED = "limit_reached"
    LIMIT_EXCEEDED = "limit_exceeded"
    LICENSE_EXPIRING = "license_expiring"
    COST_ALERT = "cost_alert"
    INVOICE_ISSUED = "invoice_issued"
    USER_INVITED = "user_invited"
    SIGN_IN_LINK = "sign_in_link"


async def enqueue(
    connection: Connection,
    tenant_id: str,
    kind: Kind,
    *,
    key: str,
    payload: Mapping[str, Any],
    now: int,
) -> bool:
    """Write a notification, inside the caller's transaction.

    Args:
        connection: a transaction of the tenant's.
        tenant_id: whose people are told.
        kind: what of.
        key: what happened, such as ``trial_ended:<subscription>``: a second one is not written.
        payload: facts for the text; no secrets.
        now: Unix seconds.

    Returns:
        Whether it is new.
    """
    cursor = await connection.execute(
        "INSERT INTO notifications (tenant_id, id, kind, dedup_key, payload, created_at) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, dedup_key) DO NOTHING",
        [
            tenant_id,
            uuid7(),
            kind.value,
            key,
            Jsonb(dict(payload)),
            datetime.fromtimestamp(now, UTC),
        ],
    )
    return cursor.rowcount == 1
