"""A customer's inventory, sent as the operator does, to a billing API that may die meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Final

from brinkbyte.client import (
    BillingClient,
    BillingRefusedError,
    BillingUnreachableError,
    RetryPolicy,
)
from brinkbyte.license.claims import (
    CameraClaims,
    CameraMode,
    LicenseClaims,
    RevocationsClaims,
    SeatsClaims,
)
from brinkbyte.license.keys import KeySet, PublicJwk, verify_key_set
from brinkbyte.license.tokens import verify
from brinkbyte.license.wire import (
    Held,
    InventoryAnswer,
    InventoryCamera,
    InventoryDevice,
    InventoryRequest,
)
from brinkbyte.resources import names

AT_ONCE: Final = RetryPolicy(delays=())
CREATED: Final = 1_700_000_000
HARDWARE: Final = ("hw-1", "hw-2")
BASE_CAMERAS: Final = ("cam-1", "cam-2", "cam-3", "cam-4")
"""Cameras that stay: the traffic is theirs."""
MORE_CAMERAS: Final = tuple(f"more-{number}" for number in range(1, 7))
"""Cameras that come, go, move and change; with the others they are all ten seats bought."""
PACK: Final = "advanced_analytics"


def hardware_of(camera: str) -> str:
    """Return the device of a camera that stays."""
    return HARDWARE[BASE_CAMERAS.index(camera) % 2]


class Inventory:
    """Devices and cameras of one instance, and the documents that the answers brought.

    Attributes:
        cameras: what is wanted now, by camera id.
        files: the license directory's files, every one of them verified.
        tokens: the newest token of every camera that has one, verified.
        waiting: the newest request has no answer.
    """

    def __init__(
        self,
        url: str,
        credential: Callable[[], str],
        roots: dict[str, PublicJwk],
        instance: str,
        *,
        seed: int,
    ) -> None:
        self._url = url
        self._credential = credential
        self._roots = roots
        self._instance = instance
        self._numbers = random.Random(seed)
        self._revision: int | None = None
        self._told: dict[str, InventoryCamera] = {}
        self._held = Held()
        self._keys: KeySet | None = None
        self.devices = tuple(
            InventoryDevice(
                hardware_id=hardware,
                name=f"edge-{hardware}",
                uid=f"uid-{hardware}",
                management_tier="basic",
                created_at=CREATED,
            )
            for hardware in HARDWARE
        )
        self.cameras = {name: _camera(name, hardware_of(name)) for name in BASE_CAMERAS}
        self.files: dict[str, str] = {}
        self.tokens: dict[str, CameraClaims] = {}
        self.seats: SeatsClaims | None = None
        self.waiting = True

    @property
    def keys(self) -> KeySet:
        assert self._keys is not None, "no answer yet"
        return self._keys

    def change(self) -> None:
        """Add, remove, move or change one of the cameras that may; always something to sign."""
        name = self._numbers.choice(MORE_CAMERAS)
        camera = self.cameras.get(name)
        if camera is None:
            self.cameras[name] = _camera(name, self._numbers.choice(HARDWARE))
        elif self._numbers.random() < 0.5:
            del self.cameras[name]
        else:
            other = next(each for each in HARDWARE if each != camera.hardware_id)
            packs = () if camera.growth_packs or name not in MORE_CAMERAS[:3] else (PACK,)
            self.cameras[name] = _camera(name, other, packs)

    def send(self) -> bool:
        """Send what is wanted, all of it or what changed; False: the server went away."""
        self.waiting = True
        try:
            answer = asyncio.run(self._send())
        except BillingUnreachableError:
            return False
        self._take_in(answer)
        self.waiting = False
        return True

    def send_complete(self) -> InventoryAnswer:
        """Send the complete set and return the answer."""
        answer = asyncio.run(self._put(self._complete()))
        self._take_in(answer)
        return answer

    async def _send(self) -> InventoryAnswer:
        request = self._complete()
        if self._revision is not None and self._numbers.random() < 0.7:
            request = InventoryRequest(
                base_revision=self._revision,
                held=self._held,
                cameras=tuple(
                    self._with_sequence(each)
                    for name, each in self.cameras.items()
                    if self._told.get(name) != each
                ),
                removed_cameras=tuple(sorted(self._told.keys() - self.cameras.keys())),
            )
        try:
            return await self._put(request)
        except BillingRefusedError as error:
            if error.reason != "RevisionMismatch" or request.base_revision is None:
                raise
        # It was taken in by a server that died before it could say so.
        return await self._put(self._complete())

    async def _put(self, request: InventoryRequest) -> InventoryAnswer:
        async with BillingClient(self._url, self._credential, retry=AT_ONCE) as client:
            return await client.put_inventory(request)

    def _complete(self) -> InventoryRequest:
        return InventoryRequest(
            held=self._held,
            devices=self.devices,
            cameras=tuple(self._with_sequence(each) for each in self.cameras.values()),
        )

    def _with_sequence(self, camera: InventoryCamera) -> InventoryCamera:
        held = self.tokens.get(camera.camera_id)
        return camera.model_copy(update={"held_sequence": held.camera_sequence if held else 0})

    def _take_in(self, answer: InventoryAnswer) -> None:
        now = int(time.time())
        if answer.key_set is not None:
            document = json.dumps(answer.key_set, separators=(",", ":"), sort_keys=True)
            self._keys = verify_key_set(document, self._roots, now=now)
            self.files[names.KEY_SET_KEY] = document
        keys = self.keys.keys
        held = {"key_set_number": self.keys.number}
        if answer.license is not None:
            claims = verify(answer.license, LicenseClaims, keys, now=now, audience=self._instance)
            held["license_sequence"] = claims.license_sequence
            self.files[names.LICENSE_KEY] = answer.license
        if answer.seats is not None:
            self.seats = verify(answer.seats, SeatsClaims, keys, now=now, audience=self._instance)
            held["seats_sequence"] = self.seats.seats_sequence
            self.files[names.SEATS_KEY] = answer.seats
        if answer.revocations is not None:
            entries = verify(
                answer.revocations, RevocationsClaims, keys, now=now, audience=self._instance
            )
            held["revocation_sequence"] = entries.revocation_sequence
            self.files[names.REVOCATIONS_KEY] = answer.revocations
        self._held = self._held.model_copy(update=held)
        refused = [each for each in answer.devices if each.status == "refused"]
        assert not refused, refused
        for camera in answer.cameras:
            assert camera.status != "refused", camera
            if camera.token:
                self.tokens[camera.camera_id] = verify(
                    camera.token, CameraClaims, keys, now=now, audience=self._instance
                )
        self.tokens = {name: self.tokens[name] for name in self.cameras}
        self._told = dict(self.cameras)
        self._revision = answer.revision


def _camera(name: str, hardware: str, packs: tuple[str, ...] = ()) -> InventoryCamera:
    return InventoryCamera(
        camera_id=name,
        name=f"camera-{name}",
        uid=f"uid-{name}",
        hardware_id=hardware,
        mode=CameraMode.BASE,
        growth_packs=packs,
        created_at=CREATED,
    )
