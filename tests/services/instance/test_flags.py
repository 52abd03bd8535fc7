"""The vendor's switches, through signed documents, while the instance runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from brinkbyte.billing.customers.schemas import CustomerCreate
from brinkbyte.license.claims import CameraMode, Flags, TokenKind
from brinkbyte.license.seats import Seat
from services.instance.test_inference import SMALL, frame
from services.instance.test_telemetry import batch
from support.billing import BillingApi, billing_api
from support.instance_api import SERVICE, Api, device, eventually, running_app
from support.instance_enrolled import connected, enrolled
from support.instance_site import Site, signed, times
from support.licensing import CUSTOMER, license_claims
from support.triton import TritonServer, running_triton, write_few_models

__all__ = ["billing_api", "connected", "enrolled"]
pytestmark = pytest.mark.services
TELEMETRY = "/api/v1/telemetry"
HOUR = 3600


def switch(site: Site, api: Api, sequence: int, **flags: bool) -> Any:
    """Install a newer license with these switches and wait until it is in force."""
    site.install(sequence=sequence, flags=flags)
    return in_force(api, sequence)


async def in_force(api: Api, sequence: int) -> None:
    service = api.instance.license
    await eventually(
        lambda: (
            service.snapshot.sequence(TokenKind.LICENSE)
            == service.snapshot.sequence(TokenKind.SEATS)
            == sequence
        )
    )


def events(site: Site) -> list[dict[str, Any]]:
    with psycopg.connect(site.dsn, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT event FROM usage_events ORDER BY id").fetchall()
    return [json.loads(row["event"]) for row in rows]


async def validate(api: Api, camera: str) -> dict[str, Any]:
    answer = await api.http.post(f"/api/v1/license/validate/{camera}", headers=SERVICE)
    found: dict[str, Any] = answer.json()
    return found


async def telemetry(api: Api, camera: str) -> httpx.Response:
    return await api.http.post(TELEMETRY, headers=device("hw-1"), json=batch(camera, count=1))


async def metric(api: Api, name: str) -> float:
    text = (await api.http.get("/metrics", headers=SERVICE)).text
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


async def test_validation_off_refuses_nothing_and_tells_everything(api: Api, site: Site) -> None:
    assert (await telemetry(api, "cam-9")).json()["reason"] == "CameraNotLicensed"
    await switch(site, api, 8, licenseValidation=False)
    answer = await validate(api, "cam-9")
    assert (answer["valid"], answer["waived"]) == (True, "CameraNotLicensed")
    assert "boat" in answer["models"]
    assert (await validate(api, "cam-1"))["waived"] is None
    camera = {"cameraId": "cam-2", "pipeline": {"models": ["boat"], "outputs": ["sms"]}}
    made = await api.http.post("/api/v1/cameras", headers=SERVICE, json=camera)
    assert made.status_code == 201, made.text
    unknown = {"cameraId": "cam-3", "pipeline": {"models": ["unicorn"]}}
    made = await api.http.post("/api/v1/cameras", headers=SERVICE, json=unknown)
    assert (made.status_code, made.json()["reason"]) == (422, "UnknownModel")
    assert (await telemetry(api, "cam-9")).status_code == 201
    assert (await telemetry(api, "cam-1")).status_code == 201
    # Whose camera it is has nothing to do with what is licensed.
    assert (await telemetry(api, "cam-2")).json()["reason"] == "CameraNotOnDevice"
    waived = [event["attributes"].get("waived") for event in events(site)]
    assert waived == ["CameraNotLicensed", None]
    status = (await api.http.get("/api/v1/license/status", headers=SERVICE)).json()
    assert status["waived"] == {
        "CameraNotLicensed": 2,
        "ModelNotLicensed": 1,
        "OutputNotLicensed": 1,
    }
    assert await metric(api, 'brinkbyte_instance_waived_refusals_total{reason="Camera') == 2
    await api.instance.license.audit.flush(everything=True)
    with psycopg.connect(site.dsn) as connection:
        rows = connection.execute(
            "SELECT subject, reason, sum(times)::int FROM license_validation_log "
            "WHERE message LIKE 'not refused%' GROUP BY subject, reason ORDER BY subject, reason"
        ).fetchall()
    assert rows == [
        ("cam-2", "ModelNotLicensed", 1),
        ("cam-2", "OutputNotLicensed", 1),
        ("cam-9", "CameraNotLicensed", 2),
    ]
    # On again: as it was, with no restart of anything.
    await switch(site, api, 9)
    assert (await telemetry(api, "cam-9")).json()["reason"] == "CameraNotLicensed"
    assert (await validate(api, "cam-9"))["valid"] is False


async def test_metering_off_writes_no_event_and_does_the_same_work(api: Api, site: Site) -> None:
    await switch(site, api, 8, usageTracking=False)
    headers = device("hw-1", key="untracked")
    body = batch(count=1)
    first = await api.http.post(TELEMETRY, headers=headers, json=body)
    assert (first.status_code, first.json()["eventId"]) == (201, None)
    again = await api.http.post(TELEMETRY, headers=headers, json=body)
    assert again.headers["idempotent-replayed"] == "true"
    assert events(site) == []
    assert await metric(api, "brinkbyte_instance_untracked_calls_total") == 1
    with psycopg.connect(site.dsn) as connection:
        kept = connection.execute("SELECT count(*) FROM telemetry_events").fetchone()
    assert kept == (1,)
    assert (await telemetry(api, "cam-9")).json()["reason"] == "CameraNotLicensed"
    await switch(site, api, 9, usageTracking=True)
    assert (await telemetry(api, "cam-1")).json()["eventId"] == events(site)[0]["id"]


async def test_nobody_else_can_switch(api: Api, site: Site) -> None:
    off = dict.fromkeys(Flags.model_fields, False)
    forged = signed(
        license_claims(**times(int(time.time())), licenseSequence=90, flags=off), TokenKind.LICENSE
    )
    good = site.install(sequence=8)
    said = forged.rpartition(".")[0]
    edited = f"{said}.{good['license.jwt'].rpartition('.')[2]}"
    unsigned = f"{said}."
    service = api.instance.license
    for document in (edited, unsigned):
        site.install(sequence=8, raw={"license.jwt": document})
        await eventually(lambda: service.refused)
        service.audit.refused.clear()
    # Neither the instance's own database, nor a setting of it, has a say.
    with psycopg.connect(site.dsn) as connection:
        connection.execute(
            "UPDATE license_documents SET document = %s, sequence = 99 WHERE kind = 'license'",
            [edited],
        )
    await service.look_into_database()
    assert service.policy().flags == Flags()
    view = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
    assert set(view["flags"].values()) == {True}
    assert (await validate(api, "cam-9"))["valid"] is False


@pytest.fixture
def small_triton(tmp_path: Path) -> Iterator[TritonServer]:
    """A Triton whose repository has four models only: each loaded one is a process."""
    repository = tmp_path / "models"
    write_few_models(repository, {"car", "person", "trolley", "boat"})
    with running_triton(repository) as server:
        yield server


async def test_enforcement_in_triton_off_keeps_every_model_loaded(
    site: Site, small_triton: TritonServer
) -> None:
    site.triton_port = small_triton.port
    small: dict[str, Any] = {
        "base": SMALL, "packs": {}, "seats": [Seat("cam-1", "hw-1", CameraMode.BASE, ())]
    }  # fmt: skip
    site.install(sequence=7, **small)
    async with running_app(site) as api:
        await eventually(lambda: small_triton.ready_models() == {"car", "person"}, seconds=60)
        site.install(sequence=8, flags={"tritonEnforcement": False}, **small)
        everything = {"car", "person", "trolley", "boat"}
        await eventually(lambda: small_triton.ready_models() == everything, seconds=60)
        # What a camera may use is decided as before.
        refused = await api.http.post(
            "/api/v1/cameras/cam-1/infer",
            params={"model": "boat"},
            headers=device("hw-1"),
            content=frame("boat"),
        )
        assert (refused.status_code, refused.json()["reason"]) == (403, "ModelNotLicensed")
        site.install(sequence=9, **small)
        await eventually(lambda: small_triton.ready_models() == {"car", "person"}, seconds=30)


async def test_offline_use_off_holds_while_the_billing_api_signs_it_anew(
    connected: Api, billing_api: BillingApi
) -> None:
    service = connected.instance.license
    await eventually(lambda: service.policy().decision.mode == "active")
    before = service.snapshot.license
    assert before is not None
    billing_api.administer(
        lambda admin: admin.create_customer(
            CustomerCreate(
                customer_id=CUSTOMER, name=before.customer_name, flags=Flags(offline_mode=False)
            )
        )
    )

    async def switched() -> bool:
        # The first may join a request that left before the switch.
        return await service.refresh() and not service.policy().flags.offline_mode

    await eventually(switched)
    held = service.snapshot.license
    assert held is not None
    billing_api.stop()
    now = time.time
    # The line dies: an hour changes nothing, wherever in its refresh the license was.
    service.clock.wall = lambda: held.iat + held.refresh_after + HOUR
    assert not await service.refresh()
    assert service.policy().decision.reason == "LicenseValid"
    service.clock.wall = lambda: held.iat + held.refresh_after + 2 * HOUR
    lost = (await connected.http.get("/api/v1/license", headers=SERVICE)).json()
    assert (lost["mode"], lost["reason"]) == ("expired", "LicenseUnconfirmed")
    assert lost["upgradeUrl"] in lost["message"]
    service.clock.wall = now
    assert service.policy().decision.full
