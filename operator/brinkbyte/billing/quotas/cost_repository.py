"""SQL of cost alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from brinkbyte.billing.db import Connection, Row


async def tenants(connection: Connection) -> list[str]:
    """Return the customers with cost alerts that the role may see."""
    cursor = await connection.execute("SELECT DISTINCT tenant_id FROM cost_alerts ORDER BY 1")
    return [row["tenant_id"] for row in await cursor.fetchall()]


async def listed(connection: Connection, tenant_id: str) -> list[Row]:
    """Return a customer's cost alerts, the smallest amount first."""
    cursor = await connection.execute(
        "SELECT id, amount, basis, created_at FROM cost_alerts WHERE tenant_id = %s "
        "ORDER BY amount, basis",
        [tenant_id],
    )
    return await cursor.fetchall()


async def insert(
    connection: Connection,
    tenant_id: str,
    alert: UUID,
    *,
    amount: int,
    basis: str,
    now: datetime,
) -> None:
    """Add a cost alert; one of the same amount and basis stays."""
    await connection.execute(
        "INSERT INTO cost_alerts (tenant_id, id, amount, basis, created_at) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (tenant_id, amount, basis) DO NOTHING",
        [tenant_id, alert, amount, basis, now],
    )


async def delete(connection: Connection, tenant_id: str, alert: UUID) -> bool:
    """Delete a cost alert; False if it is not there."""
    cursor = await connection.execute(
        "DELETE FROM cost_alerts WHERE tenant_id = %s AND id = %s", [tenant_id, alert]
    )
    return cursor.rowcount == 1


async def notified(
    connection: Connection, tenant_id: str, keys: Sequence[str]
) -> dict[str, datetime]:
    """Return when the notifications of these keys were written."""
    cursor = await connection.execute(
        "SELECT dedup_key, created_at FROM notifications "
        "WHERE tenant_id = %s AND dedup_key = ANY(%s)",
        [tenant_id, list(keys)],
    )
    return {row["dedup_key"]: row["created_at"] for row in await cursor.fetchall()}
