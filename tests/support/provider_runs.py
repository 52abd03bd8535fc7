"""A run of the provider's synchronization, as a process that a failpoint may kill.

``python -m support.provider_runs <DSN of the worker> <URL of Stripe> <Unix seconds>``
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import SecretStr

from brinkbyte.billing.db import Connection, Database
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.providers.base import BillingProvider
from brinkbyte.billing.providers.opening import open_provider
from brinkbyte.billing.providers.synchronizing import synchronize
from brinkbyte.billing.settings import ProviderSettings
from brinkbyte.kit.pools import postgres_pool
from support import programs
from support.billing import source_environment
from support.stripe_server import API_KEY, StripeServer


class TablePayments:
    """Sets the invoice's row and nothing else."""

    async def payment_succeeded(
        self, connection: Connection, invoice_id: UUID, at: datetime, actor: str, *, now: int
    ) -> None:
        await connection.execute(
            "UPDATE invoices SET status = 'paid', paid_at = %s WHERE invoice_id = %s "
            "AND status IN ('open', 'uncollectible')",
            [at, invoice_id],
        )

    async def payment_failed(
        self, connection: Connection, invoice_id: UUID, actor: str, *, now: int
    ) -> None:
        """Nothing: what it does is not the provider's."""


@dataclass(frozen=True)
class _Context:
    database: Database
    provider: BillingProvider
    metrics: Metrics


async def _run(dsn: str, url: str, now: int) -> None:
    settings = ProviderSettings(
        billing_provider="stripe", stripe_api_key=SecretStr(API_KEY), stripe_api_base=url
    )
    async with postgres_pool(dsn, max_size=3) as pool:
        database = Database(pool)
        async with open_provider(settings, database, lambda: now) as provider:
            context = _Context(database, provider, Metrics())
            await synchronize(context, now, payments=TablePayments())


@dataclass(frozen=True)
class Runs:
    """Such processes, from the test's side."""

    dsn: str
    stripe: StripeServer

    def run(self, now: int, point: str = "") -> int:
        """Run once; returns the exit code, -9 when the failpoint has killed it."""
        return programs.run(
            "support.provider_runs",
            *(self.dsn, self.stripe.url, str(now)),
            environment=source_environment({"BRINKBYTE_FAILPOINT": point}),
        ).returncode


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
