"""Idempotency keys: twice sent is once done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.pools import Pool
from brinkbyte.store import (
    DatabaseSettings,
    Reservation,
    StoredAnswer,
    idempotent,
    open_database,
    record_event,
)
from brinkbyte.store.idempotency import purge_idempotency_keys
from support.metering_site import usage_event

pytestmark = pytest.mark.services
HASH, OTHER = "a" * 64, "b" * 64


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_database(DatabaseSettings.load(database_url=database)) as opened:
        yield opened


async def request(pool: Pool, *, fail: bool = False, delay: float = 0.0) -> tuple[int, bytes]:
    """What an endpoint does: reserve, work, answer, in one transaction."""
    async with pool.connection() as conn:
        outcome = await idempotent(conn, "device-1", "key-1", HASH)
        if isinstance(outcome, StoredAnswer):
            return outcome.status, outcome.body
        event = usage_event()
        await record_event(conn, event)
        await asyncio.sleep(delay)
        if fail:
            raise ZeroDivisionError
        await outcome.store(conn, 201, event.id.encode())
        return 201, event.id.encode()


async def count(pool: Pool) -> int:
    async with pool.connection() as conn:
        row = await (await conn.execute("SELECT count(*) AS n FROM usage_events")).fetchone()
    return int(row["n"]) if row else 0


async def test_a_repeat_gets_the_stored_answer(pool: Pool) -> None:
    assert await request(pool) == await request(pool)
    assert await count(pool) == 1


async def test_simultaneous_requests_do_the_work_once(pool: Pool) -> None:
    answers = await asyncio.gather(*(request(pool, delay=0.05) for _ in range(6)))
    assert len(set(answers)) == 1
    assert await count(pool) == 1


async def test_a_failed_request_leaves_the_key_free(pool: Pool) -> None:
    failed, answered = await asyncio.gather(
        request(pool, fail=True, delay=0.05), request(pool), return_exceptions=True
    )
    outcomes = {type(failed), type(answered)}
    assert tuple in outcomes
    assert await count(pool) == 1
    assert (await request(pool))[0] == 201
    assert await count(pool) == 1


async def test_the_same_key_with_another_request_is_refused(pool: Pool) -> None:
    await request(pool)
    with pytest.raises(InvalidInputError, match="send a new key") as refused:
        async with pool.connection() as conn:
            await idempotent(conn, "device-1", "key-1", OTHER)
    assert refused.value.reason == "IdempotencyKeyReused"


async def test_keys_are_each_credentials_own(pool: Pool) -> None:
    await request(pool)
    async with pool.connection() as conn:
        assert isinstance(await idempotent(conn, "device-2", "key-1", OTHER), Reservation)


@pytest.mark.parametrize("key", ["", "k" * 201, "a\nb", "\0"])
async def test_a_malformed_key_is_refused(pool: Pool, key: str) -> None:
    with pytest.raises(InvalidInputError, match="1 to 200 printable"):
        async with pool.connection() as conn:
            await idempotent(conn, "device-1", key, HASH)


async def test_a_key_counts_for_48_hours(pool: Pool) -> None:
    await request(pool)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE idempotency_keys SET created_at = now() - interval '47 hours 59 minutes'"
        )
        assert await purge_idempotency_keys(conn) == 0
        assert isinstance(await idempotent(conn, "device-1", "key-1", HASH), StoredAnswer)
        await conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '49 hours'")
        assert isinstance(await idempotent(conn, "device-1", "key-1", OTHER), Reservation)
        await conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '49 hours'")
        assert await purge_idempotency_keys(conn) == 1


async def test_a_reservation_committed_without_an_answer_is_done_again(pool: Pool) -> None:
    async with pool.connection() as conn:
        await idempotent(conn, "device-1", "key-1", HASH)
    async with pool.connection() as conn:
        assert isinstance(await idempotent(conn, "device-1", "key-1", HASH), Reservation)
