from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.customer_database import database, migrated_template
from support.instance_api import Api, running_app
from support.instance_site import Site
from support.postgres import postgres_database, postgres_server
from support.redis import redis_server, redis_url
from support.triton import triton_server

__all__ = [
    "database",
    "migrated_template",
    "postgres_database",
    "postgres_server",
    "redis_server",
    "redis_url",
    "triton_server",
]


@pytest.fixture
def site(tmp_path: Path, database: str, redis_url: str) -> Site:
    return Site(tmp_path, database, redis_url)


@pytest.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    """The application with a license in good standing."""
    site.install()
    async with running_app(site) as running:
        yield running
