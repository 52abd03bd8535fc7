"""``Idempotency-Key``: the work once, the first answer again, whatever happens between."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from brinkbyte.billing.api_keys import repository as api_keys
from services.billing.conftest import Billing
from services.billing.people import person
from services.billing.site import Site, reason
from support.billing import CUSTOMER
from support.billing import DEFAULT_TERMS as TERMS

KEYS = f"/api/v1/admin/customers/{CUSTOMER}/keys"
MADE = "SELECT * FROM credentials WHERE kind = 'tenant'"


def keyed(key: str) -> dict[str, str]:
    return {"idempotency-key": key}


async def test_the_same_call_again_gets_the_first_answer_with_its_secret(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    first = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("order-1"))
    again = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("order-1"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert len(billing.query(MADE)) == 1
    assert len(billing.query("SELECT 1 FROM audit_log WHERE action = 'api_key.created'")) == 1
    stored = billing.query("SELECT * FROM own_idempotent_answers")
    for secret in (first.json()["secret"], "order-1", "erp"):
        assert secret.encode() not in bytes(stored[0]["answer"]) + bytes(stored[0]["key_hash"])
    # Another key, another one.
    other = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("order-2"))
    assert other.json()["secret"] != first.json()["secret"]


async def test_a_key_with_another_request_is_refused(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    await billing.customer("other")
    await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k"))
    for path, body in (
        (KEYS, {"name": "another"}),
        (KEYS.replace(CUSTOMER, "other"), {"name": "erp"}),
        (f"{KEYS}?x=1", {"name": "erp"}),
    ):
        answer = await vendor.post(path, json=body, headers=keyed("k"))
        assert reason(answer) == (422, "IdempotencyKeyReused")
    new = {"customerId": "new", "name": "New"}
    assert reason(await vendor.post("/api/customers", json=new, headers=keyed("k"))) == (
        422,
        "IdempotencyKeyReused",
    )
    assert len(billing.query(MADE)) == 1
    assert len(billing.query("SELECT 1 FROM billing_customers")) == 2


async def test_each_credential_has_its_own_keys(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k"))
    async with person(billing, vendor) as owner:
        for _ in range(2):
            answer = await owner.call(
                "POST", "/api/billing/keys", json={"name": "own"}, headers=keyed("k")
            )
            assert answer.json()["name"] == "own"
    assert len(billing.query(MADE)) == 2
    (row,) = billing.query("SELECT * FROM idempotent_answers")
    assert row["tenant_id"] == CUSTOMER


async def test_of_calls_at_once_one_works_and_all_get_its_answer(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    answers = await asyncio.gather(
        *(vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k")) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["secret"] for answer in answers}) == 1
    assert len(billing.query(MADE)) == 1


async def test_one_that_takes_too_long_is_not_waited_for(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brinkbyte.billing.idempotency.WAIT", "200ms")
    entered, leave = asyncio.Event(), asyncio.Event()
    insert = api_keys.insert

    async def slow(*arguments: Any, **more: Any) -> Any:
        entered.set()
        await leave.wait()
        return await insert(*arguments, **more)

    monkeypatch.setattr(api_keys, "insert", slow)
    first = asyncio.create_task(vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k")))
    await entered.wait()
    second = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k"))
    assert reason(second) == (409, "CallInProgress")
    assert second.headers["retry-after"] == "5"
    leave.set()
    assert (await first).status_code == 201


async def test_a_call_that_failed_leaves_its_key_free(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = api_keys.insert

    async def dies_after(*arguments: Any, **more: Any) -> Any:
        await insert(*arguments, **more)
        raise RuntimeError("killed")

    monkeypatch.setattr(api_keys, "insert", dies_after)
    answer = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k"))
    assert reason(answer) == (500, "InternalError")
    assert billing.query(MADE) == []
    assert billing.query("SELECT 1 FROM own_idempotent_answers") == []
    monkeypatch.setattr(api_keys, "insert", insert)
    answer = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k"))
    assert answer.status_code == 201
    missing = KEYS.replace(CUSTOMER, "nobody")
    for _ in range(2):
        answer = await vendor.post(missing, json={"name": "erp"}, headers=keyed("m"))
        assert reason(answer) == (404, "UnknownCustomer")


async def test_answers_are_kept_for_48_hours(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    for number in range(3):
        await vendor.post(KEYS, json={"name": "erp"}, headers=keyed(f"k{number}"))
    billing.clock.advance(hours=47.9)
    again = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k0"))
    assert again.headers["idempotent-replay"] == "true"
    billing.clock.advance(hours=0.2)
    new = await vendor.post(KEYS, json={"name": "erp"}, headers=keyed("k0"))
    assert new.json()["keyId"] != again.json()["keyId"]
    # What is too old has gone with it.
    assert len(billing.query("SELECT 1 FROM own_idempotent_answers")) == 1


async def test_a_key_that_is_none_is_refused(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    for key in ("", "a b", "x" * 256, "\u00e9"):
        headers: Any = {b"idempotency-key": key.encode("latin-1")}
        answer = await vendor.post(KEYS, json={"name": "erp"}, headers=headers)
        assert reason(answer) == (422, "InvalidRequest"), key
    assert billing.query(MADE) == []


async def test_a_customer_is_created_once(vendor: httpx.AsyncClient, billing: Billing) -> None:
    body = {"customerId": "new", "name": "New"}
    first = await vendor.post("/api/customers", json=body, headers=keyed("c"))
    billing.clock.advance(seconds=5)
    again = await vendor.post("/api/customers", json=body, headers=keyed("c"))
    assert first.json() == again.json()
    assert again.headers["idempotent-replay"] == "true"


async def test_what_a_customer_makes_is_made_once(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    await billing.customer(CUSTOMER)
    webhook = {"channel": "webhook", "address": "https://example.com/told"}
    email = {"channel": "email", "address": "olive@example.com"}
    own = "/api/billing/notifications/targets"
    async with person(billing, vendor) as owner:
        calls = (
            (owner.call, "/api/billing/subscription", {"plans": {"platform": "free"}}),
            (owner.call, "/api/billing/cost-alerts", {"amount": "100"}),
            (owner.call, own, webhook),
            (vendor.request, f"/api/v1/admin/customers/{CUSTOMER}/notifications/targets", email),
            (vendor.request, "/api/subscriptions", {"customerId": CUSTOMER, "terms": TERMS}),
        )
        for number, (call, path, body) in enumerate(calls):
            key = keyed(f"order-{number}")
            first = await call("POST", path, json=body, headers=key)
            assert first.is_success, first.text
            billing.clock.advance(seconds=5)
            before = billing.query("SELECT count(*) AS count FROM audit_log")
            again = await call("POST", path, json=body, headers=key)
            assert (again.status_code, again.json()) == (first.status_code, first.json()), path
            assert again.headers["idempotent-replay"] == "true"
            assert billing.query("SELECT count(*) AS count FROM audit_log") == before, path
        made = (await owner.call("POST", own, json=webhook, headers=keyed("order-2"))).json()
        rolled = [
            await owner.call("POST", f"{own}/{made['id']}/roll-secret", headers=keyed("roll"))
            for _ in range(2)
        ]
    assert rolled[0].json() == rolled[1].json()
    assert rolled[0].json()["secret"] != made["secret"]
    stored = billing.query("SELECT answer FROM idempotent_answers")
    assert len(stored) == 4
    assert not any(b"whsec_" in bytes(row["answer"]) for row in stored)
