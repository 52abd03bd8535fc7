from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest

from brinkbyte.guards import Guards, GuardSettings, open_guards
from support.customer_database import database, migrated_template
from support.instance_site import Site
from support.licensing import CUSTOMER, vendor
from support.postgres import postgres_database, postgres_server

__all__ = ["database", "migrated_template", "postgres_database", "postgres_server"]

SEATS, TOKENS = "platform.user_seats", "platform.llm_tokens"
FREE: dict[str, Any] = {
    "plan": "platform_free",
    "quotas": {SEATS: 3, TOKENS: 10, "vision.llm_tokens": 100},
}
Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[Guards]]


@pytest.fixture
def site(tmp_path: Path, database: str) -> Site:
    return Site(tmp_path, database, "redis://127.0.0.1:1")


def guard_settings(site: Site, **over: Any) -> GuardSettings:
    return GuardSettings(
        customer_id=CUSTOMER,
        database_url=site.dsn,
        license_dir=site.root / "license",
        identity_dir=site.root / "identity",
        watch_seconds=0.05,
        database_seconds=0.1,
        **over,
    )


@pytest.fixture
def opened(site: Site) -> Opened:
    """Opens the guards of a service beside the site's instance."""

    def opened(**over: Any) -> AbstractAsyncContextManager[Guards]:
        return open_guards(guard_settings(site, **over), roots=vendor().roots)

    return opened


@pytest.fixture
async def guards(site: Site, opened: Opened) -> AsyncIterator[Guards]:
    """With a license for the free platform plan: 3 seats hard, 10 tokens soft."""
    site.install(**FREE)
    async with opened() as guards:
        yield guards


@pytest.fixture
def query(database: str) -> Iterator[Callable[..., list[Any]]]:
    """Asks the database, outside of everything under test."""
    with psycopg.connect(database, autocommit=True) as connection:

        def query(statement: str, *values: Any) -> list[Any]:
            cursor = connection.execute(statement, values)  # type: ignore[arg-type]  # literals
            return cursor.fetchall() if cursor.description else []

        yield query
