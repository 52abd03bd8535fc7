"""Signed documents of a pretended vendor, as the benchmarks' sites hold them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from brinkbyte.license.claims import CameraMode, LicenseClaims, SeatsClaims, TokenKind
from brinkbyte.license.keys import SigningKey, sign_key_set
from brinkbyte.license.seats import Seat, pack_seats
from brinkbyte.license.tokens import sign
from brinkbyte.resources.names import INSTANCE_ID_KEY, KEY_SET_KEY, LICENSE_KEY, SEATS_KEY

CUSTOMER: Final = "bench"
INSTANCE: Final = "inst-bench"
DEVICE: Final = "hw-bench"
METER: Final = "platform.llm_tokens"
_BASE: Final = {
    "models": ["person", "car", "van", "truck", "bus", "motorcycle"],
    "analytics": ["detection", "tracking", "counting", "dwell"],
    "outputs": ["edge_io", "dashboard", "email", "webhook", "api"],
}


def camera(number: int) -> str:
    """Return the id of a camera."""
    return f"cam-{number:05}"


@dataclass(frozen=True)
class Vendor:
    """A root key and one signing key."""

    root: SigningKey = field(default_factory=SigningKey.generate)
    key: SigningKey = field(
        default_factory=lambda: SigningKey.generate([TokenKind.LICENSE, TokenKind.SEATS])
    )

    def write(self, folder: Path, *, sequence: int = 1, cameras: int = 0) -> None:
        """Write key set, license and seats; each file is replaced in one step.

        Args:
            folder: made when missing.
            sequence: of license and seats.
            cameras: seats, all on one device.
        """
        folder.mkdir(exist_ok=True)
        now = int(time.time()) - 60
        common = {
            "iss": "brinkbyte", "sub": CUSTOMER, "aud": INSTANCE, "jti": "1",
            "iat": now, "nbf": now, "exp": now + 86_400, "customerId": CUSTOMER,
            "revocationSequence": 0,
        }  # fmt: skip
        seats = [Seat(camera(each), DEVICE, CameraMode.BASE, ()) for each in range(cameras)]
        files = {
            KEY_SET_KEY: json.dumps(sign_key_set(self.root, [self.key.jwk], number=1, now=now)),
            LICENSE_KEY: sign(
                LicenseClaims.model_validate_json(json.dumps(self._license(common, sequence))),
                self.key,
            ),
            SEATS_KEY: sign(
                SeatsClaims.model_validate_json(json.dumps(_seats(common, sequence, seats))),
                self.key,
            ),
            INSTANCE_ID_KEY: INSTANCE,
        }
        for name, text in files.items():
            partial = folder / f"..{name}"
            partial.write_text(text)
            partial.replace(folder / name)

    def _license(self, common: dict[str, Any], sequence: int) -> dict[str, Any]:
        return {
            **common,
            "cnf": {"jkt": self.root.kid}, "customerName": "Bench", "plan": "platform_standard",
            "features": {
                "maxDevices": None, "dataRetentionDays": None, "canExportData": True,
                "hasAdvancedAlerts": True, "hasApiAccess": True, "hasMqttAccess": True,
                "hasCustomBranding": False,
            },
            "limits": {"maxUsers": None, "maxAlertRules": None, "maxDashboards": None},
            "trial": {"isActive": False, "endsAt": None},
            "subscription": {"status": "active", "currentPeriodEnd": None},
            "issuedAt": common["iat"], "expiresAt": common["exp"], "licenseSequence": sequence,
            "refreshAfter": 3600, "graceSeconds": 0, "flags": {}, "grant": {},
            "quotas": {METER: 1_000_000}, "quotaRules": {METER: "overage"},
        }  # fmt: skip


def _seats(common: dict[str, Any], sequence: int, seats: list[Seat]) -> dict[str, Any]:
    return {
        **common, "seatsSequence": sequence, "base": _BASE, "packs": {}, "devices": [DEVICE],
        "count": len(seats), "seats": pack_seats(seats),
    }  # fmt: skip
