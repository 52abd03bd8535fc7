"""From a trial to a paid, unpaid and canceled subscription, with the license at each step."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from brinkbyte.billing.invoices.service import payment_failed, payment_succeeded
from brinkbyte.license.claims import LicenseClaims
from brinkbyte.license.modes import LicenseMode, decide_mode
from brinkbyte.license.tokens import verify
from services.billing.commerce import DELAY, Program, program, to, work, worker
from services.billing.conftest import Billing
from services.billing.site import Site, reason
from support.billing import CUSTOMER

DAY = 86_400
PRICED = {"overrides": {"fleet.plan.professional.price": "199", "fleet.plan.starter.price": "99",
                        **{f"fleet.plan.starter.{k}": 5 for k in
                           ("maxUsers", "maxAlertRules", "maxDashboards")}}}  # fmt: skip
SEATS = {"vision.base_seat": 2, "vision.device.basic": 1, "vision.integration.api_overage": 1}


async def license_of(site: Site, billing: Billing) -> LicenseClaims:
    await site.rotate()
    answer = await site.tokens()
    assert answer.status_code == 200, answer.text
    return verify(
        answer.json()["license"],
        LicenseClaims,
        billing.keys,
        now=billing.clock.now,
        check_expiry=False,
    )


async def mode_of(site: Site, billing: Billing) -> LicenseMode:
    return decide_mode(await license_of(site, billing), now=billing.clock.now).mode


def told(billing: Billing) -> list[str]:
    rows = billing.query("SELECT kind FROM notifications ORDER BY created_at, id")
    return [row["kind"] for row in rows]


def total(invoice: dict[str, Any]) -> Decimal:
    assert sum(Decimal(line["amount"]) for line in invoice["lines"]) == Decimal(invoice["total"])
    return Decimal(invoice["total"])


async def agree(vendor: Any, **values: Any) -> None:
    answer = await vendor.put(f"/api/customers/{CUSTOMER}/agreed", json=values or PRICED)
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def mine(billing: Billing, vendor: Any) -> Program:
    """A customer with agreed prices and without a subscription."""
    await billing.customer()
    await agree(vendor)
    return program(billing)


async def test_a_customer_goes_all_the_way(mine: Program, billing: Billing) -> None:
    # On trial: no money, an end, no grace.
    made = await mine.ask("POST", "subscription", json={"plans": {"fleet": "trial"}})
    assert (made["status"], made["plan"]) == ("trialing", "trial")
    assert made["trialEndsAt"] == pytest.approx(billing.clock.now + 14 * DAY, abs=5)
    site = await billing.site()
    assert await mode_of(site, billing) is LicenseMode.TRIAL
    async with worker(billing) as loops:
        await work(loops)
        assert await mine.invoices() == []
        billing.clock.advance(days=8)
        await work(loops)
        await work(loops)
        assert told(billing) == ["trial_expiring"]

        # Paid: at once, for the days left, on the invoice of the period's end.
        wish = {"plans": {"fleet": "professional"}, "quantities": SEATS}
        preview = await mine.ask("POST", "subscription/preview", json=wish)
        paid = await mine.ask("PUT", "subscription", json=wish)
        assert (paid["status"], paid["plan"]) == ("active", "professional")
        claims = await license_of(site, billing)
        assert decide_mode(claims, now=billing.clock.now).mode is LicenseMode.ACTIVE
        assert (claims.trial.is_active, claims.quotas["vision.api_calls"]) == (False, 100_000)

        # More at once, less from the next period.
        more = {**wish, "quantities": {**SEATS, "vision.base_seat": 3}}
        await mine.ask("PUT", "subscription", json=more)
        assert (await license_of(site, billing)).quotas["vision.api_calls"] == 150_000
        waits = await mine.ask("PUT", "subscription", json=wish)
        assert waits["terms"]["quantities"]["vision.base_seat"] == 3
        assert waits["pending"]["at"] == waits["periodEnd"]
        assert waits["pending"]["terms"]["quantities"]["vision.base_seat"] == 2
        assert (await license_of(site, billing)).quotas["vision.api_calls"] == 150_000

        # Used beyond what is included.
        await site.report(
            [site.event(quantity="100000"), site.event(quantity="52000")], billing.keys
        )
        upcoming = await mine.ask("GET", "invoices/upcoming")
        assert upcoming["invoicedAt"] == waits["periodEnd"]
        to(billing, waits["periodEnd"] + DELAY + 5)
        # The license is true though the worker has not run.
        assert (await license_of(site, billing)).quotas["vision.api_calls"] == 100_000
        await work(loops)
        (invoice,) = await mine.invoices()
        assert total(invoice) == Decimal(upcoming["total"])
        assert {line["kind"] for line in invoice["lines"]} >= {"plan_change", "rise", "overage"}
        due_now = Decimal(preview["now"]["total"])
        assert 0 < due_now < total(invoice)
        (overage,) = [line for line in invoice["lines"] if line["kind"] == "overage"]
        assert (overage["quantity"], overage["amount"]) == ("2000", "0.10")
        (source,) = overage["sources"]
        assert (source["batchNo"], source["events"], source["quantity"]) == (1, 2, "152000")
        assert source["instance"] == site.instance_id
        assert len(source["receiptSha256"]) == 64
        assert told(billing)[-1] == "invoice_issued"

        # Not paid: past due, then the end, grace, suspended.
        invoice_id = UUID(invoice["invoiceId"])
        for _ in range(2):
            async with billing.context.database.tenant(CUSTOMER) as connection:
                await payment_failed(connection, invoice_id, "provider", now=billing.clock.now)
        assert (await mine.ask("GET", "subscription"))["status"] == "past_due"
        claims = await license_of(site, billing)
        assert claims.exp == invoice["dueAt"] + 14 * DAY
        assert told(billing).count("payment_failed") == 1
        to(billing, invoice["dueAt"] + 14 * DAY + 5)
        assert await mode_of(site, billing) is LicenseMode.GRACE
        to(billing, invoice["dueAt"] + 21 * DAY + 5)
        assert await mode_of(site, billing) is LicenseMode.SUSPENDED
        await work(loops)
        assert await mode_of(site, billing) is LicenseMode.SUSPENDED
        refused = await mine.call("PUT", "subscription", json=wish)
        assert reason(refused) == (402, "SubscriptionSuspended")

        # Paid: all of it is back.
        for row in billing.query("SELECT invoice_id FROM invoices WHERE status = 'open'"):
            async with billing.context.database.tenant(CUSTOMER) as connection:
                for _ in range(2):
                    await payment_succeeded(
                        connection,
                        row["invoice_id"],
                        loops.context.moment,
                        "provider",
                        now=billing.clock.now,
                    )
        assert await mode_of(site, billing) is LicenseMode.ACTIVE

        # Canceled: what is paid stays until its end, then nothing is left or charged.
        ending = await mine.ask("DELETE", "subscription", params={"at": "period_end"})
        assert (ending["status"], ending["endsAt"]) == ("canceled", ending["periodEnd"])
        claims = await license_of(site, billing)
        assert (claims.exp, claims.grace_seconds) == (ending["endsAt"], 0)
        assert decide_mode(claims, now=billing.clock.now).mode is LicenseMode.ACTIVE
        assert reason(await mine.call("PUT", "subscription", json=wish)) == (
            409,
            "SubscriptionEnding",
        )
        to(billing, ending["endsAt"] + DELAY + 5)
        assert await mode_of(site, billing) is LicenseMode.EXPIRED
        await work(loops)
        count = len(await mine.invoices())
        billing.clock.advance(days=70)
        await work(loops)
        assert len(await mine.invoices()) == count
    numbers = [invoice["number"] for invoice in await mine.invoices()]
    assert numbers == [f"{CUSTOMER}-{n:04d}" for n in range(1, count + 1)]
    reasons = [
        r["reason"] for r in billing.query("SELECT reason FROM subscription_changes ORDER BY at")
    ]
    assert reasons == [
        "created", "changed", "changed", "changed", "payment_failed", "suspended",
        "payment_received", "canceled",
    ]  # fmt: skip
    assert told(billing).count("trial_ended") == 0
