"""The local cluster tool under test: its command line, and the clusters that it makes."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "brinkbyte/base:trixie"


@dataclass(frozen=True)
class Tool:
    """localkube with a state folder that no other cluster of the machine is in."""

    state: Path

    @property
    def path(self) -> Path:
        return ROOT / "hack" / "localkube" / "localkube"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "BRINKBYTE_STATE": str(self.state)}

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.path), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"localkube {' '.join(arguments)}: {done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self.path), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kubeconfig(self, name: str) -> Path:
        return self.state.parent / f"{name}.kubeconfig"

    def create(self, name: str) -> "Cluster":
        self.run("create", "cluster", f"--name={name}", f"--kubeconfig={self.kubeconfig(name)}")
        return Cluster(self, name)

    def delete(self, name: str) -> None:
        self.run("delete", "cluster", f"--name={name}", f"--kubeconfig={self.kubeconfig(name)}")


@dataclass(frozen=True)
class Cluster:
    """One cluster of it."""

    tool: Tool
    name: str

    @property
    def kubectl_path(self) -> str:
        return self.tool.run("path", "kubectl").stdout.strip()

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            [self.kubectl_path, "--kubeconfig", str(self.tool.kubeconfig(self.name)), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    @property
    def info(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.tool.run("info", f"--name={self.name}").stdout)
        return facts
