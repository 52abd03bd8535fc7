"""What somebody shall be told: written in the transaction of what happened, once per key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

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


DIRECT: Final = frozenset({Kind.USER_INVITED, Kind.SIGN_IN_LINK})
"""Kinds for one person, whom the payload's ``to`` names; no target can ask for them."""
_DIRECT: Final = """
    INSERT INTO notification_targets AS t (tenant_id, id, channel, address, direct, created_at,
        updated_at)
    VALUES (%(tenant)s, %(id)s, 'email', %(to)s, true, %(now)s, %(now)s)
    ON CONFLICT (tenant_id, channel, md5(address)) DO UPDATE
        SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL
        WHERE t.disabled_at IS NOT NULL
"""
_ENQUEUE: Final = """
    WITH told AS (
        INSERT INTO notifications (tenant_id, id, kind, dedup_key, payload, created_at)
        VALUES (%(tenant)s, %(id)s, %(kind)s, %(key)s, %(payload)s, %(now)s)
        ON CONFLICT (tenant_id, dedup_key) DO NOTHING
        RETURNING id
    ), planned AS (
        INSERT INTO notification_deliveries (tenant_id, notification_id, target_id, state, due_at,
            created_at)
        SELECT %(tenant)s, told.id, t.id, 'pending', %(now)s, %(now)s
        FROM told, notification_targets t
        WHERE t.tenant_id = %(tenant)s AND t.disabled_at IS NULL AND CASE
            WHEN %(to)s::text IS NOT NULL THEN t.channel = 'email' AND t.address = %(to)s
            ELSE NOT t.direct AND (t.kinds = '{}' OR %(kind)s = ANY(t.kinds)) END
    )
    SELECT id FROM told
"""


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
        payload: facts for the text; no secrets. With ``to`` it is for this e-mail address alone,
            else for the customer's targets that want this kind.
        now: Unix seconds.

    Returns:
        Whether it is new.
    """
    moment = datetime.fromtimestamp(now, UTC)
    to = payload.get("to")
    if to is not None:
        await connection.execute(
            _DIRECT, {"tenant": tenant_id, "id": uuid4(), "to": str(to), "now": moment}
        )
    cursor = await connection.execute(
        _ENQUEUE,
        {
            "tenant": tenant_id,
            "id": uuid7(),
            "kind": kind.value,
            "key": key,
            "payload": Jsonb(dict(payload)),
            "now": moment,
            "to": None if to is None else str(to),
        },
    )
    # A pipelined connection knows no rowcount before an answer is read.
    return await cursor.fetchone() is not None
