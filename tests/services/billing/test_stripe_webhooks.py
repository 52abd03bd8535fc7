"""Deliveries: signed, stored before the answer, worked on once; and states that come back."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI

from brinkbyte.billing.migrate import API
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks
from services.billing.collecting import Collecting, collecting
from services.billing.conftest import Billing
from support.billing import CUSTOMER
from support.stripe_server import WEBHOOK_SECRET, StripeServer, signed, stripe_server

PATH = "/api/billing/webhooks/stripe"
FIRST, SECOND = WEBHOOK_SECRET, "whsec_second"


def hears(billing: Billing, *secrets: str) -> None:
    """Let the server know these signing secrets, as a restart with other settings does."""
    object.__setattr__(billing.context, "webhooks", StripeWebhooks(secrets, billing.clock))


@pytest.fixture
def stripe(billing: Billing) -> Iterator[StripeServer]:
    hears(billing, FIRST)
    with stripe_server(billing.clock) as server:
        yield server


@pytest.fixture
async def worker(billing: Billing, stripe: StripeServer) -> AsyncIterator[Collecting]:
    async with collecting(billing, stripe) as worker:
        await worker.payer()
        # The first fetch of events is over; the next is an hour away.
        await worker.run()
        yield worker


async def deliver(billing: Billing, stripe: StripeServer, **how: Any) -> int:
    """Deliver what waits; every delivery is taken in."""
    deliveries = stripe.deliveries(**how)
    for body, headers in deliveries:
        answer = await billing.http.post(PATH, content=body, headers=headers)
        assert answer.status_code == 204, answer.text
    return len(deliveries)


def event(**changed: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "type": "invoice.paid",
        "created": 1_800_000_000,
        "data": {"object": {"id": "in_1", "object": "invoice"}},
        **changed,
    }


def inbox(billing: Billing) -> list[dict[str, Any]]:
    return billing.query("SELECT * FROM webhook_events ORDER BY event_id")


async def test_payment_is_taken_in_at_the_next_run(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice([500])
    await worker.run()
    await deliver(billing, stripe)
    await worker.run()
    assert worker.payments.told == []
    billing.clock.advance(seconds=40)
    stripe.account.pay(worker.row(key)["provider_ref"])
    paid_at = billing.clock.now
    await deliver(billing, stripe)
    billing.clock.advance(seconds=300)
    assert (await worker.run()).read == 1
    assert worker.payments.told == [("paid", key)]
    assert abs(worker.row(key)["paid_at"].timestamp() - paid_at) <= 1
    await worker.run()
    assert worker.payments.told == [("paid", key)]
    assert {row["outcome"] for row in inbox(billing)} == {"read", "not_ours"}


async def test_nothing_of_a_customer_s_is_kept(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    worker.invoice([500])
    await worker.run()
    await deliver(billing, stripe)
    kept = json.dumps(inbox(billing), default=str)
    assert "cus_" in kept  # ids only
    assert "acme" not in kept
    assert "example" not in kept


async def test_lost_deliveries_are_fetched_within_the_hour(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice([500])
    await worker.run()
    billing.clock.advance(seconds=60)
    stripe.account.pay(worker.row(key)["provider_ref"])
    await worker.run()
    assert worker.payments.told == []
    billing.clock.advance(hours=1)
    await worker.run()
    assert worker.payments.told == [("paid", key)]
    assert {row["fetched"] for row in inbox(billing)} == {True}
    before = len(inbox(billing))
    # What comes late after all is there already.
    await deliver(billing, stripe)
    assert len([row for row in inbox(billing) if row["kind"] == "invoice.paid"]) == 1
    assert len(inbox(billing)) > before  # kinds that are not fetched


async def test_fetching_goes_on_where_it_ended_after_an_outage(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice([500])
    await worker.run()
    billing.clock.advance(days=3)
    stripe.account.pay(worker.row(key)["provider_ref"])
    stripe.fail_all = "reset"
    billing.clock.advance(days=2)
    assert (await worker.run()).failed == 1
    stripe.fail_all = None
    billing.clock.advance(hours=1.1)
    await worker.run()
    assert worker.payments.told == [("paid", key)]
    [row] = [row for row in inbox(billing) if row["kind"] == "invoice.paid"]
    assert row["fetched"]


@pytest.mark.parametrize("seed", range(3))
async def test_late_twice_and_out_of_order_is_harmless(
    billing: Billing, worker: Collecting, stripe: StripeServer, seed: int
) -> None:
    """Old news ("open", "payment failed") comes after the payment, several times."""
    order = random.Random(seed)
    keys = [worker.invoice([100 + n]) for n in range(3)]
    await worker.run()
    first, second, third = (worker.row(key)["provider_ref"] for key in keys)
    stripe.account.fail_payment(first)
    stripe.account.pay(first)
    stripe.account.fail_payment(second)
    stripe.account.write_off(third)
    billing.clock.advance(seconds=order.choice([0, 3000]))
    sent = await deliver(billing, stripe, order=order, twice=True)
    await worker.run()
    await worker.run()
    assert sorted(worker.payments.told) == sorted([("paid", keys[0]), ("failed", keys[2])])
    assert len(inbox(billing)) == sent // 2
    assert all(row["processed_at"] for row in inbox(billing))


async def test_unpaid_invoice_is_told_of_when_it_is_due_and_again_when_paid(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice([500], due_days=10)
    await worker.run()
    billing.clock.advance(days=9.9)
    await worker.run()
    assert worker.payments.told == []
    billing.clock.advance(hours=3)
    await worker.run()
    assert worker.payments.told == [("failed", key)]
    stripe.account.pay(worker.row(key)["provider_ref"])
    billing.clock.advance(hours=1.1)
    await worker.run()
    assert worker.payments.told == [("failed", key), ("paid", key)]


async def test_void_invoice_is_voided_at_stripe(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice([500])
    await worker.run()
    reference = worker.row(key)["provider_ref"]
    billing.query("UPDATE invoices SET status = 'void' WHERE invoice_id = %s", key)
    billing.clock.advance(hours=1.1)
    stripe.fail("reset_after", after=2)
    await worker.run()
    assert stripe.calls[-1].endswith("/void")
    billing.clock.advance(hours=1.1)
    await worker.run()
    assert stripe.account.invoices[reference]["status"] == "void"
    assert worker.row(key)["state"] == "void"
    calls = len(stripe.calls)
    billing.clock.advance(seconds=600)
    await worker.run()
    assert len(stripe.calls) == calls


async def test_copy_voided_by_hand_is_an_alarm(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice([500])
    await worker.run()
    stripe.account.void(worker.row(key)["provider_ref"])
    await deliver(billing, stripe)
    await worker.run()
    assert worker.row(key)["alarm"] == "StatesDiffer"
    assert worker.payments.told == []


# ---- signatures ----------------------------------------------------------------------------------


async def test_roll_of_signing_secrets(billing: Billing, stripe: StripeServer) -> None:
    body = json.dumps(event()).encode()

    async def sent(*secrets: str) -> int:
        body_, headers = signed(body, secrets, billing.clock.now)
        answer = await billing.http.post(PATH, content=body_, headers=headers)
        return answer.status_code

    assert [await sent(FIRST), await sent(SECOND), await sent(FIRST, SECOND)] == [204, 400, 204]
    hears(billing, FIRST, SECOND)
    assert [await sent(FIRST), await sent(SECOND), await sent("whsec_third")] == [204, 204, 400]
    hears(billing, SECOND)
    assert [await sent(FIRST), await sent(SECOND), await sent(FIRST, SECOND)] == [400, 204, 204]
    assert len(inbox(billing)) == 1


async def test_forged_and_replayed_deliveries_store_nothing(
    billing: Billing, stripe: StripeServer
) -> None:
    body, good = signed(json.dumps(event()).encode(), [FIRST], billing.clock.now)
    value = good["Stripe-Signature"]

    async def sent(content: bytes, signature: str | None) -> tuple[int, str]:
        headers = {} if signature is None else {"Stripe-Signature": signature.encode("latin-1")}
        answer = await billing.http.post(PATH, content=content, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["reason"]

    forged = (400, "InvalidSignature")
    assert await sent(body, None) == forged
    assert await sent(body.replace(b"in_1", b"in_2"), value) == forged
    assert await sent(body + b" ", value) == forged
    assert await sent(body, signed(body, ["guess"], billing.clock.now)[1]["Stripe-Signature"]) == (
        forged
    )
    assert await sent(body, value.replace("v1=", "v0=")) == forged
    later = value.replace(f"t={billing.clock.now}", f"t={billing.clock.now + 1}")
    assert later == value or await sent(body, later) == forged
    for nonsense in ("", "t=", "t=1", "v1=a", "t=x,v1=a", "t=²,v1=a", "t=1,v1=é", "t=9" + "9" * 99):
        assert await sent(body, nonsense) == forged
    for at in (-301, 301):
        _, stale = signed(body, [FIRST], billing.clock.now + at)
        assert await sent(body, stale["Stripe-Signature"]) == (400, "StaleDelivery")
    assert inbox(billing) == []


NONSENSE = [
    b"",
    b"[]",
    b"null",
    b"{",
    b"[" * 100_000,
    b"\xff",
    json.dumps(event(id=7)).encode(),
    json.dumps(event(id="evt\0")).encode(),
    json.dumps(event(type="x" * 300)).encode(),
    json.dumps(event(created=None)).encode(),
    json.dumps(event(created=True)).encode(),
    json.dumps(event(created=10**30)).encode(),
    json.dumps(event(created=-1)).encode(),
    json.dumps(event(data=[])).encode(),
    json.dumps(event(data={"object": "in_1"})).encode(),
]


async def test_signed_nonsense_is_refused(billing: Billing, stripe: StripeServer) -> None:
    for body in NONSENSE:
        content, headers = signed(body, [FIRST], billing.clock.now)
        answer = await billing.http.post(PATH, content=content, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (400, "InvalidDelivery"), body
    assert inbox(billing) == []


async def test_body_that_is_too_long(billing: Billing, stripe: StripeServer) -> None:
    body, headers = signed(b"x" * (1024 * 1024 + 1), [FIRST], billing.clock.now)
    answer = await billing.http.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (413, "BodyTooLarge")


async def test_without_a_secret_nothing_is_taken_in(billing: Billing) -> None:
    assert billing.context.webhooks is None
    body, headers = signed(json.dumps(event()).encode(), [""], billing.clock.now)
    answer = await billing.http.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (503, "WebhooksNotConfigured")


def test_endpoint_is_described(billing: Billing) -> None:
    app: FastAPI = billing.http._transport.app  # type: ignore[attr-defined]  # in this process
    assert "400" in app.openapi()["paths"][PATH]["post"]["responses"]


async def test_api_role_puts_into_the_inbox_and_reads_nothing(
    billing: Billing, worker: Collecting
) -> None:
    worker.invoice([5])
    await worker.run()
    with psycopg.connect(billing.dsn(API), autocommit=True) as connection:
        for statement in (
            "SELECT * FROM webhook_events",
            "SELECT event_id FROM webhook_events",
            "INSERT INTO webhook_events (provider, event_id, kind, object_id, created_at, "
            "received_at) VALUES ('stripe', 'e', 'k', 'o', now(), now()) RETURNING event_id",
            "UPDATE webhook_events SET outcome = 'read'",
            "DELETE FROM webhook_events",
            "SELECT * FROM provider_cursors",
            "UPDATE provider_invoices SET checked_at = NULL",
            "INSERT INTO webhook_events (provider, event_id, kind, object_id, created_at, "
            "received_at, processed_at) VALUES ('stripe', 'e', 'k', 'o', now(), now(), now())",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)  # type: ignore[arg-type]  # literals
        assert connection.execute("SELECT * FROM provider_invoices").fetchall() == []
    assert billing.query("SELECT tenant_id FROM invoices") == [{"tenant_id": CUSTOMER}]
