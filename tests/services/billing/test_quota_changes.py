"""Quotas follow what is in force: at once after a change, and in time where the worker is late."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brinkbyte.billing.quotas import enforcement
from services.billing.commerce import Program, program, work, worker
from services.billing.conftest import Billing
from services.billing.quota_callers import CALLS, FREE, STANDARD
from support.billing import CUSTOMER

pytestmark = pytest.mark.services


@pytest.fixture
async def mine(billing: Billing) -> Program:
    await billing.customer()
    return program(billing)


def stored(billing: Billing) -> Any:
    [row] = billing.query(
        "SELECT included FROM usage_quotas WHERE meter = %s ORDER BY period_start DESC LIMIT 1",
        CALLS,
    )
    return row["included"]


async def included(billing: Billing) -> Decimal | None:
    async with billing.context.database.tenant(CUSTOMER) as connection:
        found = await enforcement.load(connection, billing.context, CUSTOMER, CALLS)
    return found.quota.limit.included


async def test_changes_write_the_quotas(billing: Billing, mine: Program) -> None:
    await mine.ask("POST", "subscription", json=FREE)
    assert stored(billing) == 1000
    await mine.ask("PUT", "subscription", json=STANDARD)
    assert stored(billing) == 100_000
    # Less only counts from the next period on, unless the vendor says otherwise.
    await mine.ask("PUT", "subscription", json=FREE)
    assert stored(billing) == 100_000
    await billing.buy(CUSTOMER, FREE, at_once=True)
    assert stored(billing) == 1000


async def test_what_time_changes_counts_before_the_worker_has_come(
    billing: Billing, mine: Program
) -> None:
    await mine.ask("POST", "subscription", json=STANDARD)
    await mine.ask("PUT", "subscription", json=FREE)
    assert await included(billing) == 100_000
    billing.clock.advance(days=32)
    assert await included(billing) == 1000
    [row] = billing.query("SELECT terms FROM subscriptions")
    assert row["terms"]["plans"] == STANDARD["plans"]
    async with billing.admin() as admin:
        _, lines = await admin.cost(CUSTOMER)
    assert sum(line.amount for line in lines) == 0
    async with worker(billing) as loops:
        await work(loops)
    [row] = billing.query("SELECT terms FROM subscriptions")
    assert row["terms"]["plans"] == FREE["plans"]
    assert await included(billing) == 1000


async def test_the_worker_writes_the_quotas_of_a_fall(billing: Billing, mine: Program) -> None:
    await mine.ask("POST", "subscription", json=STANDARD)
    await mine.ask("PUT", "subscription", json=FREE)
    billing.clock.advance(days=32)
    async with worker(billing) as loops:
        await work(loops)
    assert stored(billing) == 1000
