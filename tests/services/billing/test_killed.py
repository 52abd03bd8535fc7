"""The server is killed at every named point; the retry finishes the work, nothing happens twice."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from brinkbyte.license.keys import PublicJwk, load_roots, verify_key_set
from brinkbyte.metering.batches import verify_receipt
from services.billing.site import Site, camera, device
from support.billing import (
    CUSTOMER,
    DEFAULT_TERMS,
    BillingApi,
    new_billing_api,
    remove_billing_api,
)
from support.campaign_plan import some
from support.postgres import PostgresServer, running_postgres


@pytest.fixture
def api(postgres_server: PostgresServer) -> Iterator[BillingApi]:
    api = new_billing_api(postgres_server)
    try:
        api.create_customer(CUSTOMER, DEFAULT_TERMS)
        yield api
    finally:
        remove_billing_api(api)


@pytest.fixture
async def site(api: BillingApi) -> AsyncIterator[Site]:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as http:
        yield Site(http, CUSTOMER, time.time)


def keys_of(api: BillingApi) -> dict[str, PublicJwk]:
    roots = load_roots(api.roots.read_bytes())
    document = (api.keys / "jwks.json").read_bytes()
    return dict(verify_key_set(document, roots, now=int(time.time())).keys)


async def killed(api: BillingApi, point: str, call: Any) -> None:
    """Run a call against a server that dies at the point, then bring the server back."""
    api.stop()
    api.start(BRINKBYTE_FAILPOINT=point)
    with pytest.raises(httpx.TransportError):
        await call()
    api.wait_killed()
    api.start()


@pytest.mark.parametrize("point", ["enroll.before_commit", "enroll.committed"])
async def test_enrollment_is_finished_by_its_retry(api: BillingApi, site: Site, point: str) -> None:
    token = api.enrollment_token()
    await killed(api, point, lambda: site.enroll(token))
    first = await site.enroll(token)
    again = await site.enroll(token)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["instanceId"] == again.json()["instanceId"]
    rows = api.administer(lambda admin: admin.list_instances())
    assert len(rows) == 1
    assert (await site.tokens()).status_code == 200


@pytest.mark.soak
@pytest.mark.parametrize(
    "point",
    some(["issue.signed:1", "issue.signed:2", "inventory.before_commit", "inventory.committed"], 2),
)
async def test_inventory_is_finished_by_its_retry(api: BillingApi, site: Site, point: str) -> None:
    api.start()
    await site.enroll(api.enrollment_token())
    sent = [device(1), device(2)], [camera(n) for n in range(5)]
    await killed(api, point, lambda: site.put(*sent))
    answer = await site.inventory(*sent)
    assert {c["status"] for c in answer["cameras"]} == {"issued"}
    assert answer["cameraUse"]["used"] == 5
    again = await site.inventory(*sent)
    assert {c["status"] for c in again["cameras"]} == {"unchanged"}
    assert [c["seat"] for c in again["cameras"]] == [c["seat"] for c in answer["cameras"]]


@pytest.mark.soak
@pytest.mark.parametrize(
    "point",
    some(["ingest.copied", "issue.signed", "ingest.before_commit", "ingest.committed"], 2),
)
async def test_batch_is_in_the_ledger_once_after_its_retry(
    api: BillingApi, site: Site, point: str
) -> None:
    api.start()
    await site.enroll(api.enrollment_token())
    batches = []
    for number in range(3):
        batch = site.seal([site.event(key=f"k{number}-{n}") for n in range(50)])
        if number == 1:
            await killed(api, point, lambda batch=batch: site.send(batch))
        answer = await site.send(batch)
        assert answer.status_code == 200, answer.text
        claims = verify_receipt(
            answer.json()["receipt"], batch.header, keys_of(api), now=int(time.time())
        )
        assert claims.quarantined == ()
        site.batch_no, site.last_hash = batch.header.batch_no, batch.header.chain_hash
        batches.append(answer.json()["receipt"])
    ledger = api.ledger()
    assert sorted(event["key"] for event in ledger["events"]) == sorted(
        f"k{number}-{n}" for number in range(3) for n in range(50)
    )
    assert [batch["receipt"] for batch in ledger["batches"]] == batches
    assert ledger["quarantined"] == []
    usage, _ = api.administer(lambda admin: admin.cost(CUSTOMER))
    assert usage.used["vision.api_calls"] == 150


async def test_database_that_crashes_is_a_503_and_heals() -> None:
    with running_postgres() as server:
        api = new_billing_api(server)
        try:
            api.create_customer(CUSTOMER, DEFAULT_TERMS)
            api.start()
            async with httpx.AsyncClient(base_url=api.url, timeout=30) as http:
                site = Site(http, CUSTOMER, time.time)
                await site.enroll(api.enrollment_token())
                server.kill()
                assert (await http.get("/health")).status_code == 503
                answer = await site.tokens()
                assert answer.status_code == 503
                assert answer.headers["retry-after"]
                server.start()
                deadline = time.monotonic() + 60
                while (await site.tokens()).status_code != 200:
                    assert time.monotonic() < deadline
                assert (await http.get("/health")).status_code == 200
        finally:
            api.stop()
            shutil.rmtree(api.directory)
