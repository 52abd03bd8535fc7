"""What dashboards read, and how the database does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row, tuple_row

MATERIALIZED: Final = ("telemetry_daily", "camera_activity", "usage_daily")
_LOCK: Final = "brinkbyte.view_refresh"
_CAMERAS: Final = """
SELECT coalesce(held.camera_id, seen.camera_id) AS camera_id, held.hardware_id, held.mode,
    held.packs, held.until, held.camera_id IS NOT NULL AS has_seat,
    coalesce(seen.events_last_day, 0) AS events_last_day,
    coalesce(seen.events_last_week, 0) AS events_last_week, seen.last_hour
FROM (SELECT * FROM camera_licenses WHERE tenant_id = %(tenant)s) AS held
FULL JOIN (SELECT * FROM camera_activity WHERE tenant_id = %(tenant)s) AS seen USING (camera_id)
ORDER BY 1 LIMIT %(limit)s
"""


@dataclass(frozen=True)
class PartitionState:
    """How far a table's partitions reach; days in UTC."""

    table: str
    days_ahead: int
    bytes: int


async def refresh_views(conn: AsyncConnection[Any], *, every: timedelta) -> list[str]:
    """Refresh the materialized views that were not refreshed for some time.

    One replica does, whoever comes first; readers are not kept out.

    Args:
        conn: outside a transaction: each refresh is a transaction of its own.
        every: what is younger is left.

    Returns:
        The views that were refreshed; none while another replica is at it.
    """
    done: list[str] = []
    for name in MATERIALIZED:
        async with conn.transaction(), conn.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(
                "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (_LOCK,)
            )
            row = await cursor.fetchone()
            if row is None or not row[0]:
                return done
            await cursor.execute(
                "SELECT FROM view_refreshes WHERE name = %s AND refreshed_at > now() - %s",
                (name, every),
            )
            if await cursor.fetchone() is not None:
                continue
            started = time.perf_counter()
            await cursor.execute(
                sql.SQL("REFRESH MATERIALIZED VIEW CONCURRENTLY {}").format(sql.Identifier(name))
            )
            await cursor.execute(
                "INSERT INTO view_refreshes (name, refreshed_at, seconds) VALUES (%s, now(), %s) "
                "ON CONFLICT (name) DO UPDATE SET refreshed_at = excluded.refreshed_at, "
                "seconds = excluded.seconds",
                (name, time.perf_counter() - started),
            )
        done.append(name)
    return done


async def dashboard(
    conn: AsyncConnection[Any], tenant_id: str, *, since: datetime, limit: int
) -> dict[str, list[dict[str, Any]]]:
    """Return cameras, days and use as the last refresh left them; use against quotas as of now.

    Args:
        conn: of the instance's database.
        tenant_id: whose instance it is.
        since: first day of telemetry that is read.
        limit: rows of each part.
    """
    given = {"tenant": tenant_id, "since": since, "limit": limit}
    return {
        "cameras": await _rows(conn, _CAMERAS, given),
        "days": await _rows(
            conn,
            "SELECT day, kind, label, sum(events)::bigint AS events FROM telemetry_daily "
            "WHERE tenant_id = %(tenant)s AND day >= date_trunc('day', %(since)s, 'UTC') "
            "GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3 LIMIT %(limit)s",
            given,
        ),
        "usage_days": await _rows(
            conn,
            "SELECT day, meter, events, quantity::text FROM usage_daily "
            "ORDER BY day DESC, meter LIMIT %(limit)s",
            given,
        ),
        "usage_months": await _rows(
            conn,
            "SELECT month, meter, events, quantity::text FROM usage_monthly "
            "ORDER BY month DESC, meter LIMIT %(limit)s",
            given,
        ),
        "quotas": await _rows(
            conn,
            "SELECT meter, quantity::text, included, percent::float8 FROM usage_against_quotas "
            "WHERE tenant_id = %(tenant)s ORDER BY meter",
            given,
        ),
        "refreshed": await _rows(
            conn, "SELECT name, refreshed_at, seconds FROM view_refreshes ORDER BY name", given
        ),
    }


async def database_health(conn: AsyncConnection[Any]) -> dict[str, Any]:
    """Return what the health views say."""
    metering = await _rows(conn, "SELECT * FROM health_metering", {})
    return {
        "schema": await _rows(
            conn, "SELECT version, name, applied_at FROM schema_migrations ORDER BY version", {}
        ),
        "partitions": await _rows(conn, "SELECT * FROM health_partitions ORDER BY parent", {}),
        "tables": await _rows(conn, "SELECT * FROM health_tables ORDER BY name", {}),
        "metering": metering[0] if metering else None,
        "views": await _rows(conn, "SELECT * FROM view_refreshes ORDER BY name", {}),
        "statements": await _rows(conn, "SELECT * FROM health_statements", {}),
    }


async def partition_states(conn: AsyncConnection[Any]) -> list[PartitionState]:
    """Return how far the partitions of each table reach."""
    rows = await _rows(
        conn, "SELECT parent, coalesce(days_ahead, -1) AS ahead, bytes FROM health_partitions", {}
    )
    return [PartitionState(row["parent"], row["ahead"], row["bytes"]) for row in rows]


async def _rows(
    conn: AsyncConnection[Any], query: str, arguments: dict[str, Any]
) -> list[dict[str, Any]]:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), arguments)
        return await cursor.fetchall()
