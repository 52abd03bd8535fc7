"""What all tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Machines of continuous integration are slow at times; that is no failure of the code.
settings.register_profile("brinkbyte", deadline=None)
settings.load_profile("brinkbyte")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A program run inside a test logs to a stream that ends with the test: so does its handler."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
