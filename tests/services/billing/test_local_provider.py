"""The provider that needs no account: payments are recorded by the vendor, and taken in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brinkbyte.billing.providers.base import Item, OurInvoice, Payer
from brinkbyte.billing.providers.errors import (
    MismatchError,
    MissingObjectError,
    PermanentProviderError,
    WebhookError,
)
from services.billing.collecting import Collecting, collecting
from services.billing.conftest import Billing
from support.billing import CUSTOMER

Cli = Callable[..., Awaitable[str]]


@pytest.fixture
def cli(run: Any) -> Cli:
    """Run ``brinkbyte billing admin provider ...`` beside the test's event loop."""
    return lambda *rest, **how: asyncio.to_thread(run, "admin", "provider", *rest, **how)


@pytest.fixture
async def worker(billing: Billing) -> AsyncIterator[Collecting]:
    async with collecting(billing) as worker:
        await worker.payer(email=None)
        yield worker


async def test_invoice_is_paid_when_the_vendor_says_so(
    billing: Billing, worker: Collecting, cli: Cli
) -> None:
    key = worker.invoice([100, 23])
    chosen = ("--customer", CUSTOMER, "--invoice", str(key))
    assert "UnknownInvoice" in await cli("paid", *chosen, fails=True)
    assert (await worker.run()).sent == 1
    assert worker.row(key)["provider_ref"] == f"local:{CUSTOMER}:{key}"
    assert worker.payments.told == []
    future = "2036-01-01T00:00:00"
    assert "PaidInFuture" in await cli("paid", *chosen, "--at", future, fails=True)
    await cli("paid", *chosen, "--at", "2026-01-02T03:04:05", "--note", "wire 7")
    await cli("paid", *chosen)
    assert "NotUnpaid" in await cli("uncollectible", *chosen, fails=True)
    billing.clock.advance(seconds=300)
    await worker.run()
    assert worker.payments.told == [("paid", key)]
    assert worker.row(key)["paid_at"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    actions = [row["action"] for row in billing.query("SELECT action FROM audit_log ORDER BY id")]
    assert actions.count("payment.paid") == 1
    assert "invoice.sent" in actions


async def test_invoice_that_will_not_be_paid(
    billing: Billing, worker: Collecting, cli: Cli
) -> None:
    key = worker.invoice([100])
    await worker.run()
    chosen = ("--customer", CUSTOMER, "--invoice", str(key))
    await cli("uncollectible", *chosen)
    await worker.run()
    assert worker.payments.told == [("failed", key)]
    await cli("paid", *chosen)
    await worker.run()
    assert worker.payments.told == [("failed", key), ("paid", key)]


async def test_unpaid_after_its_due_date(billing: Billing, worker: Collecting) -> None:
    key = worker.invoice([100], due_days=3)
    await worker.run()
    billing.clock.advance(days=3, hours=1)
    await worker.run()
    assert worker.payments.told == [("failed", key)]


async def test_list_shows_what_the_provider_lacks(
    billing: Billing, worker: Collecting, cli: Cli
) -> None:
    key = worker.invoice([100], number="N-7")
    assert "N-7" in await cli("list")
    assert str(key) in await cli("list", "--output", "json")
    await worker.run()
    assert "N-7" not in await cli("list")


async def test_email_of_a_customer(billing: Billing, worker: Collecting, cli: Cli) -> None:
    await cli("email", "--customer", CUSTOMER, "pay@acme.example")
    [row] = billing.query("SELECT billing_email FROM billing_customers")
    assert row["billing_email"] == "pay@acme.example"
    [target] = billing.query("SELECT channel, address FROM notification_targets")
    assert target == {"channel": "email", "address": "pay@acme.example"}
    wrong = await cli("email", "--customer", CUSTOMER, "nonsense", fails=True)
    assert "is not an e-mail address" in wrong
    unknown = await cli("email", "--customer", "nobody", "a@b.example", fails=True)
    assert "UnknownCustomer" in unknown
    [entry] = billing.query("SELECT * FROM audit_log WHERE action = 'customer.billing_email'")
    assert "pay@" not in str(entry)


async def test_subscription_is_a_record_and_calls_may_be_repeated(
    billing: Billing, worker: Collecting
) -> None:
    provider = worker.provider
    customer = await provider.ensure_customer(Payer(CUSTOMER, "Acme", None))
    with pytest.raises(PermanentProviderError, match="does not subscribe"):
        await provider.update_subscription(customer, "starter")
    made = await provider.create_subscription(customer, "starter", trial_days=14)
    assert (made.status, made.cancel_at_period_end) == ("trialing", False)
    billing.clock.advance(days=3)
    assert await provider.create_subscription(customer, "starter", trial_days=14) == made
    with pytest.raises(PermanentProviderError, match="subscribes to starter"):
        await provider.create_subscription(customer, "professional")
    changed = await provider.update_subscription(customer, "professional")
    assert changed.trial_ends_at == made.trial_ends_at
    later = await provider.cancel_subscription(customer, at_period_end=True)
    assert (later.status, later.cancel_at_period_end) == ("trialing", True)
    billing.clock.advance(days=20)
    ended = await provider.cancel_subscription(customer, at_period_end=False)
    assert ended.status == "canceled"
    assert await provider.cancel_subscription(customer, at_period_end=True) == ended
    assert (await provider.create_subscription(customer, "starter")).status == "active"


async def test_errors_are_of_their_types(billing: Billing, worker: Collecting) -> None:
    provider, key = worker.provider, worker.invoice([5])
    with pytest.raises(MissingObjectError):
        await provider.invoice(f"local:{CUSTOMER}:{key}")
    for reference in ("in_1", "local:", f"local:{CUSTOMER}:x"):
        with pytest.raises(MissingObjectError):
            await provider.invoice(reference)
    with pytest.raises(WebhookError):
        provider.webhook(b"{}", {})
    due = datetime.now(UTC) + timedelta(days=1)
    ours = OurInvoice(str(key), f"local:{CUSTOMER}", "USD", 6, [Item("1", "x", 5)], due, "N")
    with pytest.raises(MismatchError):
        await provider.ensure_invoice(ours)
    await worker.run()
    reference = f"local:{CUSTOMER}:{key}"
    assert (await provider.void_invoice(reference)).state == "void"
    assert (await provider.void_invoice(reference)).state == "void"
    events = await provider.events_since(datetime.fromtimestamp(0, UTC))
    assert [(each.kind, each.object_id) for each in events] == [("invoice.void", reference)]


async def test_invoice_without_a_charge_is_an_alarm(billing: Billing, worker: Collecting) -> None:
    key = worker.invoice([5, -5])
    await worker.run()
    assert worker.row(key)["alarm"] == "NothingToCollect"


async def test_invoice_on_its_way_to_another_provider_stays_there(
    billing: Billing, worker: Collecting
) -> None:
    key = worker.invoice([5])
    await worker.run()
    billing.query("UPDATE provider_invoices SET provider = 'stripe', reference = NULL")
    billing.query("UPDATE invoices SET provider = 'stripe', provider_ref = NULL")
    billing.clock.advance(hours=1.1)
    await worker.run()
    assert worker.row(key)["alarm"] == "OtherProvider"
    assert worker.row(key)["provider_ref"] is None
