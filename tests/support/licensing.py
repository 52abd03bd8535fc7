"""Signing material of a pretended vendor, and documents made with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from brinkbyte.license.claims import (
    VENDOR_KINDS,
    CameraClaims,
    LicenseClaims,
    ReceiptClaims,
    RevocationsClaims,
    SeatsClaims,
    TokenKind,
)
from brinkbyte.license.keys import PublicJwk, SigningKey, sign_key_set
from brinkbyte.license.seats import Seat, pack_seats

NOW = 1_800_000_000
DAY = 86_400
INSTANCE = "inst-1"
CUSTOMER = "acme"


@dataclass(frozen=True)
class Vendor:
    """A root key, one signing key per kind, and the instance's key pair."""

    root: SigningKey
    keys: dict[TokenKind, SigningKey]
    instance_key: SigningKey

    @property
    def public(self) -> dict[str, PublicJwk]:
        return {key.kid: key.jwk for key in self.keys.values()}

    @property
    def roots(self) -> dict[str, PublicJwk]:
        return {self.root.kid: self.root.jwk}

    def key_set(self, *, number: int = 1, now: int = NOW) -> str:
        return json.dumps(
            sign_key_set(self.root, [key.jwk for key in self.keys.values()], number=number, now=now)
        )


@lru_cache(maxsize=1)
def vendor() -> Vendor:
    """Key pairs are slow to make: once for all tests, never changed."""
    return Vendor(
        SigningKey.generate(),
        {kind: SigningKey.generate([kind]) for kind in sorted(VENDOR_KINDS)},
        SigningKey.generate(),
    )


def _common(**over: Any) -> dict[str, Any]:
    return {
        "iss": "brinkbyte",
        "sub": CUSTOMER,
        "aud": INSTANCE,
        "jti": "j-1",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 45 * DAY,
        **over,
    }


def license_claims(**over: Any) -> LicenseClaims:
    """A license in good standing, with some members replaced."""
    return LicenseClaims.model_validate_json(json.dumps(license_payload(**over)))


def license_payload(**over: Any) -> dict[str, Any]:
    return _common(
        **{
            "cnf": {"jkt": vendor().instance_key.kid},
            "customerId": CUSTOMER,
            "customerName": "Acme Ltd",
            "plan": "professional",
            "features": {
                "maxDevices": 50,
                "dataRetentionDays": 365,
                "canExportData": True,
                "hasAdvancedAlerts": True,
                "hasApiAccess": True,
                "hasMqttAccess": True,
                "hasCustomBranding": False,
            },
            "limits": {"maxUsers": 10, "maxAlertRules": 100, "maxDashboards": 20},
            "trial": {"isActive": False, "endsAt": None},
            "subscription": {"status": "active", "currentPeriodEnd": NOW + 20 * DAY},
            "issuedAt": NOW,
            "expiresAt": NOW + 45 * DAY,
            "licenseSequence": 7,
            "revocationSequence": 0,
            "refreshAfter": 3600,
            "graceSeconds": 7 * DAY,
            "flags": {},
            "grant": {},
            **over,
        }
    )


def camera_claims(**over: Any) -> CameraClaims:
    payload = _common(
        **{
            "sub": "cam-1",
            "cnf": {"jkt": vendor().instance_key.kid},
            "customerId": CUSTOMER,
            "cameraId": "cam-1",
            "hardwareId": "hw-1",
            "seat": "seat-1",
            "mode": "base",
            "growthPacks": ["retail"],
            "grant": {"models": ["person"]},
            "cameraSequence": 3,
            "seatsSequence": 9,
            "refreshAfter": 3600,
            "graceSeconds": 7 * DAY,
            **over,
        }
    )
    return CameraClaims.model_validate_json(json.dumps(payload))


def seats_claims(listed: list[Seat], **over: Any) -> SeatsClaims:
    payload = _common(
        **{
            "customerId": CUSTOMER,
            "seatsSequence": 9,
            "revocationSequence": 0,
            "base": {"models": ["person"], "analytics": ["counting"], "outputs": ["api"]},
            "packs": {"retail": {"models": ["trolley"]}},
            "devices": ["hw-1"],
            "count": len(listed),
            "seats": pack_seats(listed),
            **over,
        }
    )
    return SeatsClaims.model_validate_json(json.dumps(payload))


def revocations_claims(entries: list[dict[str, Any]], **over: Any) -> RevocationsClaims:
    payload = _common(
        **{"customerId": CUSTOMER, "revocationSequence": 1, "entries": entries, **over}
    )
    return RevocationsClaims.model_validate_json(json.dumps(payload))


def receipt_claims(**over: Any) -> ReceiptClaims:
    payload = _common(
        **{
            "sub": INSTANCE,
            "instance": INSTANCE,
            "epoch": "01890000-0000-7000-8000-000000000000",
            "batchNo": 1,
            "chainHash": "0" * 64,
            "payloadSha256": "0" * 64,
            "count": 1,
            **over,
        }
    )
    return ReceiptClaims.model_validate_json(json.dumps(payload))
