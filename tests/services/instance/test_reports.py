"""The schema as a whole, and what is read from its views."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from brinkbyte.instance.background import Background
from brinkbyte.license.claims import CameraMode
from brinkbyte.license.seats import Seat
from brinkbyte.store import migrate
from brinkbyte.store.dashboards import refresh_views
from support.instance_api import SERVICE, Api, device, eventually, running_app
from support.instance_site import Site
from support.postgres import PostgresServer, running_postgres

pytestmark = pytest.mark.services

TABLES = {
    "config", "cameras", "camera_components", "line_zones", "polygon_zones", "telemetry_events",
    "frames", "telemetry_aggregates", "schema_migrations", "edge_devices", "camera_licenses",
    "feature_entitlements", "usage_events", "billing_sync_status", "license_validation_log",
    "growth_pack_features", "system_config",
}  # fmt: skip
MATERIALIZED = {"telemetry_daily", "camera_activity", "usage_daily"}
VIEWS = {
    "camera_entitlements", "usage_monthly", "usage_this_month", "usage_against_quotas",
    "health_partitions", "health_tables", "health_metering", "health_statements",
}  # fmt: skip


def column(dsn: str, query: str) -> set[Any]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute(query.encode())}


def kinds(dsn: str, *relkinds: str) -> set[str]:
    listed = ", ".join(f"'{kind}'" for kind in relkinds)
    return column(
        dsn,
        f"SELECT relname::text FROM pg_class WHERE relkind IN ({listed}) AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace",
    )


def test_every_table_and_view_is_there(database: str) -> None:
    assert kinds(database, "r", "p") >= TABLES
    assert kinds(database, "m") == MATERIALIZED
    assert kinds(database, "v") >= VIEWS
    assert kinds(database, "p") == {"telemetry_events", "frames", "usage_events"}


def test_every_updated_at_has_its_trigger(database: str) -> None:
    with_column = column(
        database,
        "SELECT relname::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "WHERE attname = 'updated_at' AND relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace",
    )
    with_trigger = column(
        database,
        "SELECT tgrelid::regclass::text FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid "
        "WHERE proname = 'set_updated_at'",
    )
    assert with_column == with_trigger
    assert with_column >= {"config", "cameras", "billing_sync_status"}


def test_every_materialized_view_has_the_index_that_readers_need(database: str) -> None:
    unique = column(
        database,
        "SELECT indrelid::regclass::text FROM pg_index WHERE indisunique AND indpred IS NULL",
    )
    assert unique >= MATERIALIZED


@pytest.fixture(scope="module")
def plain_server() -> Any:
    """A server as a customer may run it: no pg_stat_statements, and we are no superuser."""
    with running_postgres(shared_preload_libraries="") as server:
        server.execute("CREATE ROLE app LOGIN PASSWORD 'app'")
        yield server


def test_a_customers_own_server_works_without_statistics(plain_server: PostgresServer) -> None:
    name = plain_server.create_database(owner="app")
    dsn = plain_server.dsn(name, user="app", password="app")
    assert migrate(dsn)
    assert column(dsn, "SELECT extname FROM pg_extension") == {"plpgsql"}
    assert column(dsn, "SELECT statement FROM health_statements") == set()
    # Installed by hand, and not loaded.
    plain_server.execute("CREATE EXTENSION pg_stat_statements", name)
    assert column(dsn, "SELECT statement FROM health_statements") == set()


def test_where_the_server_has_statistics_they_are_shown(
    postgres_server: PostgresServer, database: str
) -> None:
    assert "pg_stat_statements" in column(database, "SELECT extname FROM pg_extension")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT count(*) FROM cameras WHERE name = 'statistics'")
    assert any(
        "cameras" in statement
        for statement in column(database, "SELECT statement FROM slowest_statements(1000)")
    )
    # A role that may not create it migrates all the same.
    postgres_server.execute("CREATE ROLE plain_role LOGIN PASSWORD 'x'")
    name = postgres_server.create_database(owner="plain_role")
    dsn = postgres_server.dsn(name, user="plain_role", password="x")
    assert migrate(dsn)
    assert column(dsn, "SELECT extname FROM pg_extension") == {"plpgsql"}
    postgres_server.drop_database(name)


async def read(api: Api, path: str, **query: Any) -> Any:
    answer = await api.http.get(f"/api/v1{path}", headers=SERVICE, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send_events(api: Api, count: int = 3, *, at: datetime | None = None) -> None:
    event = {"kind": "detection", "occurredAt": (at or datetime.now(UTC)).isoformat()}
    answer = await api.http.post(
        "/api/v1/telemetry",
        headers=device("hw-1"),
        json={"cameraId": "cam-1", "events": [event] * count},
    )
    assert answer.status_code == 201, answer.text


async def refreshed(api: Api, site: Site) -> list[str]:
    # The app's own first turn is over.
    await eventually(lambda: column(site.dsn, "SELECT name FROM view_refreshes") == MATERIALIZED)
    with psycopg.connect(site.dsn) as connection:
        connection.execute("DELETE FROM view_refreshes")
    return await api.instance.reports.refresh()


async def test_the_dashboard_joins_seats_activity_days_and_use(api: Api, site: Site) -> None:
    await send_events(api)
    await send_events(api, 2, at=datetime.now(UTC) - timedelta(days=2))
    await eventually(lambda: column(site.dsn, "SELECT camera_id FROM camera_licenses"))
    assert set(await refreshed(api, site)) == MATERIALIZED
    found = await read(api, "/dashboard")
    cameras = {camera["cameraId"]: camera for camera in found["cameras"]}
    assert set(cameras) == {"cam-1", "cam-2", "cam-4"}
    assert cameras["cam-1"]["eventsLastDay"] == 3
    assert cameras["cam-1"]["eventsLastWeek"] == 5
    assert (cameras["cam-1"]["hasSeat"], cameras["cam-1"]["packs"]) == (True, ["retail"])
    assert cameras["cam-2"]["lastHour"] is None
    assert [day["events"] for day in found["days"]] == [3, 2]
    assert found["usageDays"][0]["meter"] == "vision.api_calls"
    assert found["usageMonths"][0]["events"] == 2
    quotas = {quota["meter"]: quota for quota in found["quotas"]}
    assert quotas["vision.api_calls"]["included"] == 150_000
    assert float(quotas["vision.api_calls"]["quantity"]) == 2
    assert {view["name"] for view in found["refreshed"]} == MATERIALIZED
    # Without a license in force a week is shown.
    site.install(sequence=9, subscription={"status": "suspended", "currentPeriodEnd": None})
    await api.instance.license.look_into_directory()
    since = datetime.fromisoformat((await read(api, "/dashboard", days=400))["since"])
    assert datetime.now(UTC) - since < timedelta(days=7, minutes=1)


async def test_one_replica_refreshes_and_readers_go_on(api: Api, site: Site) -> None:
    await refreshed(api, site)
    assert await api.instance.reports.refresh() == []
    with psycopg.connect(site.dsn) as other, psycopg.connect(site.dsn) as reader:
        reader.execute("SELECT count(*) FROM telemetry_daily")
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('brinkbyte.view_refresh', 0))")
        with psycopg.connect(site.dsn, autocommit=True) as connection:
            connection.execute("UPDATE view_refreshes SET refreshed_at = '2020-01-01'")
        assert await api.instance.reports.refresh() == []
        other.rollback()
        # The reader's transaction is open, and holds nobody up.
        assert set(await refreshed(api, site)) == MATERIALIZED


async def test_replicas_at_once_refresh_each_view_once(api: Api, site: Site) -> None:
    await eventually(lambda: column(site.dsn, "SELECT name FROM view_refreshes") == MATERIALIZED)
    with psycopg.connect(site.dsn) as connection:
        connection.execute("DELETE FROM view_refreshes")

    async def replica() -> list[str]:
        connection = await psycopg.AsyncConnection.connect(site.dsn, autocommit=True)
        async with connection:
            return await refresh_views(connection, every=timedelta(minutes=5))

    done = [
        name for names in await asyncio.gather(*(replica() for _ in range(4))) for name in names
    ]
    assert len(done) == len(set(done))


async def test_seats_and_entitlements_follow_the_documents(api: Api, site: Site) -> None:
    await eventually(lambda: column(site.dsn, "SELECT camera_id FROM camera_licenses"))
    page = await read(api, "/license/cameras", limit=2)
    assert [camera["cameraId"] for camera in page["cameras"]] == ["cam-1", "cam-2"]
    assert page["next"] == "cam-2"
    assert page["inForce"] is True
    assert "trolley" in page["cameras"][0]["features"]["model"]
    assert "trolley" not in page["cameras"][1]["features"]["model"]
    assert "counting" in page["cameras"][1]["features"]["analytic"]
    rest = await read(api, "/license/cameras", after=page["next"])
    assert [camera["cameraId"] for camera in rest["cameras"]] == ["cam-4"]
    assert rest["next"] is None
    flags = column(
        site.dsn, "SELECT feature FROM feature_entitlements WHERE kind = 'flag' AND enabled"
    )
    assert flags >= {"canExportData", "hasAdvancedAlerts"}
    limits = dict(
        column(site.dsn, "SELECT (feature, amount) FROM feature_entitlements WHERE kind = 'limit'")
    )
    assert limits["dataRetentionDays"] == "365"
    site.install(
        sequence=9,
        seats=[
            Seat(
                "cam-7", "hw-1", CameraMode.TRIAL, (), until=int(datetime.now(UTC).timestamp()) - 5
            )
        ],
    )
    await eventually(lambda: column(site.dsn, "SELECT camera_id FROM camera_licenses") == {"cam-7"})
    # Its trial has ended: the seat is listed and allows nothing.
    page = await read(api, "/license/cameras")
    assert page["cameras"][0]["features"] == {}
    assert page["cameras"][0]["seatsSequence"] == 9


async def test_without_a_license_the_rows_say_what_goes_on(site: Site) -> None:
    async with running_app(site) as api:
        await eventually(lambda: column(site.dsn, "SELECT feature FROM feature_entitlements"))
        assert (await read(api, "/license/cameras"))["inForce"] is False
        flags = column(
            site.dsn, "SELECT feature FROM feature_entitlements WHERE kind = 'flag' AND enabled"
        )
        assert flags == set()
        packs = column(site.dsn, "SELECT pack FROM growth_pack_features")
        assert packs >= {"base", "retail", "mining", "advanced_analytics"}


async def test_free_settings_are_set_read_bounded_and_removed(api: Api) -> None:
    value = {"interval": 5, "names": ["a"]}
    for body in ({"value": 1}, {"value": value}):
        put = await api.http.put("/api/v1/config/site.poll", headers=SERVICE, json=body)
        assert put.status_code == 200, put.text
    await api.http.put("/api/v1/config/none", headers=SERVICE, json={"value": None})
    assert await read(api, "/config") == {"none": None, "site.poll": value}
    large = {"value": "x" * 9000}
    answer = await api.http.put("/api/v1/config/large", headers=SERVICE, json=large)
    assert answer.status_code == 422
    assert (await api.http.delete("/api/v1/config/none", headers=SERVICE)).status_code == 204
    answer = await api.http.delete("/api/v1/config/none", headers=SERVICE)
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")
    assert await read(api, "/config") == {"site.poll": value}


async def test_there_is_an_end_to_free_settings(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brinkbyte.instance.services.reports.MAX_SETTINGS", 1)
    await api.http.put("/api/v1/config/a", headers=SERVICE, json={"value": 1})
    answer = await api.http.put("/api/v1/config/b", headers=SERVICE, json={"value": 1})
    assert (answer.status_code, answer.json()["reason"]) == (409, "TooMany")
    answer = await api.http.put("/api/v1/config/a", headers=SERVICE, json={"value": 2})
    assert answer.status_code == 200
    assert await read(api, "/config") == {"a": 2}


async def test_the_databases_health_is_told(api: Api) -> None:
    await send_events(api)
    found = await read(api, "/database")
    parents = {row["parent"]: row for row in found["partitions"]}
    assert set(parents) == {"telemetry_events", "frames", "usage_events"}
    assert parents["usage_events"]["daysAhead"] >= 27
    assert {row["name"] for row in found["tables"]} >= TABLES
    assert found["metering"]["oldestWaiting"] is not None
    assert found["metering"]["batchesWaiting"] == 0
    assert found["schema"][-1]["version"] >= 60

    await api.instance.telemetry.maintain()
    await Background(api.instance).look_into_database()
    text = (await api.http.get("/metrics", headers=SERVICE)).text
    assert 'brinkbyte_instance_partition_days_ahead{table="telemetry_events"} 3.0' in text
