"""What a customer may do to its subscription, and what is refused with what to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from brinkbyte.billing.auth import Scope
from services.billing.commerce import Program, program, work, worker
from services.billing.conftest import Billing
from services.billing.site import reason
from support.billing import CUSTOMER

DAY = 86_400
STANDARD = {"plans": {"platform": "standard"}}
SEATS = {"quantities": {"vision.base_seat": 4, "vision.device.basic": 2}}


@pytest.fixture
async def mine(billing: Billing) -> Program:
    await billing.customer()
    return program(billing)


async def test_without_a_subscription(mine: Program) -> None:
    for method, body in (("GET", None), ("PUT", STANDARD), ("DELETE", None)):
        answer = await mine.call(method, "subscription", json=body)
        assert reason(answer) == (404, "NoSubscription")
    assert reason(await mine.call("GET", "invoices/upcoming")) == (404, "NoSubscription")


async def test_scopes(mine: Program, billing: Billing) -> None:
    reader = program(billing, scopes=[Scope.BILLING_READ])
    for method, path in (("POST", ""), ("PUT", ""), ("DELETE", "")):
        answer = await reader.call(method, f"subscription{path}", json=STANDARD)
        assert reason(answer) == (403, "MissingScope")
    assert (await reader.call("POST", "subscription/preview", json=STANDARD)).status_code == 200


async def test_first_invoice_comes_with_the_subscription(mine: Program, billing: Billing) -> None:
    preview = await mine.ask("POST", "subscription/preview", json=STANDARD)
    assert billing.query("SELECT 1 FROM subscriptions") == []
    assert [line["amount"] for line in preview["now"]["lines"]] == ["99.00"]
    assert preview["nextPeriod"]["total"] == "99.00"
    answer = await mine.call("POST", "subscription", json=STANDARD)
    assert answer.status_code == 201
    (invoice,) = await mine.invoices()
    assert invoice["total"] == preview["now"]["total"] == "99.00"
    assert reason(await mine.call("POST", "subscription", json=STANDARD)) == (
        409,
        "SubscriptionExists",
    )
    async with worker(billing) as loops:
        await work(loops)
    assert len(await mine.invoices()) == 1


@pytest.mark.parametrize(
    ("body", "expected", "words"),
    [
        ({"plans": {"fleet": "starter"}}, (422, "InvalidTerms"), "contact sales"),
        ({"plans": {"fleet": "gold"}}, (422, "InvalidTerms"), "unknown plan"),
        ({}, (422, "InvalidTerms"), "choose a plan"),
        ({"quantities": {"vision.base_seat": 0}}, (422, "InvalidTerms"), "choose a plan"),
        ({"quantities": {"vision.base_seat": -1}}, (422, "InvalidRequest"), "quantities"),
        ({"quantities": {"vision.base_seat": 10**12}}, (422, "InvalidTerms"), "vision.base_seat"),
        ({**STANDARD, "overrides": {"platform.plan.standard.price": "1"}}, (422, "InvalidRequest"),
         "overrides"),
        ({**STANDARD, "interval": "week"}, (422, "InvalidRequest"), "interval"),
        ({**STANDARD, "promotionCode": "NO-SUCH"}, (422, "InvalidPromotion"), "promotionCode"),
    ],
)  # fmt: skip
async def test_bad_wishes_are_refused_and_change_nothing(
    mine: Program, billing: Billing, body: Any, expected: tuple[int, str], words: str
) -> None:
    for path in ("subscription", "subscription/preview"):
        answer = await mine.call("POST", path, json=body)
        assert reason(answer) == expected
        assert words in answer.text
    assert billing.query("SELECT 1 FROM subscriptions") == []


async def test_one_trial_ever(mine: Program, billing: Billing) -> None:
    trial = {"plans": {"fleet": "trial"}}
    await mine.ask("POST", "subscription", json=trial)
    first = await mine.ask("PUT", "subscription", json=trial)
    assert len(billing.query("SELECT 1 FROM subscription_changes")) == 1
    await mine.ask("PUT", "subscription", json=STANDARD)
    assert reason(await mine.call("PUT", "subscription", json=trial)) == (409, "TrialUsed")
    await mine.ask("DELETE", "subscription")
    billing.clock.advance(days=2)
    assert reason(await mine.call("POST", "subscription", json=trial)) == (409, "TrialUsed")
    again = await mine.ask("POST", "subscription", json=STANDARD)
    assert again["status"] == "active"
    assert again["subscriptionId"] == first["subscriptionId"]


async def test_trial_that_ended_is_bought_anew(mine: Program, billing: Billing) -> None:
    await mine.ask("POST", "subscription", json={"plans": {"fleet": "trial"}})
    async with worker(billing) as loops:
        for days in (13.5, 0.1, 1, 1):
            billing.clock.advance(days=days)
            await work(loops)
    kinds = [r["kind"] for r in billing.query("SELECT kind FROM notifications ORDER BY id")]
    assert kinds == ["trial_expiring", "trial_ended"]
    made = await mine.ask("POST", "subscription", json=STANDARD)
    assert (made["status"], made["endsAt"]) == ("active", None)


async def test_cancel_now_ends_today_and_gives_nothing_back(
    mine: Program, billing: Billing
) -> None:
    await mine.ask("POST", "subscription", json=STANDARD)
    found = await mine.ask("DELETE", "subscription")
    today = (billing.clock.now // DAY + 1) * DAY
    assert (found["status"], found["endsAt"]) == ("canceled", today)
    # At the period's end would be later: it stays today.
    found = await mine.ask("DELETE", "subscription", params={"at": "period_end"})
    assert found["endsAt"] == today
    answer = await mine.call("DELETE", "subscription", params={"at": "once"})
    assert answer.status_code == 422
    billing.clock.advance(days=70)
    async with worker(billing) as loops:
        await work(loops)
    assert len(await mine.invoices()) == 1


async def test_own_values_come_from_the_vendor_alone(
    mine: Program, billing: Billing, vendor: Any
) -> None:
    wish = {"plans": {"platform": "standard"}, "interval": "year"}
    values = {"overrides": {"platform.plan.standard.price": "80"}, "annualPercent": "25"}
    answer = await vendor.put(f"/api/customers/{CUSTOMER}/agreed", json=values)
    assert answer.status_code == 200, answer.text
    made = await mine.ask("POST", "subscription", json=wish)
    assert made["interval"] == "year"
    (invoice,) = await mine.invoices()
    assert invoice["total"] == "720.00"
    ending = await mine.ask("DELETE", "subscription", params={"at": "period_end"})
    assert 364 * DAY < ending["endsAt"] - billing.clock.now <= 367 * DAY
    for bad in (
        {"overrides": {"nothing": "1"}},
        {"overrides": {"platform.plan.standard.price": "cheap"}},
        {"annualPercent": "101"},
    ):
        answer = await vendor.put(f"/api/customers/{CUSTOMER}/agreed", json=bad)
        assert reason(answer) == (422, "InvalidTerms")
    answer = await vendor.put("/api/customers/nobody/agreed", json={})
    assert reason(answer) == (404, "UnknownCustomer")


async def test_two_changes_at_once_come_one_after_the_other(
    mine: Program, billing: Billing
) -> None:
    await mine.ask("POST", "subscription", json=SEATS)
    wishes = [
        {"quantities": {"vision.base_seat": 4 + n, "vision.device.basic": 2}} for n in range(1, 6)
    ]
    await asyncio.gather(*(mine.ask("PUT", "subscription", json=wish) for wish in wishes))
    rows = billing.query("SELECT at, terms FROM subscription_changes ORDER BY at, id")
    assert len(rows) == 6
    assert len({row["at"] for row in rows}) == 6
    found = await mine.ask("GET", "subscription")
    # The highest is paid for and in force; the newest wish follows.
    assert found["terms"]["quantities"]["vision.base_seat"] == 9
    newest = rows[-1]["terms"]["quantities"]["vision.base_seat"]
    if newest == 9:
        assert found["pending"] is None
    else:
        assert found["pending"]["terms"]["quantities"]["vision.base_seat"] == newest


async def test_preview_of_more_and_of_less(mine: Program, billing: Billing) -> None:
    await mine.ask("POST", "subscription", json=SEATS)
    more = {"quantities": {"vision.base_seat": 6, "vision.device.basic": 2}}
    found = await mine.ask("POST", "subscription/preview", json=more)
    assert [(x["kind"], x["quantity"], x["amount"]) for x in found["now"]["lines"]] == [
        ("rise", "2", "120.00")
    ]
    assert found["nextPeriod"]["total"] == "460.00"
    assert found["effectiveAt"] <= billing.clock.now
    less = {"quantities": {"vision.base_seat": 1, "vision.device.basic": 2}}
    found = await mine.ask("POST", "subscription/preview", json=less)
    assert (found["now"]["lines"], found["now"]["total"]) == ([], "0.00")
    assert found["nextPeriod"]["total"] == "160.00"
    assert found["effectiveAt"] == found["nextPeriod"]["invoicedAt"]
