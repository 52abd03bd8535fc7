"""Codes are redeemed as the price list offers them; a year ahead as offered or agreed."""

from __future__ import annotations

from decimal import Decimal
from importlib.resources import files

import pytest
import yaml

from brinkbyte.catalog import Catalog, CatalogError, Terms, load_catalog, parse_catalog
from brinkbyte.rating import Agreement, annual_percent, redeem
from support.subscriptions import Story, day, invoice, summed

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    text = files("brinkbyte.catalog").joinpath("data/catalog-2026-11.yaml").read_text("utf-8")
    data = yaml.safe_load(text)
    data["promotions"] = {
        "HALF": {
            "title": "Half price",
            "percent": "50",
            "plans": ["platform.plan.standard", "platform.plan.enterprise"],
            "lines": ["platform.plan.standard"],
            "months": 3,
            "first_day": "2026-11-01",
            "last_day": "2026-11-30",
        },
        "FIVE": {"title": "Five off", "amount": "5", "first_day": "2026-11-01"},
    }
    data["rules"]["annual_payment"]["percent"] = "12.5"
    return parse_catalog(yaml.safe_dump(data))


def test_a_code_counts_from_its_day_for_its_months(catalog: Catalog) -> None:
    terms = Terms(plans={"platform": "standard"})
    promotion = redeem(catalog, " half ", day("2026-11-30 23:59"), terms=terms)
    assert (promotion.code, promotion.percent, promotion.amount) == ("HALF", Decimal(50), None)
    assert promotion.lines == ("platform.plan.standard",)
    assert (promotion.starts_at, promotion.ends_at) == (day("2026-11-30"), day("2027-02-28"))
    assert redeem(catalog, "FIVE", day("2027-06-01")).ends_at is None


def test_a_new_subscription_gets_as_many_months_as_the_code_says(catalog: Catalog) -> None:
    terms = Terms(plans={"platform": "standard"})
    promotion = redeem(catalog, "HALF", day("2026-11-10 15:00"), terms=terms)
    told = Story(day("2026-11-10")).then(
        "2026-11-10 15:00",
        plans={"platform": "standard"},
        agreement=Agreement(promotions=(promotion,)),
    )
    paid = [
        summed(catalog, invoice(catalog, told, boundary, {}))
        for boundary in ("2026-11-10", "2026-12-10", "2027-01-10", "2027-02-10")
    ]
    assert paid == ["49.50", "49.50", "49.50", "99.00"]


@pytest.mark.parametrize(
    ("code", "at", "plans", "what"),
    [
        ("NOPE", "2026-11-10", {"platform": "standard"}, "unknown promotion code 'NOPE'"),
        ("HALF", "2026-10-31 23:59", {"platform": "standard"}, "can be redeemed from 2026-11-01"),
        ("HALF", "2026-12-01", {"platform": "standard"}, "ended on 2026-11-30"),
        ("HALF", "2026-11-10", {"platform": "free"}, "not for this plan"),
        ("HALF", "2026-11-10", {}, "not for this plan"),
    ],
)
def test_a_code_that_does_not_count_is_refused(
    catalog: Catalog, code: str, at: str, plans: dict[str, str], what: str
) -> None:
    with pytest.raises(CatalogError, match=what) as caught:
        redeem(catalog, code, day(at), terms=Terms(plans=plans))
    assert "FIVE" not in str(caught.value)
    assert caught.value.reason == "Catalog"


def test_a_year_ahead_is_offered_or_agreed(catalog: Catalog) -> None:
    assert annual_percent(catalog) == Decimal("12.5")
    assert annual_percent(catalog, Decimal(20)) == 20
    assert annual_percent(load_catalog(), Decimal(0)) == 0
    with pytest.raises(CatalogError, match="contact sales"):
        annual_percent(load_catalog())
