"""The audit log: every change, who made it, never a secret."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection
from brinkbyte.kit.uuid7 import uuid7


async def record(
    connection: Connection,
    tenant_id: str,
    *,
    now: int,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one entry in the transaction of the change.

    Args:
        connection: the change's transaction.
        tenant_id: whose data changed.
        now: Unix seconds.
        actor: ``instance:<id>``, ``operator:<id>`` or ``cli``.
        action: ``<thing>.<verb>``, such as ``enrollment.used``.
        subject: id of what changed.
        details: further facts; no secrets.
    """
    await connection.execute(
        "INSERT INTO audit_log (tenant_id, id, at, actor, action, subject, details) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            uuid7(),
            datetime.fromtimestamp(now, UTC),
            actor,
            action,
            subject,
            Jsonb(dict(details or {})),
        ],
    )


async def record_own(
    connection: Connection,
    *,
    now: int,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one entry about what is no customer's; arguments as in :func:`record`."""
    await connection.execute(
        "INSERT INTO own_audit_log (id, at, actor, action, subject, details) "
        "VALUES (%s, %s, %s, %s, %s, %s)",
        [
            uuid7(),
            datetime.fromtimestamp(now, UTC),
            actor,
            action,
            subject,
            Jsonb(dict(details or {})),
        ],
    )
