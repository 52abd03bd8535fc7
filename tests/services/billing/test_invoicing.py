"""Invoices: one a boundary, once, in order, final; late events are adjusted; documents."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from brinkbyte.billing.auth import Scope
from brinkbyte.billing.invoices import closing
from brinkbyte.billing.jobs import Job, settle_subscriptions
from brinkbyte.rating.model import Line, Period
from services.billing.commerce import DELAY, OUR_JOBS, program, to, work, worker
from services.billing.conftest import Billing
from services.billing.site import Site, key_pair, reason
from support.billing import CUSTOMER, DEFAULT_TERMS

SETTLE = (OUR_JOBS[0],)
MONTHLY = Decimal(199) + 10 * 60 + 5 * 50 + 5 * 20 + 2 * 15


def period_end(billing: Billing) -> float:
    found: datetime = billing.query("SELECT next_boundary FROM subscriptions")[0]["next_boundary"]
    return found.timestamp()


async def next_boundary(billing: Billing) -> None:
    to(billing, period_end(billing) + DELAY + 5)


def amounts(invoice: dict[str, Any]) -> Decimal:
    assert sum(Decimal(line["amount"]) for line in invoice["lines"]) == Decimal(invoice["total"])
    return Decimal(invoice["total"])


async def test_what_is_bought_is_invoiced_at_once_and_only_once(
    acme: Site, billing: Billing
) -> None:
    mine = program(billing)
    async with worker(billing, SETTLE) as one, worker(billing, SETTLE) as other:
        await asyncio.gather(*(work(loops) for loops in (one, other) * 3))
        (invoice,) = await mine.invoices()
        assert amounts(invoice) == MONTHLY
        assert (invoice["status"], invoice["number"]) == ("open", "acme-0001")
        assert {line["part"] for line in invoice["lines"]} == {"opening"}
        assert invoice["periodStart"] is None
        assert invoice["dueAt"] - invoice["issuedAt"] == 14 * 86_400
        # Nothing waits at the first boundary; the next one does.
        to(billing, period_end(billing) + DELAY - 5)
        await work(one)
        assert len(await mine.invoices()) == 1
        to(billing, period_end(billing) + DELAY)
        await asyncio.gather(*(work(loops) for loops in (one, other)))
        assert [i["number"] for i in await mine.invoices()] == ["acme-0001", "acme-0002"]


async def test_late_worker_catches_up_in_order(acme: Site, billing: Billing) -> None:
    mine = program(billing)
    await acme.report([acme.event(quantity="600000")], billing.keys)
    billing.clock.advance(days=100)
    async with worker(billing, SETTLE) as loops:
        await work(loops)
    found = await mine.invoices()
    assert [i["number"] for i in found] == [f"acme-{n:04d}" for n in (1, 2, 3, 4)]
    assert [i["boundary"] for i in found] == sorted(i["boundary"] for i in found)
    # The use is on the invoice of its own period alone.
    assert [amounts(i) for i in found] == [MONTHLY, MONTHLY + Decimal("5.00"), MONTHLY, MONTHLY]


async def test_late_event_is_adjusted_once_and_the_old_invoice_stays(
    acme: Site, billing: Billing
) -> None:
    mine = program(billing)
    await acme.report([acme.event(quantity="600000")], billing.keys)
    late = acme.event(quantity="40000")
    async with worker(billing, SETTLE) as loops:
        await next_boundary(billing)
        await work(loops)
        await next_boundary(billing)
        await work(loops)
        before = (await mine.invoices())[1]
        await acme.rotate()
        await acme.report([late], billing.keys)
        for _ in range(3):
            await next_boundary(billing)
            await work(loops)
        found = await mine.invoices()
    assert found[1] | {"lines": [], "overdue": True} == before | {"lines": [], "overdue": True}
    adjusted = [line for i in found for line in i["lines"] if line["kind"] == "adjustment"]
    assert [(a["amount"], a["quantity"], a["part"]) for a in adjusted] == [
        ("2.00", "40000", "adjustment")
    ]
    assert adjusted[0]["periodEnd"] == found[1]["periodEnd"]
    assert [s["quantity"] for s in adjusted[0]["sources"]] == ["600000", "40000"]
    in_all = sum(
        Decimal(line["amount"])
        for i in found
        for line in i["lines"]
        if line["line"] == "vision.api_calls"
    )
    assert in_all == Decimal("7.00")


async def test_death_at_the_last_moment_leaves_nothing_half_done(
    acme: Site, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = program(billing)

    def die(name: str) -> None:
        raise RuntimeError(name)

    async with worker(billing, SETTLE) as loops:
        with monkeypatch.context() as patch:
            patch.setattr(closing, "failpoint", die)
            await work(loops)
        assert billing.query("SELECT 1 FROM invoices") == []
        assert billing.query("SELECT 1 FROM notifications") == []
        await work(loops)
        assert [i["number"] for i in await mine.invoices()] == ["acme-0001"]


async def test_a_final_invoice_cannot_be_changed(acme: Site, billing: Billing) -> None:
    async with worker(billing, SETTLE) as loops:
        await work(loops)
    for statement in (
        "UPDATE invoices SET total = total + 1",
        "UPDATE invoices SET number = 'x'",
        "UPDATE invoice_lines SET amount = 0",
        "DELETE FROM invoice_lines",
    ):
        with pytest.raises(psycopg.errors.CheckViolation, match="is final"):
            billing.query(statement)


async def test_nothing_is_invoiced_where_nothing_costs(billing: Billing) -> None:
    await billing.customer(CUSTOMER, {"plans": {"platform": "free"}})
    mine = program(billing)
    billing.clock.advance(days=100)
    async with worker(billing, SETTLE) as loops:
        await work(loops)
    assert await mine.invoices() == []
    closed = billing.query("SELECT count(*) AS n FROM closed_periods")
    assert closed[0]["n"] == 3


async def test_what_comes_out_below_zero_is_carried_on(
    acme: Site, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = program(billing)
    sums = iter(["-700.00", "500.00", "500.00"])

    def opening(_catalog: Any, _history: Any, period: Period) -> tuple[Line, ...]:
        return (
            Line(
                line="x",
                kind="prepaid",
                description="x",
                quantity=Decimal(1),
                period=period,
                amount=Decimal(next(sums)),
            ),
        )

    monkeypatch.setattr(closing, "opening_lines", opening)
    async with worker(billing, SETTLE) as loops:
        await work(loops)
        for _ in range(2):
            await next_boundary(billing)
            await work(loops)
    found = await mine.invoices()
    assert [(str(amounts(i)), i["status"]) for i in found] == [
        ("0.00", "paid"),
        ("0.00", "paid"),
        ("300.00", "open"),
    ]
    balance = [x["amount"] for i in found for x in i["lines"] if x["part"] == "balance"]
    assert balance == ["700.00", "-500.00", "-200.00"]


async def test_pages_go_through_all_invoices(acme: Site, billing: Billing) -> None:
    mine = program(billing)
    billing.clock.advance(days=140)
    async with worker(billing, SETTLE) as loops:
        await work(loops)
    seen, cursor = [], None
    while True:
        given = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        answer = await mine.ask("GET", "invoices", params=given)
        seen += [invoice["number"] for invoice in answer["invoices"]]
        cursor = answer["nextCursor"]
        if cursor is None:
            break
    assert seen == [f"acme-{n:04d}" for n in (5, 4, 3, 2, 1)]
    for cursor in ("x", "é", "AAAA", "MToy"):
        answer = await mine.call("GET", "invoices", params={"cursor": cursor})
        assert reason(answer) == (422, "InvalidCursor")
    assert (await mine.call("GET", "invoices", params={"limit": 0})).status_code == 422


async def test_invoices_are_their_customers_alone(acme: Site, billing: Billing) -> None:
    async with worker(billing, SETTLE) as loops:
        await work(loops)
    ((invoice),) = await program(billing).invoices()
    await billing.customer("other", DEFAULT_TERMS)
    other = program(billing, "other")
    for path in ("", "/pdf"):
        answer = await other.call("GET", f"invoices/{invoice['invoiceId']}{path}")
        assert reason(answer) == (404, "UnknownInvoice")
    assert (await other.ask("GET", "invoices"))["invoices"] == []
    assert reason(await other.call("GET", f"invoices/{uuid4()}")) == (404, "UnknownInvoice")
    blind = program(billing, scopes=[Scope.BILLING_WRITE])
    assert reason(await blind.call("GET", "invoices")) == (403, "MissingScope")


async def test_document_of_an_invoice(acme: Site, billing: Billing) -> None:
    mine = program(billing)
    async with worker(billing, SETTLE) as loops:
        await work(loops)
    (invoice,) = await mine.invoices()
    answer = await mine.call("GET", f"invoices/{invoice['invoiceId']}/pdf")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == 'inline; filename="invoice-acme-0001.pdf"'
    assert answer.content.startswith(b"%PDF-")


async def test_one_customers_failure_stops_no_other(acme: Site, billing: Billing) -> None:
    await billing.customer("aaa", DEFAULT_TERMS)
    await billing.customer("zzz", DEFAULT_TERMS)
    billing.query(
        'UPDATE subscription_changes SET terms = \'{"plans": {"fleet": "gone"}}\' '
        "WHERE tenant_id = 'aaa'"
    )
    async with worker(billing, SETTLE) as loops:
        await work(loops)
        registry = loops.context.metrics.registry
        failing = registry.get_sample_value(
            "brinkbyte_billing_worker_failing_customers", {"job": "subscriptions"}
        )
        assert failing == 1
    found = billing.query("SELECT tenant_id FROM invoices ORDER BY tenant_id")
    assert [row["tenant_id"] for row in found] == ["acme", "zzz"]


async def test_a_job_that_fails_is_counted_and_the_others_go_on(billing: Billing) -> None:
    async def fail(_context: Any) -> None:
        raise RuntimeError("no")

    async with worker(billing, (Job("bad", 60, fail), *OUR_JOBS)) as loops:
        assert [await loops.run(job) for job in loops.jobs] == [False, True, True, True, True]
        value = loops.context.metrics.registry.get_sample_value
        assert (
            value("brinkbyte_billing_worker_runs_total", {"job": "bad", "outcome": "failed"}) == 1
        )
        at = value("brinkbyte_billing_worker_last_success_seconds", {"job": "notices"})
        assert at == pytest.approx(billing.clock(), abs=30)
        loops.start()
        await loops.stop()


async def test_invoice_that_nobody_pays_makes_past_due_by_itself(
    acme: Site, billing: Billing
) -> None:
    mine = program(billing)
    async with worker(billing) as loops:
        await work(loops)
        (invoice,) = await mine.invoices()
        to(billing, invoice["dueAt"] - 5)
        await work(loops)
        assert (await mine.ask("GET", "subscription"))["status"] == "active"
        to(billing, invoice["dueAt"] + 1)
        await work(loops)
        found = await mine.ask("GET", "subscription")
    assert (found["status"], found["endsAt"]) == ("past_due", invoice["dueAt"] + 14 * 86_400)


async def test_use_is_read_by_the_day_it_happened(billing: Billing) -> None:
    """Events of the boundary's last and first millisecond are on different invoices."""
    await billing.customer(CUSTOMER, DEFAULT_TERMS)
    site = await billing.site(key=key_pair(1))
    mine = program(billing)
    boundary = period_end(billing)
    async with worker(billing, (Job("subscriptions", 60, settle_subscriptions),)) as loops:
        await work(loops)
        boundary = period_end(billing)
        to(billing, boundary + 60)
        await site.rotate()
        offset = boundary - billing.clock()
        events = [
            site.event(ahead=offset - 0.001, quantity="500100"),
            site.event(ahead=offset, quantity="500200"),
        ]
        await site.report(events, billing.keys)
        to(billing, boundary + DELAY + 1)
        await work(loops)
        await next_boundary(billing)
        await work(loops)
    found = await mine.invoices()
    used = [[x["quantity"] for x in i["lines"] if x["kind"] == "overage"] for i in found]
    assert used == [[], ["100"], ["200"]]
    assert datetime.fromtimestamp(boundary, UTC).hour == 0
