"""Inference: a small frame of a device's camera through a licensed model, metered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.instance.schemas import DetectionView, InferenceAnswer
from brinkbyte.instance.services.metered import (
    MeteredAnswer,
    MeteredCall,
    Work,
    metered,
    waived_attribute,
)
from brinkbyte.instance.services.refusals import check_granted
from brinkbyte.instance.services.telemetry import device_camera
from brinkbyte.instance.triton.client import Detection, TritonClient, TritonUnavailableError
from brinkbyte.instance.triton.loader import ModelLoader
from brinkbyte.kit.errors import InvalidInputError, TemporaryError
from brinkbyte.kit.pools import Pool
from brinkbyte.store.database import Connection

FRAME_MEDIA_TYPE: Final = "image/x-portable-pixmap"
MAX_SIDE: Final = 1024
MAX_FRAME_BYTES: Final = 2 * 1024 * 1024
_PATIENCE_SECONDS: Final = 2.0
"""A frame waits this long for a place before it is sent away."""
_CHANNELS: Final = 3
# "P6", width, height, maximum 255, one white space, then the pixels; comments are not needed.
_HEADER: Final = re.compile(rb"^P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")


@dataclass(frozen=True)
class Frame:
    """An RGB picture, 8 bits a channel, row by row."""

    width: int
    height: int
    pixels: bytes


def parse_frame(body: bytes) -> Frame:
    """Read a binary PPM (P6) picture.

    Raises:
        InvalidInputError: reason ``InvalidFrame``.
    """
    match = _HEADER.match(body[:64])
    if match is None:
        raise InvalidInputError(
            f"the frame is not a binary PPM picture; send 'P6 <width> <height> 255' and the RGB "
            f"bytes as {FRAME_MEDIA_TYPE}",
            reason="InvalidFrame",
        )
    width, height = int(match[1]), int(match[2])
    pixels = body[match.end() :]
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        raise InvalidInputError(
            f"a frame of {width} x {height} is not taken; scale it down to {MAX_SIDE} a side",
            reason="InvalidFrame",
        )
    if len(pixels) != width * height * _CHANNELS:
        raise InvalidInputError(
            f"the frame says {width} x {height} and has {len(pixels)} bytes of pixels instead of "
            f"{width * height * _CHANNELS}; send it whole",
            reason="InvalidFrame",
        )
    return Frame(width, height, pixels)


class InferenceService:
    """Rules of the inference endpoint.

    Args:
        pool: the instance's database.
        license_service: what each camera may do.
        catalog: which models exist.
        loader: knows which servers have a model ready.
        client: speaks to them.
        places: frames at work at once; fewer than the pool has connections.
    """

    def __init__(
        self,
        pool: Pool,
        license_service: LicenseService,
        catalog: Catalog,
        loader: ModelLoader,
        client: TritonClient,
        *,
        places: int,
    ) -> None:
        self._pool = pool
        self._license = license_service
        self._catalog = catalog
        self._loader = loader
        self._client = client
        self._places = asyncio.Semaphore(places)
        self._turn = 0

    async def infer(self, call: MeteredCall, camera_id: str, model: str) -> MeteredAnswer:
        """Send a frame through a model, and meter the call.

        Raises:
            ProblemError: 403 when the camera is not the device's or the model not licensed.
            InvalidInputError: no such model, or not a frame.
            TritonUnavailableError: no server has the model ready.
            TemporaryError: too many frames are at work; reason ``InferenceBusy``.
        """

        async def work(connection: Connection, event_id: str | None) -> Work:
            decision = await device_camera(self._license, connection, call.principal, camera_id)
            waived = check_granted(self._catalog, decision, models=[model], status=403)
            self._license.waive(decision, waived)
            found = await self._detect(model, parse_frame(call.body))
            return Work(
                InferenceAnswer(
                    camera_id=camera_id,
                    model=model,
                    detections=tuple(
                        DetectionView(box=item.box, score=item.score, label=item.label)
                        for item in found
                    ),
                    event_id=event_id,
                ),
                camera_id,
                {"model": model, **waived_attribute(waived)},
            )

        await self._license.look_up(camera_id)
        async with self._place():
            return await metered(
                self._pool, call, name="infer", status=200, work=work, tracked=self._license.tracked
            )

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold one of the places: a Triton that hangs must leave the others their connections."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise TemporaryError(
                "too many frames are at work; send this one again in a few seconds, under the same "
                "Idempotency-Key",
                reason="InferenceBusy",
                retry_after=2,
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def _detect(self, model: str, frame: Frame) -> list[Detection]:
        servers = self._loader.servers_of(model)
        self._turn += 1
        start = self._turn % len(servers) if servers else 0
        last: TritonUnavailableError | None = None
        for base in servers[start:] + servers[:start]:
            try:
                return await self._client.infer(
                    base, model, width=frame.width, height=frame.height, pixels=frame.pixels
                )
            except TritonUnavailableError as error:
                last = error
        # No waiting for a load here: the transaction would wait with it. The loader looks now.
        self._license.changed.set()
        raise last or TritonUnavailableError(
            f"model {model} is licensed and not ready on any Triton pod yet; try again in a few "
            "seconds",
            reason="ModelNotReady",
            retry_after=5,
        )
