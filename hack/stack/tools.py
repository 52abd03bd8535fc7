"""Run programs, find tools, wait for things; every long step prints a line with its time."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build"
LOCALKUBE: Final = ROOT / "hack" / "localkube" / "localkube"
T = TypeVar("T")


class StepError(RuntimeError):
    """A step failed; the message has the command's own last words."""


def cache_dir() -> Path:
    """Return the cache that outlives the checkout, as ``localkube cache-dir`` prints it."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "brinkbyte"
    return Path(os.environ.get("BRINKBYTE_CACHE", default))


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 600,
    check: bool = True,
) -> str:
    """Run a command and return what it printed.

    Raises:
        StepError: it failed, is not there, or took longer than ``timeout`` seconds.
    """
    words = [str(word) for word in command]
    try:
        result = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(env or {})},
        )
    except OSError as error:
        raise _not_run(words, error) from None
    except subprocess.TimeoutExpired:
        raise StepError(f"{' '.join(words)} took longer than {timeout:.0f} s") from None
    if check and result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-25:])
        raise StepError(f"{' '.join(words)} failed with code {result.returncode}:\n{tail}")
    return result.stdout


def stream(command: Sequence[str | Path], *, timeout: float = 1800) -> None:
    """Run a command whose own progress goes to the terminal.

    Raises:
        StepError: it failed, is not there, or took longer than ``timeout`` seconds.
    """
    words = [str(word) for word in command]
    try:
        code = subprocess.run(words, timeout=timeout, check=False).returncode
    except OSError as error:
        raise _not_run(words, error) from None
    except subprocess.TimeoutExpired:
        raise StepError(f"{' '.join(words)} took longer than {timeout:.0f} s") from None
    if code:
        raise StepError(f"{' '.join(words)} failed with code {code}")


def spawn(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    """Start a program that goes on by itself and ends with us, also when we are killed.

    The kernel ends it with the thread that started it, so that thread has to stay.

    Args:
        command: the program and its arguments.
        options: of ``subprocess.Popen``.

    Raises:
        StepError: the program is not there.
    """
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise StepError(f"{words[0]} is missing; install it and put it on PATH")
    if guard := shutil.which("setpriv"):
        words = [guard, "--pdeathsig", "TERM", "--", *words]
    return subprocess.Popen(words, text=True, **options)


def _not_run(words: Sequence[str], error: OSError) -> StepError:
    if isinstance(error, FileNotFoundError):
        return StepError(f"{words[0]} is missing; install it and put it on PATH")
    return StepError(f"{words[0]} cannot be run: {error.strerror}")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a line when a step begins and another, with its seconds, when it has ended."""
    print(f"== {title}", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    print(f"   done in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def wait_for(what: str, probe: Callable[[], T | None], *, timeout: float, every: float = 0.5) -> T:
    """Return the first answer of ``probe`` that is neither None nor False.

    Raises:
        StepError: nothing came within ``timeout`` seconds; names ``what``.
    """
    end = time.monotonic() + timeout
    while True:
        value = probe()
        if value is not None and value is not False:
            return value
        if time.monotonic() > end:
            raise StepError(f"waited {timeout:.0f} s for {what}")
        time.sleep(every)


@functools.cache
def tool(name: str) -> str:
    """Return the path of kubectl or helm: the one we built, the one on PATH, or one built now."""
    found = run([LOCALKUBE, "path", name], check=False).strip() or shutil.which(name)
    if not found:
        with step(f"{name} (some minutes)"):
            stream([LOCALKUBE, "build", name])
        found = run([LOCALKUBE, "path", name]).strip()
    return found


@functools.cache
def cluster_tool() -> str:
    """Return the path of kind, or of the local cluster tool that speaks its command line."""
    return run([ROOT / "hack" / "cluster-tool"]).strip()
