"""A real Kubernetes for tests: the one that ``--kubeconfig`` names, or one made for this run.

``hack/cluster-tool`` says which tool makes it: real kind where Docker runs, else localkube.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "hack"))

from stack.cluster import Cluster  # noqa: E402 - the path comes first
from support.objects import Objects  # noqa: E402

T = TypeVar("T")
_WORKER = [name for name in [os.environ.get("PYTEST_XDIST_WORKER", "")] if name]
OTHER = "someone-else"
"""Field manager of whoever changes our children."""


@dataclass(frozen=True)
class KubernetesCluster(Cluster):
    """A cluster with what tests of controllers need.

    Attributes:
        stays: it outlives the run, and with it whatever a test leaves there.
    """

    stays: bool = False

    @cached_property
    def objects(self) -> Objects:
        """Reads objects."""
        return Objects(self.kubeconfig)

    def get(self, kind: str, name: str = "", *, namespace: str | None = None) -> Any:
        """Return an object or a list as kubectl would print it; None when it is not there."""
        return self.objects.get(kind, name, namespace)

    def patch(
        self, kind: str, namespace: str, name: str, patch: Any, *, how: str = "merge"
    ) -> None:
        """Patch an object as another field manager."""
        self.kubectl(
            "patch", kind, name, "--namespace", namespace, "--type", how,
            "--field-manager", OTHER, "--patch", json.dumps(patch),
        )  # fmt: skip

    def delete_object(self, kind: str, namespace: str, name: str, *, wait: bool = False) -> None:
        """Delete an object."""
        self.kubectl("delete", kind, name, "--namespace", namespace, f"--wait={str(wait).lower()}")

    def conditions(self, kind: str, namespace: str, name: str) -> dict[str, dict[str, Any]]:
        """Return an object's conditions by type; empty when there is none."""
        found = self.get(kind, name, namespace=namespace) or {}
        listed = found.get("status", {}).get("conditions", [])
        return {each["type"]: each for each in listed}

    def ready(self, kind: str, namespace: str, name: str) -> bool:
        """Tell whether an object is Ready for its newest spec."""
        found = self.get(kind, name, namespace=namespace) or {}
        status = found.get("status", {})
        if status.get("observedGeneration") != found.get("metadata", {}).get("generation"):
            return False
        return any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in status.get("conditions", [])
        )

    def events(self, namespace: str, name: str) -> list[str]:
        """Return the reasons of the Events about an object, oldest first."""
        found = self.get("events.events.k8s.io", namespace=namespace) or {"items": []}
        items = [each for each in found["items"] if each.get("regarding", {}).get("name") == name]
        items.sort(key=lambda each: each.get("eventTime") or "")
        return [each["reason"] for each in items]


def eventually(what: str, check: Callable[[], T], *, seconds: float, every: float = 0.25) -> T:
    """Return the first true answer of a check.

    Raises:
        AssertionError: none came in time; names what was waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {answer!r})")
        time.sleep(every)


def cluster_name(purpose: str) -> str:
    """Return a name of this checkout's and this process's own: others may test at the same time."""
    return "-".join(["brinkbyte", purpose, f"{zlib.crc32(str(ROOT).encode()):08x}", *_WORKER])


@pytest.fixture(scope="package")
def cluster(request: pytest.FixtureRequest) -> Iterator[KubernetesCluster]:
    """A cluster with our definitions and images, made anew for a folder of tests and removed.

    One that ``--kubeconfig`` names stays; with ``--keep-cluster`` so does ours, for the next run.
    """
    given = request.config.getoption("--kubeconfig")
    keep = bool(request.config.getoption("--keep-cluster"))
    if given:
        found = KubernetesCluster(Path(str(given)).resolve(), stays=True)
    else:
        kubeconfig = ROOT.joinpath("build", "test", *_WORKER, "kubeconfig")
        made = KubernetesCluster.create(cluster_name("test"), kubeconfig, reuse=keep)
        found = KubernetesCluster(made.kubeconfig, made.name, stays=keep)
        found.load_images()
    found.kubectl("apply", "--server-side", "--force-conflicts", "--filename", ROOT / "crds")
    yield found
    found.objects.close()
    if not found.stays:
        found.delete()
