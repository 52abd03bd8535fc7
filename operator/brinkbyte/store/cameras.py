"""Cameras with their components and zones in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb

ComponentKind: TypeAlias = Literal["source", "processor", "sink"]
Direction: TypeAlias = Literal["both", "forward", "backward"]
Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Component:
    """A part of a camera's pipeline."""

    name: str
    kind: ComponentKind
    type: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LineZone:
    """A line to be crossed; coordinates are shares of the picture's width and height."""

    name: str
    start: Point
    end: Point
    direction: Direction = "both"


@dataclass(frozen=True)
class PolygonZone:
    """An area; coordinates are shares of the picture's width and height."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Camera:
    """A camera as it is configured."""

    camera_id: str
    name: str
    hardware_id: str | None
    enabled: bool
    pipeline: Mapping[str, Any]
    components: tuple[Component, ...] = ()
    line_zones: tuple[LineZone, ...] = ()
    polygon_zones: tuple[PolygonZone, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


_CAMERA: Final = """
SELECT camera_id, name, hardware_id, enabled, pipeline, created_at, updated_at,
    coalesce((SELECT jsonb_agg(jsonb_build_object('name', c.name, 'kind', kind, 'type', type,
        'settings', settings) ORDER BY c.name) FROM camera_components c
        WHERE (c.tenant_id, c.camera_id) = (cameras.tenant_id, cameras.camera_id)), '[]')
        AS components,
    coalesce((SELECT jsonb_agg(jsonb_build_object('name', l.name, 'direction', direction,
        'start', jsonb_build_array(start_x, start_y), 'end', jsonb_build_array(end_x, end_y))
        ORDER BY l.name) FROM line_zones l
        WHERE (l.tenant_id, l.camera_id) = (cameras.tenant_id, cameras.camera_id)), '[]')
        AS line_zones,
    coalesce((SELECT jsonb_agg(jsonb_build_object('name', p.name, 'points', points)
        ORDER BY p.name) FROM polygon_zones p
        WHERE (p.tenant_id, p.camera_id) = (cameras.tenant_id, cameras.camera_id)), '[]')
        AS polygon_zones
FROM cameras WHERE tenant_id = %(tenant)s
"""
_ONE: Final = _CAMERA + " AND camera_id = %(camera)s"
_PAGE: Final = _CAMERA + " AND camera_id > %(after)s ORDER BY camera_id LIMIT %(limit)s"


async def get_camera(conn: AsyncConnection[Any], tenant_id: str, camera_id: str) -> Camera | None:
    """Return a camera with its components and zones, None when it is not configured."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_ONE, {"tenant": tenant_id, "camera": camera_id})
        row = await cursor.fetchone()
    return None if row is None else _camera(row)


async def list_cameras(
    conn: AsyncConnection[Any], tenant_id: str, *, after: str, limit: int
) -> list[Camera]:
    """Return up to ``limit`` cameras whose ids come after ``after``, ordered by id."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_PAGE, {"tenant": tenant_id, "after": after, "limit": limit})
        return [_camera(row) async for row in cursor]


async def camera_device(conn: AsyncConnection[Any], tenant_id: str, camera_id: str) -> str | None:
    """Return the device that a camera is configured on, None when it is not configured."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT hardware_id FROM cameras WHERE tenant_id = %s AND camera_id = %s",
            (tenant_id, camera_id),
        )
        row = await cursor.fetchone()
    return None if row is None else row[0]


async def lock_camera(conn: AsyncConnection[Any], tenant_id: str, camera_id: str) -> bool:
    """Lock a camera's row until the transaction ends; False when there is none."""
    done = await conn.execute(
        "SELECT FROM cameras WHERE tenant_id = %s AND camera_id = %s FOR UPDATE",
        (tenant_id, camera_id),
    )
    return done.rowcount > 0


