"""Thumbnails: in from devices, out to people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote
from uuid import UUID

from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.instance.schemas import FrameAnswer, FramePage, FrameView
from brinkbyte.instance.services.metered import (
    MeteredAnswer,
    MeteredCall,
    Work,
    metered,
    waived_attribute,
)
from brinkbyte.instance.services.telemetry import (
    TelemetryService,
    check_readable,
    device_camera,
)
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.store import frames as store
from brinkbyte.store.database import Connection
from brinkbyte.store.frames import Frame

MAX_BYTES: Final = 256 * 1024
MAX_FRAMES: Final = 500
_JPEG: Final = b"\xff\xd8\xff"
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def media_type(picture: bytes) -> str:
    """Return what a picture is by its first bytes.

    Raises:
        InvalidInputError: ``InvalidFrame``: none that is taken, or too large.
    """
    if len(picture) > MAX_BYTES:
        raise InvalidInputError(
            f"a thumbnail of {len(picture)} bytes is not taken; scale it down to {MAX_BYTES}",
            reason="InvalidFrame",
        )
    if picture.startswith(_JPEG):
        return "image/jpeg"
    if picture.startswith(_PNG):
        return "image/png"
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    raise InvalidInputError(
        "the thumbnail is no JPEG, PNG or WebP picture; send one of these", reason="InvalidFrame"
    )


class FrameService:
    """Rules of the thumbnail endpoints.

    Args:
        pool: the instance's database.
        license_service: what each camera may do.
        telemetry: how long things are kept.
    """

    def __init__(
        self, pool: Pool, license_service: LicenseService, telemetry: TelemetryService
    ) -> None:
        self._pool = pool
        self._license = license_service
        self._telemetry = telemetry

    async def take(self, call: MeteredCall, camera_id: str, occurred_at: datetime) -> MeteredAnswer:
        """Keep a thumbnail of a device's camera, and meter the call, in one transaction.

        Raises:
            ProblemError: the camera is not the device's or not licensed.
            InvalidInputError: no picture, or its time is too old or in the future.
        """

        async def work(connection: Connection, event_id: str | None) -> Work:
            decision = await device_camera(self._license, connection, call.principal, camera_id)
            waived = [decision.waived] if decision.waived else []
            self._license.waive(decision, waived)
            await self._telemetry.check_time(connection, [("occurred_at", occurred_at)])
            frame = Frame(
                id=uuid7(),
                camera_id=camera_id,
                hardware_id=decision.hardware_id or "",
                occurred_at=occurred_at,
                media_type=media_type(call.body),
                width=None,
                height=None,
                bytes=len(call.body),
            )
            await store.insert_frame(connection, self._license.customer_id, frame, call.body)
            answer = FrameAnswer(frame_id=frame.id, camera_id=camera_id, event_id=event_id)
            return Work(
                answer,
                camera_id,
                {"bytes": str(len(call.body)), **waived_attribute(waived)},
            )

        await self._license.look_up(camera_id)
        return await metered(
            self._pool, call, name="frame", status=201, work=work, tracked=self._license.tracked
        )

    async def page(
        self, camera_id: str, since: datetime | None, until: datetime | None
    ) -> FramePage:
        """Return thumbnails of ``[since, until)``, by default of the last day, without pictures.

        Raises:
            InvalidInputError: an empty or reversed span.
            ProblemError: 403 when the span begins before what the license lets read.
        """
        now = datetime.now(UTC)
        end = until or now + timedelta(minutes=5)
        start = since or min(end, now) - timedelta(days=1)
        if start >= end:
            raise InvalidInputError("since must be before until", reason="InvalidSpan")
        check_readable(self._license.policy(), start)
        async with self._pool.connection() as connection:
            found = await store.list_frames(
                connection,
                self._license.customer_id,
                camera_id,
                since=start,
                until=end,
                limit=MAX_FRAMES + 1,
            )
        return FramePage(
            frames=tuple(_view(frame) for frame in found[:MAX_FRAMES]),
            truncated=len(found) > MAX_FRAMES,
        )

    async def picture(
        self, camera_id: str, occurred_at: datetime, frame_id: UUID
    ) -> tuple[str, bytes]:
        """Return a thumbnail's media type and bytes.

        Raises:
            ProblemError: 404 when it is not kept; 403 when it is older than the license lets read.
        """
        check_readable(self._license.policy(), occurred_at)
        async with self._pool.connection() as connection:
            found = await store.get_picture(
                connection, self._license.customer_id, occurred_at, frame_id
            )
        if found is None or found[0] != camera_id:
            raise ProblemError(
                404,
                f"camera {camera_id} has no thumbnail {frame_id} at that time; list them at "
                f"/api/v1/cameras/{camera_id}/frames",
                reason="NotFound",
            )
        return found[1], found[2]


def _view(frame: Frame) -> FrameView:
    at = quote(frame.occurred_at.isoformat())
    return FrameView(
        id=frame.id,
        camera_id=frame.camera_id,
        hardware_id=frame.hardware_id,
        occurred_at=frame.occurred_at,
        media_type=frame.media_type,
        width=frame.width,
        height=frame.height,
        bytes=frame.bytes,
        path=f"/api/v1/cameras/{quote(frame.camera_id)}/frames/{frame.id}?occurred_at={at}",
    )
