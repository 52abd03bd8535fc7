"""Clusters of a state folder of the tests' own, so that no other cluster is touched."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from localkube.tooling import IMAGE, ROOT, Cluster, Tool

sys.path.insert(0, str(ROOT / "hack" / "localkube"))


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    tool = Tool(tmp_path_factory.mktemp("localkube") / "state")
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
