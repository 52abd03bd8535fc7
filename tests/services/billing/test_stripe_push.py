"""Final invoices reach Stripe exactly once and to the cent, whatever fails on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest

from brinkbyte.billing.providers.stripe_provider import StripeBillingProvider
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks
from brinkbyte.billing.providers.synchronizing import GIVE_UP_AFTER
from services.billing.collecting import Collecting, collecting
from services.billing.conftest import Billing
from support.campaign_plan import soaking, some
from support.stripe_server import API_KEY, MODES, Mode, StripeServer, stripe_server

AMOUNTS = [60_000, -1_234, 0, 505]
# Look for the customer, twice, make it, read it, name it; look for the invoice, make it, read it;
# read its items, add four, read them; read the invoice, finalize it; read its state.
CALLS = 17
MAKE_INVOICE, FIRST_ITEM, FINALIZE = 6, 9, 15
ADDRESS = dict.fromkeys(["city", "country", "line1", "line2", "postal_code", "state"])


@pytest.fixture
def stripe(billing: Billing) -> Iterator[StripeServer]:
    with stripe_server(billing.clock) as server:
        yield server


@pytest.fixture
async def worker(billing: Billing, stripe: StripeServer) -> AsyncIterator[Collecting]:
    async with collecting(billing, stripe) as worker:
        await worker.payer()
        # The first fetch of events is over; the next is an hour away.
        await worker.run()
        stripe.calls.clear()
        yield worker


def only_copy(stripe: StripeServer, key: UUID, amounts: list[int]) -> str:
    """Return the id of the one invoice at Stripe; it says what ours says."""
    [copy] = stripe.account.of_key(str(key))
    assert copy["status"] == "open"
    assert copy["total"] == sum(amounts)
    lines = stripe.account.lines[copy["id"]]
    assert [line["amount"] for line in lines] == amounts
    assert len(stripe.account.customers) == 1
    return str(copy["id"])


async def until_there(worker: Collecting, key: UUID, *, hours: float = 1.1, runs: int = 12) -> None:
    for _ in range(runs):
        await worker.run()
        if worker.row(key)["state"] is not None:
            return
        worker.billing.clock.advance(hours=hours)
    raise AssertionError(worker.row(key)["provider_error"])


async def test_invoice_arrives_as_it_is(worker: Collecting, stripe: StripeServer) -> None:
    key = worker.invoice(AMOUNTS, number="2026-000007")
    run = await worker.run()
    assert (run.sent, run.read, run.failed) == (1, 1, 0)
    reference = only_copy(stripe, key, AMOUNTS)
    assert len(stripe.calls) == CALLS
    copy = stripe.account.invoices[reference]
    assert copy["description"] == "Invoice 2026-000007"
    assert copy["auto_advance"] is True
    assert copy["due_date"] == int(worker.row(key)["due_at"].timestamp())
    [customer] = stripe.account.customers.values()
    assert (customer["email"], customer["name"]) == ("pay@acme.example", "acme Ltd")
    row = worker.row(key)
    assert (row["provider"], row["provider_ref"], row["provider_error"]) == (
        *("stripe", reference),
        None,
    )
    again = await worker.run()
    assert (again.sent, again.read) == (0, 0)
    assert len(stripe.calls) == CALLS


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
async def test_failure_of_any_call_leaves_one_invoice_of_the_right_sum(
    worker: Collecting, stripe: StripeServer, mode: Mode
) -> None:
    """Each call in turn fails once; then the next run finishes the work."""
    for number in range(CALLS):
        # Two of five ways for each call, in the usual size; all of them in the long one.
        if not soaking() and (number + MODES.index(mode)) % len(MODES) >= 2:
            continue
        worker.billing.query("DELETE FROM provider_customers")
        worker.billing.query("UPDATE provider_cursors SET fetched_at = now() + interval '1 year'")
        stripe.forget_customers()
        key, before = worker.invoice(AMOUNTS), len(stripe.calls)
        stripe.fail(mode, after=number)
        await until_there(worker, key, hours=0.1)
        assert len(stripe.calls) > before + CALLS - 1
        reference = only_copy(stripe, key, AMOUNTS)
        assert worker.alarms() == {}
        assert worker.row(key)["provider_error"] is None or number == CALLS - 1
        # Nothing more of it in the next round.
        stripe.account.pay(reference)
        worker.billing.query("UPDATE invoices SET status = 'paid' WHERE invoice_id = %s", key)


@pytest.mark.parametrize("hours", [12.5, 25])
async def test_retry_after_stripe_may_have_forgotten_the_key(
    worker: Collecting, stripe: StripeServer, hours: float
) -> None:
    for number in some(range(1, CALLS - 1), 6):
        worker.billing.query("DELETE FROM provider_customers")
        worker.billing.query("UPDATE provider_cursors SET fetched_at = now() + interval '1 year'")
        stripe.forget_customers()
        key = worker.invoice(AMOUNTS)
        stripe.fail("reset_after", after=number)
        await worker.run()
        worker.billing.clock.advance(hours=hours)
        await until_there(worker, key)
        stripe.account.pay(only_copy(stripe, key, AMOUNTS))
        worker.billing.query("UPDATE invoices SET status = 'paid' WHERE invoice_id = %s", key)


async def test_fault_that_stripe_keeps_under_the_key_is_no_dead_end(
    worker: Collecting, stripe: StripeServer
) -> None:
    """Stripe answers a key's 500 again for 24 hours; the work goes on well before."""
    key = worker.invoice(AMOUNTS)
    stripe.fail_posts = "fault"
    for _ in range(3):
        await worker.run()
        worker.billing.clock.advance(hours=1.1)
    assert stripe.calls.count("POST /v1/customers") == 1 + 2 + 3
    stripe.fail_posts = None
    await until_there(worker, key, hours=0.5, runs=3)
    only_copy(stripe, key, AMOUNTS)


