"""Twelve invoices that were worked out by hand from the price list.

Prices that are used: base camera license 60 a month, platform standard 99 and enterprise 499 a
month, VMS connectors 500 once and 75 a year; overage and allowances are named where they count.
Amounts are in USD. Each line is rounded once to the cent, half to even.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from brinkbyte.catalog import CatalogError, load_catalog
from brinkbyte.rating import (
    Agreement,
    MeterUsage,
    Promotion,
    adjustment_lines,
    closing_lines,
    opening_lines,
)
from support.subscriptions import Story, day, invoice, rows, summed, used

pytestmark = pytest.mark.unit

CATALOG = load_catalog()
SEAT, VMS = "vision.base_seat", "vision.integration.vms_connectors"


def story(anchor: str) -> Story:
    return Story(datetime.fromisoformat(anchor).replace(tzinfo=UTC))


def test_cameras_added_in_the_middle_of_a_month() -> None:
    """Ten cameras, fifteen from 11 October (21 of 31 days left), fourteen from 20 October.

    5 x 60 x 21 / 31 = 203.2258… = 203.23. The fall to fourteen counts from November: 14 x 60.
    """
    told = story("2026-10-01").then("2026-10-01 08:00", quantities={SEAT: 10})
    assert rows(invoice(CATALOG, told, "2026-10-01", {})) == [(SEAT, "prepaid", "10", "600.00")]
    told.then("2026-10-11 14:00", quantities={SEAT: 15})
    told.then("2026-10-20 10:00", quantities={SEAT: 14})
    lines = invoice(CATALOG, told, "2026-11-01", {})
    assert rows(lines) == [
        (SEAT, "rise", "5", "203.23"),
        (SEAT, "prepaid", "14", "840.00"),
    ]
    assert (lines[0].days, lines[0].of_days) == (21, 31)
    assert summed(CATALOG, lines) == "1043.23"


def test_a_lower_plan() -> None:
    """Enterprise to standard on 10 October: October stays enterprise, allowance included.

    October: 600,000 API calls of 1,000,000 included: nothing. November: standard includes
    100,000, the other 500,000 cost 0.001 each = 500.00.
    """
    told = story("2026-10-01").then("2026-10-01", plans={"platform": "enterprise"})
    told.then("2026-10-10 09:00", plans={"platform": "standard"})
    usage = {"platform.api_calls": used(600_000)}
    assert rows(invoice(CATALOG, told, "2026-11-01", usage)) == [
        ("platform.plan.standard", "prepaid", "1", "99.00"),
    ]
    lines = invoice(CATALOG, told, "2026-12-01", usage)
    assert rows(lines) == [
        ("platform.api_calls", "overage", "500000", "500.00"),
        ("platform.plan.standard", "prepaid", "1", "99.00"),
    ]
    assert summed(CATALOG, lines) == "599.00"


def test_a_year_ahead_with_a_promotion() -> None:
    """Four cameras for a year at 10 % off, and a code of 25 % off cameras for three months.

    1 February: 4 x 60 x 12 = 2,880.00; less 10 % = 288.00, left 2,592.00; the code counts for
    three of the twelve months: 2,592 x 25 % x 3/12 = 162.00.
    A fifth camera on 11 May: days left in the year to 1 February 2027 are 21 (May) + 30 + 31 + 31
    + 30 + 31 + 30 + 31 + 31 = 266 of 365: 720 x 266 / 365 = 524.7123… = 524.71; less 10 % =
    52.471 = 52.47. The code has ended. Nothing else is paid in June.
    """
    code = Promotion(
        code="LAUNCH",
        percent=Decimal(25),
        lines=(SEAT,),
        starts_at=day("2026-02-01"),
        ends_at=day("2026-05-01"),
    )
    told = story("2026-02-01").then(
        "2026-02-01 12:00",
        quantities={SEAT: 4},
        agreement=Agreement(interval="year", annual_percent=Decimal(10), promotions=(code,)),
    )
    lines = invoice(CATALOG, told, "2026-02-01", {})
    assert rows(lines) == [
        (SEAT, "prepaid", "4", "2880.00"),
        (SEAT, "discount", "1", "-288.00"),
        (SEAT, "discount", "1", "-162.00"),
    ]
    assert summed(CATALOG, lines) == "2430.00"
    assert lines[0].period.end == day("2027-02-01")
    told.then("2026-05-11 16:00", quantities={SEAT: 5})
    lines = invoice(CATALOG, told, "2026-06-01", {})
    assert rows(lines) == [
        (SEAT, "rise", "1", "524.71"),
        (SEAT, "discount", "1", "-52.47"),
    ]
    assert summed(CATALOG, lines) == "472.24"
    # The second year: five cameras.
    assert rows(invoice(CATALOG, told, "2027-02-01", {})) == [
        (SEAT, "prepaid", "5", "3600.00"),
        (SEAT, "discount", "1", "-360.00"),
    ]


def test_prices_of_a_customer_s_own() -> None:
    """The retail pack and the professional plan have no list price; this customer's are agreed.

    249.50 for the plan; 9 x 12.345 = 111.105, a tie, to the even cent: 111.10.
    """
    pack = "vision.pack.retail"
    told = story("2026-11-01").then(
        "2026-11-01", plans={"fleet": "professional"}, quantities={SEAT: 9, pack: 9}
    )
    with pytest.raises(CatalogError, match=r"vision\.pack\.retail\.price"):
        invoice(CATALOG, told, "2026-11-01", {})
    own: dict[str, bool | int | str] = {
        "vision.pack.retail.price": "12.345",
        "fleet.plan.professional.price": "249.50",
    }
    told = story("2026-11-01").then(
        "2026-11-01",
        plans={"fleet": "professional"},
        quantities={SEAT: 9, pack: 9},
        overrides=own,
    )
    lines = invoice(CATALOG, told, "2026-11-01", {})
    assert rows(lines) == [
        ("fleet.plan.professional", "prepaid", "1", "249.50"),
        (SEAT, "prepaid", "9", "540.00"),
        (pack, "prepaid", "9", "111.10"),
    ]
    assert summed(CATALOG, lines) == "900.60"


def test_two_families_count_apart() -> None:
    """Three cameras with API overage, and platform standard; both are called 200,000 times.

    Vision includes 3 x 50,000: 50,000 beyond at 0.05 per 1,000 = 2.50.
    Platform includes 100,000: 100,000 beyond at 0.001 = 100.00.
    """
    told = story("2026-11-01").then(
        "2026-11-01",
        plans={"platform": "standard"},
        quantities={SEAT: 3, "vision.integration.api_overage": 1},
    )
    usage = {"vision.api_calls": used(200_000), "platform.api_calls": used(200_000)}
    lines = invoice(CATALOG, told, "2026-12-01", usage)
    assert rows(lines) == [
        ("vision.api_calls", "overage", "50000", "2.50"),
        ("platform.api_calls", "overage", "100000", "100.00"),
        ("platform.plan.standard", "prepaid", "1", "99.00"),
        (SEAT, "prepaid", "3", "180.00"),
    ]
    assert summed(CATALOG, lines) == "381.50"


def test_a_yearly_item_bought_on_a_leap_day() -> None:
    """VMS connectors on 29 February 2024: 500 once and 75 for the year, whole.

    Its years begin on 28 February 2025, 2026 and 2027, and again on 29 February 2028; each is
    paid with the month that it begins in.
    """
    told = story("2024-02-01").then("2024-02-01", quantities={SEAT: 1})
    told.then("2024-02-29 17:00", quantities={SEAT: 1, VMS: 1})
    lines = invoice(CATALOG, told, "2024-03-01", {})
    assert rows(lines) == [
        (f"{VMS}.once", "once", "1", "500.00"),
        (f"{VMS}.year", "yearly", "1", "75.00"),
        (SEAT, "prepaid", "1", "60.00"),
    ]
    assert summed(CATALOG, lines) == "635.00"
    begun = {"2025-02-01": "2025-02-28", "2026-02-01": "2026-02-28", "2028-02-01": "2028-02-29"}
    for boundary, begins in begun.items():
        lines = invoice(CATALOG, told, boundary, {})
        assert rows(lines) == [
            (SEAT, "prepaid", "1", "60.00"),
            (f"{VMS}.year", "yearly", "1", "75.00"),
        ]
        assert lines[1].period.start == day(begins)
    # 1 March 2028: nothing of it.
    assert summed(CATALOG, invoice(CATALOG, told, "2028-03-01", {})) == "60.00"


def test_late_events_adjust_a_closed_month() -> None:
    """October closed with 120,000 API calls (20,000 beyond x 0.001 = 20.00) and 900,000 tokens.

    Late events bring 2,500 calls (2.50 more) and 300,000 tokens, of which 200,000 are beyond
    1,000,000: 200,000 x 0.01 / 1,000 = 2.00. Were 1,000 calls taken back later: -1.00.
    """
    told = story("2026-10-01").then("2026-10-01", plans={"platform": "standard"})
    october = told.period("2026-10-05")
    calls, tokens = "platform.api_calls", "platform.llm_tokens"
    first = invoice(CATALOG, told, "2026-11-01", {calls: used(120_000), tokens: used(900_000)})
    assert rows(first) == [
        (calls, "overage", "20000", "20.00"),
        ("platform.plan.standard", "prepaid", "1", "99.00"),
    ]
    late = {calls: used(122_500), tokens: used(1_200_000)}
    adjusted = adjustment_lines(CATALOG, told.history, october, late, first)
    assert sorted(rows(adjusted)) == [
        (calls, "adjustment", "2500", "2.50"),
        (tokens, "adjustment", "200000", "2.00"),
    ]
    assert {line.period for line in adjusted} == {october}
    assert summed(CATALOG, adjusted) == "4.50"
    second = [*first, *adjusted]
    assert adjustment_lines(CATALOG, told.history, october, late, second) == ()
    back = adjustment_lines(CATALOG, told.history, october, {**late, calls: used(121_500)}, second)
    assert rows(back) == [(calls, "adjustment", "-1000", "-1.00")]


def test_a_trial_that_becomes_paid() -> None:
    """Standard with a trial from 3 to 17 November 10:00: the days of the trial cost nothing.

    From 17 November 16 of 30 days are left to 3 December: 99 x 16 / 30 = 52.80.
    """
    told = story("2026-11-03").then(
        "2026-11-03 10:00",
        plans={"platform": "standard"},
        status="trialing",
        trial_ends_at="2026-11-17 10:00",
    )
    assert rows(invoice(CATALOG, told, "2026-11-03", {})) == []
    lines = invoice(CATALOG, told, "2026-12-03", {})
    assert rows(lines) == [
        ("platform.plan.standard", "plan_change", "1", "52.80"),
        ("platform.plan.standard", "prepaid", "1", "99.00"),
    ]
    assert summed(CATALOG, lines) == "151.80"


def test_cancelled_now() -> None:
    """Cancelled on 12 November: nothing comes back, nothing opens, what was used is owed.

    130,000 API calls, 30,000 beyond the whole month's allowance x 0.001 = 30.00.
    """
    told = story("2026-11-01").then(
        "2026-11-01", plans={"platform": "standard"}, quantities={SEAT: 10}
    )
    told.then("2026-11-12 15:00", status="canceled", ends_at="2026-11-13")
    usage = {"platform.api_calls": used(130_000)}
    lines = invoice(CATALOG, told, "2026-12-01", usage)
    assert rows(lines) == [("platform.api_calls", "overage", "30000", "30.00")]
    assert summed(CATALOG, lines) == "30.00"
    assert invoice(CATALOG, told, "2027-01-01", {}) == []


def test_a_soft_cap_makes_no_charge() -> None:
    """Platform free and two cameras, all beyond their soft caps: free of charge, as they are.

    Free includes 10,000 tokens and 1,000 calls; two cameras 100,000 calls and 500,000 tokens.
    """
    told = story("2026-11-01").then("2026-11-01", plans={"platform": "free"}, quantities={SEAT: 2})
    usage = {
        "platform.llm_tokens": used(12_000),
        "platform.api_calls": used(1_200),
        "vision.api_calls": used(120_000),
        "vision.llm_tokens": used(600_000),
    }
    lines = invoice(CATALOG, told, "2026-12-01", usage)
    assert rows(lines) == [
        ("platform.plan.free", "prepaid", "1", "0.00"),
        (SEAT, "prepaid", "2", "120.00"),
    ]


def test_storage_by_the_mean_of_its_days() -> None:
    """Ten days at 100 GB and 21 days at 150 GB: (1,000 + 3,150) / 31 = 133.870967… GB.

    33.870967… beyond 100 x 0.50 = 16.935… = 16.94.
    """
    told = story("2026-10-01").then("2026-10-01", plans={"platform": "standard"})
    mean = Decimal(10 * 100 + 21 * 150) / 31
    lines = closing_lines(
        CATALOG,
        told.history,
        told.period("2026-10-01"),
        {"platform.storage_gb": MeterUsage(quantity=mean)},
    )
    assert [(line.line, line.kind, f"{line.amount:f}") for line in lines] == [
        ("platform.storage_gb", "overage", "16.94")
    ]


def test_messages_cost_what_their_events_carry() -> None:
    """163 messages whose costs add up to 12.345, a tie, to the even cent: 12.34."""
    told = story("2026-11-01").then("2026-11-01", quantities={SEAT: 1, "vision.integration.sms": 1})
    lines = invoice(CATALOG, told, "2026-12-01", {"vision.sms": used(163, "12.345")})
    assert rows(lines) == [
        ("vision.sms", "pass_through", "163", "12.34"),
        (SEAT, "prepaid", "1", "60.00"),
    ]
    assert opening_lines(CATALOG, told.history, told.period("2026-12-01")) == tuple(lines[1:])
    assert summed(CATALOG, lines) == "72.34"
