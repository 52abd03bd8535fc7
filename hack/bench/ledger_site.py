"""Customers, an old ledger and sealed batches for the ledger's benchmarks."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg

from brinkbyte.billing.auth import INSTANCE_FAMILIES, INSTANCE_SCOPES, Secrets
from brinkbyte.billing.licenses.keys import make_root, make_signing_keys
from brinkbyte.kit.uuid7 import from_parts
from brinkbyte.license.keys import SigningKey
from brinkbyte.metering.batches import MAX_EVENTS, NO_HASH, seal
from brinkbyte.metering.events import UsageEvent

PEPPER: Final = "a-pepper-for-the-bench-only"
METERS: Final = ("vision.api_calls", "vision.llm_tokens", "vision.agent_executions")
CAMERAS: Final = 50
DAY: Final = 86_400

_SEED: Final = """
    INSERT INTO usage_events (tenant_id, id, occurred_at, meter, family, quantity, key, camera_id,
        attributes, content_hash, instance_id, epoch, batch_no, received_at)
    SELECT %(tenant)s, overlay(overlay(md5(n::text || %(tenant)s) PLACING
            lpad(to_hex(ms), 12, '0') || '7' FROM 1 FOR 13) PLACING '8' FROM 17 FOR 1)::uuid,
        to_timestamp(ms / 1000.0), (%(meters)s::text[])[1 + n %% 3], 'vision', 1 + n %% 9,
        'key-' || n, 'cam-' || n %% %(cameras)s, '{}', sha256(int8send(n)), 'inst-old',
        %(epoch)s, n / 1000, to_timestamp(ms / 1000.0)
    FROM generate_series(1, %(rows)s) AS n,
        LATERAL (SELECT %(start)s::bigint + n * %(step)s::bigint AS ms) AS t
"""


@dataclass
class Customer:
    """A customer whose instance has a key, a credential and a chain."""

    name: str
    key: SigningKey = field(default_factory=SigningKey.generate)
    credential: str = ""
    epoch: str = field(
        default_factory=lambda: str(from_parts(int(time.time() * 1000), random.getrandbits(70)))
    )
    batch_no: int = 0
    last_hash: str = NO_HASH

    @property
    def instance(self) -> str:
        """The instance's id."""
        return f"inst-{self.name}"

    def enroll(self, connection: psycopg.Connection[Any]) -> None:
        """Write what an enrollment leaves behind (as the superuser)."""
        secrets, now = Secrets(PEPPER), datetime.now(UTC)
        self.credential = secrets.create("instance")
        connection.execute(
            "INSERT INTO billing_customers VALUES (%s, %s, '{}', %s, %s)",
            [self.name, self.name, now, now],
        )
        connection.execute(
            "INSERT INTO instances (tenant_id, instance_id, name, uid, cluster_fingerprint, "
            "version, key_id, created_at) VALUES (%s, %s, 'bench', 'bench', 'bench', '0', %s, %s)",
            [self.name, self.instance, self.key.kid, now],
        )
        connection.execute(
            "INSERT INTO instance_keys VALUES (%s, %s, %s, %s, %s)",
            [self.name, self.instance, self.key.kid, self._jwk(), now],
        )
        connection.execute(
            "INSERT INTO credentials (tenant_id, credential_id, kind, instance_id, secret_hash, "
            "scopes, families, created_at, expires_at) "
            "VALUES (%s, %s, 'instance', %s, %s, %s, %s, %s, '2100-01-01')",
            [
                self.name, uuid4(), self.instance, secrets.hash(self.credential),
                [scope.value for scope in INSTANCE_SCOPES], list(INSTANCE_FAMILIES), now,
            ],
        )  # fmt: skip

    def _jwk(self) -> str:
        return json.dumps(self.key.jwk.model_dump(mode="json", exclude={"kinds"}))

    def requests(self, count: int) -> Iterator[bytes]:
        """Yield whole HTTP requests with the next batches of the chain."""
        for _ in range(count):
            batch = seal(
                events(MAX_EVENTS), self.key, instance=self.instance, epoch=self.epoch,
                batch_no=self.batch_no + 1, previous_hash=self.last_hash,
            )  # fmt: skip
            self.batch_no, self.last_hash = batch.header.batch_no, batch.header.chain_hash
            body = batch.to_wire()
            yield (
                f"POST /api/v1/usage/batch HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer "
                f"{self.credential}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode() + body


def events(count: int) -> list[UsageEvent]:
    """Return events of the last minute, with the members that an instance sends."""
    start = int(time.time() * 1000) - 60_000
    return [
        UsageEvent(
            id=str(from_parts(start + n * 60_000 // count, random.getrandbits(70))),
            meter=METERS[n % 3],
            quantity=str(1 + n % 9),
            key=f"key-{random.getrandbits(64):016x}",
            camera_id=f"cam-{n % CAMERAS}",
        )
        for n in range(count)
    ]


def seed(connection: psycopg.Connection[Any], tenant: str, rows: int, *, days: int = 30) -> None:
    """Write a month of events before now."""
    span = days * DAY * 1000
    connection.execute(
        _SEED,
        {
            "tenant": tenant, "meters": list(METERS), "cameras": CAMERAS, "epoch": uuid4(),
            "rows": rows, "start": int(time.time() * 1000) - span - 120_000,
            "step": max(1, span // max(rows, 1)),
        },
    )  # fmt: skip


def seed_aggregates(
    connection: psycopg.Connection[Any], tenant: str, rows: int, *, days: int = 30
) -> None:
    """Write the minutes, hours and days of ``rows`` events up to now, evenly spread."""
    for grain, seconds in (("minute", 60), ("hour", 3600), ("day", DAY)):
        buckets = days * DAY // seconds
        share = rows / buckets / len(METERS)
        connection.execute(
            "INSERT INTO usage_aggregates (tenant_id, grain, meter, bucket, quantity, events, "
            "last_quantity, last_id) SELECT %(tenant)s, %(grain)s, meter, date_trunc(%(grain)s, "
            "now() - (n * %(seconds)s || ' seconds')::interval, 'UTC'), %(share)s, %(share)s, 1, "
            "first_uuid7(now()) FROM generate_series(0, %(buckets)s - 1) AS n, "
            "unnest(%(meters)s::text[]) AS meter ON CONFLICT DO NOTHING",
            {
                "tenant": tenant, "grain": grain, "seconds": seconds, "share": max(1, int(share)),
                "buckets": buckets, "meters": list(METERS),
            },
        )  # fmt: skip


def reference_rows(tenant: str) -> bytes:
    """Return a batch as the text of a COPY."""
    lines = [
        "\t".join(
            (
                event.id, datetime.fromtimestamp(int(event.id.replace("-", "")[:12], 16) / 1000,
                UTC).isoformat(), event.meter, "vision", event.quantity, str(event.key),
                str(event.camera_id), "{}",
                "\\\\x" + hashlib.sha256(event.id.encode()).hexdigest(),
            )
        )
        for event in events(MAX_EVENTS)
    ]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


def make_keys(folder: Path) -> Path:
    """Make root and signing keys; returns the directory of the signing keys."""
    make_root(folder / "root", development=True)
    make_signing_keys(folder / "keys", (folder / "root" / "root.pem").read_bytes())
    return folder / "keys"
