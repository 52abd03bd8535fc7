"""Our programs as processes of their own, started in a tenth of the time that loading them takes.

``start`` and ``run`` are what ``python -m module`` is: a process with arguments, environment,
directory and output, which can be killed and leaves nothing in ours. It is forked from one that has
the modules loaded (``program_host``), as most of a start under coverage is loading. A program that
needs the real thing (another source tree, its memory measured) is started with
``processes.spawn_as`` or ``subprocess``.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

_TESTS: Final = Path(__file__).resolve().parents[1]
_SOURCES: Final = (_TESTS.parent / "operator", _TESTS)


class Program:
    """A process that was started; as ``subprocess.Popen``.

    Attributes:
        pid: process id.
        returncode: exit code, negative for a signal; None until it was seen to end.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle: int | None = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended.

        Raises:
            subprocess.TimeoutExpired: it runs on after so many seconds.
        """
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            assert self._handle is not None
            signal.pidfd_send_signal(self._handle, sig)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            assert self._handle is not None
            poller = select.poll()
            poller.register(self._handle, select.POLLIN)
            if not poller.poll(None if timeout is None else timeout * 1000):
                return None
            # It stays a zombie, and its number nobody else's, until it is asked for here.
            status = _host.ask({"reap": self.pid})
            self.returncode = os.waitstatus_to_exitcode(status)
            os.close(self._handle)
            self._handle = None
        return self.returncode


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    cwd: Path,
    log: Path,
) -> Program:
    """Start a program whose output goes to the end of a file; it dies with the tests.

    Args:
        module: as after ``python -m``.
        arguments: its command line.
        environment: all of it.
        cwd: its directory.
        log: file for stdout and stderr.
    """
    with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
        return _start(module, arguments, environment, cwd, (nothing, output, output))


def run(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises:
        subprocess.TimeoutExpired: it did not end within so many seconds, and was killed.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as error,
    ):
        given.write(stdin.encode())
        given.seek(0)
        program = _start(module, arguments, environment, cwd or Path.cwd(), (given, out, error))
        try:
            code = program.wait(timeout)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
            raise
        return subprocess.CompletedProcess([module, *arguments], code, _text(out), _text(error))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _start(
    module: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    cwd: Path,
    files: tuple[IO[bytes], IO[bytes], IO[bytes]],
) -> Program:
    request = {
        "module": module,
        "arguments": arguments,
        "cwd": str(cwd),
        "environment": dict(environment),
    }
    return Program(_host.ask(request, [file.fileno() for file in files]))


class _Host:
    """The process that forks, started when it is first needed.

    It ends when its channel does, and what it has started ends with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None

    def ask(self, request: Mapping[str, Any], descriptors: list[int] | None = None) -> int:
        with self._lock:
            channel = self._channel = self._channel or self._begin()
            socket.send_fds(channel, [json.dumps(request).encode()], descriptors or [])
            answer = channel.recv(64)
        if not answer:
            raise RuntimeError("the process that starts programs has ended; see its stderr")
        return int(json.loads(answer))

    def _begin(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(map(str, _SOURCES))
        with its:
            process = subprocess.Popen(
                [sys.executable, "-m", "support.program_host", str(its.fileno())],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
            )
        atexit.register(self._end, ours, process)
        return ours

    def _end(self, channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
        channel.close()
        process.wait()


_host = _Host()
