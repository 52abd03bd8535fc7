"""An invoice as a PDF that a person would pay from.

Fonts: Vera, which reportlab brings, for Latin; the Adobe CID fonts, which every viewer has or
replaces, for Chinese, Japanese, Korean, Greek and Cyrillic. What none of them can show becomes a
question mark: a name never stops an invoice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from io import BytesIO
from typing import Any, Final
from unicodedata import category, normalize
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from brinkbyte.billing.invoices.schemas import Seller
from brinkbyte.rating.model import Line

_REGULAR: Final = "InvoiceSans"
_BOLD: Final = "InvoiceSans-Bold"
_MARGIN: Final = 18 * mm
_GREY: Final = colors.HexColor("#5b6470")
_RULE: Final = colors.HexColor("#c9ced6")
_LONGEST: Final = 400
"""Characters of one text at most: a cell does not go over pages."""
_CODECS: Final = (
    ("HeiseiKakuGo-W5", "shift_jis"),
    ("STSong-Light", "gb2312"),
    ("HYGothic-Medium", "euc_kr"),
    ("MSung-Light", "big5"),
)
"""CID fonts, each with the encoding whose characters it has."""


@dataclass(frozen=True)
class Document:
    """What stands on an invoice.

    Attributes:
        buyer: name, and the customer's id.
        period: that closed; None: a first invoice.
        subtotal: before tax, in the currency's main unit.
        tax: what the payment provider added.
    """

    seller: Seller
    buyer: tuple[str, ...]
    number: str
    issued_at: datetime
    due_at: datetime
    paid_at: datetime | None
    status: str
    period: tuple[datetime, datetime] | None
    currency: str
    lines: tuple[Line, ...]
    subtotal: Decimal
    tax: Decimal


@cache
def _fonts() -> Callable[[str], str | None]:
    """Register the fonts once; returns which font shows a character."""
    pdfmetrics.registerFont(TTFont(_REGULAR, "Vera.ttf"))
    pdfmetrics.registerFont(TTFont(_BOLD, "VeraBd.ttf"))
    pdfmetrics.registerFontFamily(_REGULAR, normal=_REGULAR, bold=_BOLD)
    for name, _ in _CODECS:
        pdfmetrics.registerFont(UnicodeCIDFont(name))
    shown = pdfmetrics.getFont(_REGULAR).face.charToGlyph

    @cache
    def font_of(character: str) -> str | None:
        if ord(character) in shown:
            return ""
        for name, codec in _CODECS:
            try:
                character.encode(codec)
            except UnicodeEncodeError:
                continue
            return name
        return None

    return font_of


def markup(text: str) -> str:
    """Return text as a paragraph's markup: escaped, each run in a font that can show it."""
    font_of = _fonts()
    runs: list[tuple[str, str]] = []
    for character in normalize("NFC", text[:_LONGEST]):
        if category(character) in ("Cc", "Cf", "Cs", "Co", "Cn"):
            # Controls and what has no glyph at all; text directions are the viewer's own.
            character = " " if character in "\t\n\r" else ""  # noqa: PLW2901
        if not character:
            continue
        font = font_of(character)
        if font is None:
            font, character = "", "?"  # noqa: PLW2901
        if runs and runs[-1][0] == font:
            runs[-1] = (font, runs[-1][1] + character)
        else:
            runs.append((font, character))
    return "".join(
        escape(run) if not font else f'<font name="{font}">{escape(run)}</font>'
        for font, run in runs
    )


def _style(name: str, **more: Any) -> ParagraphStyle:
    given: dict[str, Any] = {
        "fontName": _REGULAR,
        "fontSize": 8.5,
        "leading": 11.5,
        "splitLongWords": True,
        "wordWrap": "CJK" if more.pop("breaks", False) else None,
        **more,
    }
    return ParagraphStyle(name, **given)


