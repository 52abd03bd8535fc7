"""Who may call what: every route, every kind of credential."""

from __future__ import annotations

import httpx
import pytest

from brinkbyte.instance.background import Background
from support.instance_api import OPERATOR, SERVICE, Api, bearer, device, eventually, running_app
from support.instance_site import Site, volume

pytestmark = pytest.mark.services

# method, path, who may
ROUTES = [
    ("GET", "/health", "anyone"),
    ("GET", "/health/live", "anyone"),
    ("GET", "/health/ready", "anyone"),
    ("GET", "/metrics", "service operator"),
    ("GET", "/openapi.json", "service"),
    ("GET", "/api/v1/license", "service"),
    ("GET", "/api/v1/license/status", "service"),
    ("POST", "/api/v1/license/validate/{camera_id}", "service"),
    ("POST", "/api/v1/license/heartbeat", "device"),
    ("GET", "/api/v1/entitlements", "service"),
    ("GET", "/api/v1/usage/summary", "service"),
    ("GET", "/api/v1/cameras", "service"),
    ("POST", "/api/v1/cameras", "service"),
    ("GET", "/api/v1/cameras/{camera_id}", "service"),
    ("PUT", "/api/v1/cameras/{camera_id}", "service"),
    ("DELETE", "/api/v1/cameras/{camera_id}", "service"),
    ("GET", "/api/v1/cameras/{camera_id}/components", "service"),
    ("PUT", "/api/v1/cameras/{camera_id}/components/{name}", "service"),
    ("DELETE", "/api/v1/cameras/{camera_id}/components/{name}", "service"),
    ("GET", "/api/v1/cameras/{camera_id}/line-zones", "service"),
    ("PUT", "/api/v1/cameras/{camera_id}/line-zones/{name}", "service"),
    ("DELETE", "/api/v1/cameras/{camera_id}/line-zones/{name}", "service"),
    ("GET", "/api/v1/cameras/{camera_id}/polygon-zones", "service"),
    ("PUT", "/api/v1/cameras/{camera_id}/polygon-zones/{name}", "service"),
    ("DELETE", "/api/v1/cameras/{camera_id}/polygon-zones/{name}", "service"),
    ("POST", "/api/v1/cameras/{camera_id}/frames", "device"),
    ("GET", "/api/v1/cameras/{camera_id}/frames", "service"),
    ("GET", "/api/v1/cameras/{camera_id}/frames/{frame_id}", "service"),
    ("GET", "/api/v1/dashboard", "service"),
    ("GET", "/api/v1/license/cameras", "service"),
    ("GET", "/api/v1/database", "service operator"),
    ("GET", "/api/v1/config", "service"),
    ("PUT", "/api/v1/config/{key}", "service"),
    ("DELETE", "/api/v1/config/{key}", "service"),
    ("GET", "/api/v1/telemetry/retention", "service"),
    ("POST", "/api/v1/telemetry", "device"),
    ("GET", "/api/v1/telemetry/aggregates", "service"),
    ("POST", "/api/v1/cameras/{camera_id}/infer", "device"),
    ("GET", "/internal/v1/state", "operator"),
]
CALLERS = {"service": SERVICE, "operator": OPERATOR, "device": device("hw-1")}


async def test_the_table_lists_every_route(api: Api) -> None:
    schema = (await api.http.get("/openapi.json", headers=SERVICE)).json()
    served = {
        (method.upper(), path) for path, methods in schema["paths"].items() for method in methods
    }
    listed = {(method, path) for method, path, _ in ROUTES}
    assert served | {("GET", "/openapi.json")} == listed


async def test_every_route_with_every_credential(api: Api) -> None:
    wrong = []
    for method, template, allowed in ROUTES:
        path = template.format(camera_id="cam-1", name="x", key="x", frame_id="x")
        for headers in ({}, bearer("stranger"), bearer(""), {"Authorization": "Basic eA=="}):
            answer = await api.http.request(method, path, headers=headers)
            expected_open = allowed == "anyone"
            if (answer.status_code == 401) is expected_open:
                wrong.append((method, path, headers, answer.status_code))
            if not expected_open:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["reason"] == "Unauthorized"
        for name, headers in CALLERS.items():
            answer = await api.http.request(method, path, headers=headers, content=b"{}")
            may = allowed == "anyone" or name in allowed.split()
            refused = answer.status_code in {401, 403} and (
                answer.json()["reason"] in {"WrongCredential", "Unauthorized"}
            )
            if refused is may:
                wrong.append((method, path, name, answer.status_code))
    assert wrong == []


async def test_unknown_paths_tell_a_stranger_nothing(api: Api) -> None:
    assert (await api.http.get("/nowhere")).status_code == 401
    assert (await api.http.get("/nowhere", headers=SERVICE)).status_code == 404


async def test_two_authorization_headers_are_none(api: Api) -> None:
    headers = httpx.Headers(
        [
            ("Authorization", "Bearer service-secret"),
            ("Authorization", "Bearer x"),
        ]
    )
    assert (await api.http.get("/api/v1/license", headers=headers)).status_code == 401


