"""What all tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Machines of continuous integration are slow at times; that is no failure of the code.
settings.register_profile("brinkbyte", deadline=None)
settings.load_profile("brinkbyte")


_CLUSTERS = {
    "test_crds.py": "crds",
    **dict.fromkeys(("test_air_gap.py", "test_bad_input.py", "test_hostile_fields.py"), "hostile"),
}


class Together(LoadScopeScheduling):
    """Hands tests out to processes: those of one cluster, or of one set of servers, to one."""

    def _split_scope(self, nodeid: str) -> str:
        _, folder, *below = nodeid.split("::", maxsplit=1)[0].split("/")
        if folder == "cluster":
            # The definitions have a cluster to themselves; of the others, each half shares one.
            return _CLUSTERS.get(below[0], folder)
        return f"{folder}/{below[0]}" if folder in {"campaign", "services", "unit"} else folder


_LONGEST = (
    "tests/cluster/",
    "tests/services/billing/",
    "tests/campaign/",
    "tests/services/instance/",
    "tests/services/metering/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes one process the longest: at the end it would leave others idle."""

    def place(item: pytest.Item) -> int:
        found = (n for n, start in enumerate(_LONGEST) if item.nodeid.startswith(start))
        return next(found, len(_LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what a test wants to be seen also when it has passed, such as its seed."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, line in report.user_properties:
                    if name == "shown":
                        terminalreporter.write_line(str(line))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A program run inside a test logs to a stream that ends with the test: so does its handler."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
