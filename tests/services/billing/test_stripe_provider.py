"""Customers and subscription records at Stripe; errors in our terms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from brinkbyte.billing.providers.base import Item, OurInvoice, Payer
from brinkbyte.billing.providers.errors import (
    BillingProviderError,
    MismatchError,
    MissingObjectError,
    PermanentProviderError,
    TemporaryProviderError,
)
from brinkbyte.billing.providers.stripe_provider import StripeBillingProvider
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks
from brinkbyte.kit.errors import PermanentError, TemporaryError
from services.billing.conftest import Clock
from support.stripe_server import API_KEY, StripeServer, stripe_server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stripe(clock: Clock) -> Iterator[StripeServer]:
    with stripe_server(clock) as server:
        yield server


@pytest.fixture
async def provider(stripe: StripeServer, clock: Clock) -> AsyncIterator[StripeBillingProvider]:
    made = StripeBillingProvider(
        API_KEY, StripeWebhooks((), clock), clock=clock, api_base=stripe.url
    )
    yield made
    await made.close()


async def test_customer_is_made_once_and_kept_as_ours(
    stripe: StripeServer, provider: StripeBillingProvider, clock: Clock
) -> None:
    name = "it's \\ a 'name'"
    first = await provider.ensure_customer(Payer(name, "Acme", "a@b.example"))
    # Not in the search yet: the key holds.
    assert await provider.ensure_customer(Payer(name, "Acme", "a@b.example")) == first
    clock.advance(days=2)
    # The key is forgotten: it is found.
    assert await provider.ensure_customer(Payer(name, "Acme Ltd", "c@d.example")) == first
    assert await provider.ensure_customer(Payer(name, "Acme Ltd", None, first)) == first
    assert len(stripe.account.customers) == 1
    held = stripe.account.customers[first]
    assert (held["name"], held["email"]) == ("Acme Ltd", None)
    # Search ignores case; a customer of another name is another customer.
    assert await provider.ensure_customer(Payer(name.upper(), "B", None)) != first


async def test_customer_that_was_deleted_there_is_made_anew(
    stripe: StripeServer, provider: StripeBillingProvider, clock: Clock
) -> None:
    first = await provider.ensure_customer(Payer("acme", "Acme", None))
    stripe.account.delete_customer(first)
    second = await provider.ensure_customer(Payer("acme", "Acme", None, first))
    assert second != first
    clock.advance(hours=1)
    assert await provider.ensure_customer(Payer("acme", "Acme", None)) == second


async def test_two_customers_of_one_key_are_an_alarm(
    stripe: StripeServer, provider: StripeBillingProvider, clock: Clock
) -> None:
    for _ in range(2):
        stripe.account.create_customer({"metadata": {"brinkbyte_customer": "acme"}})
    clock.advance(hours=1)
    with pytest.raises(MismatchError, match="2 customers"):
        await provider.ensure_customer(Payer("acme", "Acme", None))


async def test_subscription_is_metadata_and_charges_nothing(
    stripe: StripeServer, provider: StripeBillingProvider, clock: Clock
) -> None:
    customer = await provider.ensure_customer(Payer("acme", "Acme", None))
    with pytest.raises(PermanentProviderError, match="does not subscribe"):
        await provider.cancel_subscription(customer, at_period_end=False)
    made = await provider.create_subscription(customer, "starter", trial_days=14)
    assert (made.reference, made.status) == (customer, "trialing")
    clock.advance(days=3)
    assert await provider.create_subscription(customer, "starter", trial_days=14) == made
    with pytest.raises(PermanentProviderError, match="subscribes to starter"):
        await provider.create_subscription(customer, "professional")
    # There and back again within the time that Stripe keeps answers.
    for price in ("professional", "starter", "professional"):
        changed = await provider.update_subscription(customer, price)
        assert changed.trial_ends_at == made.trial_ends_at
        assert stripe.account.customers[customer]["metadata"]["brinkbyte_price"] == price
    later = await provider.cancel_subscription(customer, at_period_end=True)
    assert (later.status, later.cancel_at_period_end) == ("trialing", True)
    clock.advance(days=20)
    ended = await provider.cancel_subscription(customer, at_period_end=False)
    assert ended.status == "canceled"
    assert await provider.cancel_subscription(customer, at_period_end=False) == ended
    again = await provider.create_subscription(customer, "starter")
    assert (again.status, again.trial_ends_at) == ("active", None)
    assert {call.split("/")[2] for call in stripe.calls} == {"customers"}


async def test_errors_are_of_their_types(
    stripe: StripeServer, provider: StripeBillingProvider
) -> None:
    with pytest.raises(MissingObjectError) as missing:
        await provider.invoice("in_nothing")
    assert isinstance(missing.value, BillingProviderError)
    assert isinstance(missing.value, PermanentError)
    for mode, reason, after in (
        ("busy", "ProviderBusy", 7.0),
        ("reset", "ProviderUnreachable", None),
        ("fault", "ProviderFault", None),
    ):
        stripe.fail(mode)  # type: ignore[arg-type]  # three of them
        with pytest.raises(TemporaryProviderError) as temporary:
            await provider.invoice("in_nothing")
        assert isinstance(temporary.value, BillingProviderError)
        assert isinstance(temporary.value, TemporaryError)
        assert (temporary.value.reason, temporary.value.retry_after) == (reason, after)


async def test_items_that_are_not_the_total_are_never_sent(
    stripe: StripeServer, provider: StripeBillingProvider
) -> None:
    due = datetime.now(UTC) + timedelta(days=3)
    ours = OurInvoice("k", "cus_1", "USD", 6, [Item("1", "x", 5)], due, "N-1")
    with pytest.raises(MismatchError, match="nothing was sent"):
        await provider.ensure_invoice(ours)
    assert stripe.calls == []
