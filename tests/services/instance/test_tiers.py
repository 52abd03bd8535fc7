"""Four tiers, and going on without each of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from brinkbyte.instance.background import Background
from brinkbyte.license.claims import CameraMode, TokenKind
from brinkbyte.license.clock import ClockState
from brinkbyte.license.keys import load_roots
from brinkbyte.license.seats import Seat
from brinkbyte.license.wire import InventoryCamera, InventoryDevice, InventoryRequest
from support.billing import BillingApi, billing_api
from support.instance_api import SERVICE, Api, device, eventually, running_app
from support.instance_enrolled import client_of, connected, enrolled
from support.instance_site import Site
from support.licensing import CUSTOMER, DAY
from support.postgres import PostgresServer
from support.redis import RedisServer

__all__ = ["billing_api", "connected", "enrolled"]
pytestmark = pytest.mark.services
TELEMETRY = "/api/v1/telemetry"


def seats(*cameras: str) -> list[Seat]:
    return [Seat(camera, "hw-1", CameraMode.BASE, ()) for camera in cameras]


async def validate(api: Api, camera: str) -> tuple[bool, str]:
    answer = await api.http.post(f"/api/v1/license/validate/{camera}", headers=SERVICE)
    assert answer.status_code == 200, answer.text
    return answer.json()["valid"], answer.json()["tier"]


async def send(api: Api, camera: str = "cam-1") -> int:
    body = {
        "cameraId": camera,
        "events": [{"kind": "detection", "occurredAt": datetime.now(UTC).isoformat()}],
    }
    return (await api.http.post(TELEMETRY, headers=device("hw-1"), json=body)).status_code


async def test_what_another_replica_put_into_redis_or_postgres_is_found(
    site: Site, tmp_path: Path
) -> None:
    site.install(sequence=7, seats=seats("cam-1"))
    # The second replica has a directory of its own, so that only the tiers can tell it.
    own = tmp_path / "own"
    async with (
        running_app(site, watch_seconds=60) as one,
        running_app(site, watch_seconds=60, license_dir=own) as two,
    ):
        await eventually(lambda: len(two.instance.license.first_devices) == 3)
        site.install(sequence=8, seats=seats("cam-1", "cam-2"))
        await one.instance.license.look_into_directory()
        assert await validate(two, "cam-2") == (True, "redis")
        assert await validate(two, "cam-2") == (True, "memory")
        site.redis_url = "redis://127.0.0.1:1/0"
        site.install(sequence=9, seats=seats("cam-1", "cam-2", "cam-3"))
        async with running_app(site, watch_seconds=60) as three:
            assert await validate(three, "cam-3") == (True, "memory")
        two.instance.cache._rest(ConnectionError("rest"))
        assert await validate(two, "cam-3") == (True, "postgres")


async def test_a_forged_entry_in_redis_gains_nothing(site: Site, redis_server: RedisServer) -> None:
    site.install(sequence=7, seats=seats("cam-1"))
    async with running_app(site) as api:
        key = f"brinkbyte:{CUSTOMER}:documents"
        with redis_server.client() as client:
            client.hset(key, mapping={"seats": "forged", "seats:sequence": "99"})
            client.hset(key, mapping={"license": b"\xff\xfe", "license:sequence": "99"})
        assert (await validate(api, "cam-9"))[0] is False
        assert await validate(api, "cam-1") == (True, "memory")
        assert {item.source for item in api.instance.license.refused} == {"redis"}


async def test_killing_redis_costs_only_speed(site: Site, redis_server: RedisServer) -> None:
    site.install(seats=seats("cam-1"))
    async with running_app(site) as api:
        redis_server.kill()
        try:
            assert await validate(api, "cam-1") == (True, "memory")
            assert (await validate(api, "cam-9"))[0] is False
            assert await send(api) == 201
            site.install(sequence=8, seats=seats("cam-1", "cam-2"))
            await eventually(lambda: api.instance.license.policy().knows("cam-2"))
            assert (await api.http.get("/health/ready")).status_code == 200
            assert api.instance.cache.failures >= 1
            # Not asked again at once: a dead Redis does not cost its time-out a call.
            started = time.perf_counter()
            await api.http.post("/api/v1/license/validate/cam-8", headers=SERVICE)
            assert time.perf_counter() - started < 5
        finally:
            redis_server.start()
        api.instance.cache._rest_until = float("-inf")
        site.install(sequence=9, seats=seats("cam-1"))
        await eventually(lambda: api.instance.license.policy().snapshot.held.seats_sequence == 9)
        with redis_server.client() as client:
            await eventually(
                lambda: client.hget(f"brinkbyte:{CUSTOMER}:documents", "seats:sequence") == b"9"
            )


async def test_without_a_database_licenses_hold_and_writes_are_refused(
    site: Site, postgres_server: PostgresServer
) -> None:
    site.install(seats=seats("cam-1"))
    async with running_app(site) as api:
        postgres_server.stop()
        try:
            assert (await api.http.get("/health/live")).status_code == 200
            ready = await api.http.get("/health/ready")
            assert (ready.status_code, ready.json()["reason"]) == (503, "DatabaseUnavailable")
            answer = await api.http.get("/api/v1/license", headers=SERVICE)
            assert answer.json()["mode"] == "active"
            assert await send(api) == 503
            refused = await api.http.get("/api/v1/cameras", headers=SERVICE)
            assert (refused.status_code, refused.json()["reason"]) == (503, "DatabaseUnavailable")
            assert "whether anything was changed is not known" in refused.json()["detail"]
            assert await validate(api, "cam-1") == (True, "memory")
            started = time.perf_counter()
            assert await validate(api, "cam-1") == (True, "memory")
            assert time.perf_counter() - started < 0.5
            site.install(sequence=8, plan="enterprise", seats=seats("cam-1"))
            await eventually(lambda: api.instance.license.policy().plan == "enterprise")
        finally:
            postgres_server.start()

        async def works() -> bool:
            return await send(api) == 201

        await eventually(works, seconds=30)

        async def kept() -> bool:
            async with api.instance.pool.connection() as connection:
                found = await connection.execute(
                    "SELECT sequence FROM license_documents WHERE kind = 'license'"
                )
                row = await found.fetchone()
            return row is not None and row["sequence"] == 8

        await eventually(kept, seconds=30)


async def test_offline_a_month_everything_goes_on(site: Site) -> None:
    """The line dies right after a document that is 30 days old by now."""
    site.install(start=int(time.time()) - 30 * DAY, seats=seats("cam-1"))
    async with running_app(site) as api:
        assert api.instance.license.stale
        assert await validate(api, "cam-1") == (True, "memory")
        assert await send(api) == 201
        status = (await api.http.get("/api/v1/license/status", headers=SERVICE)).json()
        assert status["refresh"]["stale"] is True
        await eventually(lambda: api.instance.license.last_refresh_error is not None)
        assert api.instance.license.next_refresh_in(1) <= 30
        assert 300 < api.instance.license.next_refresh_in(10) <= 900


async def test_a_clock_turned_back_gains_nothing(site: Site) -> None:
    site.install(start=int(time.time()) - 52 * DAY - 3600)
    async with running_app(site) as api:
        assert api.instance.license.policy().decision.mode == "expired"
        service = api.instance.license
        true_wall = service.clock.wall
        # Ten hours of running are kept, then the clock goes back by half a year.
        service.clock.merge(ClockState(signed_time=int(true_wall()), running_seconds=36_000))
        await service.save_clock()
        assert service.now() >= int(true_wall()) + 36_000 - 5
    async with running_app(site) as api:
        service = api.instance.license
        service.clock.wall = lambda: true_wall() - 180 * DAY
        assert service.now() > time.time() + 30_000
        assert service.policy().decision.mode == "expired"


# The real billing API.


async def _inventory(site: Site, billing: BillingApi, *cameras: str) -> None:
    async with client_of(site, billing) as client:
        answer = await client.put_inventory(
            InventoryRequest(
                devices=(
                    InventoryDevice(
                        hardware_id="hw-1",
                        name="ns.edge-1",
                        uid="u-1",
                        management_tier="basic",
                        created_at=int(time.time()),
                    ),
                ),
                cameras=tuple(
                    InventoryCamera(
                        camera_id=camera,
                        name=f"ns.{camera}",
                        uid=f"u-{camera}",
                        hardware_id="hw-1",
                        mode=CameraMode.BASE,
                        created_at=int(time.time()),
                    )
                    for camera in cameras
                ),
            )
        )
    assert {camera.status for camera in answer.cameras} <= {"issued", "unchanged"}


@pytest.fixture
def nothing_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run no background job: a refresh happens when the test asks for it, and at no other time."""
    monkeypatch.setattr(Background, "running", lambda _self: contextlib.nullcontext())


