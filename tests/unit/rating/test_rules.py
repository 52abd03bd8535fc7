"""When changes count: rises, falls, plans, trials, pauses, ends, dated items, discounts."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from pydantic import ValidationError

from brinkbyte.catalog import CatalogError, Terms, load_catalog
from brinkbyte.rating import (
    Agreement,
    Change,
    History,
    MeterUsage,
    Period,
    Promotion,
    closing_lines,
    effective,
    opening_lines,
    period_at,
    periods_until,
)
from support.subscriptions import Story, day, invoice, rows, summed, used

pytestmark = pytest.mark.unit

CATALOG = load_catalog()
SEAT, VMS = "vision.base_seat", "vision.integration.vms_connectors"
STANDARD, ENTERPRISE = "platform.plan.standard", "platform.plan.enterprise"


def november(**first: object) -> Story:
    """Return a subscription from 1 November 2026 on; that month has 30 days."""
    return Story(day("2026-11-01")).then("2026-11-01 08:00", **first)  # type: ignore[arg-type]  # as Story.then takes them


def december(told: Story, **usage: MeterUsage) -> list[tuple[str, str, str, str]]:
    """Return what 1 December closes, without what it opens."""
    return rows(closing_lines(CATALOG, told.history, told.period("2026-11-15"), usage))


# ---- periods -----------------------------------------------------------------------------------


def test_periods_keep_the_anchor_s_day() -> None:
    told = Story(day("2024-01-31")).then("2024-01-31 10:00", quantities={SEAT: 1})
    periods = list(periods_until(told.history, day("2024-05-31")))
    assert [f"{period.start:%m-%d}" for period in periods] == [
        "01-31", "02-29", "03-31", "04-30", "05-31",
    ]  # fmt: skip
    assert all(earlier.end == later.start for earlier, later in pairwise(periods))
    assert period_at(told.history, day("2024-04-29 23:59")) == periods[2]
    assert period_at(told.history, day("2023-12-30")).start == day("2023-11-30")


def test_an_anchor_told_in_another_zone_is_the_same_day_in_utc() -> None:
    anchor = datetime.fromisoformat("2026-11-30T20:00:00-04:00")
    told = Story(anchor).then("2026-12-01", quantities={SEAT: 1})
    assert told.period("2027-03-05") == Period(start=day("2027-03-01"), end=day("2027-04-01"))


def test_no_period_has_begun_before_the_first_change() -> None:
    assert list(periods_until(november().history, day("2026-10-31"))) == []
    assert effective(CATALOG, november().history, day("2026-10-31")) is None
    before = Period(start=day("2026-10-01"), end=day("2026-11-01"))
    assert opening_lines(CATALOG, november(quantities={SEAT: 1}).history, before) == ()
    assert closing_lines(CATALOG, november(quantities={SEAT: 1}).history, before, {}) == ()


def test_a_time_that_is_no_period_is_refused() -> None:
    period = Period(start=day("2026-11-02"), end=day("2026-12-02"))
    with pytest.raises(CatalogError, match="not a billing period"):
        opening_lines(CATALOG, november().history, period)


@pytest.mark.parametrize(
    ("anchor", "times", "what"),
    [
        (day("2026-11-01 01:00"), [day("2026-11-02")], "midnight"),
        (day("2026-11-01"), [day("2026-11-03"), day("2026-11-02")], "order"),
        (day("2026-11-01"), [datetime(2026, 11, 3)], "zone"),  # noqa: DTZ001
    ],
)
def test_a_history_that_cannot_be_is_refused(
    anchor: datetime, times: list[datetime], what: str
) -> None:
    changes = tuple(Change(at=at, terms=Terms(), status="active") for at in times)
    with pytest.raises(ValidationError, match=what):
        History(anchor=anchor, changes=changes)


# ---- rises and falls ---------------------------------------------------------------------------


def test_a_fall_and_a_rise_back_cost_nothing() -> None:
    told = november(quantities={SEAT: 10})
    told.then("2026-11-05", quantities={SEAT: 4}).then("2026-11-20", quantities={SEAT: 10})
    assert december(told) == []


def test_only_the_excess_over_what_is_paid_is_charged() -> None:
    told = november(quantities={SEAT: 10})
    told.then("2026-11-05", quantities={SEAT: 4}).then("2026-11-21", quantities={SEAT: 12})
    assert december(told) == [(SEAT, "rise", "2", "40.00")]


def test_the_day_s_highest_quantity_counts() -> None:
    told = november(quantities={SEAT: 10})
    told.then("2026-11-16 08:00", quantities={SEAT: 30}).then(
        "2026-11-16 08:05", quantities={SEAT: 11}
    )
    assert december(told) == [(SEAT, "rise", "20", "600.00")]
    assert rows(invoice(CATALOG, told, "2026-12-01", {}))[-1] == (SEAT, "prepaid", "11", "660.00")


def test_the_last_day_and_the_first_day_count_whole() -> None:
    told = november(quantities={SEAT: 1})
    told.then("2026-11-01 23:59", quantities={SEAT: 2}).then(
        "2026-11-30 23:59", quantities={SEAT: 3}
    )
    assert december(told) == [(SEAT, "rise", "1", "60.00"), (SEAT, "rise", "1", "2.00")]


def test_a_change_at_the_boundary_belongs_to_the_period_that_begins() -> None:
    told = november(quantities={SEAT: 1}).then("2026-12-01", quantities={SEAT: 5})
    assert december(told) == []
    assert rows(invoice(CATALOG, told, "2026-12-01", {})) == [(SEAT, "prepaid", "5", "300.00")]


def test_a_first_period_that_began_before_the_subscription_is_paid_by_days() -> None:
    told = Story(day("2026-11-01")).then("2026-11-16 12:00", quantities={SEAT: 2})
    assert rows(opening_lines(CATALOG, told.history, told.period("2026-11-16"))) == [
        (SEAT, "prepaid", "2", "60.00")
    ]


def test_a_new_own_price_counts_for_rises_and_from_the_next_period() -> None:
    told = november(quantities={SEAT: 10})
    told.then("2026-11-16", quantities={SEAT: 11}, overrides={"vision.base_seat.price": "40"})
    assert december(told) == [(SEAT, "rise", "1", "20.00")]
    assert rows(invoice(CATALOG, told, "2026-12-01", {}))[-1] == (SEAT, "prepaid", "11", "440.00")


def test_trial_seats_are_free() -> None:
    told = november(quantities={"vision.trial_seat": 2})
    assert invoice(CATALOG, told, "2026-12-01", {}) == []


# ---- plans -------------------------------------------------------------------------------------


def test_a_higher_plan_costs_the_difference_and_gives_its_whole_allowance() -> None:
    told = november(plans={"platform": "standard"})
    told.then("2026-11-16", plans={"platform": "enterprise"})
    assert december(told, **{"platform.api_calls": used(1_000_000)}) == [
        (ENTERPRISE, "plan_change", "1", "200.00")
    ]


def test_two_steps_up_and_one_down_again() -> None:
    told = november(plans={"platform": "free"})
    told.then("2026-11-11", plans={"platform": "standard"})
    told.then("2026-11-16", plans={"platform": "enterprise"})
    told.then("2026-11-18", plans={"platform": "free"})
    told.then("2026-11-20", plans={"platform": "enterprise"})
    told.then("2026-11-21", plans={"platform": "standard"})
    # 99 x 20/30 and 400 x 15/30; the second enterprise is paid already.
    assert december(told) == [
        (STANDARD, "plan_change", "1", "66.00"),
        (ENTERPRISE, "plan_change", "1", "200.00"),
    ]
    now = effective(CATALOG, told.history, day("2026-11-25"))
    then = effective(CATALOG, told.history, day("2026-12-01"))
    assert now is not None
    assert then is not None
    assert dict(now.terms.plans) == {"platform": "enterprise"}
    assert dict(then.terms.plans) == {"platform": "standard"}


def test_a_higher_plan_that_costs_less_is_no_credit_and_keeps_what_is_paid() -> None:
    own: dict[str, bool | int | str] = {
        "fleet.plan.starter.price": "100",
        "fleet.plan.professional.price": "80",
        **{
            f"fleet.plan.starter.{limit}": 5
            for limit in ("maxUsers", "maxAlertRules", "maxDashboards")
        },
        "fleet.plan.enterprise.price": "130",
        "fleet.plan.enterprise.dataRetentionDays": 900,
        **{
            f"fleet.plan.enterprise.{limit}": "unlimited"
            for limit in ("maxUsers", "maxAlertRules", "maxDashboards")
        },
    }
    told = november(plans={"fleet": "starter"}, overrides=own)
    told.then("2026-11-11", plans={"fleet": "professional"})
    assert december(told) == []
    told.then("2026-11-16", plans={"fleet": "enterprise"})
    assert december(told) == [("fleet.plan.enterprise", "plan_change", "1", "15.00")]


def test_what_runs_on_keeps_its_own_values() -> None:
    own: dict[str, bool | int | str] = {
        "vision.pack.retail.price": "10",
        "fleet.plan.professional.price": "300",
        "fleet.plan.professional.maxUsers": 77,
    }
    told = november(
        plans={"fleet": "professional"},
        quantities={SEAT: 2, "vision.pack.retail": 2},
        overrides=own,
    )
    told.then("2026-11-10", plans={}, quantities={SEAT: 2}, overrides={})
    change = effective(CATALOG, told.history, day("2026-11-20"))
    assert change is not None
    assert change.terms.quantities["vision.pack.retail"] == 2
    assert change.terms.overrides["fleet.plan.professional.maxUsers"] == 77
    assert december(told) == []
    after = effective(CATALOG, told.history, day("2026-12-01"))
    assert after is not None
    assert (dict(after.terms.plans), dict(after.terms.overrides)) == ({}, {})


def test_allowances_are_those_of_the_most_seats_of_the_period() -> None:
    told = november(quantities={SEAT: 2, "vision.integration.api_overage": 1})
    told.then("2026-11-10", quantities={SEAT: 4, "vision.integration.api_overage": 1})
    told.then("2026-11-12", quantities={SEAT: 1, "vision.integration.api_overage": 1})
    assert december(told, **{"vision.api_calls": used(202_000)}) == [
        (SEAT, "rise", "2", "84.00"),
        ("vision.api_calls", "overage", "2000", "0.10"),
    ]


# ---- trials, pauses, ends ----------------------------------------------------------------------


def trial(**more: object) -> Story:
    return november(
        plans={"platform": "standard"},
        status="trialing",
        trial_ends_at="2026-11-16 08:00",
        **more,
    )


def test_a_trial_that_is_cancelled_costs_nothing() -> None:
    told = trial().then("2026-11-10 12:00", status="canceled", ends_at="2026-11-11")
    assert december(told, **{"platform.api_calls": used(500_000)}) == []
    assert invoice(CATALOG, told, "2026-12-01", {}) == []


def test_a_trial_kept_to_its_end_by_a_cancellation_stays_free() -> None:
    told = trial().then(
        "2026-11-10",
        status="canceled",
        trial_ends_at="2026-11-16 08:00",
        ends_at="2026-11-16 08:00",
    )
    assert december(told) == []
    change = effective(CATALOG, told.history, day("2026-11-12"))
    assert change is not None
    assert (change.status, dict(change.terms.plans)) == ("canceled", {"platform": "standard"})


def test_a_trial_becomes_active_by_itself_and_a_choice_in_it_counts_at_once() -> None:
    told = trial().then("2026-11-05", plans={"platform": "free"}, trial_ends_at="2026-11-16 08:00")
    during = effective(CATALOG, told.history, day("2026-11-06"))
    after = effective(CATALOG, told.history, day("2026-11-16 08:00"))
    assert during is not None
    assert after is not None
    assert (during.status, dict(during.terms.plans)) == ("trialing", {"platform": "free"})
    assert (after.status, dict(after.terms.plans)) == ("active", {"platform": "free"})


def test_paying_before_the_trial_ends_charges_from_then() -> None:
    told = trial().then("2026-11-11 09:00", status="active")
    assert december(told) == [(STANDARD, "plan_change", "1", "66.00")]


def test_a_trial_of_a_whole_period_has_no_overage_but_passes_costs_on() -> None:
    told = november(
        plans={"platform": "standard"},
        quantities={"vision.integration.sms": 1},
        status="trialing",
        trial_ends_at="2027-01-30",
    )
    usage = {"platform.api_calls": used(900_000), "vision.sms": used(2, "0.20")}
    assert december(told, **usage) == [("vision.sms", "pass_through", "2", "0.20")]


def test_a_trial_plan_ends_with_its_trial() -> None:
    told = november(plans={"fleet": "trial"}, status="trialing", trial_ends_at="2026-11-15 08:00")
    ended = effective(CATALOG, told.history, day("2026-11-15 08:00"))
    assert ended is not None
    assert (ended.status, ended.terms, ended.ends_at) == (
        "canceled",
        Terms(),
        day("2026-11-15 08:00"),
    )
    assert december(told) == []


def test_nothing_opens_while_suspended_and_days_count_again_from_the_return() -> None:
    told = november(quantities={SEAT: 3}).then("2026-11-20", status="suspended")
    assert december(told) == []
    assert rows(invoice(CATALOG, told, "2026-12-01", {})) == []
    told.then("2026-12-17", status="active")
    # 15 of December's 31 days: 3 x 60 x 15 / 31.
    assert rows(invoice(CATALOG, told, "2027-01-01", {})) == [
        (SEAT, "rise", "3", "87.10"),
        (SEAT, "prepaid", "3", "180.00"),
    ]


def test_a_pause_within_a_paid_period_costs_nothing() -> None:
    told = november(quantities={SEAT: 3}).then("2026-11-10", status="suspended")
    told.then("2026-11-12", status="active")
    assert december(told) == []


def test_past_due_changes_nothing() -> None:
    told = november(quantities={SEAT: 3}).then("2026-11-10", status="past_due")
    told.then("2026-11-16", quantities={SEAT: 4})
    assert rows(invoice(CATALOG, told, "2026-12-01", {})) == [
        (SEAT, "rise", "1", "30.00"),
        (SEAT, "prepaid", "4", "240.00"),
    ]


def test_a_cancellation_at_the_period_s_end() -> None:
    told = november(quantities={SEAT: 3}).then("2026-11-10", status="active", ends_at="2026-12-01")
    assert invoice(CATALOG, told, "2026-12-01", {}) == []
    before = effective(CATALOG, told.history, day("2026-11-30 23:59"))
    ended = effective(CATALOG, told.history, day("2026-12-01"))
    assert before is not None
    assert ended is not None
    assert (before.status, dict(before.terms.quantities)) == ("active", {SEAT: 3})
    assert (ended.status, dict(ended.terms.quantities)) == ("canceled", {})


def test_a_cancellation_without_an_end_ends_with_its_day() -> None:
    told = november(quantities={SEAT: 3}).then("2026-11-10 09:00", status="canceled")
    last = effective(CATALOG, told.history, day("2026-11-10 23:59"))
    ended = effective(CATALOG, told.history, day("2026-11-11"))
    assert last is not None
    assert ended is not None
    assert (last.ends_at, ended.ends_at) == (day("2026-11-11"), day("2026-11-11"))
    assert dict(last.terms.quantities) == {SEAT: 3}
    assert dict(ended.terms.quantities) == {}


def test_a_return_within_the_paid_period_costs_nothing() -> None:
    told = november(quantities={SEAT: 3}).then("2026-11-10 09:00", status="canceled")
    told.then("2026-11-20", status="active", quantities={SEAT: 3})
    assert december(told) == []


# ---- items with dates of their own -------------------------------------------------------------


def test_a_yearly_item_bought_with_the_subscription_is_paid_ahead() -> None:
    told = november(quantities={VMS: 1})
    assert rows(invoice(CATALOG, told, "2026-11-01", {})) == [
        (f"{VMS}.year", "yearly", "1", "75.00")
    ]
    assert december(told) == [(f"{VMS}.once", "once", "1", "500.00")]


def test_a_one_time_item_is_charged_once_for_ever() -> None:
    told = november(quantities={}).then("2026-11-10", quantities={VMS: 1})
    told.then("2026-11-12", quantities={}).then("2027-12-10", quantities={VMS: 1})
    lines = invoice(CATALOG, told, "2028-01-01", {})
    assert rows(lines) == [(f"{VMS}.year", "yearly", "1", "75.00")]
    assert lines[0].period == Period(start=day("2027-12-10"), end=day("2028-12-10"))
    paid = closing_lines(
        CATALOG, told.history, told.period("2026-11-15"), {}, paid_once=[f"{VMS}.once"]
    )
    assert rows(paid) == [(f"{VMS}.year", "yearly", "1", "75.00")]


def test_a_yearly_item_given_up_is_not_renewed() -> None:
    told = november(quantities={VMS: 1}).then("2027-10-20", quantities={})
    assert invoice(CATALOG, told, "2027-11-01", {}) == []


def test_a_yearly_item_dropped_and_taken_again_in_its_year_costs_nothing() -> None:
    told = november(quantities={}).then("2026-11-10", quantities={VMS: 1})
    told.then("2027-02-01", quantities={}).then("2027-05-05", quantities={VMS: 1})
    assert invoice(CATALOG, told, "2027-06-01", {}) == []
    assert rows(invoice(CATALOG, told, "2027-11-01", {})) == [
        (f"{VMS}.year", "yearly", "1", "75.00")
    ]


def test_an_end_known_before_the_anniversary_stops_the_next_year() -> None:
    told = november(quantities={}).then("2026-11-10", quantities={VMS: 1})
    told.then("2027-10-15", ends_at="2027-11-10")
    assert invoice(CATALOG, told, "2027-11-01", {}) == []
    assert invoice(CATALOG, told, "2027-12-01", {}) == []


# ---- a year ahead ------------------------------------------------------------------------------

YEAR = Agreement(interval="year", annual_percent=Decimal(10))


def test_a_year_ahead_rises_at_once_and_falls_at_its_end() -> None:
    told = november(plans={"platform": "standard"}, quantities={SEAT: 2}, agreement=YEAR)
    assert summed(CATALOG, invoice(CATALOG, told, "2026-11-01", {})) == "2365.20"  # 2628 less 10 %
    told.then("2027-01-10", plans={"platform": "free"}, quantities={SEAT: 1})
    assert invoice(CATALOG, told, "2027-02-01", {}) == []
    kept = effective(CATALOG, told.history, day("2027-10-31"))
    assert kept is not None
    assert dict(kept.terms.quantities) == {SEAT: 2}
    assert dict(kept.terms.plans) == {"platform": "standard"}
    assert rows(invoice(CATALOG, told, "2027-11-01", {})) == [
        ("platform.plan.free", "prepaid", "1", "0.00"),
        (SEAT, "prepaid", "1", "720.00"),
        (SEAT, "discount", "1", "-72.00"),
    ]


def test_usage_stays_monthly_with_a_year_ahead() -> None:
    told = november(plans={"platform": "standard"}, agreement=YEAR)
    usage = {"platform.api_calls": used(101_000)}
    for boundary in ("2026-12-01", "2027-01-01"):
        assert rows(invoice(CATALOG, told, boundary, usage)) == [
            ("platform.api_calls", "overage", "1000", "1.00")
        ]


def test_a_higher_plan_in_a_year_ahead() -> None:
    told = november(plans={"platform": "standard"}, agreement=YEAR)
    told.then("2026-11-21", plans={"platform": "enterprise"})
    # 400 x 12 x 345 / 365 = 4,536.99 (4,536.986…), less 10 %: 453.699 = 453.70.
    assert december(told) == [
        (ENTERPRISE, "plan_change", "1", "4536.99"),
        (ENTERPRISE, "discount", "1", "-453.70"),
    ]


def test_a_switch_of_the_way_of_paying_counts_from_the_next_opening() -> None:
    told = november(quantities={SEAT: 1}).then("2026-11-10", agreement=YEAR)
    assert summed(CATALOG, invoice(CATALOG, told, "2026-12-01", {})) == "648.00"
    told.then("2026-12-20", agreement=Agreement())
    assert invoice(CATALOG, told, "2027-01-01", {}) == []
    assert summed(CATALOG, invoice(CATALOG, told, "2027-12-01", {})) == "60.00"


def test_a_term_that_ends_within_the_year_is_paid_by_the_month() -> None:
    told = november(quantities={SEAT: 1}, agreement=YEAR, ends_at="2027-02-01")
    assert summed(CATALOG, invoice(CATALOG, told, "2026-11-01", {})) == "60.00"
    assert summed(CATALOG, invoice(CATALOG, told, "2027-01-01", {})) == "60.00"
    assert invoice(CATALOG, told, "2027-02-01", {}) == []


# ---- promotions --------------------------------------------------------------------------------


def code(name: str = "CODE", **how: object) -> Promotion:
    return Promotion.model_validate({"code": name, "starts_at": day("2026-11-01"), **how})


def with_codes(*codes: Promotion) -> Agreement:
    return Agreement(promotions=codes)


def test_promotions_count_in_their_order_each_on_what_is_left() -> None:
    half, ten = code("HALF", percent=Decimal(50)), code("TEN", amount=Decimal(10))
    for codes, off in (((half, ten), ["-30.00", "-10.00"]), ((ten, half), ["-10.00", "-25.00"])):
        told = november(quantities={SEAT: 1}, agreement=with_codes(*codes))
        lines = invoice(CATALOG, told, "2026-11-01", {})
        assert [row[3] for row in rows(lines)[1:]] == off


def test_an_amount_never_goes_below_zero_and_serves_rises_with_what_is_left() -> None:
    told = november(quantities={SEAT: 1}, agreement=with_codes(code(amount=Decimal(100))))
    assert summed(CATALOG, invoice(CATALOG, told, "2026-11-01", {})) == "0.00"
    told.then("2026-11-16", quantities={SEAT: 3})
    # The rise costs 60; 40 of the 100 are left.
    assert december(told) == [(SEAT, "rise", "2", "60.00"), (SEAT, "discount", "1", "-40.00")]


def test_an_amount_has_no_part_of_a_cent() -> None:
    told = november(quantities={SEAT: 1}, agreement=with_codes(code(amount=Decimal("0.019"))))
    assert rows(invoice(CATALOG, told, "2026-11-01", {}))[1][3] == "-0.01"


def test_an_amount_counts_for_each_month_of_a_year_ahead() -> None:
    how = Agreement(
        interval="year", promotions=(code(amount=Decimal(5), ends_at=day("2027-02-01")),)
    )
    told = november(quantities={SEAT: 1}, agreement=how)
    assert summed(CATALOG, invoice(CATALOG, told, "2026-11-01", {})) == "705.00"
    told.then("2026-11-16", quantities={SEAT: 2})
    assert len(december(told)) == 1  # it is used up


def test_a_promotion_may_name_a_meter_or_a_one_time_item() -> None:
    named = code(percent=Decimal(50), lines=("platform.api_calls", f"{VMS}.once"))
    told = november(
        plans={"platform": "standard"}, quantities={VMS: 1}, agreement=with_codes(named)
    )
    assert rows(invoice(CATALOG, told, "2026-11-01", {}))[-1][1] != "discount"
    assert december(told, **{"platform.api_calls": used(110_000)}) == [
        (f"{VMS}.once", "once", "1", "500.00"),
        ("platform.api_calls", "overage", "10000", "10.00"),
        (f"{VMS}.once", "discount", "1", "-250.00"),
        ("platform.api_calls", "discount", "1", "-5.00"),
    ]


def test_a_promotion_without_lines_leaves_usage_and_one_time_items_alone() -> None:
    told = november(quantities={VMS: 1}, agreement=with_codes(code(percent=Decimal(50))))
    assert december(told, **{"vision.sms": used(1, "3")}) == [
        (f"{VMS}.once", "once", "1", "500.00"),
        ("vision.sms", "pass_through", "1", "3.00"),
    ]


@pytest.mark.parametrize(
    ("starts", "ends", "discounted"),
    [
        ("2026-12-01", None, True),
        ("2026-12-02", None, False),
        ("2026-11-10", "2026-12-01", False),
        ("2026-11-10", "2026-12-02", True),
    ],
)
def test_a_promotion_counts_for_periods_that_begin_within_its_dates(
    starts: str, ends: str | None, *, discounted: bool
) -> None:
    promotion = code(
        percent=Decimal(50), starts_at=day(starts), ends_at=None if ends is None else day(ends)
    )
    told = november(quantities={SEAT: 1}).then("2026-11-10", agreement=with_codes(promotion))
    lines = invoice(CATALOG, told, "2026-12-01", {})
    assert summed(CATALOG, lines) == ("30.00" if discounted else "60.00")


# ---- what is refused ---------------------------------------------------------------------------


def test_what_has_no_price_is_refused_by_name() -> None:
    told = november(quantities={SEAT: 1})
    told.then("2026-11-10", quantities={SEAT: 1, "vision.pack.mining": 1})
    with pytest.raises(CatalogError, match=r"vision\.pack\.mining\.price"):
        december(told)


@pytest.mark.parametrize(
    ("usage", "what"),
    [
        ({"platform.nothing": used(1)}, "unknown meter"),
        ({"platform.api_calls": used(-1)}, "must be from 0"),
        ({"platform.api_calls": used(1, "2")}, "does not pass costs on"),
    ],
)
def test_usage_that_cannot_be_is_refused(usage: dict[str, MeterUsage], what: str) -> None:
    with pytest.raises(CatalogError, match=what):
        december(november(plans={"platform": "standard"}), **usage)


def test_periods_of_another_zone_are_days_in_utc() -> None:
    told = november(quantities={SEAT: 1})
    told.changes.append(
        told.changes[-1].model_copy(
            update={
                "at": datetime.fromisoformat("2026-11-17T00:30:00+01:00"),
                "terms": Terms(quantities={SEAT: 2}),
            }
        )
    )
    line = closing_lines(CATALOG, told.history, told.period("2026-11-15"), {})[0]
    assert line.period.start == datetime(2026, 11, 16, tzinfo=UTC)
