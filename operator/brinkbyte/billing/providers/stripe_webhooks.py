"""Deliveries of Stripe's: its signature over the raw body, and the few facts that we keep."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from brinkbyte.billing.providers.base import ProviderEvent
from brinkbyte.billing.providers.errors import WebhookError

TOLERANCE_SECONDS: Final = 300
SIGNATURE_HEADER: Final = "stripe-signature"
_MAX_TEXT: Final = 255
_MAX_TIMESTAMP: Final = 253_402_300_799


class StripeWebhooks:
    """Verifies deliveries; the only part of Stripe that the API server needs.

    Args:
        secrets: signing secrets of the endpoint; two of them while one is rolled.
        clock: returns Unix seconds.
    """

    def __init__(self, secrets: Sequence[str], clock: Callable[[], float]) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._clock = clock

    def verify(self, body: bytes, headers: Mapping[str, str]) -> ProviderEvent:
        """Return what a delivery says.

        Args:
            body: as it came, byte for byte.
            headers: of the request, names in lower case.

        Raises:
            WebhookError: ``InvalidSignature``, ``StaleDelivery`` or ``InvalidDelivery``.
        """
        timestamp, signatures = _signature(headers.get(SIGNATURE_HEADER, ""))
        signed = timestamp.encode() + b"." + body
        good = False
        for secret in self._secrets:
            expected = hmac.new(secret, signed, hashlib.sha256).hexdigest().encode()
            for given in signatures:
                good |= hmac.compare_digest(expected, given)
        if not good:
            raise WebhookError(
                "the signature is of none of our endpoint's secrets; see that "
                "BRINKBYTE_STRIPE_WEBHOOK_SECRETS has the one that the dashboard shows",
                reason="InvalidSignature",
            )
        if abs(self._clock() - int(timestamp)) > TOLERANCE_SECONDS:
            raise WebhookError(
                f"the delivery was signed more than {TOLERANCE_SECONDS} s from now; see that the "
                "clocks are right",
                reason="StaleDelivery",
            )
        return event_of(_json(body))


def event_of(value: Any) -> ProviderEvent:
    """Return what an event of Stripe's says: ids, kind and time, nothing else is kept.

    Raises:
        WebhookError: ``InvalidDelivery``.
    """
    try:
        created = value["created"]
        if isinstance(created, bool) or not 0 <= int(created) <= _MAX_TIMESTAMP:
            raise ValueError("created")
        return ProviderEvent(
            event_id=_text(value["id"]),
            kind=_text(value["type"]),
            object_id=_text(value["data"]["object"].get("id", "")),
            created_at=datetime.fromtimestamp(int(created), UTC),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise WebhookError(
            "this is no event: id, type, created or data.object is missing or wrong",
            reason="InvalidDelivery",
        ) from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise WebhookError("the body is not JSON", reason="InvalidDelivery") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError("text")
    return value


def _signature(header: str) -> tuple[str, list[bytes]]:
    timestamp, signatures = "", []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            timestamp = value
        elif name == "v1":
            signatures.append(value.encode("utf-8", "replace"))
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 13 and signatures):
        raise WebhookError(
            "the Stripe-Signature header is missing or has no t and v1", reason="InvalidSignature"
        )
    return timestamp, signatures
