from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from support.campaign_plan import SHOWN
from support.cluster import cluster
from support.postgres import postgres_database, postgres_server
from support.redis import redis_server, redis_url

__all__ = ["cluster", "postgres_database", "postgres_server", "redis_server", "redis_url"]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these before all others, in whatever order they were named.

    The cluster tests keep an operator at work until the session ends; it would serve the campaign's
    Tenants beside the one that is killed.
    """
    items.sort(key=lambda item: HERE not in item.path.parents)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Put what a campaign wants shown into the test's report, which comes from any process."""
    before = len(SHOWN)
    try:
        return (yield)
    finally:
        item.user_properties += [("shown", line) for line in SHOWN[before:]]