async def insert_camera(conn: AsyncConnection[Any], tenant_id: str, camera: Camera) -> bool:
    """Write a new camera, inside the caller's transaction; False when its id is taken."""
    done = await conn.execute(
        "INSERT INTO cameras (tenant_id, camera_id, name, hardware_id, enabled, pipeline) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (
            tenant_id,
            camera.camera_id,
            camera.name,
            camera.hardware_id,
            camera.enabled,
            Jsonb(camera.pipeline),
        ),
    )
    if not done.rowcount:
        return False
    await _insert_parts(conn, tenant_id, camera)
    return True


async def replace_camera(conn: AsyncConnection[Any], tenant_id: str, camera: Camera) -> None:
    """Write a camera and exactly its parts over the one of the same id, in one transaction."""
    await conn.execute(
        "UPDATE cameras SET name = %s, hardware_id = %s, enabled = %s, pipeline = %s "
        "WHERE tenant_id = %s AND camera_id = %s",
        (
            camera.name,
            camera.hardware_id,
            camera.enabled,
            Jsonb(camera.pipeline),
            tenant_id,
            camera.camera_id,
        ),
    )
    key = (tenant_id, camera.camera_id)
    await conn.execute("DELETE FROM camera_components WHERE tenant_id = %s AND camera_id = %s", key)
    await conn.execute("DELETE FROM line_zones WHERE tenant_id = %s AND camera_id = %s", key)
    await conn.execute("DELETE FROM polygon_zones WHERE tenant_id = %s AND camera_id = %s", key)
    await _insert_parts(conn, tenant_id, camera)


async def delete_camera(conn: AsyncConnection[Any], tenant_id: str, camera_id: str) -> bool:
    """Remove a camera's configuration; its telemetry stays. False when there is none."""
    done = await conn.execute(
        "DELETE FROM cameras WHERE tenant_id = %s AND camera_id = %s", (tenant_id, camera_id)
    )
    return done.rowcount > 0


async def _insert_parts(conn: AsyncConnection[Any], tenant_id: str, camera: Camera) -> None:
    await _many(
        conn,
        "INSERT INTO camera_components (tenant_id, camera_id, name, kind, type, settings) "
        "VALUES (%s, %s, %s, %s, %s, %s)",
        [
            (tenant_id, camera.camera_id, part.name, part.kind, part.type, Jsonb(part.settings))
            for part in camera.components
        ],
    )
    await _many(
        conn,
        "INSERT INTO line_zones "
        "(tenant_id, camera_id, name, start_x, start_y, end_x, end_y, direction) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            (tenant_id, camera.camera_id, zone.name, *zone.start, *zone.end, zone.direction)
            for zone in camera.line_zones
        ],
    )
    await _many(
        conn,
        "INSERT INTO polygon_zones (tenant_id, camera_id, name, points) VALUES (%s, %s, %s, %s)",
        [
            (tenant_id, camera.camera_id, zone.name, Jsonb(zone.points))
            for zone in camera.polygon_zones
        ],
    )


async def _many(
    conn: AsyncConnection[Any], statement: str, rows: Sequence[tuple[object, ...]]
) -> None:
    if rows:
        async with conn.cursor() as cursor:
            await cursor.executemany(statement, rows)


def _camera(row: dict[str, Any]) -> Camera:
    return Camera(
        camera_id=row["camera_id"],
        name=row["name"],
        hardware_id=row["hardware_id"],
        enabled=row["enabled"],
        pipeline=row["pipeline"],
        components=tuple(Component(**part) for part in row["components"]),
        line_zones=tuple(
            LineZone(zone["name"], _point(zone["start"]), _point(zone["end"]), zone["direction"])
            for zone in row["line_zones"]
        ),
        polygon_zones=tuple(
            PolygonZone(zone["name"], tuple(_point(point) for point in zone["points"]))
            for zone in row["polygon_zones"]
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _point(pair: Sequence[float]) -> Point:
    return float(pair[0]), float(pair[1])
