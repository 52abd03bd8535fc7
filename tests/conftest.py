"""What all tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
# Machines of continuous integration are slow at times; that is no failure of the code.
settings.register_profile("brinkbyte", deadline=None)
settings.load_profile("brinkbyte")


@pytest.hookimpl(tryfirst=True)  # before the plugin looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together when several processes share the work.

    Those of one cluster, and those that share servers, run one after the other.
    """
    for item in items:
        folder, *below = item.path.relative_to(TESTS).parts
        if folder in {"campaign", "cluster"} and item.get_closest_marker("cluster"):
            group = "cluster"
        elif folder in {"services", "unit"}:
            group = f"{folder}-{below[0]}"
        else:
            group = folder
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A program run inside a test logs to a stream that ends with the test: so does its handler."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
