"""One customer's programs as processes on this machine, with tokens of a real billing API."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import psycopg

from brinkbyte.client import BillingClient, BillingUnreachableError
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.wire import Enrollment, EnrollmentRequest
from brinkbyte.resources import names
from stack.traffic import Device
from support import programs
from support.billing import CUSTOMER, BillingApi
from support.campaign_inventory import (
    AT_ONCE,
    BASE_CAMERAS,
    CREATED,
    HARDWARE,
    Inventory,
    hardware_of,
)
from support.instance_site import volume
from support.metering_real import proof
from support.metering_site import Site
from support.processes import free_port, stop

FINGERPRINT: Final = "cluster-of-the-campaign"
BATCH_EVENTS: Final = 8
"""Small, so that several batches wait after a few seconds."""
_TESTS = Path(__file__).resolve().parents[1]
_START_SECONDS: Final = 90.0
_DIRECTORIES: Final = ("license", "identity", "access", "devices", "triton")


def enrollment_request(token: str, customer: str, key: SigningKey) -> EnrollmentRequest:
    """Return what the operator sends to enroll; the same again is answered again."""
    return EnrollmentRequest(
        token=token,
        customer_id=customer,
        public_key=key.jwk,
        proof=proof(hashlib.sha256(token.encode()).hexdigest(), key),
        name=f"default.{customer}",
        uid=str(uuid4()),
        cluster_fingerprint=FINGERPRINT,
        version="0.1.0",
    )


def enroll(url: str, request: EnrollmentRequest) -> Enrollment | None:
    """Enroll; None: the server went away."""

    async def call() -> Enrollment:
        async with BillingClient(url, retry=AT_ONCE) as client:
            return await client.enroll(request)

    try:
        return asyncio.run(call())
    except BillingUnreachableError:
        return None


@dataclass
class InstanceProcess:
    """The instance API; always on the same port."""

    root: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    _process: programs.Program | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.root / "instance.log").read_text()

    def start(self, failpoint: str = "") -> None:
        """Start it and wait until it is ready, or dead at its failpoint."""
        roots = str(self.root / "roots.json")
        self._process = programs.start(
            "support.instance_launcher",
            roots,
            str(self.port),
            cwd=self.root,
            log=self.root / "instance.log",
            environment={**self.environment, "BRINKBYTE_FAILPOINT": failpoint},
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                if failpoint:
                    return
                break
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise RuntimeError(f"the instance did not start:\n{self.log[-3000:]}")

    def wait(self, seconds: float) -> int | None:
        """Return the exit code; None when it lives on after so many seconds."""
        if self._process is None:
            raise RuntimeError("the instance was not started")
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None


class HostSite:
    """An enrolled customer: its inventory, its instance's process, its reporter.

    Args:
        api: the running billing API, with the customer ``acme``.
        root: directory for everything.
        dsn: the instance's migrated database.
        redis_url: the instance's Redis.
        seed: of the inventory's changes.
    """

    def __init__(self, api: BillingApi, root: Path, dsn: str, redis_url: str, *, seed: int) -> None:
        self.api = api
        self.root = root
        self.key = SigningKey.generate()
        self.reporter = Site(root, dsn, BATCH_EVENTS)
        request = enrollment_request(api.enrollment_token(), CUSTOMER, self.key)
        answer = enroll(api.url, request)
        assert answer is not None
        self.enrollment = answer
        (root / "roots.json").write_text(api.roots.read_text())
        self.devices = self._write_callers()
        volume(
            root / "identity",
            {
                names.INSTANCE_ID_KEY: answer.instance_id,
                names.CREDENTIAL_KEY: answer.credential,
                names.PRIVATE_KEY_KEY: self.key.to_pem().decode(),
                names.BILLING_URL_KEY: api.url,
                names.CLUSTER_FINGERPRINT_KEY: FINGERPRINT,
            },
        )
        self.inventory = Inventory(
            api.url,
            lambda: answer.credential,
            self.reporter.roots,
            answer.instance_id,
            seed=seed,
        )
        assert self.send_inventory()
        self.instance = InstanceProcess(root, self._environment(redis_url))
        self._outbox = psycopg.connect(dsn, autocommit=True)

    def close(self) -> None:
        """End what this started."""
        self.instance.stop()
        self._outbox.close()

    def send_inventory(self) -> bool:
        """Send the inventory and mount what comes back; False: the server went away."""
        if not self.inventory.send():
            return False
        volume(self.root / "license", self.inventory.files)
        return True

    def unsealed(self) -> int:
        """Return how many events of the outbox are in no batch."""
        row = self._outbox.execute(
            "SELECT count(*) FROM usage_events WHERE epoch IS NULL"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def kept(self) -> dict[str, int]:
        """Return how much of each kind the instance's database holds."""
        row = self._outbox.execute(
            "SELECT (SELECT count(*) FROM telemetry_events), "
            "(SELECT coalesce(sum(events), 0) FROM telemetry_aggregates), "
            "(SELECT count(*) FROM usage_events)"
        ).fetchone()
        assert row is not None
        return dict(zip(("observations", "summed", "events"), map(int, row), strict=True))

    def damage_waiting_batches(self) -> int:
        """Change the sealed batches without a receipt, as a failing disk would."""
        done = self._outbox.execute(
            "UPDATE usage_batches SET payload = payload || ' '::bytea WHERE acknowledged_at IS NULL"
        )
        return done.rowcount

    def _write_callers(self) -> list[Device]:
        devices = [
            Device(
                hardware,
                f"token-of-{hardware}-{uuid4()}",
                tuple(name for name in BASE_CAMERAS if hardware_of(name) == hardware),
            )
            for hardware in HARDWARE
        ]
        listed = [
            {
                "hardwareId": device.hardware_id,
                "name": f"edge-{device.hardware_id}",
                "managementTier": "basic",
                "tokenSha256": hashlib.sha256(device.token.encode()).hexdigest(),
                "createdAt": CREATED,
            }
            for device in devices
        ]
        volume(self.root / "devices", {names.DEVICES_KEY: json.dumps(listed)})
        tokens = {names.SERVICE_TOKEN_KEY: str(uuid4()), names.OPERATOR_TOKEN_KEY: str(uuid4())}
        volume(self.root / "access", tokens)
        volume(self.root / "triton", {names.TRITON_CONTROL_KEY: "control"})
        return devices

    def _environment(self, redis_url: str) -> dict[str, str]:
        base = self.reporter.environment()
        return {
            **base,
            **{f"BRINKBYTE_{name.upper()}_DIR": str(self.root / name) for name in _DIRECTORIES},
            "BRINKBYTE_CUSTOMER_ID": CUSTOMER,
            "BRINKBYTE_REDIS_URL": redis_url,
            "BRINKBYTE_TRITON_PORT": "1",
            "BRINKBYTE_HEARTBEAT_SECONDS": "5",
        }
