"""The audit of decisions: nobody waits for it, and it does not grow with every question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from brinkbyte.instance.licensing import audit as module
from brinkbyte.instance.licensing.audit import Audit
from brinkbyte.kit.pools import Pool
from brinkbyte.store.licenses import ValidationRecord, purge_validations
from support.instance_api import SERVICE, Api, running_app
from support.instance_site import Site
from support.licensing import CUSTOMER

pytestmark = pytest.mark.services


def record(camera: str, *, allowed: bool = True) -> ValidationRecord:
    return ValidationRecord("camera", camera, allowed, "active", "LicenseValid", "", "memory")


def rows(site: Site) -> list[tuple[Any, ...]]:
    with psycopg.connect(site.dsn) as connection:
        return connection.execute(
            "SELECT subject, allowed, times, last_at IS NOT NULL FROM license_validation_log "
            "WHERE subject_kind = 'camera' ORDER BY id"
        ).fetchall()


class Away:
    """A pool whose server is away for a while."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.away, self.asked = pool, True, 0

    def connection(self, **more: Any) -> Any:
        self.asked += 1
        if self.away:
            raise PoolTimeout("no server")
        return self.pool.connection(**more)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def made(api: Api) -> Callable[..., Audit]:
    return lambda **more: Audit(api.instance.pool, CUSTOMER, **more)


async def test_the_same_answer_again_and_again_is_one_row(api: Api, site: Site) -> None:
    for _ in range(40):
        for camera in ("cam-1", "cam-9"):
            await api.http.post(f"/api/v1/license/validate/{camera}", headers=SERVICE)
    await api.instance.license.audit.flush(everything=True)
    found = rows(site)
    # The first question about cam-9 went through every tier, the others were answered by memory.
    assert {row[0] for row in found} == {"cam-1", "cam-9"}
    assert len(found) == 3, found
    assert sum(row[2] for row in found) == 80
    assert ("cam-1", True, 40, True) in found


async def test_two_flushes_at_once_write_a_decision_once(
    made: Callable[..., Audit], site: Site
) -> None:
    audit = made()
    for number in range(5):
        audit.note(record(f"cam-{number}"))
    await asyncio.gather(*(audit.flush() for _ in range(4)))
    assert len(rows(site)) == 5


async def test_repeats_are_written_each_minute_and_a_new_hour_is_a_new_row(
    made: Callable[..., Audit], site: Site
) -> None:
    clock = Clock()
    audit = made(monotonic=clock)
    assert audit.note(record("cam-1"))
    assert not audit.note(record("cam-1"))
    await audit.flush()
    assert rows(site) == [("cam-1", True, 2, True)]
    audit.note(record("cam-1"))
    audit.note(record("cam-1", allowed=False))
    await audit.flush()
    # What is new is written at once, what only counts on is not.
    assert rows(site) == [("cam-1", True, 2, True), ("cam-1", False, 1, False)]
    clock.now += module.REPEATS_SECONDS
    await audit.flush()
    assert rows(site)[0] == ("cam-1", True, 3, True)
    audit.note(record("cam-1"))
    clock.now += module.ROW_SECONDS
    audit.note(record("cam-1"))
    await audit.flush()
    assert rows(site)[0] == ("cam-1", True, 5, True)
    assert audit.note(record("cam-1"))
    await audit.flush()
    assert rows(site)[2] == ("cam-1", True, 1, False)


async def test_without_a_database_it_waits_within_bounds_and_says_what_is_lost(
    api: Api, site: Site
) -> None:
    clock, pool = Clock(), Away(api.instance.pool)
    audit = Audit(cast("Pool", pool), CUSTOMER, capacity=3, monotonic=clock)
    for number in range(5):
        audit.note(record(f"cam-{number}"))
    await audit.flush()
    assert (audit.waiting, audit.dropped) == (3, 2)
    # It does not ask a dead database at every turn.
    await audit.flush()
    assert pool.asked == 1
    pool.away = False
    clock.now += 10
    await audit.flush()
    assert [row[0] for row in rows(site)] == ["cam-0", "cam-1", "cam-2"]
    assert (audit.waiting, audit.dropped) == (0, 2)
    # What is written makes room.
    assert audit.note(record("cam-7"))
    assert audit.dropped == 2


async def test_what_is_lost_and_what_waits_is_shown(api: Api) -> None:
    api.instance.license.audit.dropped = 7
    status = (await api.http.get("/api/v1/license/status", headers=SERVICE)).json()
    assert status["audit"]["dropped"] == 7
    text = (await api.http.get("/metrics", headers=SERVICE)).text
    assert "brinkbyte_instance_audit_dropped_total 7.0" in text
    assert "brinkbyte_instance_audit_waiting" in text


async def test_the_end_of_the_program_writes_what_waits(site: Site) -> None:
    site.install()
    async with running_app(site) as api:
        for _ in range(3):
            await api.http.post("/api/v1/license/validate/cam-1", headers=SERVICE)
    assert rows(site) == [("cam-1", True, 3, True)]


async def test_old_rows_go_in_pieces(api: Api, site: Site) -> None:
    with psycopg.connect(site.dsn) as connection:
        connection.execute(
            "INSERT INTO license_validation_log (tenant_id, at, subject_kind, subject, allowed, "
            "mode, reason, message, tier) SELECT %s, now() - interval '401 days', 'camera', 'x', "
            "true, 'active', '', '', 'memory' FROM generate_series(1, 10001)",
            [CUSTOMER],
        )
    async with api.instance.pool.connection() as connection:
        assert await purge_validations(connection, CUSTOMER)
        assert not await purge_validations(connection, CUSTOMER)
    assert rows(site) == []
