"""A customer's services as a process: ``truth_generator DSN FILE SEED`` records usage until killed.

It keeps a file of its own, written before the work and after the answer, so that whoever reads it
knows of each event whether its commit was acknowledged. A line is one JSON object: ``try`` holds
whole events, ``ok`` the ids whose commit came back, ``no`` the ids that were rolled back.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.events import UsageEvent
from brinkbyte.store.outbox import record_events

POINTS: Final = ("generate.before_commit", "generate.committed")
_PAUSE: Final = 0.12
"""Mean seconds between transactions; a transaction has 1 to 8 events."""
_METERS: Final = (
    ("vision.api_calls", "1"),
    ("vision.llm_tokens", "17.000000001"),
    ("vision.agent_executions", "3"),
    ("vision.storage_gb", "12.5"),
    ("vision.sms", "2"),
    ("fleet.api_calls", "1"),
)


@dataclass
class Record:
    """The file of one generator."""

    path: Path
    _file: int = field(init=False)

    def __post_init__(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, listed: list[Any]) -> None:
        """Write a line with one system call: a killed process leaves whole lines."""
        os.write(self._file, json.dumps({what: listed}).encode() + b"\n")


def draw(numbers: random.Random) -> Iterator[UsageEvent]:
    """Draw the events of one transaction."""
    for _ in range(numbers.randint(1, 8)):
        meter, quantity = numbers.choice(_METERS)
        attributes = {"note": 'ü "quoted" \\ \n', "n": str(numbers.randrange(1000))}
        if meter == "vision.sms":
            attributes["cost"] = "0.085"
        yield UsageEvent(
            id=str(uuid7()),
            meter=meter,
            quantity=quantity,
            key=numbers.choice((None, f"key-{numbers.randrange(10**9)}")),
            camera_id=numbers.choice((None, f"cam-{numbers.randrange(5)}")),
            hardware_id=numbers.choice((None, f"hw-{numbers.randrange(2)}")),
            attributes=attributes,
        )


async def generate(dsn: str, record: Record, numbers: random.Random) -> None:
    """Record until the process or the database goes away."""
    quick = await AsyncConnection.connect(dsn)
    slow = await AsyncConnection.connect(dsn)
    held: list[str] = []
    while True:
        await _transaction(quick, record, numbers)
        # A transaction that stays open while others, with later ids, commit and are reported.
        if held and numbers.random() < 0.1:
            await slow.commit()
            record.note("ok", held)
            held = []
        elif not held and numbers.random() < 0.1:
            held = await _write(slow, record, numbers)
        await asyncio.sleep(numbers.uniform(0, 2 * _PAUSE))


async def _write(
    connection: AsyncConnection[Any], record: Record, numbers: random.Random
) -> list[str]:
    listed = list(draw(numbers))
    record.note("try", [event.to_wire() for event in listed])
    await record_events(connection, listed)
    return [event.id for event in listed]


async def _transaction(
    connection: AsyncConnection[Any], record: Record, numbers: random.Random
) -> None:
    ids = await _write(connection, record, numbers)
    if numbers.random() < 0.05:
        await connection.rollback()
        record.note("no", ids)
        return
    failpoint(POINTS[0])
    await connection.commit()
    failpoint(POINTS[1])
    record.note("ok", ids)


if __name__ == "__main__":
    try:
        asyncio.run(
            generate(sys.argv[1], Record(Path(sys.argv[2])), random.Random(int(sys.argv[3])))
        )
    except psycopg.OperationalError:
        sys.exit(75)  # its database went away