async def test_call_without_an_answer_ends_by_itself(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    provider = StripeBillingProvider(
        API_KEY,
        StripeWebhooks((), billing.clock),
        clock=billing.clock,
        api_base=stripe.url,
        timeout=0.3,
    )
    key = worker.invoice(AMOUNTS)
    worker.provider = provider
    stripe.fail("silent", after=MAKE_INVOICE)
    await worker.run()
    assert "does not answer" in worker.row(key)["provider_error"]
    billing.clock.advance(hours=1)
    await until_there(worker, key)
    only_copy(stripe, key, AMOUNTS)
    await provider.close()


async def test_retry_after_is_heeded(worker: Collecting, stripe: StripeServer) -> None:
    key = worker.invoice(AMOUNTS)
    stripe.fail("busy")
    await worker.run()
    assert len(stripe.calls) == 1
    await worker.run()
    assert len(stripe.calls) == 1, "tried before its time"
    worker.billing.clock.advance(hours=0.1)
    await worker.run()
    only_copy(stripe, key, AMOUNTS)


async def test_key_with_other_parameters_is_an_alarm(
    worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice(AMOUNTS)
    stripe.fail("fault", after=MAKE_INVOICE)
    await worker.run()
    assert stripe.calls[MAKE_INVOICE] == "POST /v1/invoices"
    worker.billing.query(
        "UPDATE provider_invoices SET next_try_at = now() - interval '1 day' WHERE invoice_id = %s",
        key,
    )
    worker.billing.query("ALTER TABLE invoices DISABLE TRIGGER keep_final")
    worker.billing.query("UPDATE invoices SET number = 'other' WHERE invoice_id = %s", key)
    worker.billing.query("ALTER TABLE invoices ENABLE TRIGGER keep_final")
    await worker.run()
    row = worker.row(key)
    assert row["alarm"] == "ProviderKeyReused"
    assert worker.alarms() == {"ProviderKeyReused": 1}
    assert stripe.account.invoices == {}
    [entry] = worker.billing.query(
        "SELECT details FROM audit_log WHERE action = 'invoice.provider_alarm'"
    )
    assert entry["details"]["reason"] == "ProviderKeyReused"


async def test_draft_with_a_foreign_item_is_never_finalized(
    worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice(AMOUNTS)
    stripe.fail("reset", after=FIRST_ITEM)
    await worker.run()
    [draft] = stripe.account.of_key(str(key))
    stripe.account.create_item(
        {
            "invoice": draft["id"],
            "customer": draft["customer"],
            "currency": "usd",
            "amount": 100,
        }
    )
    worker.billing.clock.advance(hours=1)
    await worker.run()
    assert worker.row(key)["alarm"] == "ItemsDiffer"
    assert stripe.account.of_key(str(key))[0]["status"] == "draft"
    # What the alarm says to do: Stripe answers the old key with the deleted draft.
    stripe.account.delete_invoice(draft["id"])
    worker.billing.clock.advance(hours=1.1)
    await until_there(worker, key)
    only_copy(stripe, key, AMOUNTS)


async def test_sum_that_stripe_sees_otherwise_is_an_alarm(billing: Billing) -> None:
    with stripe_server(billing.clock) as stripe:
        async with collecting(billing, stripe) as worker:
            await worker.payer()
            key = worker.invoice(AMOUNTS)
            stripe.fail("reset", after=FINALIZE + 1)
            await worker.run()
            [draft] = stripe.account.of_key(str(key))
            assert len(stripe.account.lines[draft["id"]]) == len(AMOUNTS)
            draft["total_excluding_tax"] = draft["total"] = sum(AMOUNTS) + 1
            billing.clock.advance(hours=1)
            await worker.run()
            assert worker.row(key)["alarm"] == "TotalsDiffer"
            assert draft["status"] == "draft"


async def test_two_copies_are_an_alarm(worker: Collecting, stripe: StripeServer) -> None:
    key = worker.invoice(AMOUNTS)
    stripe.fail("reset", after=FIRST_ITEM)
    await worker.run()
    [draft] = stripe.account.of_key(str(key))
    stripe.account.create_invoice(
        {
            "customer": draft["customer"],
            "currency": "usd",
            "collection_method": "send_invoice",
            "due_date": draft["due_date"],
            "metadata": {"brinkbyte_invoice": str(key)},
        }
    )
    worker.billing.clock.advance(hours=1)
    await worker.run()
    assert worker.row(key)["alarm"] == "TwiceAtProvider"
    assert {each["status"] for each in stripe.account.of_key(str(key))} == {"draft"}


async def test_more_lines_than_stripe_takes_keep_their_sum(
    worker: Collecting, stripe: StripeServer
) -> None:
    amounts = [10 + (-1) ** n * (n % 97) for n in range(260)]
    key = worker.invoice(amounts)
    await worker.run()
    [copy] = stripe.account.of_key(str(key))
    assert (copy["status"], copy["total"]) == ("open", sum(amounts))
    lines = stripe.account.lines[copy["id"]]
    assert len(lines) == 250
    assert lines[-1]["description"].startswith("11 further lines, each in invoice INV-")


async def test_invoice_that_comes_late_gets_a_due_date_ahead(
    worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice(AMOUNTS, due_days=2)
    stripe.fail("fault", after=MAKE_INVOICE)
    await worker.run()
    worker.billing.clock.advance(days=3)
    await until_there(worker, key)
    reference = only_copy(stripe, key, AMOUNTS)
    assert stripe.account.invoices[reference]["due_date"] > worker.billing.clock.now


async def test_draft_whose_due_date_has_passed_gets_another(
    worker: Collecting, stripe: StripeServer
) -> None:
    key = worker.invoice(AMOUNTS, due_days=2)
    stripe.fail("reset_after", after=MAKE_INVOICE)
    await worker.run()
    worker.billing.clock.advance(days=30)
    await until_there(worker, key)
    reference = only_copy(stripe, key, AMOUNTS)
    assert stripe.account.invoices[reference]["due_date"] > worker.billing.clock.now


async def test_one_customer_s_error_stops_no_other(
    worker: Collecting, stripe: StripeServer
) -> None:
    await worker.payer("other", email=None)
    await worker.payer("third", email="pay@third.example")
    bad = worker.invoice([5], tenant="other")
    good = [worker.invoice([7]), worker.invoice([9], tenant="third")]
    run = await worker.run()
    assert (run.sent, run.failed) == (2, 1)
    assert worker.row(bad)["alarm"] == "NoBillingEmail"
    assert [worker.row(key)["state"] for key in good] == ["open", "open"]


async def test_provider_that_does_not_answer_is_left_alone(
    worker: Collecting, stripe: StripeServer
) -> None:
    for _ in range(14):
        worker.invoice([1])
    stripe.fail_all = "reset"
    run = await worker.run()
    assert run.failed == GIVE_UP_AFTER
    assert len(stripe.calls) == GIVE_UP_AFTER
    stripe.fail_all = None
    worker.billing.clock.advance(hours=0.1)
    assert (await worker.run()).sent == 14
    assert len(stripe.account.customers) == 1


async def test_wrong_api_key_is_told_without_the_key(
    billing: Billing, worker: Collecting, stripe: StripeServer
) -> None:
    provider = StripeBillingProvider(
        "sk_test_secretvalue",
        StripeWebhooks((), billing.clock),
        clock=billing.clock,
        api_base=stripe.url,
    )
    worker.provider = provider
    key = worker.invoice([5])
    await worker.run()
    assert worker.row(key)["alarm"] == "ProviderRefusedKey"
    assert "secretvalue" not in worker.row(key)["provider_error"]
    await provider.close()


async def test_two_runs_at_once_are_one(worker: Collecting, stripe: StripeServer) -> None:
    async with worker.database.nobody() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(7266746240)")
        assert (await worker.run()).busy
    assert not (await worker.run()).busy


async def test_tax_is_stripe_s_and_is_read_back(billing: Billing) -> None:
    with stripe_server(billing.clock, tax_percent=19) as stripe:
        async with collecting(billing, stripe, stripe_automatic_tax=True) as worker:
            await worker.payer()
            key = worker.invoice([1000, 550])
            await worker.run()
            assert worker.row(key)["alarm"] == "ProviderRefused"
            [customer] = stripe.account.customers.values()
            customer["address"] = ADDRESS
            billing.clock.advance(hours=1.1)
            await until_there(worker, key)
            row = worker.row(key)
            assert (row["total"], row["tax"]) == (1550, 295)
            assert stripe.account.invoices[row["provider_ref"]]["total"] == 1845
