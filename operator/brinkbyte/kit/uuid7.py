"""UUIDv7 (RFC 9562): ids whose first 48 bits are the Unix time in milliseconds.

The standard library has them from Python 3.14 on; our floor is 3.11.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

_RAND_A_BITS = 12
_RAND_B_BITS = 62
_RAND_B = (1 << _RAND_B_BITS) - 1
_VARIANT = 0b10 << _RAND_B_BITS
_VERSION = 7
_MILLISECOND_BITS = 48
MAX_MILLISECOND = (1 << _MILLISECOND_BITS) - 1
_STEADY_MILLISECONDS = 10_000
"""A clock that is behind the last id by more than this was ahead before, and is right now."""


class Uuid7Generator:
    """Makes increasing UUIDv7 values; safe to share between threads.

    Within one millisecond a 74-bit counter, started at random with its top bit clear, goes up by
    a random step (RFC 9562 section 6.2, method 2). A clock that steps back by up to ten seconds
    does not make the ids go back: the last millisecond is kept until the clock has caught up. A
    longer step puts an error right that was in the last ids, and is followed; ids stay unique by
    their random part.

    Args:
        clock: returns Unix time in nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._millisecond = -1
        self._tail = 0

    def __call__(self) -> UUID:
        """Return the next id."""
        with self._lock:
            now = self._clock() // 1_000_000
            if not self._millisecond - _STEADY_MILLISECONDS <= now <= self._millisecond:
                self._millisecond = now
                self._tail = secrets.randbits(_RAND_A_BITS + _RAND_B_BITS - 1)
            else:
                self._tail += 1 + secrets.randbits(16)
                if self._tail >> (_RAND_A_BITS + _RAND_B_BITS):
                    self._millisecond += 1
                    self._tail = secrets.randbits(_RAND_A_BITS + _RAND_B_BITS - 1)
            return from_parts(self._millisecond, self._tail)

    def texts(self, milliseconds: Sequence[int]) -> list[str]:
        """Return the texts of one id for each of these Unix milliseconds, increasing.

        As if each had been asked for at its millisecond by the clock, several times as fast.

        Raises:
            ValueError: a millisecond does not fit 48 bits.
        """
        ids = []
        with self._lock:
            last, tail = self._millisecond, self._tail
            start = ""
            steps = memoryview(secrets.token_bytes(2 * len(milliseconds))).cast("H")
            for now, step in zip(milliseconds, steps, strict=True):
                if last - _STEADY_MILLISECONDS <= now <= last:
                    before = tail >> _RAND_B_BITS
                    tail += 1 + step
                    if tail >> (_RAND_A_BITS + _RAND_B_BITS):
                        last += 1
                        tail = secrets.randbits(_RAND_A_BITS + _RAND_B_BITS - 1)
                        start = ""
                    elif tail >> _RAND_B_BITS != before:
                        start = ""
                else:
                    last = now
                    tail = secrets.randbits(_RAND_A_BITS + _RAND_B_BITS - 1)
                    start = ""
                if not start:
                    start = str(from_parts(last, tail))[:19]
                end = "%016x" % (_VARIANT | tail & _RAND_B)
                ids.append(f"{start}{end[:4]}-{end[4:]}")
            self._millisecond, self._tail = last, tail
        return ids


def from_parts(millisecond: int, tail: int) -> UUID:
    """Build a UUIDv7 from Unix milliseconds and 74 bits of tail.

    Raises:
        ValueError: a part does not fit its field.
    """
    if not 0 <= millisecond <= MAX_MILLISECOND:
        raise ValueError(f"millisecond {millisecond} does not fit 48 bits")
    if tail < 0 or tail >> (_RAND_A_BITS + _RAND_B_BITS):
        raise ValueError("tail does not fit 74 bits")
    high = (millisecond << 16) | (_VERSION << 12) | (tail >> _RAND_B_BITS)
    low = _VARIANT | (tail & _RAND_B)
    return UUID(int=(high << 64) | low)


def is_uuid7(value: UUID) -> bool:
    """Tell whether the version and variant bits say UUIDv7."""
    return value.version == _VERSION


def millisecond_of(value: UUID) -> int:
    """Return the Unix millisecond that a UUIDv7 carries.

    Raises:
        ValueError: the id is not a UUIDv7.
    """
    if not is_uuid7(value):
        raise ValueError(f"{value} is not a UUIDv7")
    return value.int >> 80


def first_of(millisecond: int) -> UUID:
    """Return the smallest UUIDv7 of a millisecond: the bound of a partition."""
    return from_parts(millisecond, 0)


uuid7 = Uuid7Generator()
"""The process's own generator."""
