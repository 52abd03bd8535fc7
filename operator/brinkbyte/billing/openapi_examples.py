"""Examples for the OpenAPI document, made from the schemas and what fields are usually called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_ID: Final = "0199f3a2-7c41-7d3e-9b1a-3f0d2c4b5a69"
_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_THUMBPRINT: Final = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
_JWS: Final = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhY21lIn0.c2lnbmF0dXJl"
_NOW: Final = 1_764_000_000
_FORMATS: Final = {
    "date-time": "2026-11-25T00:00:00Z",
    "date": "2026-11-25",
    "uri": "https://example.com/",
    "email": "olive@example.com",
}
BY_NAME: Final[dict[str, Any]] = {
    "customerId": "acme",
    "customer_id": "acme",
    "tenant_id": "acme",
    "customerName": "Acme Ltd",
    "name": "Acme Ltd",
    "search": "acme",
    "by": "cli",
    "action": "api_key.created",
    "actor": "cli",
    "subject": "acme",
    "cameraId": "cam-1",
    "camera_id": "cam-1",
    "device_id": "hw-1",
    "hardwareId": "hw-1",
    "fromHardwareId": "hw-2",
    "seat": "seat-1",
    "resource": "entrance",
    "instanceId": "acme-7f3a",
    "instance_id": "acme-7f3a",
    "uid": "7d2f9c1e",
    "clusterFingerprint": "4c6b1a52",
    "version": "0.1.0",
    "email": "olive@example.com",
    "password": "correct horse battery",
    "current": "correct horse battery",
    "token": "bbl_3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz0123456789A",
    "secret": "bbt_3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz0123456789A",
    "credential": "bbi_3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz0123456789A",
    "csrfToken": "xNfQ1c0aV9s3n2b5k8j1h4g7d0f3s6a9p2o5i8u1y4t",
    "plan": "professional",
    "status": "active",
    "licenseMode": "active",
    "license_mode": "active",
    "mode": "base",
    "reason": "Ok",
    "message": "",
    "detail": "see what to do next",
    "note": "moved to the new cluster",
    "currency": "USD",
    "total": "199.00",
    "amount": "199.00",
    "used": "1200",
    "quantity": "10",
    "line": "fleet.plan.professional",
    "kind": "meter",
    "license": _JWS,
    "seats": _JWS,
    "revocations": _JWS,
    "receipt": _JWS,
    "proof": _JWS,
    "header": _JWS,
    "kid": _THUMBPRINT,
    "kty": "RSA",
    "alg": "RS256",
    "use": "sig",
    "e": "AQAB",
    "keyId": _ID,
    "userId": _ID,
    "sessionId": _ID,
    "subscriptionId": _ID,
    "eventId": _ID,
    "replacedBy": _ID,
    "id": _ID,
    "next": "WyIwMTk5ZjNhMi03YzQxIl0",
    "cursor": "WyIwMTk5ZjNhMi03YzQxIl0",
    "agent": "Mozilla/5.0",
    "site": "Sydney",
    "valid_until": "2026-12-31T00:00:00Z",
    "chainHash": _DIGEST,
    "previousHash": _DIGEST,
    "payloadSha256": _DIGEST,
    "limit": 50,
    "createdAt": _NOW,
    "expiresAt": _NOW + 86_400,
    "issuedAt": _NOW,
    "at": _NOW,
    "status_code": 404,
}
"""What a field of a name usually holds; used where the field's schema takes it."""
BY_SCHEMA: Final[dict[str, Any]] = {
    "SubscriptionSet": {
        "customerId": "acme",
        "terms": {
            "plans": {"fleet": "professional"},
            "quantities": {"vision.base_seat": 10, "vision.device.basic": 5},
            "overrides": {"fleet.plan.professional.price": "199"},
        },
    },
    "SubscriptionWish": {
        "plans": {"fleet": "professional"},
        "quantities": {"vision.base_seat": 12, "vision.device.basic": 5},
    },
    "TargetCreate": {
        "channel": "webhook",
        "address": "https://example.com/billing",
        "kinds": ["limit_reached", "payment_failed"],
    },
    "LedgerEvents": {"events": [[_ID, _DIGEST]], "quarantined": [], "next": None},
    "LedgerBatches": {"batches": [[_ID, 17, _DIGEST]], "more": False},
    "FlagsPatch": {"offlineMode": False},
    "PaymentNotice": {"state": "failed", "dueAt": _NOW},
    "UserPatch": {"role": "billing"},
    "UsageReport": {
        "customerId": "acme",
        "events": [
            {
                "id": "0199f3a2-7c41-7d3e-9b1a-3f0d2c4b5a69",
                "meter": "llm_tokens",
                "quantity": "1250",
            }
        ],
    },
    "Heartbeat": {
        "version": "0.1.0",
        "clusterFingerprint": "4c6b1a52",
        "devicesOnline": 4,
        "backlog": 0,
        "licenseSequence": 1,
        "keySetNumber": 1,
    },
}
"""Whole examples of models that a schema alone does not describe."""
_DEPTH: Final = 8


