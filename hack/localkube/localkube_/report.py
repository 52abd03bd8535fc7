"""What localkube tells the user: progress lines with the elapsed time, and errors."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_START = time.monotonic()
_LOCK = threading.Lock()


class LocalkubeError(Exception):
    """Something the user can act on; the message says how. Shown without a traceback."""


def elapsed() -> float:
    """Seconds since the program started."""
    return time.monotonic() - _START


def say(message: str) -> None:
    """Print one progress line to stderr."""
    with _LOCK:
        print(f"[{elapsed():6.1f} s] {message}", file=sys.stderr, flush=True)


@contextmanager
def step(
    what: str, *, detail: Callable[[], str] | None = None, every: float = 15
) -> Iterator[None]:
    """Tell how long a step takes, with a line every so often while it runs.

    Args:
        what: What is being done, as in "build kube".
        detail: What to say on the lines in between.
        every: Seconds between those lines.
    """
    started = time.monotonic()
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(every):
            more = f", {detail()}" if detail else ""
            say(f"{what}: still at it after {time.monotonic() - started:.0f} s{more}")

    thread = threading.Thread(target=beat, daemon=True)
    say(f"{what} ...")
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    say(f"{what}: done in {time.monotonic() - started:.1f} s")