@pytest.mark.usefixtures("nothing_by_itself")
async def test_the_fourth_tier_brings_the_license_and_each_new_camera(
    connected: Api, enrolled: Site, billing_api: BillingApi
) -> None:
    service = connected.instance.license
    assert service.stale
    await Background(connected.instance).watch()
    assert await service.refresh() is True
    assert service.policy().decision.mode == "active"
    assert not service.stale
    service._asked_billing = float("-inf")
    await _inventory(enrolled, billing_api, "cam-1")
    assert await validate(connected, "cam-1") == (True, "billing")
    assert await validate(connected, "cam-1") == (True, "memory")
    assert await send(connected) == 201
    # An unknown camera does not make us ask again and again.
    asked = service._asked_billing
    assert (await validate(connected, "cam-7"))[0] is False
    assert (await validate(connected, "cam-8"))[0] is False
    assert service._asked_billing == asked
    # The billing API goes; what is held goes on, also after a restart.
    billing_api.stop()
    assert await validate(connected, "cam-1") == (True, "memory")
    assert await send(connected) == 201
    assert await service.refresh() is False
    assert service.last_refresh_error is not None
    assert service.last_refresh_error.reason == "BillingUnreachable"
    roots = load_roots(billing_api.roots.read_text())
    async with running_app(enrolled, roots=roots) as restarted:
        assert await validate(restarted, "cam-1") == (True, "memory")


