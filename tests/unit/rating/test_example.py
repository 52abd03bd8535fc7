"""The worked example of docs/invoices.md is what rating says."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from brinkbyte.catalog import load_catalog
from brinkbyte.rating import Agreement, Promotion
from support.subscriptions import Story, day, invoice, summed, used

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[3] / "docs" / "invoices.md"
CATALOG = load_catalog()


def example() -> str:
    """Return the table that the page must show."""
    code = Promotion(
        code="TEN", percent=Decimal(10), lines=("vision.base_seat",), starts_at=day("2026-11-01")
    )
    told = Story(day("2026-11-01")).then(
        "2026-11-01",
        plans={"platform": "standard"},
        quantities={"vision.base_seat": 10, "vision.integration.sms": 1},
        agreement=Agreement(promotions=(code,)),
    )
    told.then(
        "2026-11-16 10:00",
        plans={"platform": "enterprise"},
        quantities={"vision.base_seat": 15, "vision.integration.sms": 1},
    )
    told.then("2026-11-20 10:00", quantities={"vision.base_seat": 14, "vision.integration.sms": 1})
    usage = {"platform.storage_gb": used(1200), "vision.sms": used(163, "12.345")}
    lines = invoice(CATALOG, told, "2026-12-01", usage)
    table = ["| Kind | What | Quantity | Price | Days | Amount |", "|---|---|---|---|---|---|"]
    for line in lines:
        price = "" if line.unit_price is None else f"{line.unit_price:f}"
        days = "" if line.days is None else f"{line.days} of {line.of_days}"
        table.append(
            f"| {line.kind} | {line.description} | {line.quantity:f} | {price} | {days} "
            f"| {line.amount:f} |"
        )
    table.append(f"| | **Total** | | | | **{summed(CATALOG, lines)}** |")
    return "\n".join(table)


def test_the_page_shows_what_rating_says() -> None:
    shown = PAGE.read_text(encoding="utf-8").split("<!-- example -->\n", 1)[1]
    assert shown.split("\n<!-- /example -->", 1)[0] == example()
