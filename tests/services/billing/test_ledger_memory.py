"""The API's memory stays flat while batches come in: seconds here, ten minutes at full size."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import httpx
import pytest

from services.billing.site import Site
from support.billing import BillingApi
from support.campaign_plan import soaking

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
WARM_UP: Final = 40


def resident(api: BillingApi) -> float:
    """Return the megabytes of the server's process."""
    return int(Path(f"/proc/{api.pid}/statm").read_text().split()[1]) * PAGE / 1e6


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_memory_is_flat_while_batches_come_in(billing_api: BillingApi) -> None:
    async with httpx.AsyncClient(base_url=billing_api.url, timeout=30) as http:
        site = Site(http, "acme", time.time)
        assert (await site.enroll(billing_api.enrollment_token())).status_code == 201

        async def batch() -> None:
            # Every tenth is half bad: what is set aside must not pile up either.
            meter = "vision.nonsense" if site.batch_no % 10 == 9 else "vision.api_calls"
            events = [site.event(camera_id=f"cam-{n % 20}") for n in range(100)]
            events += [site.event(meter=meter, key=f"{site.batch_no}-{n}") for n in range(100)]
            sealed = site.seal(events)
            assert (await site.send(sealed)).status_code == 200
            site.batch_no, site.last_hash = sealed.header.batch_no, sealed.header.chain_hash

        for _ in range(WARM_UP):
            await batch()
        before = resident(billing_api)
        end = time.monotonic() + (600 if soaking() else 3)
        while time.monotonic() < end:
            await batch()
        assert resident(billing_api) < before * 1.1 + 4
