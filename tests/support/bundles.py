"""Requests and bundles of a pretended vendor, whole or wrong in one thing."""

from __future__ import annotations

import json
from typing import Any

from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.license.bundle import BundleContent, content_bytes, write_bundle
from brinkbyte.license.claims import BundleClaims, TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.request import RequestClaims, inventory_bytes, sign_request
from brinkbyte.license.seats import Seat
from brinkbyte.license.tokens import sign
from brinkbyte.license.wire import InventoryRequest
from support.licensing import (
    CUSTOMER,
    DAY,
    INSTANCE,
    NOW,
    camera_claims,
    license_claims,
    seats_claims,
    vendor,
)


def inventory(**more: Any) -> InventoryRequest:
    """One device with one camera."""
    return InventoryRequest.model_validate_json(
        json.dumps(
            {
                "devices": [
                    {
                        "hardwareId": "hw-1",
                        "name": "gate",
                        "uid": "u-1",
                        "managementTier": "basic",
                        "createdAt": NOW - DAY,
                    }
                ],
                "cameras": [
                    {
                        "cameraId": "cam-1",
                        "name": "entry",
                        "uid": "u-2",
                        "hardwareId": "hw-1",
                        "mode": "base",
                        "growthPacks": ["retail"],
                        "createdAt": NOW - DAY,
                    }
                ],
                **more,
            }
        )
    )


def request_text(
    declared: InventoryRequest | None = None, *, key: SigningKey | None = None, **over: Any
) -> str:
    data = inventory_bytes(declared or inventory())
    claims = {
        "sub": CUSTOMER,
        "jti": "request-1",
        "iat": NOW,
        "name": "acme.acme",
        "uid": "uid-acme",
        "clusterFingerprint": "cluster-1",
        "version": "0.1.0",
        "inventorySha256": sha256_hex(data),
        **over,
    }
    return sign_request(RequestClaims.model_validate(claims), data, key or vendor().instance_key)


def camera_token(**over: Any) -> str:
    return sign(camera_claims(**over), vendor().keys[TokenKind.CAMERA])


def content(**over: Any) -> BundleContent:
    """A content with one device and one licensed camera."""
    keys = vendor().keys
    seats = [Seat("cam-1", "hw-1", camera_claims().mode, ("retail",))]
    return BundleContent.model_validate(
        {
            "server_time": NOW,
            "license": sign(license_claims(exp=NOW + 200 * DAY), keys[TokenKind.LICENSE]),
            "seats": sign(seats_claims(seats), keys[TokenKind.SEATS]),
            "revision": 1,
            "devices": [{"hardware_id": "hw-1", "status": "registered"}],
            "cameras": [
                {
                    "camera_id": "cam-1",
                    "status": "issued",
                    "token": camera_token(),
                    "seat": "seat-1",
                }
            ],
            "device_use": {"used": 1, "limit": 50},
            "camera_use": {"used": 1, "limit": 10},
            "asked_devices": [{"hardware_id": "hw-1", "management_tier": "basic"}],
            **over,
        }
    )


def bundle_claims(data: bytes, **over: Any) -> BundleClaims:
    return BundleClaims.model_validate_json(
        json.dumps(
            {
                "iss": "brinkbyte",
                "sub": CUSTOMER,
                "aud": INSTANCE,
                "jti": "bundle-1",
                "iat": NOW,
                "nbf": NOW,
                "exp": NOW + 200 * DAY,
                "cnf": {"jkt": vendor().instance_key.kid},
                "customerId": CUSTOMER,
                "bundleSequence": 5,
                "requestId": "request-1",
                "keySetNumber": 1,
                "contentSha256": sha256_hex(data),
                **over,
            }
        )
    )


def bundle_text(
    of: BundleContent | None = None, *, key: SigningKey | None = None, **over: Any
) -> str:
    data = content_bytes(of or content())
    manifest = sign(bundle_claims(data, **over), key or vendor().keys[TokenKind.LICENSE])
    return write_bundle(manifest, data, json.loads(vendor().key_set()))
