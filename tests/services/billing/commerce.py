"""A customer's own program at the billing API, and the worker beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
from pydantic import SecretStr

from brinkbyte.billing.auth import TENANT_SCOPES, scope_names
from brinkbyte.billing.jobs import Job, dun, settle_subscriptions, tell, watch_ledger
from brinkbyte.billing.migrate import WORKER
from brinkbyte.billing.settings import WorkerSettings
from brinkbyte.billing.worker import Loops, open_worker
from services.billing.conftest import Billing
from support.billing import CUSTOMER

OUR_JOBS = (
    Job("subscriptions", 60, settle_subscriptions),
    Job("dunning", 60, dun),
    Job("notices", 300, tell),
    Job("ledger", 3600, watch_ledger),
)
DELAY = 600
"""Seconds that a closed period waits for what is on its way."""


@dataclass
class Program:
    """A program with an API key of a customer's."""

    billing: Billing
    customer: str
    secret: str

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secret}"}
        return await self.billing.http.request(
            method, f"/api/billing/{path}", headers=headers, **more
        )

    async def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Return the answer of a call that succeeds."""
        answer = await self.call(method, path, **more)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def invoices(self) -> list[dict[str, Any]]:
        """Return every invoice with its lines, oldest first."""
        heads = (await self.ask("GET", "invoices"))["invoices"]
        return [await self.ask("GET", f"invoices/{h['invoiceId']}") for h in reversed(heads)]


def program(billing: Billing, customer: str = CUSTOMER, *, scopes: Any = TENANT_SCOPES) -> Program:
    """Make an API key of a customer's."""
    secret = billing.context.secrets.create("tenant")
    now = datetime.now(UTC)
    billing.query(
        "INSERT INTO credentials (tenant_id, credential_id, kind, secret_hash, scopes, created_at, "
        "expires_at) VALUES (%s, %s, 'tenant', %s, %s, %s, %s)",
        customer,
        uuid4(),
        billing.context.secrets.hash(secret),
        scope_names(scopes),
        now,
        now + timedelta(days=4000),
    )
    return Program(billing, customer, secret)


@asynccontextmanager
async def worker(billing: Billing, jobs: tuple[Job, ...] = OUR_JOBS) -> AsyncIterator[Loops]:
    """A worker with the test's clock whose jobs run when they are told to."""
    settings = WorkerSettings(
        worker_database_url=SecretStr(billing.dsn(WORKER)), worker_port=0, pool_size=6
    )
    async with open_worker(settings, clock=billing.clock, jobs=jobs) as loops:
        yield loops


async def work(loops: Loops) -> None:
    """Run every job once."""
    for job in loops.jobs:
        assert await loops.run(job), job.name


def to(billing: Billing, moment: float) -> None:
    """Move the clock to a moment (Unix seconds)."""
    billing.clock.offset += moment - billing.clock()
