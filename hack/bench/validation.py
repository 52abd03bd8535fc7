"""Measure cached validation over HTTP, beside the same JSON from a bare FastAPI endpoint.

``python -m bench.validation`` measures this alone.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.documents import CUSTOMER, DEVICE, Vendor, camera
from bench.load import open_loop
from bench.postgres import free_port, running_postgres
from brinkbyte.store import migrate
from stack.tools import StepError, wait_for

RATE: Final = 500
SECONDS: Final = 5.0
ROUNDS: Final = 2
FEW: Final = 100
MANY: Final = 1000
REFRESH_AFTER: Final = 1.5
"""Seconds into each round at which newer documents arrive."""
TOKEN: Final = "bench-service-token"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """What was measured.

    Attributes:
        few: seconds of each answer with few cameras, in no order.
        many: with many cameras.
        bare: of the reference.
        few_cost: processor seconds a check, few cameras; the least of the rounds.
        many_cost: with many cameras.
        hit_rate: share of all validations that memory answered.
    """

    few: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    few_cost: float = float("inf")
    many_cost: float = float("inf")
    hit_rate: float = 0.0


def p99(times: list[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return sorted(times)[len(times) * 99 // 100] * 1000


def validation() -> Figures:
    """Serve an instance and the reference, and measure in turns.

    Raises:
        StepError: no PostgreSQL, or an answer that is none.
    """
    figures, vendor = Figures(), Vendor()
    with running_postgres() as uri, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        migrate(uri)
        _install(folder, vendor)
        sequence = 1
        with _serving("reference", folder) as (port, _):
            _measure(port, FEW, figures.bare)
        with _serving("instance", folder, _environment(folder, uri)) as (port, pid):
            _measure(port, FEW, [])
            for _ in range(ROUNDS):
                for cameras in (FEW, MANY):
                    sequence += 2
                    vendor.write(folder / "license", sequence=sequence, cameras=cameras)
                    _in_force(port, sequence)
                    few = cameras == FEW
                    arriving = threading.Timer(
                        REFRESH_AFTER,
                        vendor.write,
                        (folder / "license",),
                        {"sequence": sequence + 1, "cameras": cameras},
                    )
                    arriving.start()
                    before = _processor_seconds(pid)
                    _measure(port, cameras, figures.few if few else figures.many)
                    cost = (_processor_seconds(pid) - before) / (RATE * SECONDS)
                    arriving.join()
                    _in_force(port, sequence + 1)
                    if few:
                        figures.few_cost = min(figures.few_cost, cost)
                    else:
                        figures.many_cost = min(figures.many_cost, cost)
            figures.hit_rate = float(_status(port)["validations"]["hitRate"])
        with _serving("reference", folder) as (port, _):
            _measure(port, FEW, figures.bare)
    return figures


def _measure(port: int, cameras: int, times: list[float]) -> None:
    requests = [
        f"POST /api/v1/license/validate/{camera(each)} HTTP/1.1\r\nHost: bench\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n".encode()
        for each in range(cameras)
    ]
    gc.disable()
    try:
        times += asyncio.run(
            open_loop(port, lambda n: requests[n % cameras], rate=RATE, seconds=SECONDS)
        )
    finally:
        gc.enable()


def _install(folder: Path, vendor: Vendor) -> None:
    vendor.write(folder / "license", cameras=FEW)
    vendor.write(folder / "identity")
    keys = [vendor.root.jwk.model_dump(mode="json")]
    (folder / "roots.json").write_text(json.dumps({"keys": keys}))
    for name, file, text in (
        ("access", "service-token", TOKEN),
        ("devices", "devices.json", json.dumps([_device()])),
    ):
        (folder / name).mkdir()
        (folder / name / file).write_text(text)


def _device() -> dict[str, Any]:
    return {
        "hardwareId": DEVICE, "name": "edge", "managementTier": "basic",
        "tokenSha256": hashlib.sha256(b"unused").hexdigest(), "createdAt": 1_700_000_000,
    }  # fmt: skip


def _environment(folder: Path, uri: str) -> dict[str, str]:
    directories = {
        f"BRINKBYTE_{name.upper()}_DIR": str(folder / name)
        for name in ("license", "identity", "access", "devices", "triton", "redis")
    }
    return {
        **directories,
        "BRINKBYTE_CUSTOMER_ID": CUSTOMER,
        "BRINKBYTE_DATABASE_URL": uri,
        "BRINKBYTE_DATABASE_POOL_SIZE": "4",
        "BRINKBYTE_TRITON_PORT": "1",
    }


@contextmanager
def _serving(
    kind: str, folder: Path, environment: dict[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """Serve until the block ends; the value is port and process id."""
    port = free_port()
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.serving", kind, str(folder), str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )
    path = "/openapi.json" if kind == "reference" else "/health/ready"
    try:
        wait_for(f"the {kind}", lambda: _get(port, path), timeout=30)
        yield port, process.pid
    except StepError as error:
        raise StepError(f"{error}\n{(folder / f'{kind}.log').read_text()[-2000:]}") from None
    finally:
        process.terminate()
        process.wait(timeout=30)


def _get(port: int, path: str) -> bytes | None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def _status(port: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_get(port, "/api/v1/license/status") or b"{}")
    return found


def _in_force(port: int, sequence: int) -> None:
    """Wait until newer documents have arrived.

    Raises:
        StepError: they do not.
    """
    wait_for(
        "the newer documents to be in force",
        lambda: _status(port).get("sequences", {}).get("seats") == sequence,
        timeout=20,
    )


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    found = validation()
    print(
        f"p99 {p99(found.few):.2f} ms with {FEW} cameras, {p99(found.many):.2f} ms with {MANY}, "
        f"{p99(found.bare):.2f} ms bare; {found.few_cost * 1e6:.0f} and "
        f"{found.many_cost * 1e6:.0f} µs of processor a check; hit rate {found.hit_rate}"
    )
