"""The counter's one statement, against what it should come to."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from brinkbyte.store.counters import Counter, count, look, release

pytestmark = pytest.mark.services
AMOUNTS = st.decimals(Decimal("0.001"), 8, places=3)
STEPS = st.lists(st.tuples(st.sampled_from(["count", "release"]), AMOUNTS), max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.none() | st.integers(0, 12), st.integers(0, 8))
async def test_any_course_comes_to_what_was_allowed_less_what_was_released(
    database: str, steps: list[tuple[str, Decimal]], included: int | None, beyond: int
) -> None:
    ceiling = None if included is None else Decimal(included + beyond)
    limit = None if included is None else Decimal(included)
    counter = Counter(str(uuid4()), "meter", None, limit, ceiling, None)
    used, counted = Decimal(0), False
    async with await AsyncConnection.connect(database, autocommit=True) as connection:
        for step, amount in steps:
            if step == "release":
                used = max(Decimal(0), used - amount)
                assert await release(connection, counter, amount) == (used if counted else None)
                continue
            fits = ceiling is None or used + amount <= ceiling
            assert await look(connection, counter, amount) == (used, fits)
            after = await count(connection, counter, amount, None)
            assert after == (used + amount if fits else None)
            used, counted = (used + amount, True) if fits else (used, counted)
        cursor = await connection.execute(
            "SELECT used, over_since IS NOT NULL FROM entitlement_counters WHERE tenant_id = %s",
            (counter.tenant_id,),
        )
        row = await cursor.fetchone()
    assert row == ((used, limit is not None and used > limit) if counted else None)
