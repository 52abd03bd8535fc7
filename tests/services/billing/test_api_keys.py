"""API keys of customers: made, listed, rotated with overlap, revoked; secrets are nowhere."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from services.billing.conftest import Billing
from services.billing.people import person
from services.billing.site import Site, reason
from support.billing import CUSTOMER

KEYS = f"/api/v1/admin/customers/{CUSTOMER}/keys"
PORTAL = f"/api/portal/{CUSTOMER}"


def bearing(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


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


async def test_rotation_leaves_both_good_for_the_overlap(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    old = (await vendor.post(KEYS, json={"name": "erp", "lifeDays": 30})).json()
    answer = await vendor.post(f"{KEYS}/{old['keyId']}/rotate", json={"overlapHours": 2})
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert (new["name"], new["scopes"]) == ("erp", ["billing:read"])
    assert new["expiresAt"] - new["createdAt"] == 30 * 86_400
    for key in (old, new):
        assert (await vendor.get(PORTAL, headers=bearing(key["secret"]))).status_code == 200
    listed = (await vendor.get(KEYS)).json()["keys"]
    assert [key["keyId"] for key in listed] == [new["keyId"], old["keyId"]]
    assert listed[1]["replacedBy"] == new["keyId"]
    assert all("secret" not in key for key in listed)
    billing.clock.advance(hours=2)
    assert reason(await vendor.get(PORTAL, headers=bearing(old["secret"]))) == (
        401,
        "CredentialExpired",
    )
    assert (await vendor.get(PORTAL, headers=bearing(new["secret"]))).status_code == 200
    assert reason(await vendor.post(f"{KEYS}/{old['keyId']}/rotate", json={})) == (409, "KeyEnded")
    (entry,) = billing.query("SELECT * FROM audit_log WHERE action = 'api_key.rotated'")
    assert entry["details"]["replaces"] == old["keyId"]


async def test_a_revoked_key_is_refused_at_once_and_revoking_again_is_fine(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    key = (await vendor.post(KEYS, json={"name": "erp"})).json()
    for _ in range(2):
        assert (await vendor.delete(f"{KEYS}/{key['keyId']}")).status_code == 204
    assert reason(await vendor.get(PORTAL, headers=bearing(key["secret"]))) == (
        401,
        "CredentialRevoked",
    )
    assert len(billing.query("SELECT 1 FROM audit_log WHERE action = 'api_key.revoked'")) == 1
    (row,) = billing.query("SELECT credential_id FROM credentials WHERE kind = 'instance'")
    # Instances' credentials are none of these.
    assert reason(await vendor.delete(f"{KEYS}/{row['credential_id']}")) == (404, "UnknownKey")
    assert (await acme.head())["epoch"] is None


async def test_keys_are_listed_in_pages(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    made = [(await vendor.post(KEYS, json={"name": f"k{n}"})).json()["keyId"] for n in range(5)]
    found, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = (await vendor.get(KEYS, params=query)).json()
        found += [key["keyId"] for key in page["keys"]]
        cursor = page["next"]
    assert found == made[::-1]
    assert cursor is None
    for wrong in ("x", "WyJ4Il0", "W10", "e30", "WzFd", "WyJhIiwiYiJd", "%00"):
        assert (await vendor.get(KEYS, params={"cursor": wrong})).status_code == 422
    for limit in ("0", "101", "x"):
        assert (await vendor.get(KEYS, params={"limit": limit})).status_code == 422


async def test_there_is_a_limit(
    acme: Site, vendor: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brinkbyte.billing.api_keys.service.MAX_LIVE", 2)
    keys = [(await vendor.post(KEYS, json={"name": "k"})).json() for _ in range(2)]
    assert reason(await vendor.post(KEYS, json={"name": "k"})) == (409, "TooManyKeys")
    await vendor.delete(f"{KEYS}/{keys[0]['keyId']}")
    assert (await vendor.post(KEYS, json={"name": "k"})).status_code == 201


async def test_bad_input_makes_no_key(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    bodies: list[Any] = [
        {},
        {"name": ""},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["tenant:owner"]},
        {"name": "x", "scopes": ["vendor:admin"]},
        {"name": "x", "lifeDays": 0},
        {"name": "x", "secret": "bbt_mine"},
        [],
    ]
    for body in bodies:
        assert reason(await vendor.post(KEYS, json=body)) == (422, "InvalidRequest"), body
    assert billing.query("SELECT 1 FROM credentials WHERE kind = 'tenant'") == []


async def test_an_owner_has_the_same_for_the_own_customer(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    async with person(billing, vendor) as owner:
        made = (await owner.call("POST", "/api/billing/keys", json={"name": "erp"})).json()
        path = f"/api/billing/keys/{made['keyId']}"
        rotated = await owner.call("POST", f"{path}/rotate", json={})
        assert rotated.status_code == 201, rotated.text
        assert (await owner.call("DELETE", path)).status_code == 204
        listed = (await owner.call("GET", "/api/billing/keys")).json()["keys"]
        assert [key["revokedAt"] is None for key in listed] == [True, False]
        actor = f"user:{owner.session['userId']}"
        assert {key["createdBy"] for key in listed} == {actor}


def test_the_command_line_makes_rotates_and_revokes(billing: Billing, run: Any) -> None:
    run("admin", "customer", "create", "--id", "shop", "--name", "Shop")
    at = ("--customer", "shop")
    secret = run("admin", "key", "create", *at, "--name", "erp", "--scope", "billing:read").strip()
    assert secret.startswith("bbt_")
    (key,) = json.loads(run("admin", "key", "list", *at, "-o", "json"))
    assert key["name"] == "erp"
    new = json.loads(run("admin", "key", "rotate", *at, key["keyId"], "-o", "json"))
    assert new["secret"] != secret
    run("admin", "key", "revoke", *at, new["keyId"])
    assert "UnknownCustomer" in run("admin", "key", "list", "--customer", "nobody", fails=True)
    assert "revoked" in run("admin", "key", "list", *at)
