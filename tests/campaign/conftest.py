from __future__ import annotations

from collections.abc import Generator

import pytest

from support.campaign_plan import SHOWN
from support.cluster import cluster
from support.postgres import postgres_database, postgres_server
from support.redis import redis_server, redis_url

__all__ = ["cluster", "postgres_database", "postgres_server", "redis_server", "redis_url"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Put what a campaign wants shown into the test's report, which comes from any process."""
    before = len(SHOWN)
    try:
        return (yield)
    finally:
        item.user_properties += [("shown", line) for line in SHOWN[before:]]
