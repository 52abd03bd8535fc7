"""A year of data, licenses that lapse, come back and shrink: what stays, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from brinkbyte.license.claims import TokenKind
from support.instance_api import SERVICE, Api, running_app
from support.instance_site import Site

pytestmark = pytest.mark.services
DAY = timedelta(days=1)
TABLES = ("telemetry_events", "telemetry_aggregates", "frames", "cameras", "config")
A_DAY = 5
FILL = """
WITH days AS (SELECT generate_series(0, %(days)s - 1) AS ago),
made AS (SELECT ensure_day_partition(name, %(last)s - ago * interval '1 day')
    FROM days, unnest(ARRAY['telemetry_events', 'frames']) AS name)
SELECT count(*) FROM made
"""
EVENTS = """
INSERT INTO telemetry_events (tenant_id, occurred_at, id, camera_id, hardware_id, kind)
SELECT 'acme', %(last)s - ago * interval '1 day' - n * interval '1 minute', gen_random_uuid(),
    'cam-1', 'hw-1', 'detection'
FROM generate_series(0, %(days)s - 1) AS ago, generate_series(1, %(rows)s) AS n
"""
FRAMES = """
INSERT INTO frames (tenant_id, occurred_at, id, camera_id, hardware_id, media_type, thumbnail)
SELECT tenant_id, occurred_at, id, camera_id, hardware_id, 'image/jpeg', '\\xffd8ff'
FROM telemetry_events
"""
SUMS = """
INSERT INTO telemetry_aggregates (tenant_id, bucket, camera_id, kind, label, events)
SELECT tenant_id, date_trunc('hour', occurred_at, 'UTC'), camera_id, kind, label, count(*)
FROM telemetry_events GROUP BY 1, 2, 3, 4, 5
"""


def fill(dsn: str, last: datetime, days: int) -> None:
    """Write rows of every one of these days, the last of which is given."""
    given = {"last": last, "days": days, "rows": A_DAY}
    with psycopg.connect(dsn) as connection:
        for statement in (FILL, EVENTS, FRAMES, SUMS):
            connection.execute(statement, given)
        connection.execute("INSERT INTO config (tenant_id, key, value) VALUES ('acme', 'a', '1')")


def counts(dsn: str) -> dict[str, int]:
    found = {}
    with psycopg.connect(dsn) as connection:
        for table in TABLES:
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            found[table] = row[0] if row else -1
        row = connection.execute(
            "SELECT count(DISTINCT occurred_at::date) FROM telemetry_events"
        ).fetchone()
        found["days"] = row[0] if row else -1
    return found


def features(days: int) -> dict[str, Any]:
    return {
        "maxDevices": 10,
        "dataRetentionDays": days,
        "canExportData": True,
        "hasAdvancedAlerts": False,
        "hasApiAccess": None,
        "hasMqttAccess": None,
        "hasCustomBranding": False,
    }


async def retention(api: Api) -> Any:
    return (await api.http.get("/api/v1/telemetry/retention", headers=SERVICE)).json()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the clock to the test: the app's own hourly turn does nothing."""

    async def nothing(_self: object) -> None: ...

    monkeypatch.setattr("brinkbyte.instance.background.Background.maintain", nothing)


async def test_a_year_outlives_sixty_days_without_a_license(site: Site) -> None:
    """The line dies, the license ends with its grace, and comes back two months later."""
    start = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    site.install(features=features(365))
    # The last day on which the license, of 45 days and 7 of grace, is in force.
    last = start + 51 * DAY
    async with running_app(site) as api:
        fill(site.dsn, last, 365)
        assert await api.instance.telemetry.maintain(at=last) == []
        before = counts(site.dsn)
        assert before["days"] == 365
        assert before["telemetry_events"] == before["frames"] == 365 * A_DAY
        for day in range(1, 31):
            assert await api.instance.telemetry.maintain(at=last + (1 + day) * DAY) == []
    # Restarted without a line: what was decided is in the database.
    async with running_app(site) as api:
        for day in range(31, 61):
            assert await api.instance.telemetry.maintain(at=last + (1 + day) * DAY) == []
        assert counts(site.dsn) == before
        site.install(sequence=8, days=400, features=features(365))
        await api.instance.license.look_into_directory()
        assert api.instance.license.snapshot.sequence(TokenKind.LICENSE) == 8
        back = last + 62 * DAY
        assert await api.instance.telemetry.maintain(at=back) == []
        assert counts(site.dsn) == before
        # Ninety days to read and export it; then the license's own 365 days count.
        assert await api.instance.telemetry.maintain(at=back + 89 * DAY) == []
        assert counts(site.dsn) == before
        gone = await api.instance.telemetry.maintain(at=back + 91 * DAY)
        after = counts(site.dsn)
        # The day on which the 365th day ends is kept whole.
        left = 365 - (62 + 91) + 1
        assert after["days"] == left
        assert len(gone) == 2 * (365 - left)
        assert after["telemetry_aggregates"] < before["telemetry_aggregates"]
        assert (after["cameras"], after["config"]) == (before["cameras"], before["config"])


