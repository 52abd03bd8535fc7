"""One invoice and its copy at the provider: brought there, and read back.

Each step is committed before the next call, so a run that dies anywhere is finished by the next
one: the provider's side is looked for before it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from brinkbyte.billing import audit
from brinkbyte.billing.db import Connection, Database, Row
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.providers import repository
from brinkbyte.billing.providers.base import (
    BillingProvider,
    Item,
    OurInvoice,
    Payer,
    TheirInvoice,
)
from brinkbyte.billing.providers.errors import MismatchError, PermanentProviderError
from brinkbyte.billing.providers.payments import Payments
from brinkbyte.kit.errors import BrinkByteError, TemporaryError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger

MIN_DUE: Final = timedelta(days=1)
"""A provider gets no due date that is nearer, however late an invoice comes to it."""
FIRST_RETRY: Final = timedelta(minutes=4)
LONGEST_RETRY: Final = timedelta(hours=1)
_MAX_DOUBLINGS: Final = 5
_log = get_logger(__name__)


@dataclass(frozen=True)
class Copies:
    """Brings invoices to a provider and reads them back.

    Attributes:
        now: time of the run, UTC.
    """

    database: Database
    provider: BillingProvider
    payments: Payments
    metrics: Metrics
    now: datetime

    @property
    def actor(self) -> str:
        """Name in the audit log."""
        return f"provider:{self.provider.name}"

    async def push(self, tenant_id: str, invoice_id: UUID) -> bool:
        """Bring one final invoice to the provider.

        Returns:
            Whether it is there now.

        Raises:
            TemporaryError: the provider does not answer; noted already.
        """
        started = await self._begin(tenant_id, invoice_id)
        if started is None:
            return False
        failpoint("push.begun")
        payer, invoice = started
        try:
            if self.provider.needs_email and payer.email is None:
                raise PermanentProviderError(
                    f"{self.provider.name} sends invoices by e-mail and {tenant_id} has no address "
                    "for them; set it: brinkbyte billing admin provider email",
                    reason="NoBillingEmail",
                )
            if invoice.total <= 0:
                # The provider would keep it as a credit of its own; ours is in the next invoice.
                raise MismatchError(
                    f"invoice {invoice.number} charges nothing and is not paid; look at it",
                    reason="NothingToCollect",
                )
            customer = await self.provider.ensure_customer(payer)
            failpoint("push.customer")
            async with self.database.tenant(tenant_id) as connection:
                await repository.remember_customer(
                    connection, tenant_id, self.provider.name, customer, self.now
                )
            theirs = await self.provider.ensure_invoice(_for_customer(invoice, customer))
            self._check(theirs, invoice.key, invoice.total)
        except BrinkByteError as error:
            await self._failed(tenant_id, invoice_id, error)
            if isinstance(error, TemporaryError):
                raise
            return False
        failpoint("push.done")
        async with self.database.tenant(tenant_id) as connection:
            # Read again at once: it may be paid already.
            await repository.record_copy(
                connection, tenant_id, invoice_id, theirs, checked_at=None, now=self.now
            )
            await self._audit(
                connection,
                tenant_id,
                "invoice.sent",
                invoice_id,
                {"reference": theirs.reference, "state": theirs.state},
            )
        self.metrics.provider_invoices.labels("sent").inc()
        failpoint("push.recorded")
        return True

    async def read_back(self, tenant_id: str, invoice_id: UUID) -> bool:
        """Read one copy and take in what became of it.

        Returns:
            Whether that is done.

        Raises:
            TemporaryError: the provider does not answer; noted already.
        """
        async with self.database.tenant(tenant_id) as connection:
            ours = await repository.invoice(connection, tenant_id, invoice_id)
        if ours is None or ours["provider_ref"] is None:
            return False
        try:
            if ours["status"] == "void":
                theirs = await self.provider.void_invoice(ours["provider_ref"])
            else:
                theirs = await self.provider.invoice(ours["provider_ref"])
            failpoint("read.answered")
            self._check(theirs, str(invoice_id), ours["total"])
            async with self.database.tenant(tenant_id) as connection:
                await self._take_in(connection, tenant_id, invoice_id, theirs)
        except BrinkByteError as error:
            await self._failed(tenant_id, invoice_id, error)
            if isinstance(error, TemporaryError):
                raise
            return False
        failpoint("read.recorded")
        return True

    async def _begin(self, tenant_id: str, invoice_id: UUID) -> tuple[Payer, OurInvoice] | None:
        provider = self.provider.name
        async with self.database.tenant(tenant_id) as connection:
            ours = await repository.invoice(connection, tenant_id, invoice_id)
            payer = await repository.payer(connection, tenant_id, provider)
            if ours is None or payer is None or ours["provider_ref"] is not None:
                return None
            if ours["sent_to"] not in {None, provider}:
                # Some of it may be at the other one: two of them must not collect it.
                other = MismatchError(
                    f"invoice {ours['number']} was on its way to {ours['sent_to']}: set "
                    f"BRINKBYTE_BILLING_PROVIDER to {ours['sent_to']} until it is through",
                    reason="OtherProvider",
                )
                await self._note(connection, tenant_id, ours, other)
                return None
            row = await repository.begin_try(
                connection,
                tenant_id,
                invoice_id,
                provider,
                due_at=ours["due_at"] or self.now,
                later=self.now + MIN_DUE,
                now=self.now,
            )
            lines = await repository.lines(connection, tenant_id, invoice_id)
        return (
            Payer(tenant_id, payer["name"], payer["billing_email"], payer["reference"]),
            OurInvoice(
                key=str(invoice_id),
                customer_id="",
                currency=ours["currency"],
                total=ours["total"],
                items=[
                    Item(str(line["position"]), line["description"], line["amount"])
                    for line in lines
                ],
                due_at=row["due_at"],
                number=ours["number"] or str(invoice_id),
            ),
        )

    def _check(self, theirs: TheirInvoice, key: str, total: int) -> None:
        if theirs.key != key:
            raise MismatchError(
                f"{theirs.reference} carries the key {theirs.key or '(none)'}, not {key}; look at "
                "it at the provider",
                reason="KeyDiffers",
            )
        if theirs.total != total:
            raise MismatchError(
                f"{theirs.reference} is {theirs.total} in minor units before tax, ours is {total}; "
                "look at both",
                reason="TotalsDiffer",
            )

    async def _take_in(
        self, connection: Connection, tenant_id: str, invoice_id: UUID, theirs: TheirInvoice
    ) -> None:
        ours = await repository.invoice(connection, tenant_id, invoice_id)
        if ours is None:
            return
        # First: it locks the customer before the invoice, as everybody does.
        await self._pay(connection, ours, theirs)
        await repository.record_copy(
            connection, tenant_id, invoice_id, theirs, checked_at=self.now, now=self.now
        )
        if theirs.state != ours["their_state"]:
            self.metrics.provider_invoices.labels(theirs.state).inc()
            await self._audit(
                connection,
                tenant_id,
                "invoice.state_read",
                invoice_id,
                {"reference": theirs.reference, "state": theirs.state},
            )

    async def _pay(self, connection: Connection, ours: Row, theirs: TheirInvoice) -> None:
        invoice_id = ours["invoice_id"]
        if ours["status"] not in {"open", "uncollectible"}:
            return
        seconds = int(self.now.timestamp())
        if theirs.state == "paid":
            await self.payments.payment_succeeded(
                connection, invoice_id, theirs.paid_at or self.now, self.actor, now=seconds
            )
        elif theirs.state == "uncollectible" or (
            theirs.state == "open" and ours["due_at"] is not None and ours["due_at"] <= self.now
        ):
            await self.payments.payment_failed(connection, invoice_id, self.actor, now=seconds)
        elif theirs.state in {"void", "draft"}:
            raise MismatchError(
                f"invoice {ours['number']} is {ours['status']}, its copy {theirs.reference} is "
                f"{theirs.state}: nobody collects it; see what was done at the provider",
                reason="StatesDiffer",
            )

    async def _failed(self, tenant_id: str, invoice_id: UUID, error: BrinkByteError) -> None:
        async with self.database.tenant(tenant_id) as connection:
            ours = await repository.invoice(connection, tenant_id, invoice_id)
            if ours is not None:
                await self._note(connection, tenant_id, ours, error)

    async def _note(
        self, connection: Connection, tenant_id: str, ours: Row, error: BrinkByteError
    ) -> None:
        invoice_id = ours["invoice_id"]
        alarm = None if isinstance(error, TemporaryError) else error.reason
        pause = LONGEST_RETRY
        if isinstance(error, TemporaryError):
            doublings = min(ours["failures"] or 0, _MAX_DOUBLINGS)
            named = timedelta(seconds=error.retry_after or 0)
            pause = max(named, min(LONGEST_RETRY, FIRST_RETRY * 2**doublings))
        await repository.record_failure(
            connection,
            tenant_id,
            invoice_id,
            message=error.message,
            alarm=alarm,
            next_try_at=self.now + pause,
            checked_at=self.now,
            now=self.now,
        )
        facts = {"tenant": tenant_id, "invoice": str(invoice_id), "reason": error.reason}
        if alarm is None:
            self.metrics.provider_invoices.labels("failed").inc()
            _log.warning("provider: to be tried again", **facts, problem=error.message)
            return
        self.metrics.provider_alarms.labels(alarm).inc()
        _log.error("provider: somebody must look", **facts, problem=error.message)
        if alarm != ours["alarm"]:
            await self._audit(
                connection,
                tenant_id,
                "invoice.provider_alarm",
                invoice_id,
                {"reason": alarm, "problem": error.message},
            )

    async def _audit(
        self,
        connection: Connection,
        tenant_id: str,
        action: str,
        invoice_id: UUID,
        details: dict[str, str],
    ) -> None:
        await audit.record(
            connection,
            tenant_id,
            now=int(self.now.timestamp()),
            actor=self.actor,
            action=action,
            subject=str(invoice_id),
            details=details,
        )


def _for_customer(invoice: OurInvoice, customer: str) -> OurInvoice:
    return OurInvoice(
        key=invoice.key,
        customer_id=customer,
        currency=invoice.currency,
        total=invoice.total,
        items=invoice.items,
        due_at=invoice.due_at,
        number=invoice.number,
    )


def moment(now: int) -> datetime:
    """Return Unix seconds as UTC."""
    return datetime.fromtimestamp(now, UTC)
