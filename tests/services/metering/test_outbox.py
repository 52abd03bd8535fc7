"""The outbox: what has committed is there, what has no receipt is never dropped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from brinkbyte.kit.errors import InvalidInputError, TemporaryError
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.uuid7 import first_of, from_parts, uuid7
from brinkbyte.metering.batches import NO_HASH, UsageHead
from brinkbyte.metering.events import UsageEvent
from brinkbyte.store import (
    DatabaseSettings,
    metering_state,
    open_database,
    outbox,
    record_event,
    record_events,
)
from brinkbyte.store.epochs import Epoch, open_epoch
from brinkbyte.store.outbox import drop_old_partitions, ensure_partitions, usage_totals
from brinkbyte.store.sealing import MAX_PAYLOAD_BYTES, SET_ASIDE, lock_outbox, seal_next
from brinkbyte.store.state import quarantined_events
from support.licensing import INSTANCE, vendor
from support.metering_site import usage_event

pytestmark = pytest.mark.services
NOW = datetime.now(UTC)
KEY = vendor().instance_key


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    settings = DatabaseSettings.load(database_url=database)
    async with open_database(settings, name="test") as opened:
        yield opened


def at(moment: datetime, tail: int = 0) -> str:
    return str(from_parts(int(moment.timestamp() * 1000), tail))


async def rows(pool: Pool, query: str, *values: Any) -> list[dict[str, Any]]:
    async with pool.connection() as conn:
        return await (await conn.execute(query.encode(), values)).fetchall()


async def epoch(pool: Pool) -> Epoch:
    async with pool.connection() as conn:
        return await open_epoch(
            conn, epoch=uuid7(), instance=INSTANCE, head=UsageHead(server_time=1), reason="First"
        )


async def test_an_event_commits_with_the_work_it_measures(pool: Pool) -> None:
    kept, gone = usage_event(), usage_event()
    async with pool.connection() as conn:
        await record_event(conn, kept)
    async with pool.connection() as conn:
        await record_event(conn, gone)
        await conn.rollback()
    assert [r["id"] for r in await rows(pool, "SELECT id::text FROM usage_events")] == [kept.id]


async def test_the_stored_text_is_the_canonical_event(pool: Pool) -> None:
    event = usage_event(
        quantity="12.5", camera_id="c-1", hardware_id="h", attributes={"note": 'ü "\\ \0 \n'}
    )
    async with pool.connection() as conn:
        await record_events(conn, [event])
        await record_events(conn, [])
    (row,) = await rows(pool, "SELECT * FROM usage_events")
    assert UsageEvent.model_validate_json(row["event"]) == event
    assert (row["meter"], row["quantity"]) == (event.meter, Decimal("12.5"))
    assert (row["camera_id"], row["hardware_id"], row["epoch"]) == ("c-1", "h", None)


@pytest.mark.parametrize("over", [{"meter": "a\0b"}, {"camera_id": "\0"}])
async def test_text_that_postgres_cannot_hold_is_refused(
    pool: Pool, over: dict[str, object]
) -> None:
    with pytest.raises(InvalidInputError, match="NUL"):
        async with pool.connection() as conn:
            await record_event(conn, usage_event(**over))


async def test_text_that_is_not_unicode_is_refused(pool: Pool) -> None:
    event = usage_event().model_copy(update={"key": "\ud800"})
    with pytest.raises(InvalidInputError, match="no canonical form"):
        async with pool.connection() as conn:
            await record_event(conn, event)


async def test_an_id_is_recorded_once(pool: Pool) -> None:
    event = usage_event()
    async with pool.connection() as conn:
        await record_event(conn, event)
    with pytest.raises(psycopg.errors.UniqueViolation):
        async with pool.connection() as conn:
            await record_event(conn, event)


async def test_months_get_their_partitions_whatever_the_clock_says(pool: Pool) -> None:
    moments = [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2031, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2031, 3, 1, tzinfo=UTC),
        datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ]
    async with pool.connection() as conn:
        await record_events(conn, [usage_event(id=at(moment)) for moment in moments])
    found = await rows(
        pool,
        "SELECT tableoid::regclass::text AS part, uuid7_time(id) AS at FROM usage_events "
        "ORDER BY id",
    )
    assert [row["part"].removeprefix("usage_events_") for row in found] == [
        "197001",
        "203102",
        "203103",
        "299912",
    ]
    assert [row["at"] for row in found] == moments


async def test_bounds_of_partitions_are_those_of_the_ids(pool: Pool) -> None:
    moment = datetime(2026, 5, 6, 7, 8, 9, 123_000, tzinfo=UTC)
    (row,) = await rows(pool, "SELECT uuid7_first(%s) AS first", moment)
    assert row["first"] == first_of(int(moment.timestamp() * 1000))


async def test_many_at_once_make_a_partition_together(pool: Pool) -> None:
    async def record(number: int) -> None:
        async with pool.connection() as conn:
            moment = datetime(2040, 1 + number % 3, 1, tzinfo=UTC)
            await record_event(conn, usage_event(id=at(moment, number)))

    await asyncio.gather(*(record(number) for number in range(24)))
    (row,) = await rows(pool, "SELECT count(*) AS n FROM usage_events")
    assert row["n"] == 24


async def test_others_go_on_recording_while_a_partition_is_made(pool: Pool) -> None:
    async with pool.connection() as maker:
        await record_event(maker, usage_event(id=at(datetime(2041, 1, 1, tzinfo=UTC))))
        async with pool.connection() as other:
            await other.execute("SET LOCAL lock_timeout = '1s'")
            await record_event(other, usage_event())


async def test_totals_are_by_the_events_own_times(pool: Pool) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    async with pool.connection() as conn:
        await record_events(
            conn,
            [
                usage_event(id=at(start - timedelta(milliseconds=1))),
                usage_event(id=at(start), quantity="0.5"),
                usage_event(id=at(start, 1), quantity="2"),
                usage_event(id=at(start), meter="storage").model_copy(update={"id": at(start, 2)}),
                usage_event(id=at(start + timedelta(days=1))),
            ],
        )
        totals = await usage_totals(conn, start, start + timedelta(days=1))
    assert [(t.meter, t.events, t.quantity) for t in totals] == [
        ("storage", 1, Decimal(1)),
        ("vision.api_calls", 2, Decimal("2.5")),
    ]


async def test_rows_that_commit_late_are_sealed_later(pool: Pool) -> None:
    live = await epoch(pool)
    early = usage_event()
    async with pool.connection() as slow:
        await record_event(slow, early)
        async with pool.connection() as conn:
            await record_event(conn, usage_event())
        async with pool.connection() as conn:
            first = await seal_next(conn, KEY, instance=INSTANCE, epoch=live)
    async with pool.connection() as conn:
        second = await seal_next(conn, KEY, instance=INSTANCE, epoch=live)
        assert await seal_next(conn, KEY, instance=INSTANCE, epoch=live) is None
    assert first is not None
    assert second is not None
    assert early.id.encode() in second.batch.payload
    assert second.batch.header.batch_no == 2
    assert second.batch.header.previous_hash == first.batch.header.chain_hash


async def test_a_batch_has_a_thousand_events_at_most(pool: Pool) -> None:
    live = await epoch(pool)
    async with pool.connection() as conn:
        await record_events(conn, [usage_event() for _ in range(1001)])
    async with pool.connection() as conn:
        first = await seal_next(conn, KEY, instance=INSTANCE, epoch=live)
        second = await seal_next(conn, KEY, instance=INSTANCE, epoch=live)
    assert first is not None
    assert second is not None
    assert (first.batch.header.count, first.full) == (1000, True)
    assert (second.batch.header.count, second.full) == (1, False)
    assert first.batch.header.previous_hash == NO_HASH


async def test_a_batch_is_bounded_in_bytes_too(pool: Pool) -> None:
    live = await epoch(pool)
    fat = {f"a{n}": "ü" * 400 for n in range(16)}
    async with pool.connection() as conn:
        await record_events(conn, [usage_event(attributes=fat) for _ in range(200)])
    counts = []
    async with pool.connection() as conn:
        while sealed := await seal_next(conn, KEY, instance=INSTANCE, epoch=live):
            assert len(sealed.batch.payload) <= MAX_PAYLOAD_BYTES
            counts.append(sealed.batch.header.count)
    assert len(counts) == 2
    assert sum(counts) == 200


async def test_rows_edited_by_hand_are_set_aside_and_block_nothing(pool: Pool) -> None:
    live = await epoch(pool)
    events = [usage_event() for _ in range(4)]
    async with pool.connection() as conn:
        await record_events(conn, events)
        texts = ("", '{"id":"x"}', usage_event().model_dump_json())
        for bad, text in zip(events[:3], texts, strict=True):
            await conn.execute("UPDATE usage_events SET event = %s WHERE id = %s", (text, bad.id))
    async with pool.connection() as conn:
        sealed = await seal_next(conn, KEY, instance=INSTANCE, epoch=live)
        state = await metering_state(conn)
    assert sealed is not None
    assert sealed.batch.header.count == 1
    assert state.backlog == 1
    aside = await rows(pool, "SELECT event_id, reason FROM usage_quarantined")
    assert {str(row["event_id"]) for row in aside} == {event.id for event in events[:3]}
    assert {row["reason"] for row in aside} == {"UnreadableEvent"}
    kept = await rows(pool, "SELECT id FROM usage_events WHERE epoch = %s", SET_ASIDE)
    assert len(kept) == 3


async def test_only_one_holds_the_outbox(pool: Pool) -> None:
    async with pool.connection() as one, pool.connection() as other:
        assert await lock_outbox(one)
        assert not await lock_outbox(other)
        await one.execute("SELECT pg_advisory_unlock_all()")
        assert await lock_outbox(other)
        await other.execute("SELECT pg_advisory_unlock_all()")


async def test_old_partitions_go_only_when_every_event_has_its_receipt(pool: Pool) -> None:
    live = await epoch(pool)
    old = NOW - timedelta(days=200)
    older = NOW - timedelta(days=260)
    async with pool.connection() as conn:
        await record_events(conn, [usage_event(id=at(old)), usage_event()])
        await ensure_partitions(conn, older)
    name = f"usage_events_{old:%Y%m}"

    async def drop() -> list[str]:
        async with pool.connection() as conn:
            await conn.commit()
            await conn.set_autocommit(True)
            try:
                return await drop_old_partitions(conn, NOW)
            finally:
                await conn.set_autocommit(False)

    assert name not in await drop()
    async with pool.connection() as conn:
        await seal_next(conn, KEY, instance=INSTANCE, epoch=live)
    assert name not in await drop()
    await_receipt = "UPDATE usage_batches SET receipt = 'r', acknowledged_at = now()"
    async with pool.connection() as conn:
        await conn.execute(await_receipt)
    assert name not in await drop()
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM usage_batches")
    async with pool.connection() as user:
        # Somebody is recording: dropping waits its time and lets it be.
        await record_event(user, usage_event())
        assert await drop() == []
    assert name in await drop()
    (row,) = await rows(pool, "SELECT count(*) AS n FROM usage_events")
    assert row["n"] == 2


async def test_what_stays_is_seen_without_a_lock(pool: Pool) -> None:
    old = NOW - timedelta(days=200)
    async with pool.connection() as conn:
        await record_event(conn, usage_event(id=at(old)))
    async with pool.connection() as user, pool.connection() as conn:
        await record_event(user, usage_event())
        await conn.set_autocommit(True)
        began = time.monotonic()
        assert await drop_old_partitions(conn, NOW) == []
        assert time.monotonic() - began < 1.5  # the lock alone would be waited for for two seconds
        await conn.set_autocommit(False)


async def test_an_event_that_comes_between_look_and_lock_keeps_its_partition(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = NOW - timedelta(days=200)
    async with pool.connection() as conn:
        await ensure_partitions(conn, old)
    looks = 0
    real = outbox._any

    async def late(conn: Any, query: Any) -> bool:
        nonlocal looks
        found = await real(conn, query)
        looks += 1
        if looks == 2:
            async with pool.connection() as other:
                await record_event(other, usage_event(id=at(old)))
        return found

    monkeypatch.setattr(outbox, "_any", late)
    async with pool.connection() as conn:
        await conn.set_autocommit(True)
        assert f"usage_events_{old:%Y%m}" not in await drop_old_partitions(conn, NOW)
        await conn.set_autocommit(False)
    (row,) = await rows(pool, "SELECT count(*) AS n FROM usage_events")
    assert row["n"] == 1


async def test_rows_set_aside_are_found_by_an_index_of_their_own(pool: Pool) -> None:
    async with pool.connection() as conn:
        await record_event(conn, usage_event())
    found = await rows(
        pool,
        "SELECT tablename FROM pg_indexes WHERE indexdef LIKE %s",
        "%WHERE (batch_no = 0)%",
    )
    tables = {row["tablename"] for row in found}
    assert f"usage_events_{NOW:%Y%m}" in tables


async def test_events_set_aside_are_counted_by_reason(pool: Pool) -> None:
    async with pool.connection() as conn:
        assert await quarantined_events(conn) == {}
        for reason in ("UnknownMeter", "TooFarAhead", "TooFarAhead"):
            await conn.execute(
                "INSERT INTO usage_quarantined (event_id, reason, epoch, batch_no) "
                "VALUES (%s, %s, %s, 1)",
                (uuid7(), reason, uuid7()),
            )
        assert await quarantined_events(conn) == {"TooFarAhead": 2, "UnknownMeter": 1}


async def test_state_counts_what_has_no_receipt(pool: Pool, monkeypatch: Any) -> None:
    async with pool.connection() as conn:
        assert (await metering_state(conn)).backlog == 0
    live = await epoch(pool)
    oldest = NOW - timedelta(hours=5)
    async with pool.connection() as conn:
        await record_events(conn, [usage_event(id=at(oldest)), usage_event()])
        await seal_next(conn, KEY, instance=INSTANCE, epoch=live)
        await record_events(conn, [usage_event() for _ in range(3)])
        state = await metering_state(conn)
    assert state.backlog == 5
    assert state.oldest_unacknowledged_at == int(oldest.timestamp())
    assert (state.last_reported_at, state.last_receipt, state.epochs_opened) == (None, None, 0)
    monkeypatch.setattr("brinkbyte.store.state.COUNTED_EXACTLY", 2)
    async with pool.connection() as conn:
        assert (await metering_state(conn)).backlog >= 5


async def test_a_state_without_its_row_is_empty(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM billing_sync_status")
        assert (await metering_state(conn)).backlog == 0


async def test_a_changed_connection_string_is_used_by_new_connections(
    database: str, tmp_path: Path
) -> None:
    path = tmp_path / "dsn"
    settings = DatabaseSettings.load(postgres_dir=tmp_path)
    with pytest.raises(TemporaryError, match="cannot be read"):
        settings.dsn()
    path.write_text("\n")
    with pytest.raises(TemporaryError, match="is empty"):
        settings.dsn()
    path.write_text(database + "\n")
    assert settings.dsn() == database
    async with open_database(settings) as pool, pool.connection() as conn:
        row = await (await conn.execute("SHOW timezone")).fetchone()
        assert row == {"TimeZone": "UTC"}
    other = DatabaseSettings.load(database_url=SecretStr("postgresql://other"))
    assert other.dsn() == "postgresql://other"
    assert "other" not in repr(other)