class Examples:
    """Makes and fills in examples.

    Args:
        schemas: the document's components.
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas

    def complete(self, operation: dict[str, Any]) -> None:
        """Give request, parameters and the main answer of an operation an example."""
        for parameter in operation.get("parameters", ()):
            if "example" not in parameter and "examples" not in parameter:
                parameter["example"] = self.make(parameter["schema"], parameter["name"])
        self._media(operation.get("requestBody", {}))
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                self._media(answer)

    def _media(self, described: dict[str, Any]) -> None:
        for kind, media in described.get("content", {}).items():
            if kind.endswith("json") and "example" not in media and "examples" not in media:
                media["example"] = self.make(media.get("schema", {}), "")

    def make(self, schema: Mapping[str, Any], name: str, depth: int = 0) -> Any:
        """Return an example of a schema for a field of a name."""
        if "$ref" in schema:
            referred = schema["$ref"].rpartition("/")[2]
            if referred in BY_SCHEMA:
                return BY_SCHEMA[referred]
            return self.make(self._schemas[referred], name, depth)
        for given in ("const", "example"):
            if given in schema:
                return schema[given]
        for given in ("examples", "enum"):
            if schema.get(given):
                return schema[given][0]
        for variants in ("anyOf", "oneOf", "allOf"):
            if variants in schema:
                return self._variant(schema[variants], name, depth)
        return self._by_type(schema, name, depth)

    def _variant(self, variants: list[Any], name: str, depth: int) -> Any:
        there = [each for each in variants if each.get("type") != "null"]
        if not there or depth > _DEPTH:
            return None
        return self.make(there[0], name, depth)

    def _by_type(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        usual = BY_NAME.get(name)
        match schema.get("type"):
            case "object":
                return self._object(schema, name, depth)
            case "array":
                items = schema.get("items", {})
                if depth > _DEPTH or (not items and not schema.get("minItems")):
                    return []
                return [self.make(items, _singular(name), depth + 1)]
            case "string":
                return usual if isinstance(usual, str) and _fits(usual, schema) else _string(schema)
            case "integer":
                return usual if isinstance(usual, int) else _number(schema, name)
            case "number":
                return schema.get("minimum", 1)
            case "boolean":
                return schema.get("default", True)
            case "null":
                return None
        return {}

    def _object(self, schema: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
        if depth > _DEPTH:
            return {}
        made = {
            field: self.make(described, field, depth + 1)
            for field, described in schema.get("properties", {}).items()
        }
        more = schema.get("additionalProperties")
        if not made and isinstance(more, Mapping) and more:
            made["example"] = self.make(more, _singular(name), depth + 1)
        return made


def _singular(name: str) -> str:
    return {"growthPacks": "pack", "scopes": "scope"}.get(name, name.removesuffix("s"))


def _fits(text: str, schema: Mapping[str, Any]) -> bool:
    if len(text) > schema.get("maxLength", len(text)) or schema.get("format") == "uuid":
        return text == _ID
    return re.search(str(schema.get("pattern", "")), text) is not None


def _string(schema: Mapping[str, Any]) -> str:
    kind = schema.get("format")
    if kind == "uuid":
        return _ID
    if kind in _FORMATS:
        return _FORMATS[kind]
    pattern = str(schema.get("pattern", ""))
    if "0-9a-f]{64}" in pattern:
        return _DIGEST
    if "{43}" in pattern:
        return _THUMBPRINT
    default = schema.get("default")
    candidates = [default] if isinstance(default, str) else []
    candidates += ["example", "10", "USD", "2026-11-25"]
    return next((text for text in candidates if _fits(text, schema)), "example")


def _number(schema: Mapping[str, Any], name: str) -> int:
    default = schema.get("default")
    if isinstance(default, int):
        return default
    if name.endswith(("At", "Until", "Start", "End", "since", "until")):
        return _NOW
    lowest = int(schema.get("minimum", 1))
    return max(lowest, 1)
