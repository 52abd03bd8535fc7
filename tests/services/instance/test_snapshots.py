"""The day's snapshot: every gauge of the site once a UTC day, whatever restarts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from brinkbyte.instance.background import Background
from brinkbyte.instance.services.snapshots import Snapshots
from brinkbyte.kit.uuid7 import millisecond_of
from brinkbyte.license.claims import CameraMode
from brinkbyte.license.seats import Seat
from brinkbyte.store.levels import record_level
from support.instance_api import Api, running_app
from support.instance_site import Site
from support.licensing import CUSTOMER

pytestmark = pytest.mark.services
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def events(site: Site) -> list[dict[str, Any]]:
    with psycopg.connect(site.dsn) as connection:
        rows = connection.execute("SELECT event FROM usage_events ORDER BY id").fetchall()
    return [json.loads(row[0]) for row in rows]


def levels(site: Site) -> dict[str, str]:
    """The newest level of each meter but storage, which has its own test."""
    found = {event["meter"]: event["quantity"] for event in events(site)}
    return {meter: level for meter, level in found.items() if not meter.endswith("storage_gb")}


def taker(api: Api, at: datetime) -> Snapshots:
    """The snapshots of a process that has just started."""
    instance = api.instance
    return Snapshots(
        instance.pool,
        instance.license,
        instance.catalog,
        customer_id=CUSTOMER,
        clock=lambda: at,
    )


async def test_every_gauge_is_recorded_once_a_day(site: Site) -> None:
    site.install(plan="professional")
    async with running_app(site) as api:
        await Background(api.instance).watch()
        assert await taker(api, NOON).take() == 6
        assert {event["meter"] for event in events(site)} == {
            "vision.storage_gb", "vision.cameras", "vision.edge_devices", "vision.camera_seats",
            "fleet.storage_gb", "fleet.fleet_devices",
        }  # fmt: skip
        assert levels(site) == {
            "vision.cameras": "0",
            "vision.edge_devices": "4",
            "vision.camera_seats": "3",
            "fleet.fleet_devices": "4",
        }
        assert {event["attributes"]["snapshot"] for event in events(site)} == {f"{NOON:%Y-%m-%d}"}


async def test_restarts_replicas_and_clocks_make_no_second_one(api: Api, site: Site) -> None:
    await asyncio.gather(*(taker(api, NOON).take() for _ in range(5)))
    first = len(events(site))
    late = NOON + timedelta(hours=11, minutes=59, seconds=59, milliseconds=999)
    assert await taker(api, late).take() == 0
    # A clock that went back to a day that has its snapshot.
    assert await taker(api, NOON + timedelta(days=1)).take() == first
    assert await taker(api, NOON).take() == 0
    assert len(events(site)) == 2 * first
    same = taker(api, NOON + timedelta(days=2))
    assert (await same.take(), await same.take()) == (first, 0)


async def test_the_event_is_of_the_day_that_it_is_for(api: Api, site: Site) -> None:
    last = datetime(2026, 3, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    await taker(api, last).take()
    with psycopg.connect(site.dsn) as connection:
        ids = connection.execute("SELECT id FROM usage_events").fetchall()
    assert {millisecond_of(row[0]) for row in ids} == {int(last.timestamp() * 1000)}


async def test_storage_is_the_database_and_what_services_told(api: Api, site: Site) -> None:
    async with api.instance.pool.connection() as connection:
        await record_level(
            connection, CUSTOMER, "vision.storage_gb", part="exports", level=Decimal("1.5")
        )
    await taker(api, NOON).take()
    async with api.instance.pool.connection() as connection:
        await record_level(
            connection, CUSTOMER, "vision.storage_gb", part="exports", level=Decimal(0)
        )
    told = [Decimal(e["quantity"]) for e in events(site) if e["meter"] == "vision.storage_gb"]
    database = {round(level, 9) for level in (max(told) - Decimal("1.5"), min(told))}
    assert len(told) == 3
    # An empty database has some ten MB.
    assert all(Decimal("0.005") < level < Decimal("0.1") for level in database)
    assert len(database) == 1


async def test_seats_that_have_ended_are_held_no_more(site: Site) -> None:
    site.install(
        seats=[
            Seat("cam-1", "hw-1", CameraMode.BASE, ()),
            Seat("cam-2", "hw-1", CameraMode.TRIAL, (), until=1_700_000_000),
        ]
    )
    async with running_app(site) as api:
        await taker(api, NOON).take()
    assert levels(site)["vision.camera_seats"] == "1"


async def test_gauges_that_services_count_are_in_it(api: Api, site: Site) -> None:
    with psycopg.connect(site.dsn) as connection:
        for meter, used in (("vision.analyst_seats", 4), ("platform.user_seats", 9)):
            connection.execute(
                "INSERT INTO entitlement_counters VALUES (%s, %s, 'infinity', %s)",
                (CUSTOMER, meter, used),
            )
    await taker(api, NOON).take()
    # Another family's are its own service's.
    assert levels(site)["vision.analyst_seats"] == "4"
    assert "platform.user_seats" not in levels(site)


async def test_nothing_is_recorded_while_metering_is_off(site: Site) -> None:
    site.install(flags={"usageTracking": False})
    async with running_app(site) as api:
        assert await taker(api, NOON).take() == 0
    assert events(site) == []


KILLED = """
import asyncio, os
from types import SimpleNamespace as Of
from brinkbyte.catalog import load_catalog
from brinkbyte.instance.services.snapshots import Snapshots
from brinkbyte.kit.pools import postgres_pool

async def main():
    policy = Of(flags=Of(usage_tracking=True), decision=Of(full=False), snapshot=Of(seats=None),
                catalog=load_catalog())
    async with postgres_pool(os.environ["DSN"]) as pool:
        taker = Snapshots(pool, Of(policy=lambda: policy), load_catalog(), customer_id="acme")
        print(await taker.take())

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("point", "kept"), [("snapshot.before_commit", 0), ("snapshot.committed", 3)]
)
def test_killed_it_is_taken_whole_by_whoever_comes_next(
    database: str, point: str, kept: int
) -> None:
    def take(failpoint: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DSN": database, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", KILLED],
            env={**environment, "BRINKBYTE_FAILPOINT": failpoint},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def recorded() -> int:
        with psycopg.connect(database) as connection:
            row = connection.execute("SELECT count(*) FROM usage_events").fetchone()
        return row[0] if row else -1

    assert take(f"{point}:1").returncode == -signal.SIGKILL
    assert recorded() == kept
    again = take("")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == str(3 - kept)
    assert recorded() == 3


async def test_the_background_waits_until_the_devices_are_known(api: Api, site: Site) -> None:
    background = Background(api.instance)
    await background.take_snapshot()
    assert events(site) == []
    await background.watch()
    await background.take_snapshot()
    assert levels(site)["vision.edge_devices"] == "4"
