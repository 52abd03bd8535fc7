"""Charts rendered by the real helm, as lists of objects."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHARTS: Final = ROOT / "charts"
KUBE_VERSION: Final = "1.35.0"
Object = dict[str, Any]


class HelmError(Exception):
    """helm refused; the message is its own."""


@functools.cache
def tool_path(name: str) -> str:
    """Return the helm or kubectl that the local cluster's tool built, or the one on PATH."""
    tool = ROOT / "hack" / "localkube" / "localkube"
    built = subprocess.run([tool, "path", name], capture_output=True, text=True, check=False)
    path = built.stdout.strip()
    if built.returncode == 0 and Path(path).exists():
        return path
    found = shutil.which(name)
    if found is None:
        raise HelmError(f"{name} is missing: build it with `hack/localkube/localkube build`")
    return found


def helm(*arguments: str | Path) -> str:
    """Run helm and return what it printed.

    Raises:
        HelmError: it failed.
    """
    words = [tool_path("helm"), *map(str, arguments)]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode:
        raise HelmError(result.stderr + result.stdout)
    return result.stdout


def _sets(values: dict[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set-json", f"{key}={value}")]


def lint(chart: str, values: dict[str, str] | None = None) -> str:
    """Lint a chart strictly; values are JSON."""
    return helm("lint", CHARTS / chart, "--strict", *_sets(values or {}))


def render(
    chart: str,
    values: dict[str, str] | None = None,
    *,
    release: str | None = None,
    namespace: str = "vendor",
) -> list[Object]:
    """Return the objects of a release, hooks included; values are JSON."""
    text = helm(
        "template", release or chart, CHARTS / chart, "--namespace", namespace,
        "--kube-version", KUBE_VERSION, *_sets(values or {}),
    )  # fmt: skip
    return [body for body in yaml.safe_load_all(text) if body]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind by name."""
    return {body["metadata"]["name"]: body for body in objects if body["kind"] == kind}


def pods(objects: list[Object]) -> dict[str, Object]:
    """Return the pod template of every workload, by kind/name."""
    return {
        f"{body['kind']}/{body['metadata']['name']}": body["spec"]["template"]
        for body in objects
        if body["kind"] in {"Deployment", "StatefulSet", "Job", "DaemonSet"}
    }
