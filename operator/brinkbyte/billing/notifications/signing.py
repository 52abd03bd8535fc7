"""Signatures of webhooks: HMAC-SHA256 over ``<timestamp>.<body>``, two while a secret rolls.

``BrinkByte-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>]``. A receiver takes any ``v1`` that is
right, refuses a ``t`` older than five minutes, and passes over a ``BrinkByte-Delivery`` that it has
seen. Secrets are derived from the server's pepper and stored nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from brinkbyte.billing.auth import Secrets

SIGNATURE_HEADER: Final = "BrinkByte-Signature"
DELIVERY_HEADER: Final = "BrinkByte-Delivery"
ROLL: Final = timedelta(hours=24)
"""How long the secret before signs too."""
TOLERANCE_SECONDS: Final = 300
_PREFIX: Final = "whsec_"


def secret_of(secrets: Secrets, tenant_id: str, target: UUID, version: int) -> str:
    """Return a webhook's secret of a version."""
    derived = secrets.derive("tenant", "webhook", tenant_id, str(target), str(version))
    return _PREFIX + derived.partition("_")[2]


def secrets_of(
    secrets: Secrets,
    tenant_id: str,
    target: UUID,
    version: int,
    *,
    previous_until: datetime | None,
    now: datetime,
) -> list[str]:
    """Return the secrets that sign now, the newest first."""
    found = [secret_of(secrets, tenant_id, target, version)]
    if version > 1 and previous_until is not None and now < previous_until:
        found.append(secret_of(secrets, tenant_id, target, version - 1))
    return found


def sign(body: bytes, secrets: Sequence[str], timestamp: int) -> str:
    """Return the signature header of a body."""
    said = f"{timestamp}.".encode() + body
    marks = [hmac.digest(secret.encode(), said, hashlib.sha256).hex() for secret in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={mark}" for mark in marks)])


def verify(body: bytes, header: str, secret: str, now: int) -> bool:
    """Tell whether a signature is right and recent: what a receiver does."""
    timestamp, marks = "", []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            timestamp = value
        elif name == "v1":
            marks.append(value)
    if not timestamp.isdigit() or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    right = hmac.digest(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hex()
    return any(hmac.compare_digest(right, mark) for mark in marks)
