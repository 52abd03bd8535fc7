"""Who calls: service, operator or device, by bearer token. Tokens are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from brinkbyte.kit.logging import get_logger
from brinkbyte.resources.names import DEVICES_KEY, OPERATOR_TOKEN_KEY, SERVICE_TOKEN_KEY
from brinkbyte.resources.state import DeviceCredential
from brinkbyte.store.directories import WatchedDirectory, read_text

_DEVICES: Final = TypeAdapter(tuple[DeviceCredential, ...])
_LOOK_AGAIN_SECONDS: Final = 1.0
_log = get_logger(__name__)


class Caller(StrEnum):
    """Kinds of credentials."""

    SERVICE = "service"
    OPERATOR = "operator"
    DEVICE = "device"


@dataclass(frozen=True)
class Principal:
    """An authenticated caller; ``device`` is set for devices only."""

    caller: Caller
    device: DeviceCredential | None = None

    @property
    def credential_id(self) -> str:
        """Id of the credential for idempotency keys; a rotated device token keeps it."""
        return f"device:{self.device.hardware_id}" if self.device else self.caller.value


class Credentials:
    """The callers' tokens, read from the mounted directories and followed as they change.

    A broken or missing ``devices.json`` is logged and the last good one stays in force: a Secret
    that was deleted is made again, and until then every device goes on.

    Args:
        access_dir: directory with ``service-token`` and ``operator-token``.
        devices_dir: directory with ``devices.json``.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        access_dir: Path,
        devices_dir: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = WatchedDirectory(access_dir)
        self._devices_dir = WatchedDirectory(devices_dir)
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._tokens: Mapping[Caller, bytes] = {}
        self._by_hash: Mapping[str, DeviceCredential] = {}
        self.devices: tuple[DeviceCredential, ...] = ()
        self.revision = 0
        """Counts the lists of devices that came into force; 0: none could be read yet."""

    def reload(self) -> bool:
        """Read the directories again where they changed; tell whether the devices did."""
        self._looked_at = self._monotonic()
        if self._access.changed():
            files = {Caller.SERVICE: SERVICE_TOKEN_KEY, Caller.OPERATOR: OPERATOR_TOKEN_KEY}
            found = {caller: read_text(self._access.path / name) for caller, name in files.items()}
            self._tokens = {caller: text.encode() for caller, text in found.items() if text}
        if not self._devices_dir.changed():
            return False
        devices = self._read_devices()
        if devices is None or (self.revision and devices == self.devices):
            return False
        self.devices = devices
        self.revision += 1
        self._by_hash = {device.token_sha256: device for device in devices}
        return True

    def _read_devices(self) -> tuple[DeviceCredential, ...] | None:
        path = self._devices_dir.path / DEVICES_KEY
        text = read_text(path)
        if text is None:
            _log.warning(
                "devices.json is missing; the last good one stays in force", path=str(path)
            )
            return None
        try:
            return _DEVICES.validate_json(text)
        except ValidationError as error:
            _log.error(
                "devices.json is broken; the last good one stays in force",
                path=str(path),
                errors=error.error_count(),
            )
            return None

    def authenticate(self, token: str) -> Principal | None:
        """Return who holds the token, None when nobody does."""
        found = self._look_up(token)
        if found is None and self._monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS:
            # A credential made a moment ago should not have to wait for the next look.
            self.reload()
            found = self._look_up(token)
        return found

    def _look_up(self, token: str) -> Principal | None:
        given = token.encode()
        for caller, secret in self._tokens.items():
            if hmac.compare_digest(given, secret):
                return Principal(caller)
        # Looked up by hash: what its timing tells is about the hash, which nobody can steer.
        device = self._by_hash.get(hashlib.sha256(given).hexdigest())
        return Principal(Caller.DEVICE, device) if device else None