_TEXT: Final = _style("text")
_SMALL: Final = _style("small", fontSize=7, leading=9.5, textColor=_GREY)
_RIGHT: Final = _style("right", alignment=TA_RIGHT)
_LABEL: Final = _style("label", fontSize=7, leading=10, textColor=_GREY)
_STRONG: Final = _style("strong", fontName=_BOLD)
_STRONG_RIGHT: Final = _style("strong-right", fontName=_BOLD, alignment=TA_RIGHT)
_TITLE: Final = _style("title", fontName=_BOLD, fontSize=20, leading=25)
_TOTAL: Final = _style("total", fontName=_BOLD, fontSize=11, leading=15, alignment=TA_RIGHT)


def render(document: Document) -> bytes:
    """Return the invoice as PDF; the same invoice gives the same bytes."""
    _fonts()
    out = BytesIO()
    template = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN + 6 * mm,
        title=f"Invoice {document.number}",
        author=document.seller.name,
        invariant=1,
    )
    # A frame keeps six points free on each side.
    template.build(_story(document, template.width - 12), canvasmaker=_footer(document))
    return out.getvalue()


def _story(document: Document, width: float) -> list[Flowable]:
    return [
        _heading(document, width),
        Spacer(1, 9 * mm),
        _lines(document, width),
        Spacer(1, 4 * mm),
        KeepTogether([_sums(document, width), Spacer(1, 8 * mm), *_how_to_pay(document)]),
    ]


def _text(text: str, style: ParagraphStyle = _TEXT) -> Paragraph:
    return Paragraph(markup(text), style)


def _day(moment: datetime) -> str:
    at = moment.astimezone(UTC)
    return f"{at.day} {at:%B %Y}"


def _last_day(moment: datetime) -> str:
    # Periods end at a midnight that is no longer theirs.
    return _day(datetime.fromtimestamp(moment.timestamp() - 1, UTC))


def _money(amount: Decimal, currency: str) -> str:
    return (
        f"{currency} {amount:,.2f}"
        if amount.as_tuple().exponent == -2
        else f"{currency} {amount:,f}"
    )


def _heading(document: Document, width: float) -> Flowable:
    seller = document.seller
    from_whom = [_text("From", _LABEL), _text(seller.name, _STRONG)]
    from_whom += [_text(line) for line in seller.address]
    if seller.tax_id:
        from_whom.append(_text(f"Tax number {seller.tax_id}"))
    if seller.email:
        from_whom.append(_text(seller.email))
    to_whom = [_text("To", _LABEL), _text(document.buyer[0], _STRONG)]
    to_whom += [_text(f"Customer {line}", _SMALL) for line in document.buyer[1:]]
    facts = [("Invoice number", document.number), ("Date", _day(document.issued_at))]
    if document.status == "paid" and document.paid_at is not None:
        facts.append(("Paid", _day(document.paid_at)))
    elif document.status == "void":
        facts.append(("Taken back", "nothing is to be paid"))
    else:
        facts.append(("Due", _day(document.due_at)))
    if document.period is not None:
        start, end = document.period
        facts.append(("For the period", f"{_day(start)} to {_last_day(end)}"))
    right = [[_text(label, _LABEL), _text(value, _RIGHT)] for label, value in facts]
    half = width / 2
    block = Table(right, colWidths=[half * 0.26, half * 0.74], style=_plain())
    title = {"paid": "Invoice, paid", "void": "Invoice, void"}.get(document.status, "Invoice")
    return Table(
        [[_text(title, _TITLE), ""], [from_whom, block], [to_whom, ""]],
        colWidths=[half, half],
        style=TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 10),
                ("SPAN", (1, 1), (1, 2)),
            ]
        ),
    )


def _plain() -> TableStyle:
    return TableStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
        ]
    )


