"""What every endpoint needs, made once in start-up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request

from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.db import Database
from brinkbyte.billing.invoices.settings import InvoiceSettings
from brinkbyte.billing.licenses.keys import KeyRing
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks
from brinkbyte.billing.quotas.cache import QuotaCache
from brinkbyte.billing.users.passwords import Passwords
from brinkbyte.catalog import Catalog

T = TypeVar("T")
A = TypeVar("A")


class Gate:
    """Counts the requests that are inside."""

    def __init__(self) -> None:
        self.waiting = 0

    def __enter__(self) -> None:
        self.waiting += 1

    def __exit__(self, *_: object) -> None:
        self.waiting -= 1


@dataclass(frozen=True)
class GatewayNames:
    """Where a gateway says what its request uses; see ``settings.ServerSettings``."""

    meter: str = "platform.api_calls"
    meter_header: str = "X-BrinkByte-Meter"
    quantity_header: str = "X-BrinkByte-Quantity"
    customer_header: str = "X-BrinkByte-Customer"


@dataclass(frozen=True)
class Context:
    """The server's dependencies.

    Attributes:
        clock: returns Unix seconds.
        administration: transactions that look across customers; None where the server has no such
            role.
        threads: signs; RSA lets go of the interpreter lock.
        webhooks: verifies what Stripe delivers; None where no secret is set.
        invoicing: who sells, and when what is due.
    """

    database: Database
    secrets: Secrets
    keyring: KeyRing
    catalog: Catalog
    clock: Callable[[], float]
    threads: ThreadPoolExecutor
    metrics: Metrics = field(default_factory=Metrics)
    ingest_gate: Gate = field(default_factory=Gate)
    administration: Database | None = None
    webhooks: StripeWebhooks | None = None
    invoicing: InvoiceSettings = field(default_factory=InvoiceSettings.load)
    quota_cache: QuotaCache = field(default_factory=lambda: QuotaCache(None))
    gateway: GatewayNames = GatewayNames()
    webhook_allow_private: bool = False
    passwords: Passwords = field(default_factory=Passwords)

    def now(self) -> int:
        """Return Unix seconds."""
        return int(self.clock())

    def orphaned(self, key_id: str | None) -> bool:
        """Tell whether a document was signed by a key that is in the set no more."""
        return key_id is not None and key_id not in self.keyring.public

    async def in_threads(self, work: Callable[[A], T], items: Iterable[A]) -> list[T]:
        """Run ``work`` on each item off the event loop; results in the order of the items."""
        listed = list(items)
        if not listed:
            return []
        loop = asyncio.get_running_loop()
        size = max(1, -(-len(listed) // (4 * (self.threads._max_workers or 1))))
        chunks = [listed[start : start + size] for start in range(0, len(listed), size)]

        def run(chunk: list[A]) -> list[T]:
            return [work(item) for item in chunk]

        parts = await asyncio.gather(
            *(loop.run_in_executor(self.threads, run, chunk) for chunk in chunks)
        )
        return [result for part in parts for result in part]


def get_context(request: Request) -> Context:
    """Return the server's dependencies (FastAPI dependency)."""
    context: Context = request.app.state.context
    return context
