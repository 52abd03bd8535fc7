"""The quota cache on a real Redis: what it may and may not change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from brinkbyte.billing.context import Context
from brinkbyte.billing.quotas import enforcement
from brinkbyte.billing.quotas.cache import FRESH_SECONDS, QuotaCache
from services.billing.commerce import program
from services.billing.conftest import Billing
from services.billing.quota_callers import CALLS, FREE, STANDARD, counted
from support.billing import CUSTOMER
from support.redis import RedisServer, redis_server, redis_url, running_redis

__all__ = ["redis_server", "redis_url"]
pytestmark = pytest.mark.services


@pytest.fixture
async def cached(billing: Billing, redis_url: str) -> AsyncIterator[Context]:
    cache = QuotaCache(redis_url)
    object.__setattr__(billing.context, "quota_cache", cache)
    await billing.customer(CUSTOMER, FREE)
    yield billing.context
    await cache.aclose()


def use(quantity: int) -> enforcement.Use:
    return enforcement.Use(CALLS, Decimal(quantity))


async def test_looks_are_answered_without_the_database(
    billing: Billing, cached: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enforcement.reserve(cached, CUSTOMER, use(700))

    def gone(*_: object) -> None:
        raise AssertionError("asked the database")

    for way in ("tenant", "pipelined"):
        monkeypatch.setattr(type(cached.database), way, gone)
    found = await enforcement.check(cached, CUSTOMER, CALLS, Decimal(1))
    assert (found.allowed, found.used) == (True, 700)
    # A refusal comes from it as well; what is allowed to count never does.
    assert not (await enforcement.reserve(cached, CUSTOMER, use(501))).allowed
    with pytest.raises(AssertionError, match="asked"):
        await enforcement.reserve(cached, CUSTOMER, use(1))
    billing.clock.advance(seconds=FRESH_SECONDS + 1)
    with pytest.raises(AssertionError, match="asked"):
        await enforcement.check(cached, CUSTOMER, CALLS, Decimal(1))


async def test_counting_is_exact_beside_a_stale_entry(billing: Billing, cached: Context) -> None:
    await enforcement.check(cached, CUSTOMER, CALLS, Decimal(1))
    other = QuotaCache(None)
    mine = cached.quota_cache
    object.__setattr__(billing.context, "quota_cache", other)
    await enforcement.reserve(cached, CUSTOMER, use(1200))
    object.__setattr__(billing.context, "quota_cache", mine)
    stale = await enforcement.check(cached, CUSTOMER, CALLS, Decimal(1))
    assert stale.allowed, "a look may be a little old"
    assert not (await enforcement.reserve(cached, CUSTOMER, use(1))).allowed
    assert counted(billing) == 1200


async def test_what_was_bought_counts_at_once_after_forget(
    billing: Billing, cached: Context
) -> None:
    await enforcement.reserve(cached, CUSTOMER, use(1200))
    await billing.buy(CUSTOMER, STANDARD)
    assert not (await enforcement.reserve(cached, CUSTOMER, use(1))).allowed
    await cached.quota_cache.forget(CUSTOMER)
    assert (await enforcement.reserve(cached, CUSTOMER, use(1))).allowed


async def test_a_customers_own_change_counts_at_once(billing: Billing, cached: Context) -> None:
    await enforcement.reserve(cached, CUSTOMER, use(1200))
    assert not (await enforcement.reserve(cached, CUSTOMER, use(1))).allowed
    await program(billing).ask("PUT", "subscription", json=STANDARD)
    assert (await enforcement.reserve(cached, CUSTOMER, use(1))).allowed


async def test_foreign_entries_are_passed_over(cached: Context, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for text in ("", "x", "[]", "{}", '{"form":1}', '{"form":1,"at":"x"}'):
            client.hset(f"brinkbyte:quota:{CUSTOMER}", CALLS, text)
            assert (await enforcement.check(cached, CUSTOMER, CALLS, Decimal(1))).allowed


async def test_losing_redis_costs_speed_only(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    with running_redis() as server:
        cache = QuotaCache(server.url)
        object.__setattr__(billing.context, "quota_cache", cache)
        await enforcement.reserve(billing.context, CUSTOMER, use(1199))
        server.kill()
        assert (await enforcement.reserve(billing.context, CUSTOMER, use(1))).allowed
        assert not (await enforcement.reserve(billing.context, CUSTOMER, use(1))).allowed
        assert (await enforcement.check(billing.context, CUSTOMER, CALLS, Decimal(0))).allowed
        await cache.aclose()
    assert counted(billing) == 1200