def _lines(document: Document, width: float) -> Flowable:
    rows: list[list[Any]] = [
        [
            _text("Description", _LABEL),
            Paragraph("Quantity", _right_label()),
            Paragraph("Price", _right_label()),
            Paragraph("Amount", _right_label()),
        ]
    ]
    for line in document.lines:
        amount = _money(line.amount, document.currency)
        rows.append(
            [
                [_text(line.description), _text(_of(line), _SMALL)],
                _text(_number(line.quantity), _RIGHT),
                _text(_price(line), _RIGHT),
                _text(amount, _RIGHT),
            ]
        )
    return Table(
        rows,
        colWidths=[width * 0.5, width * 0.15, width * 0.16, width * 0.19],
        repeatRows=1,
        style=TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
                ("LINEBELOW", (0, 1), (-1, -1), 0.3, _RULE),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 3.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
            ]
        ),
    )


def _right_label() -> ParagraphStyle:
    return _style("right-label", fontSize=7, leading=10, textColor=_GREY, alignment=TA_RIGHT)


def _of(line: Line) -> str:
    """Say for which time a line is, and which part of it counts."""
    start, end = line.period.start, line.period.end
    text = "" if end <= start else f"{_day(start)} to {_last_day(end)}"
    if line.days is not None and line.of_days is not None and line.days != line.of_days:
        text += f", {line.days} of {line.of_days} days"
    return text.lstrip(", ")


def _number(quantity: Decimal) -> str:
    text = f"{quantity:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _price(line: Line) -> str:
    if line.unit_price is None:
        return ""
    cents = Decimal("0.01")
    exact = line.unit_price.quantize(cents) == line.unit_price
    price = f"{line.unit_price.quantize(cents) if exact else line.unit_price:,f}"
    return price if line.per == 1 else f"{price} per {line.per:,}"


def _sums(document: Document, width: float) -> Flowable:
    total = document.subtotal + document.tax
    paid = document.status in ("paid", "void")
    rows = [
        [_text("Subtotal", _RIGHT), _text(_money(document.subtotal, document.currency), _RIGHT)],
        [_text("Tax", _RIGHT), _text(_money(document.tax, document.currency), _RIGHT)],
        [_text("Total", _STRONG_RIGHT), _text(_money(total, document.currency), _STRONG_RIGHT)],
        [
            _text("Amount due", _TOTAL),
            _text(_money(Decimal("0.00") if paid else total, document.currency), _TOTAL),
        ],
    ]
    style = _plain()
    style.add("LINEABOVE", (0, 2), (-1, 2), 0.5, _RULE)
    style.add("LINEABOVE", (0, 3), (-1, 3), 0.8, colors.black)
    style.add("TOPPADDING", (0, 2), (-1, -1), 4)
    return Table(rows, colWidths=[width * 0.27, width * 0.27], hAlign="RIGHT", style=style)


def _how_to_pay(document: Document) -> list[Flowable]:
    if document.status in ("paid", "void"):
        return []
    told = [line.replace("{number}", document.number) for line in document.seller.payment] or [
        "With the payment method of your account, or by the link in the e-mail of this invoice."
    ]
    return [
        _text("How to pay", _STRONG),
        _text(f"By {_day(document.due_at)}, naming {document.number}."),
        *(_text(line) for line in told),
    ]


def _footer(document: Document) -> type[Canvas]:
    """Return a canvas that writes number, page and pages at the foot of each page."""

    class Numbered(Canvas):  # type: ignore[misc]  # reportlab has no types
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802 - reportlab's name
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, state in enumerate(self._pages, 1):
                self.__dict__.update(state)
                foot = Paragraph(
                    markup(
                        f"{document.seller.name}  ·  Invoice {document.number}  ·  "
                        f"page {number} of {len(self._pages)}"
                    ),
                    _SMALL,
                )
                wide = A4[0] - 2 * _MARGIN
                foot.wrapOn(self, wide, 20 * mm)
                foot.drawOn(self, _MARGIN, _MARGIN / 2)
                super().showPage()
            super().save()

    return Numbered
