"""A site for tests: mounted directories, documents of the pretended vendor, callers' tokens."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brinkbyte.instance.settings import InstanceSettings
from brinkbyte.license.claims import CameraMode, TokenKind
from brinkbyte.license.seats import Seat
from brinkbyte.license.tokens import sign
from support.licensing import (
    CUSTOMER,
    DAY,
    INSTANCE,
    license_claims,
    revocations_claims,
    seats_claims,
    vendor,
)

TESTS = Path(__file__).resolve().parents[1]
REPOSITORY = TESTS.parent
SERVICE_TOKEN = "service-secret"
OPERATOR_TOKEN = "operator-secret"
BASE = {
    "models": ["person", "car", "van", "truck", "bus", "motorcycle"],
    "analytics": ["detection", "counting"],
    "outputs": ["api", "email"],
}
RETAIL = {"models": ["trolley", "staff", "customer"]}


def volume(path: Path, files: dict[str, str]) -> None:
    """Write a directory the way the kubelet does: one symlink is swapped, all files change."""
    path.mkdir(parents=True, exist_ok=True)
    data = path / f"..{time.time_ns()}"
    data.mkdir()
    for name, text in files.items():
        (data / name).write_text(text)
    link = path / "..data_tmp"
    link.symlink_to(data.name)
    link.rename(path / "..data")
    for name in files:
        if not (path / name).is_symlink():
            (path / name).symlink_to(Path("..data") / name)
    for entry in path.iterdir():
        if not entry.name.startswith("..") and entry.name not in files:
            entry.unlink()


def signed(claims: Any, kind: TokenKind) -> str:
    return sign(claims, vendor().keys[kind])


def times(start: int, *, days: float = 45) -> dict[str, int]:
    return {"iat": start, "nbf": start, "exp": start + int(days * DAY)}


@dataclass
class Site:
    """Directories below one root, and what lies in them."""

    root: Path
    dsn: str
    redis_url: str
    devices: list[dict[str, Any]] = field(default_factory=list)
    triton_port: int = 1

    def __post_init__(self) -> None:
        volume(
            self.root / "access",
            {
                "service-token": SERVICE_TOKEN,
                "operator-token": OPERATOR_TOKEN,
            },
        )
        volume(self.root / "triton", {"control-key": "control"})
        volume(
            self.root / "identity",
            {
                "instance-id": INSTANCE,
                "credential": "bbi_test",
                "private-key.pem": vendor().instance_key.to_pem().decode(),
                "billing-url": "http://127.0.0.1:1",
                "cluster-fingerprint": "cluster-1",
            },
        )
        for hardware_id in ("hw-1", "hw-2", "hw-3", "hw-4"):
            self.add_device(hardware_id)

    @property
    def settings(self) -> InstanceSettings:
        return InstanceSettings(
            customer_id=CUSTOMER,
            database_url=self.dsn,
            redis_url=self.redis_url,
            license_dir=self.root / "license",
            identity_dir=self.root / "identity",
            access_dir=self.root / "access",
            devices_dir=self.root / "devices",
            triton_dir=self.root / "triton",
            triton_port=self.triton_port,
            watch_seconds=0.1,
            triton_seconds=0.5,
        )

    def environment(self) -> dict[str, str]:
        """The same settings for a process of its own."""
        names = ("license", "identity", "access", "devices", "triton")
        return {
            **os.environ,
            **{f"BRINKBYTE_{name.upper()}_DIR": str(self.root / name) for name in names},
            "BRINKBYTE_CUSTOMER_ID": CUSTOMER,
            "BRINKBYTE_DATABASE_URL": self.dsn,
            "BRINKBYTE_REDIS_URL": self.redis_url,
            "BRINKBYTE_TRITON_PORT": str(self.triton_port),
            "BRINKBYTE_WATCH_SECONDS": "0.1",
            "BRINKBYTE_TRITON_SECONDS": "0.5",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "operator"), str(TESTS)]),
        }

    def add_device(self, hardware_id: str, *, token: str | None = None) -> None:
        secret = token or f"token-{hardware_id}"
        self.devices = [item for item in self.devices if item["hardwareId"] != hardware_id]
        self.devices.append(
            {
                "hardwareId": hardware_id,
                "name": f"edge-{hardware_id}",
                "managementTier": "basic",
                "tokenSha256": hashlib.sha256(secret.encode()).hexdigest(),
                "createdAt": 1_700_000_000 + len(self.devices),
            }
        )
        volume(self.root / "devices", {"devices.json": json.dumps(self.devices)})

    def install(
        self,
        *,
        sequence: int = 7,
        start: int | None = None,
        days: float = 45,
        seats: list[Seat] | None = None,
        only: tuple[str, ...] | None = None,
        entries: list[dict[str, Any]] | None = None,
        raw: dict[str, str] | None = None,
        **over: Any,
    ) -> dict[str, str]:
        """Put a set of documents into the license directory and return them."""
        files = documents(
            sequence=sequence, start=start, days=days, seats=seats, entries=entries, **over
        )
        files |= raw or {}
        if only is not None:
            files = {name: files[name] for name in only}
        volume(self.root / "license", files)
        return files


def default_seats() -> list[Seat]:
    return [
        Seat("cam-1", "hw-1", CameraMode.BASE, ("retail",)),
        Seat("cam-2", "hw-2", CameraMode.BASE, ()),
        Seat("cam-4", "hw-4", CameraMode.BASE, ()),
    ]


def documents(
    *,
    sequence: int = 7,
    start: int | None = None,
    days: float = 45,
    seats: list[Seat] | None = None,
    entries: list[dict[str, Any]] | None = None,
    key_set_number: int = 1,
    base: dict[str, Any] | None = None,
    packs: dict[str, Any] | None = None,
    **over: Any,
) -> dict[str, str]:
    """A consistent set of documents with one sequence number throughout."""
    begin = start if start is not None else int(time.time()) - 60
    common = times(begin, days=days)
    revocations = sequence if entries is not None else 0
    files = {
        "jwks.json": vendor().key_set(number=key_set_number, now=begin),
        "license.jwt": signed(
            license_claims(
                **{
                    **common,
                    "issuedAt": begin,
                    "expiresAt": common["exp"],
                    "licenseSequence": sequence,
                    "revocationSequence": revocations,
                    "quotas": {"vision.api_calls": 150_000},
                    "tenantPacks": ["intelligence"],
                    **over,
                }
            ),
            TokenKind.LICENSE,
        ),
        "seats.jws": signed(
            seats_claims(
                default_seats() if seats is None else seats,
                **common,
                seatsSequence=sequence,
                revocationSequence=revocations,
                base=BASE if base is None else base,
                packs={"retail": RETAIL} if packs is None else packs,
                devices=["hw-1", "hw-2", "hw-3", "hw-4"],
            ),
            TokenKind.SEATS,
        ),
    }
    if entries is not None:
        files["revocations.jws"] = signed(
            revocations_claims(entries, **common, revocationSequence=sequence),
            TokenKind.REVOCATIONS,
        )
    return files
