"""The line between one customer's reporters and two billing servers, with moods.

It knows at any time which events are on their way, so that an event whose last copy was lost with
its disk can be told from one that may still arrive.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import aiohttp
from aiohttp import web

from support.processes import free_port

CALM: Final[dict[str, float]] = {}
LOSSY: Final = {"request lost": 0.15, "answer lost": 0.2, "answer cut": 0.1, "twice": 0.15}
SLOW: Final = {"late": 0.3, "held": 0.2, "answer lost": 0.1, "twice": 0.1}
OFFLINE: Final = {"request lost": 1.0}
Call: TypeAlias = tuple[str, str, dict[str, str], bytes]
_HOP: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


@dataclass
class Line:
    """An HTTP proxy in a thread of its own.

    Attributes:
        upstreams: base URLs of the servers; either may be down.
        mood: what happens to a request, with which probability.
        seen: how often what happened.
    """

    upstreams: Sequence[str]
    numbers: random.Random
    mood: dict[str, float] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    port: int = field(default_factory=free_port)
    _pending: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pending(self) -> set[str]:
        """Return ids of events in requests that a server may still get, or is at work on."""
        with self._lock:
            return {event_id for event_id, count in self._pending.items() if count}

    def drain(self, seconds: float = 30.0) -> None:
        """Wait until nothing is on its way."""
        deadline = time.monotonic() + seconds
        while self.pending():
            assert time.monotonic() < deadline, "requests are on their way for ever"
            time.sleep(0.02)

    def __enter__(self) -> Line:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as self._session:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            ready.set()
            await self._over.wait()
            await runner.cleanup()
            for task in self._held:
                task.cancel()
            await asyncio.gather(*self._held, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        what = self._draw()
        self.seen[what] += 1
        if what == "request lost":
            return _abort(request)
        ids = _ids(body) if request.method == "POST" else []
        call: Call = (request.method, request.path_qs, dict(request.headers), body)
        if what == "held":
            # The caller gives up; the request comes in after later ones.
            self._keep_late(self.numbers.uniform(1, 4), ids, call)
            return _abort(request)
        self._begin(ids)
        try:
            if what == "late":
                await asyncio.sleep(self.numbers.uniform(0.1, 1.0))
            if what == "twice":
                self._keep_late(0, ids, call)
            answer = await self._forward(*call)
        finally:
            self._end(ids)
        if answer is None or what == "answer lost":
            return _abort(request)
        status, content, kind = answer
        if what == "answer cut":
            response = web.StreamResponse(status=status, headers={"Content-Type": kind})
            response.content_length = len(content)
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            return _abort(request, response)
        return web.Response(body=content, status=status, headers={"Content-Type": kind})

    def _draw(self) -> str:
        at = self.numbers.random()
        for what, share in self.mood.items():
            at -= share
            if at < 0:
                return what
        return "passed"

    def _keep_late(self, seconds: float, ids: list[str], call: Call) -> None:
        self._begin(ids)  # before the task runs: nobody may miss them meanwhile
        task = self._loop.create_task(self._late(seconds, ids, call))
        self._held.add(task)
        task.add_done_callback(self._held.discard)

    async def _late(self, seconds: float, ids: list[str], call: Call) -> None:
        try:
            await asyncio.sleep(seconds)
            await self._forward(*call)
        finally:
            self._end(ids)

    def _begin(self, ids: list[str]) -> None:
        with self._lock:
            self._pending.update(ids)

    def _end(self, ids: list[str]) -> None:
        with self._lock:
            self._pending.subtract(ids)
            self._pending = +self._pending

    async def _forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, str] | None:
        kept = {name: value for name, value in headers.items() if name.lower() not in _HOP}
        first, *others = self.numbers.sample(list(self.upstreams), len(self.upstreams))
        for upstream in (first, *others):
            try:
                async with self._session.request(
                    method, upstream + path, headers=kept, data=body
                ) as answer:
                    content = await answer.read()
                    return answer.status, content, answer.headers.get("Content-Type", "")
            except aiohttp.ClientConnectorError:
                continue  # that server is down
            except (aiohttp.ClientError, TimeoutError):
                return None
        return None


def _ids(body: bytes) -> list[str]:
    if not body:
        return []
    return [event["id"] for event in json.loads(body).get("events", [])]


def _abort(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response(status=502)
