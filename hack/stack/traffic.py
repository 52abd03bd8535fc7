"""A day of camera events and API calls, replayed through an instance's public endpoints.

Seeded: the same seed asks for the same things in the same order. Every request is written down by
its Idempotency-Key before it is sent, and again when it is answered, in files of our own: the
ledger is compared with those, key by key. A request that got no answer is sent again under its key
a few times; if it still has none, or we were killed before it came, it may be in the ledger once or
not at all.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import httpx

# Share of a day's events by hour of the day: a shop's entrance, quiet at night.
HOURS: Final = (
    1,
    1,
    1,
    1,
    2,
    4,
    9,
    16,
    22,
    24,
    26,
    30,
    34,
    31,
    27,
    26,
    29,
    33,
    28,
    18,
    10,
    6,
    3,
    2,
)
KINDS: Final = ("detection", "counting", "dwell")
SIZE: Final = 8
_TRIES: Final = 6


@dataclass(frozen=True)
class Device:
    """A device that sends: its hardware id, its token and its cameras."""

    hardware_id: str
    token: str
    cameras: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """One request of the day."""

    key: str
    device: Device
    path: str
    media_type: str
    body: bytes


@dataclass
class Outcome:
    """What came of the day.

    Attributes:
        answered: keys answered 2xx.
        refused: keys answered otherwise, with the status and reason: nothing may be billed.
        unanswered: keys without any answer: billed once or not at all.
    """

    answered: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)

    def add(self, other: Self) -> None:
        """Take in another outcome."""
        self.answered |= other.answered
        self.refused |= other.refused
        self.unanswered |= other.unanswered


def plan_day(
    devices: Sequence[Device],
    *,
    seed: int,
    calls: int,
    day: datetime | None = None,
    infer_every: int = 0,
) -> list[Call]:
    """Return the day's calls in the order of their events' times.

    Args:
        devices: who sends; calls go to their cameras evenly at random.
        seed: of the random numbers.
        calls: how many.
        day: when the replayed day begins; 24 hours ago by default.
        infer_every: every n-th call sends a frame through a model instead; 0 for none.
    """
    numbers = random.Random(seed)
    start = day or datetime.now(UTC) - timedelta(hours=24)
    moments = sorted(
        3600 * hour + numbers.uniform(0, 3600)
        for hour in numbers.choices(range(24), weights=HOURS, k=calls)
    )
    planned: list[Call] = []
    for number, moment in enumerate(moments, start=1):
        device = numbers.choice(devices)
        camera = numbers.choice(device.cameras)
        key = str(UUID(int=numbers.getrandbits(128), version=4))
        if infer_every and number % infer_every == 0:
            path = f"/api/v1/cameras/{camera}/infer?model=person"
            planned.append(Call(key, device, path, "image/x-portable-pixmap", frame(numbers)))
            continue
        body = {
            "cameraId": camera,
            "events": [
                observation(numbers, start + timedelta(seconds=moment + offset))
                for offset in range(numbers.randint(1, 5))
            ],
        }
        planned.append(
            Call(key, device, "/api/v1/telemetry", "application/json", json.dumps(body).encode())
        )
    return planned


def observation(numbers: random.Random, moment: datetime) -> dict[str, Any]:
    """Return one thing that a camera saw."""
    return {
        "occurredAt": moment.isoformat(),
        "kind": numbers.choice(KINDS),
        "label": numbers.choice(["person", "car"]),
        "trackId": f"t{numbers.randrange(10_000)}",
        "score": round(numbers.uniform(0.5, 1), 3),
    }


def frame(numbers: random.Random) -> bytes:
    """Return a small picture (binary PPM) with a bright blob on a dark ground."""
    left, top = numbers.randrange(SIZE - 2), numbers.randrange(SIZE - 2)
    pixels = b"".join(
        bytes([230, 60, 40]) if left <= x < left + 2 and top <= y < top + 2 else bytes([10, 10, 10])
        for y in range(SIZE)
        for x in range(SIZE)
    )
    return b"P6 %d %d 255\n" % (SIZE, SIZE) + pixels


def remembered(folder: Path) -> Outcome:
    """Return what came of all runs that wrote into a folder, also of those that were killed.

    Args:
        folder: with the records ``answered-….txt`` of :class:`Replay` and what lies beside them.
    """

    def keys(what: str) -> set[str]:
        files = folder.glob(f"{what}-*.txt")
        return {key for file in files for key in file.read_text().split()}

    answered, planned = keys("answered"), keys("planned")
    refused = dict.fromkeys(keys("refused"), "as an earlier run noted")
    return Outcome(answered, refused, planned - answered - refused.keys())


async def beat(base_url: Callable[[], str], devices: Iterable[Device]) -> None:
    """Send each device's heartbeat: it is online for the next 90 seconds.

    One without an answer is passed over: pods come and go, and the next one will do.
    """
    async with httpx.AsyncClient(timeout=10) as client:
        for device in devices:
            headers = {"Authorization": f"Bearer {device.token}"}
            with suppress(httpx.HTTPError):
                await client.post(base_url() + "/api/v1/license/heartbeat", headers=headers)


class Replay:
    """Sends calls, a few at a time, and writes down what was answered.

    Args:
        base_url: where the instance is now; asked anew for every try, since pods come and go.
        record: file that gets one answered key a line; beside ``answered-7.txt``, every key goes
            into ``planned-7.txt`` before it is sent, and a refused one into ``refused-7.txt``.
        concurrency: requests at once.
    """

    def __init__(self, base_url: Callable[[], str], record: Path, *, concurrency: int = 8) -> None:
        self._base_url = base_url
        self._record = record
        self._slots = asyncio.Semaphore(concurrency)
        self.outcome = Outcome()

    async def run(self, calls: Sequence[Call]) -> Outcome:
        """Send all calls and return what came of them."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        _note(self._beside("planned"), *(call.key for call in calls))
        async with httpx.AsyncClient(timeout=10) as client:
            await asyncio.gather(*(self._send(client, call) for call in calls))
        await beat(self._base_url, {call.device for call in calls})
        return self.outcome

    def _beside(self, what: str) -> Path:
        return self._record.with_name(f"{what}-{self._record.name.removeprefix('answered-')}")

    async def _send(self, client: httpx.AsyncClient, call: Call) -> None:
        headers = {
            "Authorization": f"Bearer {call.device.token}",
            "Idempotency-Key": call.key,
            "Content-Type": call.media_type,
        }
        async with self._slots:
            for attempt in range(_TRIES):
                try:
                    answer = await client.post(
                        self._base_url() + call.path, content=call.body, headers=headers
                    )
                except httpx.HTTPError:
                    await asyncio.sleep(0.2 * 2**attempt)
                    continue
                if answer.status_code in (429, 502, 503, 504):
                    await asyncio.sleep(0.2 * 2**attempt)
                    continue
                self._take(call.key, answer)
                return
        self.outcome.unanswered.add(call.key)

    def _take(self, key: str, answer: httpx.Response) -> None:
        if answer.is_success:
            self.outcome.answered.add(key)
            _note(self._record, key)
        else:
            self.outcome.refused[key] = f"{answer.status_code} {answer.text[:200]}"
            _note(self._beside("refused"), key)


def _note(record: Path, *keys: str) -> None:
    with record.open("a") as file:
        file.writelines(f"{key}\n" for key in keys)
