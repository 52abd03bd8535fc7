"""The site's free settings in PostgreSQL, for its devices and services."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb


async def all_settings(conn: AsyncConnection[Any], tenant_id: str) -> dict[str, Any]:
    """Return every setting."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT key, value FROM config WHERE tenant_id = %s ORDER BY key", (tenant_id,)
        )
        return dict(await cursor.fetchall())


async def put_setting(
    conn: AsyncConnection[Any], tenant_id: str, key: str, value: Any, *, most: int
) -> bool:
    """Set a setting.

    Args:
        conn: inside the caller's transaction.
        tenant_id: whose instance it is.
        key: of the setting.
        value: JSON.
        most: settings that there may be.

    Returns:
        False when there are so many others already, and nothing was written.
    """
    done = await conn.execute(
        "INSERT INTO config AS held (tenant_id, key, value) SELECT %(tenant)s, %(key)s, %(value)s "
        "WHERE (SELECT count(*) FROM config WHERE tenant_id = %(tenant)s AND key <> %(key)s) "
        "< %(most)s "
        "ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value",
        {"tenant": tenant_id, "key": key, "value": Jsonb(value), "most": most},
    )
    return done.rowcount > 0


async def delete_setting(conn: AsyncConnection[Any], tenant_id: str, key: str) -> bool:
    """Remove a setting; False when there is none."""
    done = await conn.execute(
        "DELETE FROM config WHERE tenant_id = %s AND key = %s", (tenant_id, key)
    )
    return done.rowcount > 0
