"""Which process dies at which point, drawn from a seed, and an honest count of what died.

Every named point comes at least once; the rest is random. A kill counts when the process was seen
to end by SIGKILL at its point. One that was planned and did not come is an error.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
RESULTS: Final = Path(__file__).resolve().parents[2] / "build" / "campaign"

OPENED: Final = "epoch.opened"
HALF_WAY: Final = (
    "seal.committed",
    "send.before",
    "send.answered",
    "receipt.verified",
    "mark.before_commit",
)
"""Points that leave a sealed batch without a receipt behind."""
REPORTER: Final = (OPENED, "seal.before_commit", *HALF_WAY, "mark.committed")
INGEST: Final = ("ingest.copied", "ingest.before_commit", "ingest.committed")
INVENTORY: Final = ("inventory.before_commit", "inventory.committed")
ENROLL: Final = ("enroll.before_commit", "enroll.committed")
SIGNED: Final = "issue.signed"
BILLING: Final = (*INGEST, *INVENTORY, SIGNED, *ENROLL)
INSTANCE: Final = ("telemetry.before_commit", "telemetry.committed")
POINTS: Final = frozenset((*REPORTER, *BILLING, *INSTANCE))
REPEATED: Final = frozenset((*REPORTER, *INGEST)) - {OPENED}
"""Points that a run comes past once for each batch: a kill may be at a later passage."""
SHOWN: Final[list[str]] = []
"""Lines for the end of the test run's own report, which is there on success, too."""


@dataclass(frozen=True)
class Step:
    """One kill.

    Attributes:
        process: reporter, billing or instance.
        point: name of the failpoint.
        count: it dies when it passes the point this often.
        damaged: before it, the batches that wait are damaged in the database, so that the reporter
            has to open a new epoch.
    """

    process: str
    point: str
    count: int = 1
    damaged: bool = False


@dataclass(frozen=True)
class Plan:
    """Kills in their order: the instance's beside all others."""

    instance: tuple[Step, ...]
    others: tuple[Step, ...]

    @property
    def kills(self) -> int:
        return len(self.instance) + len(self.others)


def soaking() -> bool:
    """Tell whether the tests run at full size."""
    return os.environ.get("BRINKBYTE_SOAK", "") not in {"", "0"}


def some(listed: Iterable[T], count: int) -> list[T]:
    """Return so many of what takes long, spread over the list; all of it at full size."""
    whole = list(listed)
    if soaking() or count >= len(whole):
        return whole
    return [whole[round(number * (len(whole) - 1) / max(1, count - 1))] for number in range(count)]


def campaign_seed() -> int:
    """Return the seed that ``BRINKBYTE_CAMPAIGN_SEED`` names, or a fresh one; shows it."""
    given = os.environ.get("BRINKBYTE_CAMPAIGN_SEED")
    seed = int(given) if given else secrets.randbelow(2**31)
    SHOWN.append(f"campaign seed: BRINKBYTE_CAMPAIGN_SEED={seed}")
    print(SHOWN[-1], flush=True)
    return seed


def plan_kills(seed: int, kills: int) -> Plan:
    """Draw so many kills; every point at least once, some at a later passage.

    Args:
        seed: of the random numbers.
        kills: how many, at least 23.
    """
    numbers = random.Random(seed)
    of_instance = max(len(INSTANCE), kills // 5)
    points = [*INSTANCE, *numbers.choices(INSTANCE, k=of_instance - len(INSTANCE))]
    numbers.shuffle(points)
    # Five to forty requests after its start: in the middle of the traffic.
    instance = tuple(Step("instance", point, numbers.randint(5, 40)) for point in points)
    first = Step("reporter", OPENED)  # the chain's own beginning
    later = {numbers.choice(sorted(REPEATED.intersection(each))) for each in (REPORTER, INGEST)}
    units = [
        [_step(point, numbers, least=2 if point in later else 1)]
        for point in (*REPORTER, *BILLING)
        if point != OPENED
    ]
    units.append(_reopened(numbers))
    left = kills - of_instance - 1 - sum(map(len, units))
    if left < 0:
        raise ValueError(f"{kills} kills are too few to come past every point")
    while left:
        point = numbers.choice((*REPORTER, *BILLING))
        unit = _reopened(numbers) if point == OPENED else [_step(point, numbers)]
        if len(unit) <= left:
            units.append(unit)
            left -= len(unit)
    numbers.shuffle(units)
    return Plan(instance, (first, *(step for unit in units for step in unit)))


def _step(point: str, numbers: random.Random, *, least: int = 1) -> Step:
    count = numbers.randint(least, 3) if point in REPEATED else 1
    return Step("reporter" if point in REPORTER else "billing", point, count)


def _reopened(numbers: random.Random) -> list[Step]:
    """Return a kill that leaves a batch behind, and one as the damage makes a new epoch."""
    return [
        Step("reporter", numbers.choice(HALF_WAY)),
        Step("reporter", OPENED, damaged=True),
    ]


@dataclass
class Tally:
    """What died, where and when; safe to use from several threads."""

    name: str
    seed: int
    began: float = field(default_factory=time.monotonic)
    kills: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def died(self, process: str, point: str, returncode: int | None, *, log: str = "") -> None:
        """Count a process that was to die at a point.

        Raises:
            AssertionError: it did not die, or not by SIGKILL.
        """
        assert returncode == -signal.SIGKILL, (
            f"{process} was to be killed at {point}; it ended with {returncode}\n{log[-3000:]}"
        )
        self.count(process, point)

    def count(self, process: str, point: str) -> None:
        """Count a kill that was seen."""
        with self._lock:
            at = round(time.monotonic() - self.began, 1)
            self.kills.append({"process": process, "point": point, "at": at})
            print(f"kill {len(self.kills):3} at {at:6.1f} s: {process} {point}", flush=True)

    @property
    def points(self) -> Counter[str]:
        return Counter(str(kill["point"]) for kill in self.kills)

    def publish(self, **figures: Any) -> None:
        """Print the count and write it to ``build/campaign/<name>.json``."""
        seconds = round(time.monotonic() - self.began, 1)
        summary = {
            "name": self.name,
            "seed": self.seed,
            "kills": len(self.kills),
            "seconds": seconds,
            "points": dict(sorted(self.points.items())),
            **figures,
        }
        print(json.dumps(summary, indent=2), flush=True)
        SHOWN.append(f"{self.name}: {len(self.kills)} kills in {seconds} s, seed {self.seed}")
        RESULTS.mkdir(parents=True, exist_ok=True)
        document = json.dumps({**summary, "each": self.kills}, indent=2)
        (RESULTS / f"{self.name}.json").write_text(document + "\n")
