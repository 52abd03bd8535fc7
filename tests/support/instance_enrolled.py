"""An instance that is enrolled at a real billing API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from brinkbyte.client import BillingClient
from brinkbyte.license.keys import load_roots
from support.billing import BillingApi
from support.instance_api import Api, running_app
from support.instance_site import Site, volume
from support.licensing import CUSTOMER, vendor
from support.metering_real import enroll


@pytest.fixture
def enrolled(site: Site, billing_api: BillingApi) -> Site:
    """A site that is enrolled at a real billing API and holds nothing yet."""
    enrollment = asyncio.run(enroll(billing_api, CUSTOMER, vendor().instance_key))
    volume(
        site.root / "identity",
        {
            "instance-id": enrollment.instance_id,
            "credential": enrollment.credential,
            "private-key.pem": vendor().instance_key.to_pem().decode(),
            "billing-url": billing_api.url,
            "cluster-fingerprint": "cluster-1",
        },
    )
    return site


@pytest.fixture
async def connected(enrolled: Site, billing_api: BillingApi) -> AsyncIterator[Api]:
    async with running_app(enrolled, roots=load_roots(billing_api.roots.read_text())) as api:
        yield api


def client_of(site: Site, billing: BillingApi) -> BillingClient:
    secret = (site.root / "identity" / "credential").read_text()
    return BillingClient(billing.url, lambda: secret)
