"""Process 1 of a cluster: prepares the namespaces, keeps the programs running, reaps.

Started as ``unshare ... python supervisor.py --cluster-dir=DIR`` in namespaces of its own.
It stands alone (imports nothing of the package) and reads ``DIR/node.json``. When it
ends, the kernel ends every process of the cluster with it.
"""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

LINK_PATIENCE = 20.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
STEADY_AFTER = 10.0


def log(message: str) -> None:
    """Write one line to the supervisor's log."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {message}", flush=True)


def must(*argv: str) -> None:
    """Run a set-up command; a failure ends the cluster."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr.strip()}")


def cover_folders(node: dict[str, Any]) -> None:
    """Give the cluster its own folders where programs have fixed paths."""
    for folder in ("/run", "/var/lib", "/var/log"):
        must("mount", "-t", "tmpfs", "-o", "mode=755", "localkube", folder)
    for folder in node["folders"]:
        Path(folder).mkdir(parents=True, exist_ok=True)
    # Only the network's settings are the namespace's own. Kubelet insists on values for
    # some of the others: it gets files that have them, and the host keeps its own.
    must("mount", "--bind", "/proc/sys", "/proc/sys")
    for name, value in node["kubeletSysctls"].items():
        stand_in = Path("/run/sysctl") / name
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(f"{value}\n")
        if (Path("/proc/sys") / name).exists():
            must("mount", "--bind", str(stand_in), f"/proc/sys/{name}")
    must("mount", "--bind", "/proc/sys/net", "/proc/sys/net")
    must("mount", "-o", "remount,bind,ro", "/proc/sys")


def raise_network(node: dict[str, Any]) -> None:
    """Wait for the link that the host puts here, and give it its address."""
    link = node["link"]
    deadline = time.monotonic() + LINK_PATIENCE
    while f" {link}:" not in Path("/proc/net/dev").read_text().replace("\n", "\n "):
        if time.monotonic() > deadline:
            raise SystemExit(f"the host did not put {link} here within {LINK_PATIENCE:.0f} s")
        time.sleep(0.005)
    must("ip", "link", "set", "lo", "up")
    must("ip", "address", "add", node["address"], "dev", link)
    must("ip", "link", "set", link, "up")
    for name, value in node["sysctls"].items():
        file = Path("/proc/sys") / name
        if file.exists():
            file.write_text(value)


class Program:
    """One program that is kept running."""

    def __init__(self, spec: dict[str, Any], logs: Path) -> None:
        self.name: str = spec["name"]
        self.argv: list[str] = spec["argv"]
        self.env: dict[str, str] = {**os.environ, **spec["env"]}
        self.after: str | None = spec["after"]
        self.log = logs / f"{self.name}.log"
        self.pid: int | None = None
        self.started = 0.0
        self.start_at = 0.0
        self.pause = FIRST_PAUSE

    def start(self) -> None:
        """Start it, with its output appended to its log."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.pid = os.posix_spawn(
            self.argv[0],
            self.argv,
            self.env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
        self.started = time.monotonic()
        log(f"{self.name} started ({self.pid})")

    def ended(self, status: int) -> None:
        """Plan the next start: soon at first, later if it keeps ending."""
        now = time.monotonic()
        self.pause = (
            FIRST_PAUSE if now - self.started > STEADY_AFTER else min(self.pause * 2, LONGEST_PAUSE)
        )
        self.pid = None
        self.start_at = now + self.pause
        code = os.waitstatus_to_exitcode(status)
        log(f"{self.name} ended ({code}); again in {self.pause:.1f} s")


class Gate:
    """Conditions that a program waits for; once true, for good."""

    def __init__(self, node: dict[str, Any]) -> None:
        self._ready_url: str = node["readyUrl"]
        self._ca: str = node["ca"]
        self._objects = Path(node["objectsFile"])
        self._passed: set[str] = set()

    def open(self, name: str | None) -> bool:
        """Whether the condition of that name holds."""
        if name is None or name in self._passed:
            return True
        holds = self._apiserver() if name == "apiserver" else self._objects.exists()
        if holds:
            self._passed.add(name)
            log(f"{name} is ready")
        return holds

    def _apiserver(self) -> bool:
        context = ssl.create_default_context(cafile=self._ca)
        try:
            with urllib.request.urlopen(self._ready_url, timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def supervise(programs: list[Program], gate: Gate) -> None:
    """Start, reap and start again, until told to end."""
    awaited = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    # A blocked signal without a handler is dropped for process 1.
    for number in awaited:
        signal.signal(number, lambda *_: None)
    while True:
        now = time.monotonic()
        checked: dict[str | None, bool] = {}
        for program in programs:
            if program.pid is None and now >= program.start_at:
                if program.after not in checked:
                    checked[program.after] = gate.open(program.after)
                if checked[program.after]:
                    program.start()
        waiting = any(program.pid is None for program in programs)
        received = signal.sigtimedwait(awaited, 0.02 if waiting else 60)
        if received and received.si_signo in {signal.SIGTERM, signal.SIGINT}:
            log("told to end")
            return
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for program in programs:
                if program.pid == pid:
                    program.ended(status)


def main() -> None:
    """Read the cluster's folder from the command line and run it."""
    folder = Path(sys.argv[1].removeprefix("--cluster-dir="))
    node = json.loads((folder / "node.json").read_text())
    os.chdir("/")
    cover_folders(node)
    raise_network(node)
    logs = Path(node["logs"])
    supervise([Program(spec, logs) for spec in node["programs"]], Gate(node))


if __name__ == "__main__":
    main()
