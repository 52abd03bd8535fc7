"""A copy of an instance in another cluster: reported, shown on the Tenant, nothing is cut off."""

from __future__ import annotations

import asyncio

import pytest

from brinkbyte.client import BillingClient
from brinkbyte.license.wire import Heartbeat, HeartbeatAnswer
from brinkbyte.resources import names
from support.billing import CUSTOMER

from .conftest import Site

pytestmark = pytest.mark.cluster
FINE = "DevelopmentTrustRoot"
CAMERAS = ("entry", "exit", "ramp")


def beat_of_a_copy(site: Site) -> HeartbeatAnswer:
    """Send what an instance sends that was copied with its identity."""
    identity = site.cluster.secret(site.namespace, site.name + names.IDENTITY_SUFFIX)
    credential = identity[names.CREDENTIAL_KEY].decode()

    async def send() -> HeartbeatAnswer:
        ca = site.billing.directory / "ca.crt"
        async with BillingClient(site.billing.url, lambda: credential, ca_file=ca) as client:
            return await client.heartbeat(
                Heartbeat(version="1", cluster_fingerprint="another-cluster", key_set_number=1)
            )

    return asyncio.run(send())


def secrets(site: Site) -> dict[str, bytes]:
    return {
        name: site.cluster.secret(site.namespace, name + names.CAMERA_LICENSE_SUFFIX)[
            names.CAMERA_TOKEN_KEY
        ]
        for name in CAMERAS
    }


def test_a_copy_in_another_cluster_is_shown_and_takes_nothing_away(site: Site) -> None:
    site.wait("tenant", "acme", "LicenseValid", "True", FINE, seconds=60)
    held = secrets(site)
    try:
        assert beat_of_a_copy(site).clone_alarm is not None
        (listed,) = site.billing.admin("clones", "list")
        assert (listed["customerId"], listed["reason"]) == (CUSTOMER, "TwoClusters")
        # With the next inventory; nothing else has to happen.
        site.device("gate", site="the east gate")
        shown = site.wait("tenant", "acme", "LicenseValid", "True", "CloneSuspected", seconds=60)
        assert "another-cluster" in shown
        assert site.cluster.ready("tenant", site.namespace, "acme")
        assert all(site.cluster.ready("cameralicense", site.namespace, name) for name in CAMERAS)
        assert secrets(site) == held
    finally:
        site.billing.admin("clones", "acknowledge", "--customer", CUSTOMER, "--note", "a drill")
        site.device("gate")
    site.wait("tenant", "acme", "LicenseValid", "True", FINE, seconds=400)
