"""SQL of declared cameras, seats, issued documents and revocations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.licenses.holdings import Camera, HeldSeat, SeatChange
from brinkbyte.billing.licenses.issue import Issued
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.license.claims import CameraMode, Revocation, TokenKind


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _text(seconds: int | None) -> str | None:
    return None if seconds is None else _at(seconds).isoformat()


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


_MODES: Final = {mode.value: mode for mode in CameraMode}


class CameraToken(NamedTuple):
    """What is stored of a camera's newest license."""

    sequence: int = 0
    content_hash: bytes = b""
    expires_at: int = 0
    token: str | None = None
    key_id: str | None = None


async def declared_cameras(connection: Connection, tenant_id: str) -> list[Camera]:
    """Return all declared cameras."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT name, uid, camera_id, hardware_id, mode, growth_packs, "
            "extract(epoch FROM declared_at)::bigint, reason "
            "FROM camera_requests WHERE tenant_id = %s",
            [tenant_id],
        )
        return [
            Camera(name, uid, camera_id, device, _MODES[mode], tuple(packs), at, reason)
            for name, uid, camera_id, device, mode, packs, at, reason in await cursor.fetchall()
        ]


async def remove_cameras(connection: Connection, tenant_id: str, names: Iterable[str]) -> None:
    """Forget declared cameras by resource name."""
    await connection.execute(
        "DELETE FROM camera_requests WHERE tenant_id = %s AND name = ANY(%s)",
        [tenant_id, list(names)],
    )


async def save_cameras(connection: Connection, tenant_id: str, cameras: Iterable[Camera]) -> None:
    """Write declared cameras that are new or changed."""
    rows = [
        {
            "name": camera.name,
            "uid": camera.uid,
            "camera_id": camera.camera_id,
            "hardware_id": camera.hardware_id,
            "mode": camera.mode.value,
            "growth_packs": list(camera.packs),
            "declared_at": _text(camera.created_at),
            "reason": camera.reason,
        }
        for camera in cameras
    ]
    await connection.execute(
        "INSERT INTO camera_requests (tenant_id, name, uid, camera_id, hardware_id, mode, "
        "growth_packs, declared_at, reason) "
        "SELECT %s, r.* FROM jsonb_to_recordset(%s) AS r (name text, uid text, camera_id text, "
        "hardware_id text, mode text, growth_packs text[], declared_at timestamptz, reason text) "
        "ON CONFLICT (tenant_id, name) DO UPDATE SET uid = excluded.uid, "
        "camera_id = excluded.camera_id, hardware_id = excluded.hardware_id, "
        "mode = excluded.mode, growth_packs = excluded.growth_packs, "
        "declared_at = excluded.declared_at, reason = excluded.reason",
        [tenant_id, Jsonb(rows)],
    )


async def seats(
    connection: Connection, tenant_id: str
) -> tuple[dict[str, HeldSeat], dict[str, CameraToken]]:
    """Return seats and what is stored of their licenses, both by camera id."""
    held: dict[str, HeldSeat] = {}
    tokens: dict[str, CameraToken] = {}
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT camera_id, seat_id, request_name, hardware_id, mode, growth_packs, "
            "extract(epoch FROM taken_at)::bigint, extract(epoch FROM until)::bigint, "
            "extract(epoch FROM held_until)::bigint, camera_sequence, content_hash, "
            "extract(epoch FROM token_expires_at)::bigint, key_id "
            "FROM seats WHERE tenant_id = %s",
            [tenant_id],
        )
        for (
            camera_id, seat_id, name, hardware_id, mode, packs, taken_at, until, held_until,
            sequence, content, expires_at, key_id,
        ) in await cursor.fetchall():  # fmt: skip
            held[camera_id] = HeldSeat(
                camera_id,
                seat_id,
                name,
                hardware_id,
                _MODES[mode],
                tuple(packs),
                taken_at,
                until,
                held_until,
            )
            tokens[camera_id] = CameraToken(
                sequence, bytes(content or b""), expires_at or 0, None, key_id
            )
    return held, tokens


async def seat_of(connection: Connection, tenant_id: str, camera_id: str) -> HeldSeat | None:
    """Return a camera's seat in use."""
    cursor = await connection.execute(
        "SELECT seat_id, request_name, hardware_id, mode, growth_packs, taken_at, until "
        "FROM seats WHERE tenant_id = %s AND camera_id = %s AND held_until IS NULL",
        [tenant_id, camera_id],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return HeldSeat(
        camera_id=camera_id,
        seat_id=row["seat_id"],
        request_name=row["request_name"],
        hardware_id=row["hardware_id"],
        mode=CameraMode(row["mode"]),
        packs=tuple(row["growth_packs"]),
        taken_at=int(row["taken_at"].timestamp()),
        until=_seconds(row["until"]),
    )


async def camera_tokens(
    connection: Connection, tenant_id: str, cameras: Iterable[str]
) -> dict[str, str]:
    """Return the stored licenses of cameras by camera id."""
    cursor = await connection.execute(
        "SELECT camera_id, token FROM seats "
        "WHERE tenant_id = %s AND camera_id = ANY(%s) AND token IS NOT NULL",
        [tenant_id, list(cameras)],
    )
    return {row["camera_id"]: row["token"] for row in await cursor.fetchall()}


async def remove_seats(connection: Connection, tenant_id: str, cameras: Iterable[str]) -> None:
    """Forget seats by camera id."""
    await connection.execute(
        "DELETE FROM seats WHERE tenant_id = %s AND camera_id = ANY(%s)",
        [tenant_id, list(cameras)],
    )


async def save_seats(
    connection: Connection,
    tenant_id: str,
    seats: Iterable[HeldSeat],
    skus: Mapping[str, Mapping[str, int]],
) -> None:
    """Write seats that are new or changed; their licenses stay."""
    rows = [
        {
            "camera_id": seat.camera_id,
            "seat_id": seat.seat_id,
            "request_name": seat.request_name,
            "hardware_id": seat.hardware_id,
            "mode": seat.mode.value,
            "growth_packs": list(seat.packs),
            "skus": dict(skus[seat.camera_id]),
            "taken_at": _text(seat.taken_at),
            "until": _text(seat.until),
            "held_until": _text(seat.held_until),
        }
        for seat in seats
    ]
    await connection.execute(
        "INSERT INTO seats (tenant_id, camera_id, seat_id, request_name, hardware_id, mode, "
        "growth_packs, skus, taken_at, until, held_until) "
        "SELECT %s, r.* FROM jsonb_to_recordset(%s) AS r (camera_id text, seat_id text, "
        "request_name text, hardware_id text, mode text, growth_packs text[], skus jsonb, "
        "taken_at timestamptz, until timestamptz, held_until timestamptz) "
        "ON CONFLICT (tenant_id, camera_id) DO UPDATE SET seat_id = excluded.seat_id, "
        "request_name = excluded.request_name, hardware_id = excluded.hardware_id, "
        "mode = excluded.mode, growth_packs = excluded.growth_packs, skus = excluded.skus, "
        "taken_at = excluded.taken_at, until = excluded.until, held_until = excluded.held_until, "
        # A list without the seat was published: its license is never handed out again.
        "token = CASE WHEN excluded.held_until IS NULL THEN seats.token END, "
        "key_id = CASE WHEN excluded.held_until IS NULL THEN seats.key_id END, "
        "content_hash = CASE WHEN excluded.held_until IS NULL THEN seats.content_hash END",
        [tenant_id, Jsonb(rows)],
    )


async def save_camera_tokens(
    connection: Connection, tenant_id: str, tokens: Mapping[str, CameraToken]
) -> None:
    """Store the newest licenses of cameras."""
    rows = [
        {
            "camera_id": camera_id,
            "camera_sequence": token.sequence,
            "content_hash": token.content_hash.hex(),
            "token_expires_at": _text(token.expires_at),
            "token": token.token,
            "key_id": token.key_id,
        }
        for camera_id, token in tokens.items()
    ]
    await connection.execute(
        "UPDATE seats s SET camera_sequence = r.camera_sequence, token = r.token, "
        "key_id = r.key_id, "
        "content_hash = decode(r.content_hash, 'hex'), token_expires_at = r.token_expires_at "
        "FROM jsonb_to_recordset(%s) AS r (camera_id text, camera_sequence bigint, "
        "content_hash text, token_expires_at timestamptz, token text, key_id text) "
        "WHERE s.tenant_id = %s AND s.camera_id = r.camera_id",
        [Jsonb(rows), tenant_id],
    )


async def add_history(
    connection: Connection, tenant_id: str, changes: Iterable[SeatChange], *, actor: str, now: int
) -> None:
    """Append to the seat history; ``actor`` as in the audit log."""
    rows = [
        {
            "id": str(uuid7()),
            "camera_id": change.seat.camera_id,
            "seat_id": change.seat.seat_id,
            "action": change.action,
            "hardware_id": change.seat.hardware_id,
            "mode": change.seat.mode.value,
            "growth_packs": list(change.seat.packs),
            "reason": change.reason,
            "from_hardware_id": change.moved_from,
        }
        for change in changes
    ]
    await connection.execute(
        "INSERT INTO seat_history (tenant_id, at, actor, id, camera_id, seat_id, action, "
        "hardware_id, mode, growth_packs, reason, from_hardware_id) "
        "SELECT %s, %s, %s, r.* FROM jsonb_to_recordset(%s) AS r (id uuid, camera_id text, "
        "seat_id text, action text, hardware_id text, mode text, growth_packs text[], "
        "reason text, from_hardware_id text)",
        [tenant_id, _at(now), actor, Jsonb(rows)],
    )


async def history(
    connection: Connection, tenant_id: str, camera_id: str | None = None
) -> list[Row]:
    """Return what happened to a camera's seat, oldest first; of all seats the newest 1,000."""
    cursor = await connection.execute(
        "SELECT at, camera_id, seat_id, action, from_hardware_id, hardware_id, mode, "
        "growth_packs, reason, actor FROM seat_history "
        "WHERE tenant_id = %(tenant)s AND (camera_id = %(camera)s OR %(camera)s IS NULL) "
        "ORDER BY at DESC, id DESC LIMIT %(most)s",
        {"tenant": tenant_id, "camera": camera_id, "most": 1000 if camera_id is None else None},
    )
    return list(reversed(await cursor.fetchall()))


async def issued(
    connection: Connection, tenant_id: str, instance_id: str
) -> dict[TokenKind, Issued]:
    """Return what is stored of the newest documents; no token if made for another instance."""
    cursor = await connection.execute(
        "SELECT kind, sequence, content_sequence, content_hash, expires_at, key_id, issued_at, "
        "CASE WHEN instance_id = %s THEN token ELSE '' END AS token "
        "FROM licenses WHERE tenant_id = %s",
        [instance_id, tenant_id],
    )
    return {
        TokenKind(row["kind"]): Issued(
            row["sequence"],
            row["content_sequence"],
            bytes(row["content_hash"]),
            int(row["expires_at"].timestamp()),
            row["token"],
            key_id=row["key_id"],
            issued_at=int(row["issued_at"].timestamp()),
        )
        for row in await cursor.fetchall()
    }


async def save_issued(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    documents: Mapping[TokenKind, Issued],
    now: int,
) -> None:
    """Store the newest documents; a lower number never replaces a higher one."""
    for kind, document in documents.items():
        await connection.execute(
            "INSERT INTO licenses AS l (tenant_id, kind, instance_id, sequence, "
            "content_sequence, content_hash, token, key_id, issued_at, expires_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, kind) DO UPDATE SET instance_id = excluded.instance_id, "
            "sequence = excluded.sequence, content_sequence = excluded.content_sequence, "
            "content_hash = excluded.content_hash, token = excluded.token, "
            "key_id = excluded.key_id, "
            "issued_at = excluded.issued_at, expires_at = excluded.expires_at "
            "WHERE l.sequence < excluded.sequence",
            [
                tenant_id,
                kind.value,
                instance_id,
                document.sequence,
                document.content_sequence,
                document.content_hash,
                document.token,
                document.key_id,
                _at(now),
                _at(document.expires_at),
            ],
        )


async def revocations(connection: Connection, tenant_id: str) -> list[Revocation]:
    """Return the customer's revocations in a stable order."""
    cursor = await connection.execute(
        "SELECT kind, subject, up_to FROM revocations WHERE tenant_id = %s ORDER BY kind, subject",
        [tenant_id],
    )
    return [
        Revocation(kind=TokenKind(row["kind"]), subject=row["subject"], up_to=row["up_to"])
        for row in await cursor.fetchall()
    ]


async def revoke(
    connection: Connection, tenant_id: str, entry: Revocation, reason: str, now: int
) -> None:
    """Add or raise a revocation."""
    await connection.execute(
        "INSERT INTO revocations AS r (tenant_id, kind, subject, up_to, reason, created_at) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, kind, subject) DO UPDATE "
        "SET up_to = greatest(r.up_to, excluded.up_to), reason = excluded.reason",
        [tenant_id, entry.kind.value, entry.subject, entry.up_to, reason, _at(now)],
    )


async def unrevoke(connection: Connection, tenant_id: str, kind: TokenKind, subject: str) -> bool:
    """Take a revocation back; False if there was none."""
    cursor = await connection.execute(
        "DELETE FROM revocations WHERE tenant_id = %s AND kind = %s AND subject = %s",
        [tenant_id, kind.value, subject],
    )
    return cursor.rowcount > 0
