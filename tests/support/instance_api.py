"""The instance API for tests: in this process, or in one of its own that can be killed."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
from fastapi import FastAPI

from brinkbyte.instance.app import create_app
from brinkbyte.instance.container import Instance
from brinkbyte.instance.settings import InstanceSettings
from brinkbyte.license.keys import PublicJwk
from support import programs
from support.instance_site import OPERATOR_TOKEN, SERVICE_TOKEN, Site
from support.licensing import vendor
from support.processes import free_port, stop


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


SERVICE = bearer(SERVICE_TOKEN)
OPERATOR = bearer(OPERATOR_TOKEN)


def device(hardware_id: str, *, key: str | None = None) -> dict[str, str]:
    """Headers of a device's call, with a fresh Idempotency-Key unless one is given."""
    return {**bearer(f"token-{hardware_id}"), "Idempotency-Key": key or str(uuid4())}


@dataclass
class Api:
    """An application in this process."""

    app: FastAPI
    http: httpx.AsyncClient

    @property
    def instance(self) -> Instance:
        instance: Instance = self.app.state.instance
        return instance


@asynccontextmanager
async def running_app(
    site: Site, *, roots: Mapping[str, PublicJwk] | None = None, **over: object
) -> AsyncIterator[Api]:
    """Run the application inside this process until the block ends."""
    settings = InstanceSettings.model_validate({**site.settings.model_dump(), **over})
    app = create_app(settings, roots=vendor().roots if roots is None else roots)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://instance") as http,
    ):
        yield Api(app, http)


async def eventually(check: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait until a check is true, or comes back from awaiting as true."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {check}")
        await asyncio.sleep(0.05)


@dataclass
class Process:
    """An application in a process of its own."""

    process: programs.Program
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        stop(self.process, sig=signal.SIGKILL)


@contextmanager
def running_process(site: Site, *, failpoint: str | None = None) -> Iterator[Process]:
    """Serve in a process of its own until the block ends."""
    roots = site.root / "roots.json"
    keys = [root.model_dump(mode="json") for root in vendor().roots.values()]
    roots.write_text(json.dumps({"keys": keys}))
    port, log = free_port(), site.root / "instance.log"
    environment = site.environment()
    if failpoint is not None:
        environment["BRINKBYTE_FAILPOINT"] = failpoint
    process = programs.start(
        "support.instance_launcher",
        str(roots),
        str(port),
        cwd=site.root,
        log=log,
        environment=environment,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the instance did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield Process(process, port, log)
    finally:
        stop(process)
