"""Traffic that does not stop while processes die: a seeded stream of device calls."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from stack.traffic import Call, Device, Outcome, Replay, plan_day

_CHUNK = 16
_DAY = 500


class Traffic:
    """Sends calls at a bounded rate from a thread until the block ends.

    A call without an answer is sent again under its key until it has one; now and then a device
    repeats what was answered already.

    Args:
        base_url: where the instance is now.
        devices: who sends.
        record: file that gets one answered key a line.
        seed: of the calls.
        rate: calls a second at most.
    """

    def __init__(
        self,
        base_url: Callable[[], str],
        devices: Sequence[Device],
        record: Path,
        *,
        seed: int,
        rate: float = 8.0,
    ) -> None:
        self._replay = Replay(base_url, record, concurrency=4)
        self._record = record
        self._devices = devices
        self._seed = seed
        self._rate = rate
        self._stop = threading.Event()
        self._complete = False
        self._error: Exception | None = None
        self._sent: dict[str, Call] = {}
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(60)

    @property
    def answered(self) -> int:
        """How many calls were answered 2xx so far."""
        return len(self._replay.outcome.answered)

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._error is not None:
            raise AssertionError("the traffic ended") from self._error

    def finish(self) -> Outcome:
        """Stop, send again what has no answer yet, and return what came of everything."""
        self._complete = True
        self._stop.set()
        self._thread.join(300)
        self.check()
        outcome = self._replay.outcome
        outcome.unanswered -= outcome.answered
        assert set(self._record.read_text().split()) == outcome.answered
        return outcome

    def _run(self) -> None:
        try:
            asyncio.run(self._stream())
        except Exception as error:  # noqa: BLE001 - told to whoever asks, see check()
            self._error = error

    async def _stream(self) -> None:
        numbers = random.Random(self._seed)
        for chunk in self._chunks():
            began = time.monotonic()
            again = numbers.sample(sorted(self._sent), k=min(len(self._sent), 1))
            self._sent |= {call.key: call for call in chunk}
            await self._send([*chunk, *(self._sent[key] for key in again)])
            wait = len(chunk) / self._rate - (time.monotonic() - began)
            if await asyncio.to_thread(self._stop.wait, max(wait, 0.0)):
                break
        for _ in range(3 if self._complete else 0):
            missing = self._replay.outcome.unanswered - self._replay.outcome.answered
            await self._send([self._sent[key] for key in sorted(missing)])

    async def _send(self, calls: Sequence[Call]) -> None:
        # Every call has its outcome by then; a device's heartbeat may well go unanswered.
        with contextlib.suppress(httpx.HTTPError):
            await self._replay.run(calls)

    def _chunks(self) -> Iterator[list[Call]]:
        for day in count():
            calls = plan_day(self._devices, seed=self._seed * 1000 + day, calls=_DAY)
            for start in range(0, _DAY, _CHUNK):
                yield calls[start : start + _CHUNK]
