"""API keys of customers: made, listed, rotated with overlap, revoked; secrets are nowhere."""

from __future__ import annotations

import httpx

from services.billing.conftest import Billing
from services.billing.site import Site
from support.billing import CUSTOMER


async def test_a_key_made_by_the_vendor_is_stored_as_a_hash_alone(
    acme: Site, billing: Billing
) -> None:
    async with billing.admin() as admin:
        key = await admin.create_tenant_key(CUSTOMER, ["billing:read"])
    assert key.startswith("bbt_")
    (row,) = billing.query("SELECT * FROM credentials WHERE kind = 'tenant'")
    assert row["scopes"] == ["billing:read"]
    assert key not in str(row)
    (entry,) = billing.query("SELECT * FROM audit_log WHERE action = 'api_key.created'")
    assert entry["actor"] == "cli"
    assert key not in str(entry)


async def test_a_customers_key_is_good_for_nothing_of_the_vendors_or_instances(
    tenant: httpx.AsyncClient,
) -> None:
    for path in ("/api/v1/admin/keys", "/api/v1/usage/head", "/api/v1/instance/tokens"):
        assert (await tenant.get(path)).status_code == 403
