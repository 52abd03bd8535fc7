"""The one retry policy: three retries after 100, 200 and 400 ms with jitter; Retry-After wins."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MAX_HEADER = 64


def _default_random() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        delays: seconds before each retry; their number is the number of retries.
        jitter: share of a delay that is random: 0.5 means 75 % to 125 %.
        max_retry_after: seconds of Retry-After that are waited for here; a longer one is handed to
            the caller with the error.
        random: returns a number in [0, 1).
    """

    delays: tuple[float, ...] = (0.1, 0.2, 0.4)
    jitter: float = 0.5
    max_retry_after: float = 5.0
    random: Callable[[], float] = field(default=_default_random, repr=False)

    def wait(self, attempt: int, retry_after: float | None) -> float | None:
        """Return seconds to wait before the retry after attempt 0, 1 …; None: give up."""
        if attempt >= len(self.delays):
            return None
        if retry_after is not None and retry_after > self.max_retry_after:
            return None
        spread = 1 + self.jitter * (self.random() - 0.5)
        return max(self.delays[attempt] * spread, retry_after or 0.0)


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date. What cannot be read counts as absent."""
    if header is None or len(header) > _MAX_HEADER:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
