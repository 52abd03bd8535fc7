"""The operator as a process on this machine, against a real cluster.

The package is overlaid with the roots of the vendor that the test is: roots are part of a release,
never a setting.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from support.processes import free_port, spawn_as, stop

SOURCE = Path(__file__).resolve().parents[2] / "operator" / "brinkbyte"
WRITES = frozenset({"apply", "patch", "create", "delete"})


def release_with(roots: Path, directory: Path) -> Path:
    """Return a source root whose package carries these roots."""
    package = directory / "brinkbyte"
    package.mkdir(parents=True)
    for entry in SOURCE.iterdir():
        if entry.name not in {"trust", "__pycache__"}:
            (package / entry.name).symlink_to(entry)
    shutil.copytree(SOURCE / "trust", package / "trust", ignore=lambda *_: {"__pycache__"})
    shutil.copyfile(roots, package / "trust" / "roots.json")
    return directory


@dataclass
class OperatorProcess:
    """The operator.

    Attributes:
        source: source root, see :func:`release_with`.
        kubeconfig: of the cluster.
        environment: further settings.
    """

    source: Path
    kubeconfig: Path
    directory: Path
    namespace: str = "brinkbyte-system"
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        """Start it; variables such as a failpoint on top. It is ready when its metrics answer."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BRINKBYTE_")}
        self._process = spawn_as(
            None,
            [
                sys.executable,
                "-m",
                "brinkbyte.cli.main",
                "operator",
                "run",
                f"--kubeconfig={self.kubeconfig}",
                f"--operator-namespace={self.namespace}",
                "--health-port=0",
                f"--metrics-port={self.port}",
            ],
            cwd=self.directory,
            log=self.directory / "operator.log",
            environment={
                **kept,
                "PYTHONPATH": str(self.source),
                **self.environment,
                **environment,
            },
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=2)
            except httpx.TransportError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"the operator did not start:\n{self.log}")

    def stop(self) -> None:
        """Stop it as Kubernetes does."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def wait_killed(self, seconds: float = 60) -> None:
        """Wait until a failpoint has killed it."""
        if self._process is not None:
            self._process.wait(timeout=seconds)
            self._process = None

    @property
    def log(self) -> str:
        return (self.directory / "operator.log").read_text()

    def requests(self) -> dict[tuple[str, str], int]:
        """Return the number of requests to the Kubernetes API since its start, by verb and kind."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        found = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("brinkbyte_operator_kubernetes_requests_total{"):
                labels = dict(
                    part.split("=", 1) for part in name.split("{")[1].rstrip("}").split(",")
                )
                key = (labels["verb"].strip('"'), labels["kind"].strip('"'))
                found[key] = int(float(value))
        return found

    def writes(self) -> dict[tuple[str, str], int]:
        """Return the writes among them."""
        return {key: count for key, count in self.requests().items() if key[0] in WRITES}
