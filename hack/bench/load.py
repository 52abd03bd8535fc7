"""An open-loop load generator: requests leave at a fixed rate, answered or not.

Raw HTTP/1.1 over a few connections that stay open: it shares two processors with what it measures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from stack.tools import StepError

CONNECTIONS: Final = 16
_END: Final = b"\r\n\r\n"
_OK: Final = b"HTTP/1.1 200"
_LENGTH: Final = b"content-length: "


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = bytearray()
        self._due = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, due: float, request: bytes) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(_END)
        if head < 0:
            return
        at = self._received.find(_LENGTH, 0, head) + len(_LENGTH)
        length = int(self._received[at : self._received.index(b"\r", at)])
        if len(self._received) < head + len(_END) + length:
            return
        if not self._received.startswith(_OK):
            self._load.failed(bytes(self._received))
        self._received.clear()
        self._load.answered(self, self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.failed(b"connection lost")


class _Load:
    def __init__(self, wanted: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._wanted = wanted
        self.idle: list[_Connection] = []
        self.times: list[float] = []
        self.failures: list[bytes] = []
        self.done = asyncio.Event()

    def request(self, due: float, request: bytes) -> None:
        if self.idle:
            self.idle.pop().send(due, request)
        else:
            self._waiting.append((due, request))

    def answered(self, connection: _Connection, due: float) -> None:
        self.times.append(self._loop.time() - due)
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self.idle.append(connection)
        if len(self.times) == self._wanted:
            self.done.set()

    def failed(self, what: bytes) -> None:
        if not self.done.is_set():
            self.failures.append(what)


async def open_loop(
    port: int, request: Callable[[int], bytes], *, rate: int, seconds: float
) -> list[float]:
    """Send requests at a rate and return the seconds from the moment each was due to its answer.

    Args:
        port: on loopback.
        request: the bytes of the request of a number.
        rate: requests a second.
        seconds: how long.

    Raises:
        StepError: an answer other than 200, or none.
    """
    loop = asyncio.get_running_loop()
    load = _Load(int(rate * seconds))
    for _ in range(CONNECTIONS):
        _, made = await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port)
        load.idle.append(made)
    connections = list(load.idle)
    started = loop.time() + 0.05
    for number in range(int(rate * seconds)):
        due = started + number / rate
        if (ahead := due - loop.time()) > 0:
            await asyncio.sleep(ahead)
        load.request(due, request(number))
    try:
        await asyncio.wait_for(load.done.wait(), 30)
    except TimeoutError:
        load.failures.append(b"no answer within 30 s")
    load.done.set()
    for connection in connections:
        if connection._transport is not None:
            connection._transport.close()
    if load.failures:
        raise StepError(f"the load was not answered well: {load.failures[0][:500]!r}")
    return load.times