async def test_a_downgrade_is_announced_and_cuts_after_ninety_days(site: Site) -> None:
    now = datetime.now(UTC)
    site.install(days=300, features=features(365))
    async with running_app(site) as api:
        fill(site.dsn, now, 60)
        assert await api.instance.telemetry.maintain(at=now) == []
        before = counts(site.dsn)
        site.install(sequence=8, days=300, features=features(30))
        await api.instance.license.look_into_directory()
        assert await api.instance.telemetry.maintain(at=now) == []
        said = await retention(api)
        assert (said["days"], said["announcedDays"]) == (365, 30)
        assert said["cutAt"] == said["announcedAt"] + 90 * 86_400
        for day in (1, 30, 60, 89):
            assert await api.instance.telemetry.maintain(at=now + day * DAY) == []
        assert counts(site.dsn) == before
        gone = await api.instance.telemetry.maintain(at=now + 91 * DAY)
        assert len(gone) == 2 * 60
        assert counts(site.dsn)["telemetry_events"] == 0
        assert counts(site.dsn)["telemetry_aggregates"] == 0
        assert (await retention(api))["announcedDays"] is None


async def test_what_retention_says_without_and_after_a_license(site: Site) -> None:
    async with running_app(site) as api:
        assert await retention(api) == {
            "days": 7, "frozen": False, "announcedDays": None, "announcedAt": None,
            "cutAt": None, "oldestKept": None, "readableDays": None,
        }  # fmt: skip
    site.install(features=features(365))
    async with running_app(site) as api:
        await api.instance.telemetry.maintain()
        said = await retention(api)
        assert (said["days"], said["frozen"], said["readableDays"]) == (365, False, None)
        assert said["oldestKept"] is not None
        site.install(
            sequence=8, features=features(365),
            subscription={"status": "suspended", "currentPeriodEnd": None},
        )  # fmt: skip
        await api.instance.license.look_into_directory()
        said = await retention(api)
        assert (said["days"], said["frozen"], said["readableDays"]) == (365, True, 7)
        assert said["oldestKept"] is None


async def test_days_without_rows_have_no_partition(site: Site) -> None:
    now = datetime.now(UTC)
    site.install(days=300, features=features(365))
    async with running_app(site) as api:
        fill(site.dsn, now - 100 * DAY, 3)
        with psycopg.connect(site.dsn, autocommit=True) as connection:
            connection.execute(FILL, {"last": now - 10 * DAY, "days": 80})
            assert await api.instance.telemetry.maintain(at=now) == []
            rows = connection.execute(
                "SELECT parent, partitions, days_ahead FROM health_partitions "
                "WHERE parent <> 'usage_events' ORDER BY 1"
            ).fetchall()
        # Three with rows, today and three ahead.
        assert rows == [("frames", 7, 3), ("telemetry_events", 7, 3)]


async def test_a_partition_that_was_just_found_stays_until_its_row_is_in(site: Site) -> None:
    """A late event's day is found, and retention comes by before the row does."""
    now = datetime.now(UTC)
    day = now - 50 * DAY
    site.install(days=300, features=features(365))
    async with running_app(site) as api:
        with psycopg.connect(site.dsn) as late:
            late.execute("SELECT ensure_day_partition('telemetry_events', %s)", (day,))
            late.commit()
            late.execute("SELECT ensure_day_partition('telemetry_events', %s)", (day,))
            # Waits for the lock, gives up, and leaves the day.
            await api.instance.telemetry.maintain(at=now)
            late.execute(EVENTS, {"last": day, "days": 1, "rows": 1})
            late.commit()
        await api.instance.telemetry.maintain(at=now)
        assert counts(site.dsn)["telemetry_events"] == 1


async def test_nothing_is_dropped_while_an_import_writes_old_days(site: Site) -> None:
    now = datetime.now(UTC)
    site.install(days=300, features=features(30))
    async with running_app(site) as api:
        fill(site.dsn, now - 100 * DAY, 3)
        with psycopg.connect(site.dsn, autocommit=True) as importing:
            importing.execute(
                "SELECT pg_advisory_lock_shared(hashtextextended('brinkbyte.retention', 0))"
            )
            assert await api.instance.telemetry.maintain(at=now) == []
            assert counts(site.dsn)["days"] == 3
        gone = await api.instance.telemetry.maintain(at=now)
        assert len(gone) == 6
