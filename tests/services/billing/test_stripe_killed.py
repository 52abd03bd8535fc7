"""A run is killed at each step of an invoice's way to Stripe and back; the next one finishes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from brinkbyte.billing.migrate import WORKER
from services.billing.collecting import Collecting, collecting
from services.billing.conftest import Billing
from support.campaign_plan import soaking
from support.provider_runs import Runs
from support.stripe_server import MODES, Mode, StripeServer, stripe_server

AMOUNTS = [900, -50, 7]
POINTS = [
    "push.begun",
    "push.customer_made",
    "push.customer",
    "push.draft",
    "push.item:2",
    "push.filled",
    "push.finalized",
    "push.done",
    "push.recorded",
    "read.answered",
    "read.recorded",
]
KILLED = -9


@pytest.fixture
def stripe(billing: Billing) -> Iterator[StripeServer]:
    with stripe_server(billing.clock) as server:
        yield server


@pytest.fixture
def runs(billing: Billing, stripe: StripeServer) -> Runs:
    return Runs(billing.dsn(WORKER), stripe)


async def test_killed_at_each_step(billing: Billing, stripe: StripeServer, runs: Runs) -> None:
    """Also when it is noticed only after Stripe has forgotten the keys."""
    async with collecting(billing) as worker:
        await worker.payer()
    for number, point in enumerate(POINTS):
        # A customer that Stripe does not know yet.
        billing.query("DELETE FROM provider_customers")
        stripe.forget_customers()
        key = worker.invoice(AMOUNTS)
        assert runs.run(billing.clock.now, point) == KILLED, point
        billing.clock.advance(hours=(0.1, 13, 25)[number % 3])
        assert runs.run(billing.clock.now) == 0
        [copy] = stripe.account.of_key(str(key))
        assert (copy["status"], copy["total"]) == ("open", sum(AMOUNTS)), point
        assert [line["amount"] for line in stripe.account.lines[copy["id"]]] == AMOUNTS
        assert worker.row(key)["provider_ref"] == copy["id"]
        assert len(stripe.account.customers) == 1
        stripe.account.pay(copy["id"])
        billing.clock.advance(hours=1.1)
        if number % 5 == 0:
            assert runs.run(billing.clock.now, "event.before_commit") == KILLED
        assert runs.run(billing.clock.now) == 0
        assert worker.row(key)["status"] == "paid", point


_FAILURES = st.lists(
    st.tuples(
        st.integers(0, 25),
        st.sampled_from(MODES),
        st.sampled_from([0.1, 1.1, 13.0, 25.0]),
    ),
    max_size=8,
)
_AMOUNTS = st.lists(st.integers(-500, 5000), min_size=1, max_size=4).filter(lambda a: sum(a) > 0)


async def _history(
    worker: Collecting,
    stripe: StripeServer,
    failures: list[tuple[int, Mode, float]],
    amounts: list[int],
) -> None:
    # A customer that Stripe does not know yet.
    worker.billing.query("DELETE FROM provider_customers")
    stripe.forget_customers()
    key = worker.invoice(amounts)
    for after, mode, hours in failures:
        stripe.fail(mode, after=after)
        await worker.run()
        for copy in stripe.account.of_key(str(key)):
            # At no time is there a final invoice that is not ours to the cent.
            assert copy["status"] == "draft" or copy["total"] == sum(amounts)
        worker.billing.clock.advance(hours=hours)
    stripe.failures = {}
    await _some_runs(worker)
    [copy] = stripe.account.of_key(str(key))
    assert (copy["status"], copy["total"]) == ("open", sum(amounts))
    assert [line["amount"] for line in stripe.account.lines[copy["id"]]] == amounts
    assert len(stripe.account.customers) == 1
    assert worker.row(key)["provider_ref"] == copy["id"]
    assert worker.alarms() == {}
    stripe.account.pay(copy["id"])
    await _some_runs(worker)
    assert worker.row(key)["status"] == "paid"


async def _some_runs(worker: Collecting) -> None:
    for _ in range(4):
        worker.billing.clock.advance(hours=1.1)
        await worker.run()


@pytest.mark.soak
async def test_any_history_of_failures_ends_with_one_right_invoice(
    billing: Billing, stripe: StripeServer
) -> None:
    async with collecting(billing, stripe) as worker:
        await worker.payer()
        for failures, amounts in histories():
            await _history(worker, stripe, failures, amounts)


def histories() -> list[tuple[list[tuple[int, Mode, float]], list[int]]]:
    """Return histories of hypothesis' choice; they are lived through in the test's event loop."""
    chosen: list[tuple[list[tuple[int, Mode, float]], list[int]]] = []

    @settings(
        max_examples=200 if soaking() else 15,
        database=None,
        derandomize=not soaking(),
        phases=[Phase.generate],
    )
    @given(_FAILURES, _AMOUNTS)
    def choose(failures: list[tuple[int, Mode, float]], amounts: list[int]) -> None:
        chosen.append((failures, amounts))

    choose()
    return chosen
