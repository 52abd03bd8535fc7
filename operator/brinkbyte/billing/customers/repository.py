"""SQL of customers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection, Row


async def find(connection: Connection, tenant_id: str) -> Row | None:
    """Return a customer."""
    cursor = await connection.execute(
        "SELECT * FROM billing_customers WHERE tenant_id = %s", [tenant_id]
    )
    return await cursor.fetchone()


async def lock(connection: Connection, tenant_id: str) -> Row | None:
    """Return a customer and let nobody else change what is theirs until the transaction ends."""
    cursor = await connection.execute(
        "SELECT * FROM billing_customers WHERE tenant_id = %s FOR NO KEY UPDATE", [tenant_id]
    )
    return await cursor.fetchone()


async def insert(connection: Connection, tenant_id: str, name: str, now: datetime) -> bool:
    """Create a customer; False if the id is taken."""
    cursor = await connection.execute(
        "INSERT INTO billing_customers (tenant_id, name, created_at, updated_at) "
        "VALUES (%(id)s, %(name)s, %(now)s, %(now)s) ON CONFLICT DO NOTHING",
        {"id": tenant_id, "name": name, "now": now},
    )
    return cursor.rowcount == 1


async def rename(connection: Connection, tenant_id: str, name: str, now: datetime) -> None:
    """Change a customer's name."""
    await connection.execute(
        "UPDATE billing_customers SET name = %s, updated_at = %s WHERE tenant_id = %s",
        [name, now, tenant_id],
    )


async def set_billing_email(
    connection: Connection, tenant_id: str, email: str, now: datetime
) -> None:
    """Set where a customer's invoices go."""
    await connection.execute(
        "UPDATE billing_customers SET billing_email = %s, updated_at = %s WHERE tenant_id = %s",
        [email, now, tenant_id],
    )


async def set_flags(
    connection: Connection, tenant_id: str, flags: Mapping[str, bool], now: datetime
) -> None:
    """Replace a customer's feature flags."""
    await connection.execute(
        "UPDATE billing_customers SET flags = %s, updated_at = %s WHERE tenant_id = %s",
        [Jsonb(dict(flags)), now, tenant_id],
    )
