"""One Kubernetes cluster, driven from outside."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack import images
from stack.tools import StepError, cluster_tool, run, spawn, step, stream, tool


@dataclass(frozen=True)
class Cluster:
    """A cluster behind a kubeconfig.

    Attributes:
        name: name at the cluster tool; None when the cluster was there before us.
    """

    kubeconfig: Path
    name: str | None = None

    @classmethod
    def create(cls, name: str, kubeconfig: Path, *, reuse: bool = False) -> Cluster:
        """Return a new cluster, without images of ours.

        Args:
            name: at the cluster tool; what is there under it is removed.
            kubeconfig: file that it is put into.
            reuse: take the one that is there, if it answers.
        """
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        cluster = cls(kubeconfig, name)
        if reuse and name in run([cluster_tool(), "get", "clusters"]).split() and cluster.answers():
            print(f"== cluster {name} is there already", flush=True)
            return cluster
        with step(f"cluster {name}"):
            cluster.delete()
            stream([cluster_tool(), "create", "cluster", "--name", name,
                    "--kubeconfig", kubeconfig, "--wait", "2m"])  # fmt: skip
        return cluster

    def load_images(self) -> None:
        """Put the images into the cluster's nodes."""
        if self.name is None:
            return
        with step("images into the cluster"):
            for image in images.build():
                stream([cluster_tool(), "load", "docker-image", "--name", self.name, image])

    def answers(self) -> bool:
        """Tell whether the API server can be used."""
        try:
            self.kubectl("get", "nodes", "--request-timeout=3s")
        except StepError:
            return False
        return True

    def delete(self) -> None:
        """Remove the cluster if it is ours."""
        if self.name is not None:
            run([cluster_tool(), "delete", "cluster", "--name", self.name,
                 "--kubeconfig", self.kubeconfig])  # fmt: skip

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a kubectl command line for this cluster."""
        return [tool("kubectl"), "--kubeconfig", str(self.kubeconfig), *map(str, arguments)]

    def kubectl(
        self, *arguments: str | Path, stdin: str | None = None, timeout: float = 120
    ) -> str:
        """Run kubectl and return what it printed.

        Raises:
            StepError: it failed.
        """
        return run(self.command(*arguments), stdin=stdin, timeout=timeout)

    def popen(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a kubectl that goes on by itself, such as a port-forward."""
        return spawn(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def helm(self, *arguments: str | Path, timeout: float = 600) -> str:
        """Run helm and return what it printed."""
        return run(
            [tool("helm"), "--kubeconfig", str(self.kubeconfig), *map(str, arguments)],
            timeout=timeout,
        )

    def get(self, kind: str, name: str = "", *, namespace: str | None = None) -> Any:
        """Return an object or a list as parsed JSON; None when it is not there."""
        where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        words = ["get", kind, *([name] if name else []), *where, "--output", "json"]
        text = self.kubectl(*words, "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests given as dictionaries."""
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(list_of(manifests)))

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """Return a Secret's data, decoded; empty when it is not there."""
        found = self.get("secret", name, namespace=namespace)
        data = (found or {}).get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    def namespace(self, name: str) -> None:
        """Make a namespace with Pod Security restricted enforced, if it is not there."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )


def list_of(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the ``List`` of some manifests."""
    return {"apiVersion": "v1", "kind": "List", "items": list(manifests)}


def secret_manifest(
    namespace: str, name: str, data: dict[str, bytes], *, secret_type: str = "Opaque"
) -> dict[str, Any]:
    """Return the manifest of a Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": secret_type,
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
