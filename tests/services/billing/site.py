"""A customer's site as the billing API sees it: operator, instance and reporter in one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import uuid4

import httpx
import jwt

from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.uuid7 import from_parts
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import PublicJwk, SigningKey
from brinkbyte.metering.batches import NO_HASH, SealedBatch, chain_hash, seal, verify_receipt
from brinkbyte.metering.events import UsageEvent


@cache
def key_pair(number: int = 0) -> SigningKey:
    """Return one of the session's instance key pairs."""
    return SigningKey.generate()


_tails = iter(range(1, 2**60))


def event_id(milliseconds: float) -> str:
    """Return a new UUIDv7 of a moment."""
    return str(from_parts(int(milliseconds), next(_tails)))


def device(number: int, **more: Any) -> dict[str, Any]:
    """Return an inventory device."""
    return {
        "hardwareId": f"hw-{number}",
        "name": f"device-{number}",
        "uid": f"uid-device-{number}",
        "managementTier": "basic",
        "createdAt": 1_700_000_000 + number,
        **more,
    }


def camera(number: int, **more: Any) -> dict[str, Any]:
    """Return an inventory camera, by default on device 1."""
    return {
        "cameraId": f"cam-{number}",
        "name": f"camera-{number}",
        "uid": f"uid-camera-{number}",
        "hardwareId": "hw-1",
        "mode": "base",
        "createdAt": 1_700_000_000 + number,
        **more,
    }


@dataclass
class Site:
    """One instance.

    Attributes:
        held: sequence numbers of what it holds, as ``Held`` has them.
    """

    http: httpx.AsyncClient
    customer: str
    clock: Callable[[], float]
    key: SigningKey = field(default_factory=key_pair)
    cluster: str = "cluster-1"
    name: str = "shop.tenant"
    uid: str = "uid-tenant"
    credential: str = ""
    instance_id: str = ""
    epoch: str = ""
    batch_no: int = 0
    last_hash: str = NO_HASH
    held_cameras: dict[str, int] = field(default_factory=dict)

    def proof(self, subject: str, **more: Any) -> str:
        now = int(self.clock())
        claims = {"sub": subject, "iat": now, "exp": now + 300, "jti": str(uuid4()), **more}
        return jwt.encode(
            {k: v for k, v in claims.items() if v is not None},
            self.key.private_key,
            algorithm="RS256",
            headers={"typ": TokenKind.ENROLLMENT.typ},
        )

    def enrollment(self, token: str, **more: Any) -> dict[str, Any]:
        return {
            "token": token,
            "customerId": self.customer,
            "publicKey": self.key.jwk.model_dump(mode="json"),
            "proof": self.proof(hashlib.sha256(token.encode()).hexdigest()),
            "name": self.name,
            "uid": self.uid,
            "clusterFingerprint": self.cluster,
            "version": "0.1.0",
            **more,
        }

    async def enroll(self, token: str, **more: Any) -> httpx.Response:
        answer = await self.http.post("/api/v1/enrollments", json=self.enrollment(token, **more))
        if answer.status_code == 201:
            self.credential = answer.json()["credential"]
            self.instance_id = answer.json()["instanceId"]
        return answer

    async def rotate(self) -> None:
        """Rotate the credential, as an operator does well before it ends."""
        answer = await self.call("POST", "/api/v1/instance/credential")
        assert answer.status_code == 200, answer.text
        self.credential = answer.json()["credential"]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.credential}"}

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(
            method, path, headers={**self.headers, **more.pop("headers", {})}, **more
        )

    async def put(
        self,
        devices: Iterable[Mapping[str, Any]] = (),
        cameras: Iterable[Mapping[str, Any]] = (),
        **more: Any,
    ) -> httpx.Response:
        """Send an inventory; cameras name the license held unless they say otherwise."""
        body = {
            "devices": list(devices),
            "cameras": [
                {"heldSequence": self.held_cameras.get(c["cameraId"], 0), **c} for c in cameras
            ],
            **more,
        }
        return await self.call("PUT", "/api/v1/inventory", json=body)

    async def inventory(
        self,
        devices: Iterable[Mapping[str, Any]] = (),
        cameras: Iterable[Mapping[str, Any]] = (),
        **more: Any,
    ) -> dict[str, Any]:
        """Send an inventory, take in its licenses, return the answer."""
        answer = await self.put(devices, cameras, **more)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        for result in body["cameras"]:
            if result["token"]:
                claims = jwt.decode(result["token"], options={"verify_signature": False})
                self.held_cameras[result["cameraId"]] = claims["cameraSequence"]
        return body

    async def tokens(self, **held: int) -> httpx.Response:
        return await self.call("GET", "/api/v1/instance/tokens", params=held)

    # Metering.

    def event(self, *, ahead: float = 0, **more: Any) -> UsageEvent:
        """Return an event; ``ahead`` in seconds."""
        given = {
            "id": event_id((self.clock() + ahead) * 1000),
            "meter": "vision.api_calls",
            "quantity": "1",
            **more,
        }
        return UsageEvent.model_validate(given)

    def seal(self, events: Iterable[UsageEvent], **more: Any) -> SealedBatch:
        """Seal the next batch of the epoch; the epoch is opened when there is none."""
        if not self.epoch:
            self.epoch = event_id(self.clock() * 1000)
        given: dict[str, Any] = {
            "instance": self.instance_id,
            "epoch": self.epoch,
            "batch_no": self.batch_no + 1,
            "previous_hash": self.last_hash,
            **more,
        }
        return seal(events, given.pop("key", self.key), **given)

    def new_epoch(self) -> str:
        """Begin another epoch; returns the one before."""
        before, self.epoch, self.batch_no = self.epoch, event_id(self.clock() * 1000), 0
        return before

    async def send(self, batch: SealedBatch | bytes) -> httpx.Response:
        body = batch if isinstance(batch, bytes) else batch.to_wire()
        return await self.call("POST", "/api/v1/usage/batch", content=body)

    async def report(
        self, events: Iterable[UsageEvent], keys: Mapping[str, PublicJwk], **more: Any
    ) -> Any:
        """Seal, send, verify the receipt; returns its claims."""
        batch = self.seal(events, **more)
        answer = await self.send(batch)
        assert answer.status_code == 200, answer.text
        claims = verify_receipt(answer.json()["receipt"], batch.header, keys, now=int(self.clock()))
        self.batch_no, self.last_hash = batch.header.batch_no, batch.header.chain_hash
        return claims

    async def head(self) -> dict[str, Any]:
        answer = await self.call("GET", "/api/v1/usage/head")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def raw_batch(site: Site, payload: bytes, count: int, **more: Any) -> bytes:
    """Sign any payload and header, as a broken or hostile instance could."""
    site.epoch = site.epoch or event_id(site.clock() * 1000)
    members: dict[str, Any] = {
        "instance": site.instance_id,
        "epoch": site.epoch,
        "batchNo": site.batch_no + 1,
        "count": count,
        "payloadSha256": sha256_hex(payload),
        "previousHash": site.last_hash,
        "chainHash": NO_HASH,
        **more,
    }
    hashed = {name: value for name, value in members.items() if name != "chainHash"}
    with suppress(ValueError):  # what has no canonical form has no hash either
        members["chainHash"] = chain_hash(hashed, site.last_hash)
    token = jwt.encode(
        members,
        site.key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.BATCH.typ, "kid": site.key.kid},
    )
    return b'{"events":' + payload + b',"header":"' + token.encode() + b'"}'


def reason(answer: httpx.Response) -> tuple[int, str]:
    """Return status and reason of a refusal."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, body["reason"]
