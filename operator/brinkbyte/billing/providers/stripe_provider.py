"""Stripe: one standalone draft invoice for each of ours, finalized when it says the same.

No subscription, product or price of Stripe's is used: Stripe would charge by it. What
``create_subscription`` notes is metadata of the customer. All that we make carries our key in its
metadata. See ``docs/payment-providers.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import stripe

from brinkbyte.billing.providers.base import (
    Item,
    OurInvoice,
    Payer,
    ProviderEvent,
    TheirInvoice,
    TheirSubscription,
)
from brinkbyte.billing.providers.errors import (
    MismatchError,
    MissingObjectError,
)
from brinkbyte.billing.providers.items import fit
from brinkbyte.billing.providers.stripe_calls import StripeLine, call, once
from brinkbyte.billing.providers.stripe_objects import (
    CUSTOMER,
    INVOICE,
    ITEM,
    check_lines,
    metadata_of,
    mismatch,
    their_invoice,
)
from brinkbyte.billing.providers.stripe_subscriptions import SubscriptionRecords, customer_of
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks, event_of
from brinkbyte.kit.failpoints import failpoint

API_VERSION: Final = "2026-08-26.dahlia"
"""Of the SDK, of the webhook endpoint, and of the description that tests check calls against."""
MAX_ITEMS: Final = 250
TIMEOUT_SECONDS: Final = 20.0
LISTED_SECONDS: Final = 48 * 3600
"""How young customers are looked for in the list and not by search alone."""
INVOICE_KINDS: Final = (
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overdue",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.updated",
    "invoice.voided",
)
"""What happens to invoices that may change what we think of one."""
_PAGE: Final = 100


class StripeBillingProvider:
    """Stripe by its own SDK.

    Args:
        api_key: secret or restricted key.
        webhooks: verifies deliveries.
        api_base: base URL; another than Stripe's only in tests.
        automatic_tax: let Stripe work out the tax.
        clock: returns Unix seconds.
        timeout: seconds for one call.
    """

    name = "stripe"
    needs_email = True

    def __init__(
        self,
        api_key: str,
        webhooks: StripeWebhooks,
        *,
        clock: Callable[[], float],
        api_base: str = stripe.DEFAULT_API_BASE,
        automatic_tax: bool = False,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._webhooks = webhooks
        self._clock = clock
        self._automatic_tax = automatic_tax
        self._http = StripeLine(timeout)
        # The SDK would send the times of our calls along, and log each call's parameters.
        stripe.enable_telemetry = False
        logging.getLogger("stripe").setLevel(logging.WARNING)
        self._client = stripe.StripeClient(
            api_key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base},
            # The next run tries again; it looks first what became of this one.
            max_network_retries=0,
            http_client=self._http,
        )
        self._records = SubscriptionRecords(self._client, clock)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()

    async def ensure_customer(self, payer: Payer) -> str:
        """Return Stripe's id of a customer, made if it is not there; name and e-mail as ours."""
        found = await self._remembered(payer)
        if found is None:
            found = await once(
                f"brinkbyte:customer:{payer.customer_id}",
                lambda: self._find_customer(payer.customer_id),
                lambda key: self._make_customer(payer.customer_id, key),
            )
            failpoint("push.customer_made")
        if (found.name, found.email) != (payer.name, payer.email):
            # Setting the same values twice does no harm, so this needs no key of ours.
            await call(
                self._client.v1.customers.update_async(
                    found.id, {"name": payer.name, "email": payer.email or ""}
                )
            )
        return found.id

    async def _remembered(self, payer: Payer) -> stripe.Customer | None:
        if payer.reference is None:
            return None
        try:
            return await customer_of(self._client, payer.reference)
        except MissingObjectError:
            return None

    async def _make_customer(self, customer_id: str, key: str) -> stripe.Customer:
        # Only what never changes: name and e-mail may differ in a retry under the same key.
        made = await call(
            self._client.v1.customers.create_async(
                {"metadata": {CUSTOMER: customer_id}}, {"idempotency_key": key}
            )
        )
        return await customer_of(self._client, made.id)

    async def _find_customer(self, customer_id: str) -> stripe.Customer | None:
        quoted = customer_id.replace("\\", "\\\\").replace("'", "\\'")
        found = await call(
            self._client.v1.customers.search_async(
                {"query": f"metadata['{CUSTOMER}']:'{quoted}'", "limit": _PAGE}
            )
        )
        # It ignores case; we do not.
        matching = [each for each in found.data if metadata_of(each).get(CUSTOMER) == customer_id]
        if not matching:
            # The search lags behind, when Stripe is ill by hours; a list is never behind.
            since = int(self._clock()) - LISTED_SECONDS
            listed = await call(
                self._client.v1.customers.list_async({"created": {"gte": since}, "limit": _PAGE})
            )
            while True:
                matching += [e for e in listed.data if metadata_of(e).get(CUSTOMER) == customer_id]
                if not listed.has_more:
                    break
                listed = await call(listed.next_page_async())
        if len(matching) > 1:
            raise MismatchError(
                f"Stripe has {len(matching)} customers of {customer_id}: "
                f"{', '.join(each.id for each in matching)}; delete all but one there",
                reason="TwiceAtProvider",
            )
        return matching[0] if matching else None

    async def create_subscription(
        self, customer_id: str, price_id: str, trial_days: int = 0
    ) -> TheirSubscription:
        """Note in the customer's metadata that it subscribes.

        Raises:
            PermanentProviderError: ``Subscribed``: it subscribes to something else already.
        """
        return await self._records.create(customer_id, price_id, trial_days)

    async def update_subscription(self, reference: str, price_id: str) -> TheirSubscription:
        """Note another price; the trial's end stays."""
        return await self._records.update(reference, price_id)

    async def cancel_subscription(
        self, reference: str, *, at_period_end: bool
    ) -> TheirSubscription:
        """Note the cancellation."""
        return await self._records.cancel(reference, at_period_end=at_period_end)

    async def ensure_invoice(self, invoice: OurInvoice) -> TheirInvoice:
        """Bring Stripe's copy to what ours says; finalize it when both say the same.

        Raises:
            MismatchError: they do not; the copy stays a draft.
        """
        if sum(item.amount for item in invoice.items) != invoice.total:
            raise MismatchError(
                f"invoice {invoice.number}: the items are not its total; nothing was sent",
                reason="ItemsNotTotal",
            )
        copy = await once(
            f"brinkbyte:invoice:{invoice.key}:{int(invoice.due_at.timestamp())}",
            lambda: self._find_invoice(invoice),
            lambda key: self._make_draft(invoice, key),
        )
        failpoint("push.draft")
        if copy.status == "draft":
            await self._fill(invoice, copy)
            failpoint("push.filled")
            copy = await self._finalize(invoice, copy.id)
            failpoint("push.finalized")
        theirs = their_invoice(copy)
        if theirs.total != invoice.total:
            raise mismatch(invoice, theirs)
        return theirs

    async def _find_invoice(self, invoice: OurInvoice) -> stripe.Invoice | None:
        # A list is never behind, as a search may be.
        listed = await call(
            self._client.v1.invoices.list_async({"customer": invoice.customer_id, "limit": _PAGE})
        )
        matching = []
        while True:
            matching += [e for e in listed.data if metadata_of(e).get(INVOICE) == invoice.key]
            if not listed.has_more:
                break
            listed = await call(listed.next_page_async())
        if len(matching) > 1:
            raise MismatchError(
                f"Stripe has {len(matching)} invoices for {invoice.number}: "
                f"{', '.join(each.id for each in matching)}; void or delete all but one there",
                reason="TwiceAtProvider",
            )
        return matching[0] if matching else None

    async def _make_draft(self, invoice: OurInvoice, key: str) -> stripe.Invoice:
        made = await call(
            self._client.v1.invoices.create_async(
                {
                    "customer": invoice.customer_id,
                    "currency": invoice.currency.lower(),
                    "auto_advance": False,
                    "collection_method": "send_invoice",
                    "due_date": int(invoice.due_at.timestamp()),
                    "description": f"Invoice {invoice.number}",
                    "metadata": {INVOICE: invoice.key},
                    # Neither a discount of the customer's nor items that wait for an invoice.
                    "discounts": "",
                    "pending_invoice_items_behavior": "exclude",
                    "automatic_tax": {"enabled": self._automatic_tax},
                },
                {"idempotency_key": key},
            )
        )
        return await call(self._client.v1.invoices.retrieve_async(made.id))

    async def _fill(self, invoice: OurInvoice, copy: stripe.Invoice) -> None:
        items = fit(invoice.items, MAX_ITEMS, number=invoice.number)
        there = await self._lines(copy.id)
        check_lines(invoice, items, there)
        for item in items:
            if item.key in there:
                continue
            await once(
                f"brinkbyte:item:{copy.id}:{item.key}",
                lambda item=item: self._find_line(copy.id, item),  # type: ignore[misc]
                lambda key, item=item: self._add(invoice, copy.id, item, key),  # type: ignore[misc]
                looked=True,
            )
            failpoint("push.item")
        there = await self._lines(copy.id)
        check_lines(invoice, items, there)
        if len(there) != len(items):
            raise MismatchError(
                f"invoice {invoice.number}: {copy.id} lacks items that were added; look at it",
                reason="ItemsMissing",
            )

    async def _add(
        self, invoice: OurInvoice, reference: str, item: Item, key: str
    ) -> Sequence[int]:
        await call(
            self._client.v1.invoice_items.create_async(
                {
                    "customer": invoice.customer_id,
                    "invoice": reference,
                    "amount": item.amount,
                    "currency": invoice.currency.lower(),
                    "description": item.description,
                    "discountable": False,
                    "tax_behavior": "exclusive",
                    "metadata": {ITEM: item.key},
                },
                {"idempotency_key": key},
            )
        )
        return [item.amount]

    async def _find_line(self, reference: str, item: Item) -> Sequence[int] | None:
        return (await self._lines(reference)).get(item.key)

    async def _lines(self, reference: str) -> dict[str, list[int]]:
        """Return the amounts of the copy's lines by our key; foreign ones under an empty key."""
        found: dict[str, list[int]] = {}
        listed = await call(
            self._client.v1.invoices.line_items.list_async(reference, {"limit": _PAGE})
        )
        while True:
            for line in listed.data:
                found.setdefault(metadata_of(line).get(ITEM, ""), []).append(line.amount)
            if not listed.has_more:
                return found
            listed = await call(listed.next_page_async())

    async def _finalize(self, invoice: OurInvoice, reference: str) -> stripe.Invoice:
        copy = await call(self._client.v1.invoices.retrieve_async(reference))
        if their_invoice(copy).total != invoice.total:
            raise mismatch(invoice, their_invoice(copy))
        if copy.status != "draft":
            return copy
        due = int(invoice.due_at.timestamp())
        if copy.due_date != due:
            # Twice the same date does no harm, so this needs no key of ours.
            await call(self._client.v1.invoices.update_async(reference, {"due_date": due}))

        async def done() -> stripe.Invoice | None:
            held = await call(self._client.v1.invoices.retrieve_async(reference))
            return None if held.status == "draft" else held

        # From here on Stripe collects: it sends the invoice and takes the payment.
        return await once(
            f"brinkbyte:finalize:{reference}",
            done,
            lambda key: call(
                self._client.v1.invoices.finalize_invoice_async(
                    reference, {"auto_advance": True}, {"idempotency_key": key}
                )
            ),
            looked=True,
        )

    async def invoice(self, reference: str) -> TheirInvoice:
        """Return Stripe's copy as it is now."""
        return their_invoice(await call(self._client.v1.invoices.retrieve_async(reference)))

    async def void_invoice(self, reference: str) -> TheirInvoice:
        """Void a final invoice; one that is void stays so.

        Raises:
            PermanentProviderError: ``ProviderRefused``: it is paid, or a draft.
        """

        async def done() -> stripe.Invoice | None:
            held = await call(self._client.v1.invoices.retrieve_async(reference))
            return held if held.status == "void" else None

        return their_invoice(
            await once(
                f"brinkbyte:void:{reference}",
                done,
                lambda key: call(
                    self._client.v1.invoices.void_invoice_async(
                        reference, None, {"idempotency_key": key}
                    )
                ),
            )
        )

    def webhook(self, body: bytes, headers: Mapping[str, str]) -> ProviderEvent:
        """Verify the raw body of a delivery and return what it says."""
        return self._webhooks.verify(body, headers)

    async def events_since(self, moment: datetime) -> Sequence[ProviderEvent]:
        """Return what happened to invoices since, oldest first; Stripe keeps 30 days."""
        listed = await call(
            self._client.v1.events.list_async(
                {
                    "created": {"gte": int(moment.timestamp())},
                    "types": list(INVOICE_KINDS),
                    "limit": _PAGE,
                }
            )
        )
        found: list[ProviderEvent] = []
        while True:
            found += [event_of(each.to_dict()) for each in listed.data]
            if not listed.has_more:
                return found[::-1]
            listed = await call(listed.next_page_async())
