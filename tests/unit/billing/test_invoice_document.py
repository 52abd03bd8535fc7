"""The PDF of an invoice: everything to pay from is there, on every page, in any script."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brinkbyte.billing.invoices.document import Document, render
from brinkbyte.billing.invoices.schemas import Seller
from brinkbyte.rating.model import Line, Period

PERIOD = Period(start=datetime(2026, 10, 25, tzinfo=UTC), end=datetime(2026, 11, 25, tzinfo=UTC))


def line(number: int = 0, amount: str = "12.50", description: str = "") -> Line:
    return Line(
        line="vision.base_seat",
        kind="rise",
        description=description or f"Charge number {number}",
        quantity=Decimal(1),
        unit_price=Decimal(60),
        days=7,
        of_days=31,
        period=PERIOD,
        amount=Decimal(amount),
    )


DOCUMENT = Document(
    seller=Seller(
        name="Seller Pty Ltd",
        address=("1 Harbour Street", "Sydney"),
        tax_id="ABN 12 345",
        email="billing@seller.test",
        payment=("Account 1234, reference {number}",),
    ),
    buyer=("Acme Ltd", "acme"),
    number="acme-0007",
    issued_at=datetime(2026, 11, 25, 0, 10, tzinfo=UTC),
    due_at=datetime(2026, 12, 9, 0, 10, tzinfo=UTC),
    paid_at=None,
    status="open",
    period=(PERIOD.start, PERIOD.end),
    currency="USD",
    lines=(line(),),
    subtotal=Decimal("12.50"),
    tax=Decimal("1.25"),
)


def pages(document: Document) -> list[str]:
    reader = pypdf.PdfReader(BytesIO(render(document)))
    return [" ".join(page.extract_text().split()) for page in reader.pages]


def test_everything_to_pay_from_is_on_it() -> None:
    (text,) = pages(DOCUMENT)
    for wanted in (
        "Seller Pty Ltd", "1 Harbour Street", "ABN 12 345", "billing@seller.test", "Acme Ltd",
        "Customer acme", "acme-0007", "25 November 2026", "9 December 2026",
        "25 October 2026 to 24 November 2026, 7 of 31 days", "Charge number 0", "60.00",
        "Subtotal USD 12.50", "Tax USD 1.25", "Total USD 13.75", "Amount due USD 13.75",
        "How to pay", "Account 1234, reference acme-0007", "page 1 of 1",
    ):  # fmt: skip
        assert wanted in text, wanted


def test_the_same_invoice_is_the_same_bytes() -> None:
    assert render(DOCUMENT) == render(DOCUMENT)


def test_many_lines_go_over_pages_with_heads_and_numbers() -> None:
    many = replace(DOCUMENT, lines=tuple(line(n) for n in range(1, 91)))
    found = pages(many)
    assert len(found) >= 3
    for number, text in enumerate(found, 1):
        assert f"Invoice acme-0007 · page {number} of {len(found)}" in text
    assert all("Description" in text for text in found[:-1])
    said = " ".join(found)
    assert [n for n in range(1, 91) if f"Charge number {n} " not in said] == []
    assert said.count("Amount due") == 1


@pytest.mark.parametrize(
    ("status", "title"), [("paid", "Invoice, paid"), ("void", "Invoice, void")]
)
def test_what_is_settled_asks_for_nothing(status: str, title: str) -> None:
    done = replace(DOCUMENT, status=status, paid_at=DOCUMENT.due_at)
    (text,) = pages(done)
    assert title in text
    assert "Amount due USD 0.00" in text
    assert "How to pay" not in text


def test_first_invoice_has_no_closed_period_and_credit_is_negative() -> None:
    (text,) = pages(replace(DOCUMENT, period=None, lines=(line(amount="-3.00"),)))
    assert "For the period" not in text
    assert "USD -3.00" in text


def test_markup_in_names_is_text() -> None:
    (text,) = pages(replace(DOCUMENT, buyer=("Ä & Söhne <b>GmbH</b> &amp;", "acme")))
    assert "Ä & Söhne <b>GmbH</b> &amp;" in text


def test_a_name_that_no_font_shows_becomes_question_marks() -> None:
    (text,) = pages(replace(DOCUMENT, buyer=("عرب", "acme")))
    assert "??? Customer acme" in text


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_stops_an_invoice(name: str, description: str) -> None:
    odd = replace(
        DOCUMENT,
        buyer=(name, "acme"),
        number=name[:50],
        lines=(line(description=description or "x"),),
        seller=DOCUMENT.seller.model_copy(update={"name": description, "payment": (name,)}),
    )
    assert render(odd).startswith(b"%PDF-")


@pytest.mark.parametrize(
    "text", ["W" * 2000, "株" * 2000, "a b " * 500], ids=["latin", "cjk", "words"]
)
def test_long_names_do_not_stop_it(text: str) -> None:
    long = replace(DOCUMENT, buyer=(text, text[:128]), lines=(line(description=text),))
    assert render(long).startswith(b"%PDF-")
