"""Thumbnails: kept, metered, listed, shown, refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from support.instance_api import SERVICE, Api, device
from support.instance_site import Site

pytestmark = pytest.mark.services
PATH = "/api/v1/cameras/cam-1/frames"
JPEG = b"\xff\xd8\xff\xe0" + b"picture"
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 "
PNG = b"\x89PNG\r\n\x1a\n" + b"png"


def one(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


async def send(api: Api, picture: bytes, at: datetime, **over: Any) -> Any:
    headers = over.get("headers") or device("hw-1")
    return await api.http.post(
        over.get("path", PATH),
        headers=headers,
        params={"occurred_at": at.isoformat()},
        content=picture,
    )


async def test_a_thumbnail_is_kept_metered_once_listed_and_shown(api: Api, site: Site) -> None:
    now = datetime.now(UTC)
    headers = device("hw-1", key="once")
    first = await send(api, JPEG, now, headers=headers)
    assert first.status_code == 201, first.text
    again = await send(api, JPEG, now, headers=headers)
    assert again.content == first.content
    await send(api, PNG, now - timedelta(minutes=1))
    await send(api, WEBP, now - timedelta(days=3))
    assert one(site.dsn, "SELECT count(*) FROM frames") == 3
    assert one(site.dsn, "SELECT count(*) FROM usage_events") == 3
    listed = (await api.http.get(PATH, headers=SERVICE)).json()
    assert [frame["mediaType"] for frame in listed["frames"]] == ["image/jpeg", "image/png"]
    assert listed["frames"][0]["id"] == first.json()["frameId"]
    assert listed["truncated"] is False
    shown = await api.http.get(listed["frames"][0]["path"], headers=SERVICE)
    assert (shown.status_code, shown.content) == (200, JPEG)
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"
    since = (now - timedelta(days=4)).isoformat()
    older = await api.http.get(PATH, headers=SERVICE, params={"since": since})
    assert len(older.json()["frames"]) == 3
    # Under another camera's name there is none.
    other = listed["frames"][0]["path"].replace("cam-1", "cam-2")
    assert (await api.http.get(other, headers=SERVICE)).json()["reason"] == "NotFound"


async def test_what_is_no_picture_too_large_too_old_or_anothers_is_refused(
    api: Api, site: Site
) -> None:
    now = datetime.now(UTC)
    for picture in (b"", b"<svg/>", JPEG + bytes(256 * 1024)):
        answer = await send(api, picture, now)
        assert (answer.status_code, answer.json()["reason"]) == (422, "InvalidFrame")
    answer = await send(api, JPEG, now - timedelta(days=366))
    assert answer.json()["reason"] == "EventTimeOutOfRange"
    answer = await send(api, JPEG, now, headers=device("hw-2"))
    assert answer.json()["reason"] == "CameraNotOnDevice"
    answer = await send(api, JPEG, now, path="/api/v1/cameras/cam-9/frames")
    assert answer.json()["reason"] == "CameraNotLicensed"
    assert one(site.dsn, "SELECT count(*) FROM frames") == 0
    assert one(site.dsn, "SELECT count(*) FROM usage_events") == 0
    reversed_span = {"since": now.isoformat(), "until": (now - timedelta(days=1)).isoformat()}
    answer = await api.http.get(PATH, headers=SERVICE, params=reversed_span)
    assert answer.json()["reason"] == "InvalidSpan"


async def test_without_a_license_only_a_week_is_shown(api: Api, site: Site) -> None:
    old = datetime.now(UTC) - timedelta(days=20)
    frame = (await send(api, JPEG, old)).json()["frameId"]
    site.install(sequence=9, subscription={"status": "suspended", "currentPeriodEnd": None})
    await api.instance.license.look_into_directory()
    at = {"occurred_at": old.isoformat()}
    answer = await api.http.get(f"{PATH}/{frame}", headers=SERVICE, params=at)
    assert (answer.status_code, answer.json()["reason"]) == (403, "HistoryNotLicensed")
    answer = await api.http.get(PATH, headers=SERVICE, params={"since": old.isoformat()})
    assert answer.json()["reason"] == "HistoryNotLicensed"
