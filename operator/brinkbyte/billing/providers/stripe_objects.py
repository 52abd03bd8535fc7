"""Objects of Stripe's in our terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import stripe

from brinkbyte.billing.providers.base import (
    InvoiceState,
    Item,
    OurInvoice,
    TheirInvoice,
    TheirSubscription,
)
from brinkbyte.billing.providers.errors import MismatchError

# Names of our keys in the metadata of what we make.
CUSTOMER: Final = "brinkbyte_customer"
INVOICE: Final = "brinkbyte_invoice"
ITEM: Final = "brinkbyte_item"
PRICE: Final = "brinkbyte_price"
TRIAL_END: Final = "brinkbyte_trial_end"
CANCEL: Final = "brinkbyte_cancel"
_STATES: Final[Mapping[str | None, InvoiceState]] = {
    None: "draft",
    "draft": "draft",
    "open": "open",
    "paid": "paid",
    "uncollectible": "uncollectible",
    "void": "void",
}


def check_lines(
    invoice: OurInvoice, items: Sequence[Item], there: Mapping[str, Sequence[int]]
) -> None:
    """See that a draft has nothing but items of ours, each once.

    Raises:
        MismatchError: it has other things.
    """
    wanted = {item.key: [item.amount] for item in items}
    wrong = sorted(key for key, amounts in there.items() if wanted.get(key) != list(amounts))
    if wrong:
        raise MismatchError(
            f"invoice {invoice.number}: the draft has items that are not ours, twice, or of "
            f"another amount ({', '.join(key or 'without a key' for key in wrong)[:100]}); delete "
            "the draft at Stripe, the next run makes it anew",
            reason="ItemsDiffer",
        )


def mismatch(invoice: OurInvoice, theirs: TheirInvoice) -> MismatchError:
    """Return the error of two sums that differ."""
    return MismatchError(
        f"invoice {invoice.number} is {invoice.total} in minor units, {theirs.reference} at Stripe "
        f"is {theirs.total} before tax; look at both",
        reason="TotalsDiffer",
    )


def their_invoice(copy: stripe.Invoice) -> TheirInvoice:
    """Return an invoice; its total is before tax."""
    tax = sum(each.amount for each in copy.total_taxes or ())
    paid_at = copy.status_transitions.paid_at
    return TheirInvoice(
        reference=copy.id,
        key=metadata_of(copy).get(INVOICE, ""),
        state=_STATES[copy.status],
        total=copy.total - tax if copy.total_excluding_tax is None else copy.total_excluding_tax,
        tax=tax,
        paid_at=None if paid_at is None else _moment(paid_at),
        url=copy.hosted_invoice_url,
    )


def metadata_of(held: Any) -> Mapping[str, str]:
    """Return an object's metadata."""
    metadata = held.metadata
    return {} if metadata is None else metadata.to_dict()


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def subscription_of(held: stripe.Customer, now: float) -> TheirSubscription:
    """Return what a customer's metadata says of its subscription."""
    noted = metadata_of(held)
    trial = _moment(int(noted[TRIAL_END])) if noted.get(TRIAL_END) else None
    status = "active"
    if noted.get(CANCEL) == "now":
        status = "canceled"
    elif trial is not None and trial.timestamp() > now:
        status = "trialing"
    return TheirSubscription(held.id, status, trial, noted.get(CANCEL) == "period_end")