async def test_a_rotated_token_counts_without_a_restart(api: Api, site: Site) -> None:
    volume(site.root / "access", {"service-token": "new", "operator-token": "operator-secret"})

    async def new_works() -> bool:
        return (await api.http.get("/api/v1/license", headers=bearer("new"))).status_code == 200

    await eventually(new_works)
    assert (await api.http.get("/api/v1/license", headers=SERVICE)).status_code == 401
    site.add_device("hw-1", token="rotated")
    await eventually(lambda: api.instance.credentials.authenticate("rotated") is not None)
    old = await api.http.post("/api/v1/license/heartbeat", headers=device("hw-1"))
    assert old.status_code == 401
    answer = await api.http.post("/api/v1/license/heartbeat", headers=bearer("rotated"))
    assert answer.status_code == 200


async def test_broken_devices_file_leaves_the_last_good_one(api: Api, site: Site) -> None:
    volume(site.root / "devices", {"devices.json": "[{]"})
    await eventually(lambda: not api.instance.credentials.reload())
    answer = await api.http.post("/api/v1/license/heartbeat", headers=device("hw-3"))
    assert answer.status_code == 200


async def test_a_missing_devices_file_leaves_the_last_good_one(api: Api, site: Site) -> None:
    await eventually(lambda: len(api.instance.license.first_devices) == 3)
    volume(site.root / "devices", {})
    assert api.instance.credentials.reload() is False
    await Background(api.instance).watch()
    answer = await api.http.post("/api/v1/license/heartbeat", headers=device("hw-3"))
    assert answer.status_code == 200
    assert await registered(api) == {"hw-1", "hw-2", "hw-3", "hw-4"}


async def test_a_start_without_the_devices_file_forgets_no_device(site: Site) -> None:
    async with running_app(site) as api:
        await eventually(lambda: len(api.instance.license.first_devices) == 3)
    volume(site.root / "devices", {})
    async with running_app(site) as api:
        await eventually(lambda: len(api.instance.license.first_devices) == 3)
        assert await registered(api) == {"hw-1", "hw-2", "hw-3", "hw-4"}
        site.add_device("hw-5")

        async def known() -> bool:
            return "hw-5" in await registered(api)

        await eventually(known)


async def test_devices_that_a_call_has_found_get_into_the_database(site: Site) -> None:
    async with running_app(site, watch_seconds=60) as api:
        background = Background(api.instance)
        await background.watch()
        site.add_device("hw-5")
        api.instance.credentials._looked_at = float("-inf")
        assert api.instance.credentials.authenticate("token-hw-5") is not None
        await background.watch()
        assert "hw-5" in await registered(api)


async def registered(api: Api) -> set[str]:
    async with api.instance.pool.connection() as connection:
        found = await connection.execute("SELECT hardware_id FROM edge_devices")
        return {row["hardware_id"] for row in await found.fetchall()}


async def test_without_mounted_tokens_nobody_may_call(api: Api, site: Site) -> None:
    volume(site.root / "access", {})

    async def refused() -> bool:
        return (await api.http.get("/api/v1/license", headers=SERVICE)).status_code == 401

    await eventually(refused)
    assert (await api.http.get("/api/v1/license", headers=bearer(""))).status_code == 401


async def test_bodies_are_bounded(api: Api) -> None:
    answer = await api.http.post(
        "/api/v1/telemetry", headers=device("hw-1"), content=b"x" * 3_000_000
    )
    assert (answer.status_code, answer.json()["reason"]) == (413, "BodyTooLarge")

    async def endless():
        for _ in range(400):
            yield b"[" * 10_000

    chunked = await api.http.post("/api/v1/telemetry", headers=device("hw-1"), content=endless())
    assert chunked.status_code == 413
    deep = await api.http.post("/api/v1/cameras", headers=SERVICE, content=b"[" * 900_000)
    assert deep.status_code in {400, 422}


async def test_metrics_carry_no_secret(api: Api) -> None:
    await api.http.post("/api/v1/license/validate/cam-1", headers=SERVICE)
    text = (await api.http.get("/metrics", headers=OPERATOR)).text
    assert 'brinkbyte_instance_license_mode{mode="active"} 1.0' in text
    assert 'brinkbyte_instance_license_validations_total{tier="memory"} 1.0' in text
    assert 'route="/api/v1/license/validate/{camera_id}"' in text
    assert "secret" not in text


async def test_made_up_methods_make_no_series(api: Api) -> None:
    for number in range(3):
        await api.http.request(f"BREW{number}", "/health")
        await api.http.request(f"BREW{number}", "/api/v1/license", headers=SERVICE)
    text = (await api.http.get("/metrics", headers=OPERATOR)).text
    assert "BREW" not in text
    assert 'method="other"' in text


async def test_events_set_aside_are_seen(api: Api) -> None:
    async with api.instance.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO usage_quarantined (event_id, reason, epoch, batch_no) "
            "VALUES (gen_random_uuid(), 'TooFarAhead', gen_random_uuid(), 1)"
        )
    await Background(api.instance).look_into_database()
    text = (await api.http.get("/metrics", headers=OPERATOR)).text
    assert 'brinkbyte_instance_quarantined_events{reason="TooFarAhead"} 1.0' in text
    usage = (await api.http.get("/api/v1/usage/summary", headers=SERVICE)).json()
    assert usage["metering"]["quarantined"] == {"TooFarAhead": 1}
