"""Runs of the provider's synchronization in processes of their own, which failpoints may kill.

One process imports all of it and forks for each run::

    python -m support.provider_runs DSN STRIPE_URL   # then one JSON object a line on stdin
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from brinkbyte.billing.db import Connection, Database
from brinkbyte.billing.metrics import Metrics
from brinkbyte.billing.providers.base import BillingProvider
from brinkbyte.billing.providers.opening import open_provider
from brinkbyte.billing.providers.synchronizing import synchronize
from brinkbyte.billing.settings import ProviderSettings
from brinkbyte.kit import failpoints
from brinkbyte.kit.pools import postgres_pool
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


def main() -> None:
    """Fork for each line of stdin; answer with how the run ended."""
    dsn, url = sys.argv[1:]
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            # What is logged must not come between the answers.
            os.dup2(2, 1)
            name, _, count = asked["point"].partition(":")
            failpoints._target, failpoints._count = name, count
            asyncio.run(_run(dsn, url, asked["now"]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


class Runs:
    """The process, from the test's side."""

    def __init__(self, dsn: str, stripe: StripeServer) -> None:
        source = source_environment()
        source["PYTHONPATH"] += f":{Path(__file__).resolve().parents[1]}"
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "support.provider_runs", dsn, stripe.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=source,
            text=True,
        )

    def run(self, now: int, point: str = "") -> int:
        """Run once; returns the exit code, -9 when the failpoint has killed it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"now": now, "point": point}) + "\n")
        self._process.stdin.flush()
        answer: Any = json.loads(self._process.stdout.readline())
        return int(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=20)


if __name__ == "__main__":
    main()
