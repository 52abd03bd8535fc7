"""Telemetry in, sums out, exactly one metering event a call."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from brinkbyte.store.telemetry import ensure_days
from support.instance_api import SERVICE, Api, device, running_app, running_process
from support.instance_site import Site, documents, volume

pytestmark = pytest.mark.services
PATH = "/api/v1/telemetry"


def batch(camera: str = "cam-1", count: int = 3, **over: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "cameraId": camera,
        "events": [
            {
                "kind": "detection",
                "label": "person",
                "occurredAt": (now - timedelta(seconds=index)).isoformat(),
                "trackId": f"t{index}",
                "zone": "door",
                "score": 0.5,
                "attributes": {"box": [1, 2, 3, 4]},
                **over,
            }
            for index in range(count)
        ],
    }


async def rows(dsn: str, query: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=dict_row) as connection:
        return await (await connection.execute(query)).fetchall()


async def test_events_are_kept_summed_and_metered_once(api: Api, site: Site) -> None:
    headers = device("hw-1", key="k-1")
    answer = await api.http.post(PATH, headers=headers, json=batch())
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["accepted"], body["cameraId"]) == (3, "cam-1")
    stored = await rows(site.dsn, "SELECT * FROM telemetry_events")
    assert len(stored) == 3
    assert {(row["tenant_id"], row["hardware_id"]) for row in stored} == {("acme", "hw-1")}
    events = await rows(site.dsn, "SELECT * FROM usage_events")
    assert [str(event["id"]) for event in events] == [body["eventId"]]
    said = json.loads(events[0]["event"])
    assert said == {
        "id": body["eventId"],
        "meter": "vision.api_calls",
        "quantity": "1",
        "key": "k-1",
        "cameraId": "cam-1",
        "hardwareId": "hw-1",
        "attributes": {"operation": "telemetry", "events": "3"},
    }
    sums = (await api.http.get(f"{PATH}/aggregates", headers=SERVICE)).json()
    assert sum(row["events"] for row in sums["rows"]) == 3
    assert sums["rows"][0]["meanScore"] == pytest.approx(0.5)
    usage = (await api.http.get("/api/v1/usage/summary", headers=SERVICE)).json()
    assert usage["meters"] == [
        {
            "meter": "vision.api_calls",
            "title": "API calls",
            "unit": "call",
            "events": 1,
            "used": "1",
            "included": 150_000,
            "limited": True,
        }
    ]
    assert usage["metering"]["backlog"] == 1


async def test_a_repeat_gets_the_stored_answer_and_does_nothing(api: Api, site: Site) -> None:
    headers, body = device("hw-1"), batch()
    first = await api.http.post(PATH, headers=headers, json=body)
    # Whatever happens to the license meanwhile.
    volume(
        site.root / "license",
        documents(
            sequence=9, subscription={"status": "suspended", "currentPeriodEnd": None}, seats=[]
        ),
    )
    await api.instance.license.look_into_directory()
    again = await api.http.post(PATH, headers=headers, json=body)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(await rows(site.dsn, "SELECT * FROM usage_events")) == 1
    assert len(await rows(site.dsn, "SELECT * FROM telemetry_events")) == 3


async def test_the_same_key_with_another_body_is_refused(api: Api, site: Site) -> None:
    headers = device("hw-1", key="same")
    await api.http.post(PATH, headers=headers, json=batch())
    other = await api.http.post(PATH, headers=headers, json=batch(count=1))
    assert (other.status_code, other.json()["reason"]) == (422, "IdempotencyKeyReused")
    # Another device's key of that name is another key.
    neighbour = await api.http.post(PATH, headers=device("hw-2", key="same"), json=batch("cam-2"))
    assert neighbour.status_code == 201
    assert len(await rows(site.dsn, "SELECT * FROM usage_events")) == 2


async def test_simultaneous_repeats_do_the_work_once(api: Api, site: Site) -> None:
    headers, body = device("hw-1"), batch()
    answers = await asyncio.gather(
        *(api.http.post(PATH, headers=headers, json=body) for _ in range(12))
    )
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (201, answers[0].content)
    }
    assert len(await rows(site.dsn, "SELECT * FROM usage_events")) == 1
    assert len(await rows(site.dsn, "SELECT * FROM telemetry_events")) == 3


async def test_a_key_is_required_and_a_refusal_frees_it(api: Api, site: Site) -> None:
    headers = device("hw-1", key="k")
    without = {"Authorization": headers["Authorization"]}
    answer = await api.http.post(PATH, headers=without, json=batch())
    assert (answer.status_code, answer.json()["reason"]) == (400, "IdempotencyKeyRequired")
    refused = await api.http.post(PATH, headers=headers, json=batch("cam-9"))
    assert (refused.status_code, refused.json()["reason"]) == (402, "CameraNotLicensed")
    assert (await api.http.post(PATH, headers=headers, json=batch())).status_code == 201
    long_key = device("hw-1", key="x" * 201)
    answer = await api.http.post(PATH, headers=long_key, json=batch())
    assert (answer.status_code, answer.json()["reason"]) == (422, "IdempotencyKeyInvalid")
    assert len(await rows(site.dsn, "SELECT * FROM usage_events")) == 1


async def test_another_devices_camera_is_refused(api: Api, site: Site) -> None:
    answer = await api.http.post(PATH, headers=device("hw-2"), json=batch("cam-1"))
    assert (answer.status_code, answer.json()["reason"]) == (403, "CameraNotOnDevice")
    assert await rows(site.dsn, "SELECT * FROM usage_events") == []


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"occurredAt": "2026-01-01T00:00:00"}, "body.events.0.occurredAt"),
        ({"kind": "1x"}, "body.events.0.kind"),
        ({"score": 1.5}, "body.events.0.score"),
        ({"score": "NaN"}, "body.events.0.score"),
        ({"label": "x" * 201}, "body.events.0.label"),
        ({"trackId": "\x00"}, "body.events.0.trackId"),
        ({"attributes": {"x": "y" * 9000}}, "body.events.0.attributes"),
        ({"surplus": 1}, "body.events.0.surplus"),
    ],
)
async def test_bad_events_name_the_field(
    api: Api, site: Site, over: dict[str, Any], field: str
) -> None:
    answer = await api.http.post(PATH, headers=device("hw-1"), json=batch(count=1, **over))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert await rows(site.dsn, "SELECT * FROM telemetry_events") == []


async def test_sizes_and_syntax_are_bounded(api: Api) -> None:
    for content in (b"", b"{", b'{"cameraId": "cam-1", "events": []}'):
        answer = await api.http.post(PATH, headers=device("hw-1"), content=content)
        assert (answer.status_code, answer.json()["reason"]) == (422, "InvalidRequest")
    many = await api.http.post(PATH, headers=device("hw-1"), json=batch(count=501))
    assert many.status_code == 422
    full = await api.http.post(PATH, headers=device("hw-1"), json=batch(count=500))
    assert full.json()["accepted"] == 500


@pytest.mark.parametrize("shift", [timedelta(days=-366), timedelta(hours=1)])
async def test_times_outside_retention_or_ahead_are_refused(
    api: Api, site: Site, shift: timedelta
) -> None:
    at = (datetime.now(UTC) + shift).isoformat()
    answer = await api.http.post(PATH, headers=device("hw-1"), json=batch(count=1, occurredAt=at))
    assert (answer.status_code, answer.json()["reason"]) == (422, "EventTimeOutOfRange")
    assert "events.0.occurredAt" in answer.json()["detail"]


async def test_a_device_that_was_offline_delivers_old_days(api: Api, site: Site) -> None:
    days = [datetime.now(UTC) - timedelta(days=days) for days in (40, 3, 40, 1)]
    events = [batch(count=1, occurredAt=at.isoformat())["events"][0] for at in days]
    answers = await asyncio.gather(
        *(
            api.http.post(
                PATH, headers=device("hw-1"), json={"cameraId": "cam-1", "events": events[cut:]}
            )
            for cut in range(4)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    found = await rows(site.dsn, "SELECT tableoid::regclass::text AS name FROM telemetry_events")
    assert len(found) == 10
    assert f"telemetry_events_{days[0]:%Y%m%d}" in {row["name"] for row in found}


async def test_aggregates_by_hour_and_day_and_their_filters(api: Api) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0) - timedelta(days=2)
    for camera, hardware, minutes in (
        ("cam-1", "hw-1", 0),
        ("cam-1", "hw-1", 90),
        ("cam-2", "hw-2", 0),
    ):
        at = (noon + timedelta(minutes=minutes)).isoformat()
        await api.http.post(PATH, headers=device(hardware), json=batch(camera, 2, occurredAt=at))
    span = {
        "since": (noon - timedelta(hours=12)).isoformat(),
        "until": (noon + timedelta(hours=12)).isoformat(),
    }

    async def read(**query: str) -> Any:
        answer = await api.http.get(f"{PATH}/aggregates", headers=SERVICE, params={**span, **query})
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]

    assert [row["events"] for row in await read()] == [2, 2, 2]
    assert [row["events"] for row in await read(bucket="day")] == [4, 2]
    assert [row["cameraId"] for row in await read(camera_id="cam-2")] == ["cam-2"]
    assert await read(kind="crossing") == []
    reversed_span = {"since": span["until"], "until": span["since"]}
    for path in (f"{PATH}/aggregates", "/api/v1/usage/summary"):
        answer = await api.http.get(path, headers=SERVICE, params=reversed_span)
        assert (answer.status_code, answer.json()["reason"]) == (422, "InvalidSpan")


async def test_old_history_is_not_readable_without_a_license(site: Site) -> None:
    async with running_app(site) as api:
        since = (datetime.now(UTC) - timedelta(days=8)).isoformat()
        answer = await api.http.get(f"{PATH}/aggregates", headers=SERVICE, params={"since": since})
        assert (answer.status_code, answer.json()["reason"]) == (403, "HistoryNotLicensed")
        assert answer.json()["licenseReason"] == "NoLicense"
        since = (datetime.now(UTC) - timedelta(days=7)).isoformat()
        answer = await api.http.get(f"{PATH}/aggregates", headers=SERVICE, params={"since": since})
        assert answer.status_code == 200


async def _old_events(api: Api, *days: int) -> None:
    for age in days:
        at = (datetime.now(UTC) - timedelta(days=age)).isoformat()
        answer = await api.http.post(
            PATH, headers=device("hw-1"), json=batch(count=1, occurredAt=at)
        )
        assert answer.status_code == 201, answer.text


async def _days_kept(site: Site) -> int:
    return len(await rows(site.dsn, "SELECT DISTINCT occurred_at::date FROM telemetry_events"))


def _features(days: int) -> dict[str, Any]:
    return {
        "maxDevices": 10,
        "dataRetentionDays": days,
        "canExportData": True,
        "hasAdvancedAlerts": False,
        "hasApiAccess": None,
        "hasMqttAccess": None,
        "hasCustomBranding": False,
    }


async def test_days_past_retention_are_dropped_a_cut_waits_and_no_license_freezes(
    site: Site,
) -> None:
    site.install(features=_features(365))
    async with running_app(site) as api:
        await _old_events(api, 100, 40, 2)
        await api.instance.telemetry.maintain()
        site.install(sequence=8, features=_features(30))
        await api.instance.license.look_into_directory()
        assert await api.instance.telemetry.maintain() == []
        assert await _days_kept(site) == 3
        kept = await rows(site.dsn, "SELECT value FROM system_config WHERE key = 'retention'")
        assert kept[0]["value"]["days"] == 365
        assert kept[0]["value"]["announcedDays"] == 30
        # Ninety days later the cut counts; here the announcement is made older.
        async with api.instance.pool.connection() as connection:
            await connection.execute(
                "UPDATE system_config SET value = jsonb_set(value, '{announcedAt}', "
                "to_jsonb((value->>'announcedAt')::bigint - 90 * 86400)) WHERE key = 'retention'"
            )
        site.install(
            sequence=9,
            features=_features(30),
            subscription={"status": "suspended", "currentPeriodEnd": None},
        )
        await api.instance.license.look_into_directory()
        assert await api.instance.telemetry.maintain() == []
        assert await _days_kept(site) == 3
        site.install(sequence=10, features=_features(30))
        await api.instance.license.look_into_directory()
        dropped = await api.instance.telemetry.maintain()
        assert len(dropped) == 2
        assert await _days_kept(site) == 1
        sums = await rows(site.dsn, "SELECT sum(events)::int AS n FROM telemetry_aggregates")
        assert sums[0]["n"] == 1
        assert await api.instance.telemetry.maintain() == []


async def _partitions(site: Site) -> set[str]:
    found = await rows(
        site.dsn,
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        "WHERE inhparent = 'telemetry_events'::regclass",
    )
    return {str(row["name"]) for row in found}


async def _days_ago(api: Api, *ages: int) -> list[str]:
    """Make the partitions of days so long ago and return their names."""
    days = [datetime.now(UTC) - timedelta(days=age) for age in ages]
    async with api.instance.pool.connection() as connection:
        await ensure_days(connection, days)
    return [f"telemetry_events_{day:%Y%m%d}" for day in days]


async def _maintained(api: Api, site: Site, gone: str) -> None:
    """Maintain until a partition is gone: the app's own first turn may be at it meanwhile."""
    async with asyncio.timeout(20):
        while gone in await _partitions(site):
            await api.instance.telemetry.maintain()


