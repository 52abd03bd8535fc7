"""A worker's side of the payment provider for tests: invoices in the tables, and runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from brinkbyte.billing.db import Connection, Database
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.migrate import WORKER
from brinkbyte.billing.providers.base import BillingProvider
from brinkbyte.billing.providers.opening import open_provider
from brinkbyte.billing.providers.synchronizing import Run, synchronize
from brinkbyte.billing.settings import ProviderSettings
from brinkbyte.kit.pools import postgres_pool
from services.billing.conftest import Billing
from support.billing import CUSTOMER, DEFAULT_TERMS
from support.stripe_server import API_KEY, WEBHOOK_SECRET, StripeServer


@dataclass
class RecordedPayments:
    """Takes payments in as ``invoices`` does: sets the row, and keeps what it was told."""

    told: list[tuple[str, UUID]] = field(default_factory=list)

    async def payment_succeeded(
        self, connection: Connection, invoice_id: UUID, at: datetime, actor: str, *, now: int
    ) -> None:
        cursor = await connection.execute(
            "UPDATE invoices SET status = 'paid', paid_at = %s WHERE invoice_id = %s "
            "AND status IN ('open', 'uncollectible')",
            [at, invoice_id],
        )
        if cursor.rowcount:
            self.told.append(("paid", invoice_id))

    async def payment_failed(
        self, connection: Connection, invoice_id: UUID, actor: str, *, now: int
    ) -> None:
        self.told.append(("failed", invoice_id))


@dataclass
class Collecting:
    """The worker of a billing API.

    Attributes:
        payments: stands for ``invoices``.
    """

    billing: Billing
    database: Database
    provider: BillingProvider
    metrics: Metrics
    payments: RecordedPayments

    async def run(self) -> Run:
        return await synchronize(self, self.billing.clock.now, payments=self.payments)

    async def payer(self, name: str = CUSTOMER, email: str | None = "pay@acme.example") -> None:
        """Create a customer that invoices can be sent to."""
        await self.billing.customer(name, DEFAULT_TERMS)
        self.billing.query(
            "UPDATE billing_customers SET billing_email = %s WHERE tenant_id = %s", email, name
        )

    def invoice(
        self,
        amounts: Sequence[int],
        *,
        tenant: str = CUSTOMER,
        due_days: float = 14,
        number: str | None = None,
    ) -> UUID:
        """Write a final invoice of these lines."""
        key = uuid4()
        now = datetime.fromtimestamp(self.billing.clock.now, UTC)
        [subscription] = self.billing.query(
            "SELECT subscription_id FROM subscriptions WHERE tenant_id = %s", tenant
        )
        self.billing.query(
            "INSERT INTO invoices (tenant_id, invoice_id, subscription_id, number, boundary, "
            "currency, catalog_version, total, status, rated_from, due_at, created_at, updated_at) "
            "VALUES (%s, %s, %s, %s, clock_timestamp(), 'USD', 'test', %s, 'draft', '{}', %s, %s, "
            "%s)",
            *(tenant, key, subscription["subscription_id"], number or f"INV-{key.hex[:8]}"),
            *(sum(amounts), now + timedelta(days=due_days), now, now),
        )
        for position, amount in enumerate(amounts, 1):
            self.billing.query(
                "INSERT INTO invoice_lines (tenant_id, invoice_id, position, line, kind, "
                "description, quantity, per, period_start, period_end, amount) "
                "VALUES (%s, %s, %s, 'vision.base_seat', 'prepaid', %s, 1, 1, %s, %s, %s)",
                *(tenant, key, position, f"Line {position}", now, now, amount),
            )
        self.billing.query(
            "UPDATE invoices SET status = 'open', finalized_at = %s WHERE invoice_id = %s",
            *(now, key),
        )
        return key

    def row(self, key: UUID) -> dict[str, Any]:
        """Return an invoice with the way it has come."""
        [row] = self.billing.query(
            "SELECT i.*, p.failures, p.alarm, p.next_try_at, p.checked_at, p.state "
            "FROM invoices i LEFT JOIN provider_invoices p USING (tenant_id, invoice_id) "
            "WHERE invoice_id = %s",
            key,
        )
        return row

    def alarms(self) -> dict[str, float]:
        """Return how often somebody was called, by reason."""
        return {
            sample.labels["reason"]: sample.value
            for metric in self.metrics.provider_alarms.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }


@asynccontextmanager
async def collecting(
    billing: Billing, stripe: StripeServer | None = None, **settings: Any
) -> AsyncIterator[Collecting]:
    """Open a worker's side; with Stripe's stand-in, or with the provider of our own."""
    chosen = ProviderSettings(
        billing_provider="local" if stripe is None else "stripe",
        stripe_api_key=SecretStr(API_KEY),
        stripe_webhook_secrets=SecretStr(WEBHOOK_SECRET),
        **({} if stripe is None else {"stripe_api_base": stripe.url}),
        **settings,
    )
    async with postgres_pool(billing.dsn(WORKER), max_size=6) as pool:
        database = Database(pool)
        async with open_provider(chosen, database, billing.clock) as provider:
            yield Collecting(billing, database, provider, Metrics(), RecordedPayments())
