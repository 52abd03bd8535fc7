"""Answers about invoices. Money is decimal text in the currency's main unit, before tax."""

from __future__ import annotations

from typing import Literal

from brinkbyte.billing.subscriptions.schemas import LineItem
from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import UnixTime

InvoiceStatus = Literal["open", "paid", "uncollectible", "void"]


class InvoiceHead(OpenWireModel):
    """An invoice without its lines.

    Attributes:
        period_start: of the period that closed; None for a subscription's first.
        total: before tax.
        tax: what the payment provider added.
        amount_due: with tax, zero once it is paid or void.
        overdue: whether it is unpaid after its due date, or a payment of it failed.
    """

    invoice_id: str
    number: str
    status: InvoiceStatus
    currency: str
    boundary: UnixTime
    period_start: UnixTime | None
    period_end: UnixTime | None
    total: str
    tax: str
    amount_due: str
    issued_at: UnixTime
    due_at: UnixTime
    paid_at: UnixTime | None
    overdue: bool


class InvoicePage(OpenWireModel):
    """Invoices, newest first; ``next_cursor`` None: there are no more."""

    invoices: tuple[InvoiceHead, ...]
    next_cursor: str | None


class Source(OpenWireModel):
    """Where used units come from: a sealed batch of an instance, or what was reported unsealed.

    Attributes:
        epoch: of the chain; None: reported by the vendor's own services, without a batch.
        receipt_sha256: of the signed receipt that the instance holds, hex.
    """

    instance: str
    epoch: str | None
    batch_no: int | None
    events: int
    quantity: str
    received_at: UnixTime | None
    receipt_sha256: str | None


class InvoiceLine(LineItem):
    """A line; ``sources`` where it is for use.

    Attributes:
        part: what of the invoice it belongs to: opening, closing, adjustment, balance.
        source_events: events in all; the sources are at most a thousand.
    """

    part: str
    source_events: int = 0
    sources: tuple[Source, ...] = ()


class Invoice(InvoiceHead):
    """An invoice with its lines."""

    catalog_version: str
    lines: tuple[InvoiceLine, ...]


class Upcoming(OpenWireModel):
    """What the next invoice would say if nothing more happened.

    Attributes:
        invoiced_at: when it is made.
    """

    currency: str
    invoiced_at: UnixTime
    period_start: UnixTime
    period_end: UnixTime
    lines: tuple[LineItem, ...]
    total: str


class Seller(WireModel):
    """Who sells, as it stands on invoices."""

    name: str
    address: tuple[str, ...] = ()
    tax_id: str = ""
    email: str = ""
    payment: tuple[str, ...] = ()
