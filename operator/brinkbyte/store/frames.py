"""Thumbnails of what the cameras saw, in PostgreSQL; retention drops whole days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from brinkbyte.store.telemetry import ensure_days


@dataclass(frozen=True)
class Frame:
    """A thumbnail; ``width`` and ``height`` in pixels where they are known."""

    id: UUID
    camera_id: str
    hardware_id: str
    occurred_at: datetime
    media_type: str
    width: int | None
    height: int | None
    bytes: int


async def insert_frame(
    conn: AsyncConnection[Any], tenant_id: str, frame: Frame, picture: bytes
) -> None:
    """Write a thumbnail, inside the caller's transaction."""
    await ensure_days(conn, [frame.occurred_at], table="frames")
    await conn.execute(
        "INSERT INTO frames (tenant_id, occurred_at, id, camera_id, hardware_id, media_type, "
        "width, height, thumbnail) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            tenant_id,
            frame.occurred_at,
            frame.id,
            frame.camera_id,
            frame.hardware_id,
            frame.media_type,
            frame.width,
            frame.height,
            picture,
        ),
    )


async def list_frames(
    conn: AsyncConnection[Any],
    tenant_id: str,
    camera_id: str,
    *,
    since: datetime,
    until: datetime,
    limit: int,
) -> list[Frame]:
    """Return a camera's thumbnails of ``[since, until)``, the newest first, without pictures."""
    async with conn.cursor(row_factory=class_row(Frame)) as cursor:
        await cursor.execute(
            "SELECT id, camera_id, hardware_id, occurred_at, media_type, width, height, "
            "octet_length(thumbnail) AS bytes FROM frames WHERE tenant_id = %s AND camera_id = %s "
            "AND occurred_at >= %s AND occurred_at < %s ORDER BY occurred_at DESC, id LIMIT %s",
            (tenant_id, camera_id, since, until, limit),
        )
        return await cursor.fetchall()


async def get_picture(
    conn: AsyncConnection[Any], tenant_id: str, occurred_at: datetime, frame_id: UUID
) -> tuple[str, str, bytes] | None:
    """Return camera, media type and bytes of a thumbnail, None when there is none."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT camera_id, media_type, thumbnail FROM frames "
            "WHERE tenant_id = %s AND occurred_at = %s AND id = %s",
            (tenant_id, occurred_at, frame_id),
        )
        row = await cursor.fetchone()
    return None if row is None else (row[0], row[1], bytes(row[2]))
