"""What Stripe keeps of an account, and its rules: customers, draft and final invoices, events."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_ITEMS = 250
SEARCH_LAG = 60
_SEARCH = re.compile(r"metadata\['([^']+)'\]:'((?:[^'\\]|\\.)*)'")


class RefusalError(Exception):
    """An answer of 4xx."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        error: dict[str, Any] = {"type": "invalid_request_error", "message": message}
        if code is not None:
            error["code"] = code
        if param is not None:
            error["param"] = param
        self.body = {"error": error}


def _missing(what: str, key: str) -> RefusalError:
    return RefusalError(f"No such {what}: '{key}'", status=404, code="resource_missing", param="id")


@dataclass
class StripeAccount:
    """One account; every change makes an event.

    Attributes:
        clock: returns Unix seconds.
        tax_percent: of every line, where automatic tax is on and the customer has an address.
    """

    clock: Callable[[], float]
    tax_percent: int = 0
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def now(self) -> int:
        return int(self.clock())

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):014d}"

    # ---- customers ---------------------------------------------------------------------------

    def create_customer(self, given: Mapping[str, Any]) -> dict[str, Any]:
        customer = {
            "id": self._id("cus"),
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": self.now,
            "currency": None,
            "delinquent": False,
            "description": None,
            "email": None,
            "livemode": False,
            "metadata": {},
            "name": None,
        }
        self.customers[customer["id"]] = customer
        self._set_customer(customer, given)
        self._event("customer.created", customer)
        return customer

    def _set_customer(self, customer: dict[str, Any], given: Mapping[str, Any]) -> None:
        unsupported = set(given) - {"name", "email", "metadata", "description"}
        assert not unsupported, f"the stand-in does not know {unsupported}"
        for key in ("name", "email", "description"):
            if key in given:
                customer[key] = given[key] or None
        if customer["email"] is not None and "@" not in customer["email"]:
            raise RefusalError(
                f"Invalid email address: {customer['email']}", code="email_invalid", param="email"
            )
        _set_metadata(customer, given)

    def customer(self, key: str) -> dict[str, Any]:
        if key not in self.customers:
            raise _missing("customer", key)
        held = self.customers[key]
        return {"id": key, "object": "customer", "deleted": True} if "deleted" in held else held

    def update_customer(self, key: str, given: Mapping[str, Any]) -> dict[str, Any]:
        customer = self.customer(key)
        if "deleted" in customer:
            raise _missing("customer", key)
        before = dict(customer)
        try:
            self._set_customer(customer, given)
        except RefusalError:
            customer.update(before)
            raise
        self._event("customer.updated", customer)
        return customer

    def delete_customer(self, key: str) -> None:
        self.customers[key] = {"id": key, "deleted": True, "created": 0, "metadata": {}}

    def search_customers(self, query: str) -> list[dict[str, Any]]:
        """Return matches; what is younger than a minute is not in the index yet."""
        found = _SEARCH.fullmatch(query)
        if found is None:
            raise RefusalError("We were unable to parse your search query", param="query")
        name, value = found[1], re.sub(r"\\(.)", r"\1", found[2])
        return [
            each
            for each in self.customers.values()
            if each["metadata"].get(name, "").lower() == value.lower()
            and each["created"] <= self.now - SEARCH_LAG
            and "deleted" not in each
        ]

    # ---- invoices ----------------------------------------------------------------------------

    def create_invoice(self, given: Mapping[str, Any]) -> dict[str, Any]:
        customer = self.customers.get(given.get("customer", ""))
        if customer is None or "deleted" in customer:
            raise RefusalError("No such customer", code="resource_missing", param="customer")
        if given.get("collection_method") != "send_invoice":
            raise RefusalError("You may only specify `due_date` when it is sent", param="due_date")
        if customer["email"] is None:
            raise RefusalError(
                "Missing email. In order to create invoices that are sent to the customer, the "
                "customer must have a valid email."
            )
        if "due_date" not in given:
            raise RefusalError("You must provide `due_date` or `days_until_due`", param="due_date")
        if given.get("pending_invoice_items_behavior", "exclude") != "exclude":
            raise AssertionError("the stand-in has no pending items")
        self._check_due(given["due_date"])
        invoice = self._new_invoice(given)
        _set_metadata(invoice, given)
        self.invoices[invoice["id"]] = invoice
        self.lines[invoice["id"]] = []
        self._total(invoice)
        self._event("invoice.created", invoice)
        return invoice

    def _new_invoice(self, given: Mapping[str, Any]) -> dict[str, Any]:
        taxed = given.get("automatic_tax", {}).get("enabled", False)
        return {
            "id": self._id("in"),
            "object": "invoice",
            "amount_due": 0,
            "amount_overpaid": 0,
            "amount_paid": 0,
            "amount_paid_off_stripe": 0,
            "amount_remaining": 0,
            "amount_shipping": 0,
            "attempt_count": 0,
            "attempted": False,
            "auto_advance": given.get("auto_advance", False),
            "automatic_tax": {
                "disabled_reason": None,
                "enabled": taxed,
                "liability": {"type": "self"} if taxed else None,
                "provider": "stripe" if taxed else None,
                "status": None,
            },
            "billing_reason": "manual",
            "collection_method": "send_invoice",
            "created": self.now,
            "currency": given["currency"],
            "customer": given["customer"],
            "default_tax_rates": [],
            "description": given.get("description"),
            "discounts": [],
            "due_date": given["due_date"],
            "hosted_invoice_url": None,
            "issuer": {"type": "self"},
            "livemode": False,
            "metadata": {},
            "number": None,
            "payment_settings": {
                "default_mandate": None,
                "payment_method_options": None,
                "payment_method_types": None,
            },
            "period_end": self.now,
            "period_start": self.now,
            "post_payment_credit_notes_amount": 0,
            "pre_payment_credit_notes_amount": 0,
            "starting_balance": 0,
            "status": "draft",
            "status_transitions": {
                "finalized_at": None,
                "marked_uncollectible_at": None,
                "paid_at": None,
                "voided_at": None,
            },
        }

    def _check_due(self, due: int) -> None:
        if due <= self.now:
            raise RefusalError("The due date must be in the future.", param="due_date")

    def invoice(self, key: str) -> dict[str, Any]:
        if key not in self.invoices:
            raise _missing("invoice", key)
        return self.invoices[key]

    def draft(self, key: str, doing: str) -> dict[str, Any]:
        """Return an invoice that may still be changed."""
        invoice = self.invoice(key)
        if invoice["status"] != "draft":
            raise RefusalError(
                f"This invoice is no longer editable: it is {invoice['status']} ({doing}).",
                code="invoice_not_editable",
            )
        return invoice

    def update_invoice(self, key: str, given: Mapping[str, Any]) -> dict[str, Any]:
        invoice = self.draft(key, "update")
        unsupported = set(given) - {"due_date", "metadata", "description"}
        assert not unsupported, f"the stand-in does not know {unsupported}"
        if "due_date" in given:
            self._check_due(given["due_date"])
            invoice["due_date"] = given["due_date"]
        if "description" in given:
            invoice["description"] = given["description"]
        _set_metadata(invoice, given)
        self._event("invoice.updated", invoice)
        return invoice

    def delete_invoice(self, key: str) -> dict[str, Any]:
        self.draft(key, "delete")
        del self.invoices[key], self.lines[key]
        return {"id": key, "object": "invoice", "deleted": True}

    def create_item(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if "invoice" not in given:
            raise AssertionError("the stand-in has no pending items")
        if "amount" not in given:
            raise RefusalError("Missing required param: amount.", param="amount")
        invoice = self.draft(given["invoice"], "item")
        if invoice["customer"] != given.get("customer"):
            raise RefusalError("The invoice is of another customer.", param="customer")
        if invoice["currency"] != given.get("currency"):
            raise RefusalError("The currency differs from the invoice's.", param="currency")
        lines = self.lines[invoice["id"]]
        if len(lines) >= MAX_ITEMS:
            raise RefusalError(f"An invoice can have at most {MAX_ITEMS} items.", param="invoice")
        exclusive = given.get("tax_behavior") == "exclusive"
        metadata = dict(given.get("metadata") or {})
        common = {
            "currency": given["currency"],
            "description": given.get("description"),
            "discountable": given.get("discountable", True),
            "discounts": [],
            "livemode": False,
            "metadata": metadata,
            "period": {"start": self.now, "end": self.now},
            "quantity": 1,
            "quantity_decimal": "1",
        }
        item = {
            **common,
            "id": self._id("ii"),
            "object": "invoiceitem",
            "amount": given["amount"],
            "customer": given["customer"],
            "date": self.now,
            "invoice": invoice["id"],
            "proration": False,
        }
        line = {
            **common,
            "id": self._id("il"),
            "object": "line_item",
            "amount": given["amount"],
            "invoice": invoice["id"],
            "parent": {
                "type": "invoice_item_details",
                "invoice_item_details": {"invoice_item": item["id"], "proration": False},
                "subscription_item_details": None,
            },
            "subtotal": given["amount"],
            "taxes": [self._tax(given["amount"], exclusive=exclusive)]
            if invoice["automatic_tax"]["enabled"]
            else [],
        }
        self.items[item["id"]] = item
        lines.append(line)
        self._total(invoice)
        self._event("invoice.updated", invoice)
        return item

    def _tax(self, amount: int, *, exclusive: bool) -> dict[str, Any]:
        part = 100 if exclusive else 100 + self.tax_percent
        return {
            "amount": (2 * amount * self.tax_percent + part) // (2 * part),
            "tax_behavior": "exclusive" if exclusive else "inclusive",
            "tax_rate_details": None,
            "taxability_reason": "standard_rated",
            "taxable_amount": amount,
            "type": "tax_rate_details",
        }

    def _total(self, invoice: dict[str, Any]) -> None:
        lines = self.lines[invoice["id"]]
        taxes = [tax for line in lines for tax in line["taxes"]]
        added = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
        inside = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
        subtotal = sum(line["amount"] for line in lines)
        total = subtotal + added
        paid = invoice["status"] == "paid"
        due = max(0, total)
        invoice.update(
            subtotal=subtotal,
            subtotal_excluding_tax=subtotal - inside,
            total=total,
            total_excluding_tax=subtotal - inside,
            total_taxes=taxes,
            total_discount_amounts=[],
            amount_due=due,
            amount_paid=due if paid else 0,
            amount_remaining=0 if paid else due,
            lines={
                "object": "list",
                "data": lines[:10],
                "has_more": len(lines) > 10,
                "url": f"/v1/invoices/{invoice['id']}/lines",
            },
        )

    def finalize(self, key: str, given: Mapping[str, Any]) -> dict[str, Any]:
        invoice = self.draft(key, "finalize")
        if not self.lines[key]:
            raise RefusalError("Nothing to invoice: it has no items.", code="invoice_no_items")
        self._check_due(invoice["due_date"])
        if invoice["automatic_tax"]["enabled"]:
            if self.customers[invoice["customer"]]["address"] is None:
                raise RefusalError(
                    "The customer's location isn't recognized.",
                    code="customer_tax_location_invalid",
                )
            invoice["automatic_tax"]["status"] = "complete"
        invoice["auto_advance"] = given.get("auto_advance", invoice["auto_advance"])
        invoice["number"] = f"STRIPE-{next(self._numbers):06d}"
        invoice["hosted_invoice_url"] = f"https://invoice.stripe.com/i/{key}"
        invoice["status_transitions"]["finalized_at"] = self.now
        self._move(invoice, "open", "invoice.finalized")
        if invoice["total"] <= 0:
            self.customers[invoice["customer"]]["balance"] += invoice["total"]
            self.pay(key)
        return invoice

    def _move(self, invoice: dict[str, Any], status: str, kind: str) -> None:
        invoice["status"] = status
        self._total(invoice)
        self._event(kind, invoice)

    def void(self, key: str) -> dict[str, Any]:
        invoice = self.invoice(key)
        if invoice["status"] not in {"open", "uncollectible"}:
            raise RefusalError(
                f"You can only void an open or uncollectible invoice; it is {invoice['status']}."
            )
        invoice["status_transitions"]["voided_at"] = self.now
        self._move(invoice, "void", "invoice.voided")
        return invoice

    # ---- what the customer, the bank and time do ----------------------------------------------

    def pay(self, key: str) -> None:
        """The customer pays on Stripe's page."""
        invoice = self.invoice(key)
        assert invoice["status"] in {"open", "uncollectible"}
        invoice["status_transitions"]["paid_at"] = self.now
        invoice["attempted"] = True
        self._move(invoice, "paid", "invoice.paid")

    def fail_payment(self, key: str) -> None:
        """The customer's card is declined."""
        invoice = self.invoice(key)
        invoice["attempted"] = True
        invoice["attempt_count"] += 1
        self._move(invoice, "open", "invoice.payment_failed")

    def write_off(self, key: str) -> None:
        """Stripe gives up on it."""
        invoice = self.invoice(key)
        invoice["status_transitions"]["marked_uncollectible_at"] = self.now
        self._move(invoice, "uncollectible", "invoice.marked_uncollectible")

    def of_key(self, key: str) -> list[dict[str, Any]]:
        """Return all invoices that carry a key of ours."""
        return [
            each
            for each in self.invoices.values()
            if each["metadata"].get("brinkbyte_invoice") == key
        ]

    def _event(self, kind: str, about: Mapping[str, Any]) -> None:
        self.events.append(
            {
                "id": self._id("evt"),
                "object": "event",
                "api_version": "2026-08-26.dahlia",
                "created": self.now,
                # As it is now: a late delivery shows an old state.
                "data": {"object": _copied(about)},
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
                "type": kind,
            }
        )


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _set_metadata(held: dict[str, Any], given: Mapping[str, Any]) -> None:
    if given.get("metadata") == "":
        held["metadata"] = {}
        return
    for key, value in given.get("metadata", {}).items():
        if len(key) > 40 or len(value) > 500:
            raise RefusalError("Metadata is too long.", param=f"metadata[{key}]")
        held["metadata"] = {k: v for k, v in held["metadata"].items() if k != key}
        if value:
            held["metadata"][key] = value
    if len(held["metadata"]) > 50:
        raise RefusalError("Metadata can have at most 50 keys.", param="metadata")
