"""What a payment provider does for us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

InvoiceState = Literal["draft", "open", "paid", "uncollectible", "void"]


@dataclass(frozen=True)
class Payer:
    """Who pays, as a provider needs to know.

    Attributes:
        customer_id: ours.
        email: where invoices go; None: none is known.
        reference: the provider's id, if we remember it.
    """

    customer_id: str
    name: str
    email: str | None
    reference: str | None = None


@dataclass(frozen=True)
class Item:
    """One line of an invoice; ``amount`` in minor units, negative for a credit."""

    key: str
    description: str
    amount: int


@dataclass(frozen=True)
class OurInvoice:
    """An invoice that the provider shall collect.

    Attributes:
        key: our invoice id; stands in the metadata of whatever is made from it.
        customer_id: the provider's, as :meth:`BillingProvider.ensure_customer` returned it.
        currency: ISO code.
        total: minor units, before tax: the sum of the items.
        due_at: the same in every call until it has passed.
        number: ours, for people.
    """

    key: str
    customer_id: str
    currency: str
    total: int
    items: Sequence[Item]
    due_at: datetime
    number: str


@dataclass(frozen=True)
class TheirInvoice:
    """The provider's copy; ``total`` before tax and ``tax`` in minor units."""

    reference: str
    key: str
    state: InvoiceState
    total: int
    tax: int
    paid_at: datetime | None
    url: str | None = None


@dataclass(frozen=True)
class TheirSubscription:
    """A provider's own record that somebody subscribes; it carries no price of ours."""

    reference: str
    status: str
    trial_ends_at: datetime | None
    cancel_at_period_end: bool


@dataclass(frozen=True)
class ProviderEvent:
    """Something that a provider told us; handlers read the object again before they believe it.

    Attributes:
        event_id: unique at the provider.
        kind: what happened, such as ``invoice.paid``.
        object_id: the provider's id of what it happened to; empty if it has none.
        created_at: when, by the provider's clock.
    """

    event_id: str
    kind: str
    object_id: str
    created_at: datetime


class BillingProvider(Protocol):
    """A payment provider. Every call may be repeated: the same key never makes a second object.

    Raises (all calls): ``BillingProviderError`` subclasses, temporary and permanent ones apart.
    """

    name: str
    needs_email: bool
    """Whether it sends invoices to the customer itself."""

    async def ensure_customer(self, payer: Payer) -> str:
        """Return the provider's id of a customer, made if it is not there."""
        ...

    async def create_subscription(
        self, customer_id: str, price_id: str, trial_days: int = 0
    ) -> TheirSubscription:
        """Note that a customer subscribes; once it does, the same call changes nothing.

        Args:
            customer_id: the provider's, as :meth:`ensure_customer` returned it.
            price_id: what is subscribed to; a name of ours, the provider charges nothing for it.
            trial_days: days without a charge; 0: none.
        """
        ...

    async def update_subscription(self, reference: str, price_id: str) -> TheirSubscription:
        """Change what a customer subscribes to."""
        ...

    async def cancel_subscription(
        self, reference: str, *, at_period_end: bool
    ) -> TheirSubscription:
        """Cancel now, or when the period ends."""
        ...

    async def ensure_invoice(self, invoice: OurInvoice) -> TheirInvoice:
        """Bring the provider's copy to what ours says, and finalize it when the sums are equal."""
        ...

    async def invoice(self, reference: str) -> TheirInvoice:
        """Return the provider's copy as it is now."""
        ...

    async def void_invoice(self, reference: str) -> TheirInvoice:
        """Take a final invoice back."""
        ...

    def webhook(self, body: bytes, headers: Mapping[str, str]) -> ProviderEvent:
        """Verify the raw body of a delivery and return what it says.

        Raises:
            WebhookError: not the provider's, or not of now.
        """
        ...

    async def events_since(self, moment: datetime) -> Sequence[ProviderEvent]:
        """Return everything that happened since, oldest first."""
        ...
