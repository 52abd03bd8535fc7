"""Clusters of a state folder of the tests' own, so that no other cluster is touched."""

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localkube.tooling import IMAGE, ROOT, Cluster, Tool

sys.path.insert(0, str(ROOT / "hack" / "localkube"))


@pytest.fixture(scope="session")
def tool() -> Iterator[Tool]:
    # The name of a kubelet's socket may have 107 characters: pytest's own folders are too deep.
    with tempfile.TemporaryDirectory(prefix="localkube-") as folder:
        tool = Tool(Path(folder) / "state")
        tool.run("build", timeout=900)
        yield tool
        tool.run("clean", "--all-clusters")


@pytest.fixture(scope="session")
def pair(tool: Tool) -> tuple[Cluster, Cluster]:
    """Two clusters side by side, created at the same time; the first has an image."""
    tool.run("build-images", timeout=900)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(tool.create, ("one", "two"))
    tool.run("load", "docker-image", "--name=one", IMAGE)
    return one, two
