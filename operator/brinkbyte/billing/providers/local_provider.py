"""The provider that needs no account: invoices wait in our database until somebody pays.

What a customer has paid, the vendor records: ``brinkbyte billing admin provider paid``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from brinkbyte.billing.db import Database, Row
from brinkbyte.billing.providers import local_repository as repository
from brinkbyte.billing.providers.base import (
    OurInvoice,
    Payer,
    ProviderEvent,
    TheirInvoice,
    TheirSubscription,
)
from brinkbyte.billing.providers.errors import (
    MismatchError,
    MissingObjectError,
    PermanentProviderError,
    WebhookError,
)

_PREFIX: Final = "local:"


class LocalBillingProvider:
    """Keeps in tables what a provider would keep.

    Args:
        database: transactions of the role ``brinkbyte_worker``.
        clock: returns Unix seconds.
    """

    name = "local"
    needs_email = False

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def close(self) -> None:
        """Nothing is open."""

    async def ensure_customer(self, payer: Payer) -> str:
        """Return the name of a customer here."""
        return f"{_PREFIX}{payer.customer_id}"

    async def create_subscription(
        self, customer_id: str, price_id: str, trial_days: int = 0
    ) -> TheirSubscription:
        """Note that a customer subscribes.

        Raises:
            PermanentProviderError: ``Subscribed``: it subscribes to something else already.
        """
        tenant, now = _tenant(customer_id), self._now()
        async with self._database.tenant(tenant) as connection:
            held = await repository.subscription(connection, tenant)
            if held is not None and held["canceled_at"] is None:
                if held["price_id"] == price_id:
                    return self._subscription(customer_id, held)
                raise PermanentProviderError(
                    f"{customer_id} subscribes to {held['price_id']}; change that subscription",
                    reason="Subscribed",
                )
            await repository.put_subscription(
                connection,
                tenant,
                price_id=price_id,
                trial_ends_at=now + timedelta(days=trial_days) if trial_days else None,
                cancel_at_period_end=False,
                canceled_at=None,
                now=now,
            )
        return await self._read(customer_id)

    async def update_subscription(self, reference: str, price_id: str) -> TheirSubscription:
        """Note another price; the trial's end stays."""
        return await self._change(reference, price_id=price_id)

    async def cancel_subscription(
        self, reference: str, *, at_period_end: bool
    ) -> TheirSubscription:
        """Note the cancellation; a second one changes nothing."""
        held = await self._read(reference)
        if held.status == "canceled":
            return held
        if at_period_end:
            return await self._change(reference, cancel_at_period_end=True)
        return await self._change(reference, canceled_at=self._now(), cancel_at_period_end=False)

    async def _change(self, reference: str, **changed: object) -> TheirSubscription:
        tenant = _tenant(reference)
        async with self._database.tenant(tenant) as connection:
            held = await repository.subscription(connection, tenant)
            if held is None or held["canceled_at"] is not None:
                raise PermanentProviderError(
                    f"{reference} does not subscribe; create a subscription first",
                    reason="NotSubscribed",
                )
            row = {**held, **changed}
            await repository.put_subscription(
                connection,
                tenant,
                price_id=row["price_id"],
                trial_ends_at=row["trial_ends_at"],
                cancel_at_period_end=row["cancel_at_period_end"],
                canceled_at=row["canceled_at"],
                now=self._now(),
            )
        return self._subscription(reference, row)

    async def _read(self, reference: str) -> TheirSubscription:
        tenant = _tenant(reference)
        async with self._database.tenant(tenant) as connection:
            held = await repository.subscription(connection, tenant)
        if held is None:
            raise PermanentProviderError(
                f"{reference} does not subscribe; create a subscription first",
                reason="NotSubscribed",
            )
        return self._subscription(reference, held)

    def _subscription(self, reference: str, held: Row) -> TheirSubscription:
        trial: datetime | None = held["trial_ends_at"]
        status = "active"
        if held["canceled_at"] is not None:
            status = "canceled"
        elif trial is not None and trial > self._now():
            status = "trialing"
        return TheirSubscription(reference, status, trial, held["cancel_at_period_end"])

    async def ensure_invoice(self, invoice: OurInvoice) -> TheirInvoice:
        """Take in a final invoice; one that charges nothing is paid.

        Raises:
            MismatchError: the items are not its total, or it is here with another.
        """
        if sum(item.amount for item in invoice.items) != invoice.total:
            raise MismatchError(
                f"invoice {invoice.number}: the items are not its total; nothing was sent",
                reason="ItemsNotTotal",
            )
        tenant, key, now = _tenant(invoice.customer_id), UUID(invoice.key), self._now()
        nothing = invoice.total <= 0
        async with self._database.tenant(tenant) as connection:
            await repository.add_invoice(
                connection,
                tenant,
                key,
                number=invoice.number,
                currency=invoice.currency,
                total=invoice.total,
                state="paid" if nothing else "open",
                due_at=invoice.due_at,
                paid_at=now if nothing else None,
                now=now,
            )
        theirs = await self.invoice(f"{invoice.customer_id}:{key}")
        if theirs.total != invoice.total:
            raise MismatchError(
                f"invoice {invoice.number} is {invoice.total} in minor units, and was taken in as "
                f"{theirs.total}; look at both",
                reason="TotalsDiffer",
            )
        return theirs

    async def invoice(self, reference: str) -> TheirInvoice:
        """Return the copy as it is now."""
        tenant, invoice_id = _invoice(reference)
        async with self._database.tenant(tenant) as connection:
            held = await repository.invoice(connection, tenant, invoice_id)
        if held is None:
            raise MissingObjectError(f"there is no {reference}", reason="MissingAtProvider")
        return TheirInvoice(
            reference=reference,
            key=str(invoice_id),
            state=held["state"],
            total=held["total"],
            tax=0,
            paid_at=held["paid_at"],
        )

    async def void_invoice(self, reference: str) -> TheirInvoice:
        """Void an unpaid invoice; one that is void stays so.

        Raises:
            PermanentProviderError: ``ProviderRefused``: it is paid.
        """
        tenant, invoice_id = _invoice(reference)
        async with self._database.tenant(tenant) as connection:
            await repository.set_state(
                connection,
                tenant,
                invoice_id,
                "void",
                among=("open", "uncollectible"),
                now=self._now(),
            )
        theirs = await self.invoice(reference)
        if theirs.state != "void":
            raise PermanentProviderError(
                f"{reference} is {theirs.state}: only an unpaid invoice can be taken back",
                reason="ProviderRefused",
            )
        return theirs

    def webhook(self, body: bytes, headers: Mapping[str, str]) -> ProviderEvent:
        """Refuse: nobody sends any."""
        raise WebhookError(
            "the local provider has no webhooks; the vendor records payments",
            reason="NoWebhooks",
        )

    async def events_since(self, moment: datetime) -> Sequence[ProviderEvent]:
        """Return what changed since, oldest first."""
        async with self._database.nobody() as connection:
            changed = await repository.changed_since(connection, moment)
        found = []
        for row in changed:
            reference = f"{_PREFIX}{row['tenant_id']}:{row['invoice_id']}"
            found.append(
                ProviderEvent(
                    event_id=f"{reference}:{row['state']}",
                    kind=f"invoice.{row['state']}",
                    object_id=reference,
                    created_at=row["updated_at"],
                )
            )
        return found

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _tenant(reference: str) -> str:
    tenant = reference.removeprefix(_PREFIX)
    if tenant == reference or not tenant:
        raise MissingObjectError(f"there is no {reference}", reason="MissingAtProvider")
    return tenant


def _invoice(reference: str) -> tuple[str, UUID]:
    tenant, _, key = _tenant(reference).rpartition(":")
    try:
        return tenant, UUID(key)
    except ValueError:
        raise MissingObjectError(f"there is no {reference}", reason="MissingAtProvider") from None
