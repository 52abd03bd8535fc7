"""What Stripe's people see of a subscription: metadata of the customer, nothing that charges."""

from __future__ import annotations

from collections.abc import Callable

import stripe

from brinkbyte.billing.providers.base import TheirSubscription
from brinkbyte.billing.providers.errors import MissingObjectError, PermanentProviderError
from brinkbyte.billing.providers.stripe_calls import call
from brinkbyte.billing.providers.stripe_objects import (
    CANCEL,
    PRICE,
    TRIAL_END,
    metadata_of,
    subscription_of,
)


async def customer_of(client: stripe.StripeClient, reference: str) -> stripe.Customer:
    """Return a customer.

    Raises:
        MissingObjectError: there is none, or it was deleted.
    """
    found = await call(client.v1.customers.retrieve_async(reference))
    if getattr(found, "deleted", False):
        raise MissingObjectError(
            f"customer {reference} was deleted at Stripe", reason="MissingAtProvider"
        )
    return found


class SubscriptionRecords:
    """Writes and reads the records.

    Args:
        client: the SDK's.
        clock: returns Unix seconds.
    """

    def __init__(self, client: stripe.StripeClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock

    async def create(self, customer_id: str, price_id: str, trial_days: int) -> TheirSubscription:
        """Note in the customer's metadata that it subscribes.

        Raises:
            PermanentProviderError: ``Subscribed``: it subscribes to something else already.
        """
        held = await customer_of(self._client, customer_id)
        noted = metadata_of(held)
        if noted.get(PRICE) and subscription_of(held, self._clock()).status != "canceled":
            if noted[PRICE] == price_id:
                return subscription_of(held, self._clock())
            raise PermanentProviderError(
                f"{customer_id} subscribes to {noted[PRICE]}; change that subscription",
                reason="Subscribed",
            )
        end = str(int(self._clock()) + trial_days * 86_400) if trial_days else ""
        return await self._note(customer_id, {PRICE: price_id, TRIAL_END: end, CANCEL: ""})

    async def update(self, reference: str, price_id: str) -> TheirSubscription:
        """Note another price; the trial's end stays."""
        await self._live(reference)
        return await self._note(reference, {PRICE: price_id})

    async def cancel(self, reference: str, *, at_period_end: bool) -> TheirSubscription:
        """Note the cancellation."""
        held = await customer_of(self._client, reference)
        if metadata_of(held).get(CANCEL) == "now":
            return subscription_of(held, self._clock())
        await self._live(reference)
        return await self._note(reference, {CANCEL: "period_end" if at_period_end else "now"})

    async def _live(self, reference: str) -> None:
        held = await customer_of(self._client, reference)
        if (
            not metadata_of(held).get(PRICE)
            or subscription_of(held, self._clock()).status == "canceled"
        ):
            raise PermanentProviderError(
                f"{reference} does not subscribe; create a subscription first",
                reason="NotSubscribed",
            )

    async def _note(self, reference: str, metadata: dict[str, str]) -> TheirSubscription:
        # No key of ours: a way back to an earlier value would get that one's kept answer.
        held = await call(self._client.v1.customers.update_async(reference, {"metadata": metadata}))
        return subscription_of(held, self._clock())