async def test_where_there_never_was_a_license_seven_days_are_kept(site: Site) -> None:
    async with running_app(site) as api:
        recent, old = await _days_ago(api, 1, 9)
        await _maintained(api, site, old)
        assert recent in await _partitions(site)


async def test_a_partition_in_use_is_dropped_another_time(site: Site) -> None:
    async with running_app(site) as api:
        async with await psycopg.AsyncConnection.connect(site.dsn) as reader:
            (old,) = await _days_ago(api, 9)
            await reader.execute("SELECT count(*) FROM telemetry_events")
            if old in await _partitions(site):  # the app's own first turn was not quicker
                assert await api.instance.telemetry.maintain() == []
                assert old in await _partitions(site)
        await _maintained(api, site, old)


async def test_the_operators_wish_caps_retention(site: Site) -> None:
    site.install(features=_features(365))
    async with running_app(site, retention_days=20) as api:
        await api.instance.telemetry.maintain()
        at = (datetime.now(UTC) - timedelta(days=21)).isoformat()
        answer = await api.http.post(
            PATH, headers=device("hw-1"), json=batch(count=1, occurredAt=at)
        )
        assert answer.json()["reason"] == "EventTimeOutOfRange"


async def _post(url: str, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(f"{url}{PATH}", headers=headers, json=body)


@pytest.mark.parametrize("point", ["telemetry.before_commit", "telemetry.committed"])
async def test_killed_around_the_commit_the_repeat_counts_once(site: Site, point: str) -> None:
    site.install()
    headers, body = device("hw-1", key="k"), batch()
    with running_process(site, failpoint=point) as server, pytest.raises(httpx.TransportError):
        await _post(server.url, headers, body)
    committed = point.endswith("committed")
    assert len(await rows(site.dsn, "SELECT * FROM usage_events")) == committed
    assert len(await rows(site.dsn, "SELECT * FROM telemetry_events")) == 3 * committed
    with running_process(site) as server:
        answer = await _post(server.url, headers, body)
        assert answer.status_code == 201
        assert ("idempotent-replayed" in answer.headers) is committed
    events = await rows(site.dsn, "SELECT id FROM usage_events")
    assert [row["id"] for row in events] == [UUID(answer.json()["eventId"])]
    assert len(await rows(site.dsn, "SELECT * FROM telemetry_events")) == 3
    sums = await rows(site.dsn, "SELECT sum(events)::int AS n FROM telemetry_aggregates")
    assert sums[0]["n"] == 3
