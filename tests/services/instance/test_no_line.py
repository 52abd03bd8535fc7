"""An instance of a site without a line: licensed from its directory, and nobody is asked."""

from __future__ import annotations

import time

import pytest

from brinkbyte.instance.background import Background
from brinkbyte.license.claims import CameraMode
from brinkbyte.license.seats import Seat
from support.instance_api import SERVICE, running_app
from support.instance_site import Site, volume
from support.licensing import DAY, INSTANCE, vendor

pytestmark = pytest.mark.services


def identity(site: Site, **files: str) -> None:
    volume(
        site.root / "identity",
        {
            "private-key.pem": vendor().instance_key.to_pem().decode(),
            "cluster-fingerprint": "cluster-1",
            "air-gap": "true",
            **files,
        },
    )


async def test_a_bundles_documents_are_all_it_needs(site: Site) -> None:
    identity(site)
    async with running_app(site, watch_seconds=60) as api:
        service = api.instance.license
        # Before the bundle there is not even an instance id.
        assert (await api.http.get("/api/v1/license", headers=SERVICE)).json()["mode"] == (
            "unlicensed"
        )
        identity(site, **{"instance-id": INSTANCE})
        site.install(sequence=7, seats=[Seat("cam-1", "hw-1", CameraMode.BASE, ())])
        await service.look_into_directory()
        assert (await api.http.get("/api/v1/license", headers=SERVICE)).json()["mode"] == "active"
        # Neither a heartbeat nor a refresh goes anywhere, and that is no failure.
        await Background(api.instance).heartbeat()
        assert not await service.refresh()
        status = (await api.http.get("/api/v1/license/status", headers=SERVICE)).json()
        assert status["refresh"]["lastError"] is None
        assert status["refresh"]["stale"] is False
        # Past its end it goes on for the days of grace, and says how it goes on after them.
        until = service.snapshot.license
        assert until is not None
        for days, mode in ((1, "grace"), (8, "expired")):
            service.clock.wall = lambda days=days: float(until.exp + days * DAY)
            found = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
            assert found["mode"] == mode
            assert "import a new bundle" in found["message"]
        assert time.time() < until.exp