@pytest.mark.usefixtures("nothing_by_itself")
async def test_an_answer_under_way_is_waited_for_though_billing_was_just_asked(
    connected: Api, enrolled: Site, billing_api: BillingApi
) -> None:
    """Who needs a new camera while the heartbeat asks does not hear that it is unknown."""
    service = connected.instance.license
    assert await service.refresh() is True
    await _inventory(enrolled, billing_api, "cam-1")
    asking = asyncio.create_task(service.refresh())
    await asyncio.sleep(0)
    assert await validate(connected, "cam-1") == (True, "billing")
    assert await asking is True


async def test_refreshes_at_once_share_one_request_and_304_changes_nothing(
    connected: Api, billing_api: BillingApi
) -> None:
    service = connected.instance.license
    await eventually(lambda: service.confirmed_at is not None)
    before = service.snapshot
    assert await asyncio.gather(*(service.refresh() for _ in range(8))) == [True] * 8
    assert service.snapshot is before
    assert 0.8 * service.refresh_after < service.next_refresh_in(0) <= service.refresh_after


async def test_a_heartbeat_is_sent_and_a_revoked_license_arrives(
    connected: Api, enrolled: Site, billing_api: BillingApi
) -> None:
    service = connected.instance.license
    await eventually(lambda: service.policy().decision.mode == "active")
    async with client_of(enrolled, billing_api) as client:
        assert await client.tokens(service.snapshot.held) is None
    billing_api.administer(lambda admin: admin.revoke(CUSTOMER, reason="test"))
    await Background(connected.instance).heartbeat()
    await service.refresh()
    assert service.policy().decision.mode == "revoked"


async def test_many_unknown_cameras_at_once_share_one_look(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install(seats=seats("cam-1"))
    async with running_app(site) as api:
        service, cache = api.instance.license, api.instance.cache
        look, looks = cache.newer, []

        async def counted(held: dict[TokenKind, int]) -> dict[TokenKind, str]:
            looks.append(1)
            await asyncio.sleep(0.05)
            return await look(held)

        monkeypatch.setattr(cache, "newer", counted)
        answers = await asyncio.gather(*(validate(api, f"new-{each}") for each in range(40)))
        assert {answer[0] for answer in answers} == {False}
        assert len(looks) == 1
        service._found_nothing = service._monotonic()
        # Nor does one after the other, for a moment; and what was not there is remembered.
        assert await validate(api, "new-99") == (False, "none")
        assert await validate(api, "new-1") == (False, "memory")
        assert len(looks) == 1


async def test_a_look_for_one_camera_that_found_it_is_not_the_end_for_another(
    site: Site, tmp_path: Path
) -> None:
    """The first look ends at Redis; what came into PostgreSQL meanwhile is found all the same."""
    site.install(sequence=7, seats=seats("cam-1"))
    own = tmp_path / "own"
    async with (
        running_app(site, watch_seconds=60) as one,
        running_app(site, watch_seconds=60, license_dir=own) as two,
    ):
        site.install(sequence=8, seats=seats("cam-1", "cam-2"))
        await one.instance.license.look_into_directory()
        one.instance.cache._rest(ConnectionError("rest"))
        site.install(sequence=9, seats=seats("cam-1", "cam-2", "cam-3"))
        await one.instance.license.look_into_directory()
        found = await asyncio.gather(validate(two, "cam-2"), validate(two, "cam-3"))
        assert [answer[0] for answer in found] == [True, True]
