"""Callers of quotas: a customer's API key, and an emitter of the vendor's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx

from brinkbyte.billing.auth import TENANT_SCOPES, Scope, scope_names
from brinkbyte.billing.instances import repository as instances
from services.billing.conftest import Billing
from support.billing import CUSTOMER

FREE: dict[str, Any] = {"plans": {"platform": "free"}}
STANDARD: dict[str, Any] = {"plans": {"platform": "standard"}}
CALLS = "platform.api_calls"
SEATS = "platform.user_seats"


async def tenant_key(
    billing: Billing, customer: str = CUSTOMER, scopes: Sequence[Scope] = TENANT_SCOPES
) -> str:
    """Return a new API key of a customer."""
    secrets = billing.context.secrets
    key = secrets.create("tenant")
    async with billing.context.database.tenant(customer) as connection:
        cursor = await connection.execute("SELECT now() AS now")
        row = await cursor.fetchone()
        assert row is not None
        await instances.add_credential(
            connection,
            customer,
            uuid4(),
            kind="tenant",
            instance_id=None,
            secret_hash=secrets.hash(key),
            scopes=scope_names(scopes),
            families=(),
            now=row["now"],
            expires_at=row["now"] + timedelta(days=900),
        )
    return key


async def emitter(billing: Billing, *families: str) -> str:
    """Return a credential of the vendor's that may report families."""
    async with billing.admin() as admin:
        return await admin.create_operator("emitter", families or ("platform",))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def reserve(
    billing: Billing, key: str, meter: str = CALLS, quantity: int = 1, **more: Any
) -> httpx.Response:
    return await billing.http.post(
        "/api/v1/quotas/reserve",
        json={"customerId": CUSTOMER, "meter": meter, "quantity": quantity, **more},
        headers=bearer(key),
    )


def ledger_sum(billing: Billing, meter: str = CALLS) -> int:
    rows = billing.query(
        "SELECT coalesce(sum(quantity), 0) AS n FROM usage_events WHERE meter = %s", meter
    )
    return int(rows[0]["n"])


def counted(billing: Billing, meter: str = CALLS) -> int:
    rows = billing.query(
        "SELECT used FROM usage_quotas WHERE meter = %s ORDER BY period_start DESC LIMIT 1", meter
    )
    return int(rows[0]["used"]) if rows else 0
