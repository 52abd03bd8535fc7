"""A metering site that is enrolled at a real billing API, and its ledger seen event by event."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt

from brinkbyte.client import BillingClient
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.wire import Enrollment, EnrollmentRequest, InstanceKeyRequest
from brinkbyte.resources import names
from support.billing import BillingApi
from support.metering_site import Site


def proof(subject: str, key: SigningKey) -> str:
    now = int(time.time())
    return jwt.encode(
        {"sub": subject, "iat": now, "exp": now + 600, "jti": str(uuid4())},
        key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.ENROLLMENT.typ},
    )


async def enroll(
    api: BillingApi, customer: str, key: SigningKey, *, replace: bool = False
) -> Enrollment:
    token = api.enrollment_token(customer, replace=replace)
    async with BillingClient(api.url) as client:
        return await client.enroll(
            EnrollmentRequest(
                token=token,
                customer_id=customer,
                public_key=key.jwk,
                proof=proof(hashlib.sha256(token.encode()).hexdigest(), key),
                name=f"default.{customer}",
                uid=str(uuid4()),
                cluster_fingerprint="cluster-1",
                version="0.1.0",
            )
        )


async def enrolled_site(
    api: BillingApi, customer: str, root: Path, dsn: str, key: SigningKey, *, replace: bool = False
) -> Site:
    """Enroll a customer and write what the operator would mount into the reporter's pod."""
    enrollment = await enroll(api, customer, key, replace=replace)
    site = Site(root, dsn)
    site.write_identity(
        url=api.url,
        credential=enrollment.credential,
        instance=enrollment.instance_id,
        pem=key.to_pem(),
    )
    site.write_trust(api.roots.read_text(), (api.keys / "jwks.json").read_text())
    return site


async def register_key(api: BillingApi, site: Site, key: SigningKey) -> None:
    identity = site.root / "identity"
    instance = (identity / names.INSTANCE_ID_KEY).read_text()
    secret = (identity / names.CREDENTIAL_KEY).read_text()
    async with BillingClient(api.url, lambda: secret) as client:
        await client.register_key(
            InstanceKeyRequest(public_key=key.jwk, proof=proof(instance, key))
        )
    (identity / names.PRIVATE_KEY_KEY).write_bytes(key.to_pem())


def ledger_events(ledger: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The ledger's events in the form of the outbox; fails when an id is there twice."""
    events: dict[str, dict[str, Any]] = {}
    for row in ledger["events"]:
        assert row["id"] not in events
        members = {
            name: row[name]
            for name in ("id", "meter", "quantity", "key", "cameraId", "hardwareId", "attributes")
        }
        events[row["id"]] = {name: value for name, value in members.items() if value}
    return events
