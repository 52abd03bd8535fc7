"""Every operation of the document, with one customer's credentials and the other's ids.

A new operation fails here until it has a line in ``WITH_THE_OTHERS_IDS`` (or is the vendor's
alone); a new path parameter until ``Company.ids`` has it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import httpx
import psycopg

from brinkbyte.billing.migrate import API
from services.billing.conftest import Billing
from services.billing.world import Company, World, example_body, world

PUBLIC = {
    "GET /health",
    "GET /stats",
    "GET /metrics",
    "GET /api/v1/keys",
    "GET /.well-known/jwks.json",
    "POST /api/v1/enrollments",
    "POST /api/account/sign-in",
    "POST /api/billing/webhooks/stripe",
    "POST /api/account/sign-in/link",
    "POST /api/account/sign-in/token",
}
WITH_THE_OTHERS_IDS = {
    # What a customer may ask about itself, by id in the path.
    "GET /api/license/{customer_id}": 404,
    "GET /api/portal/{customer_id}": 404,
    # Instances: the customer is the credential's.
    "POST /api/v1/instance/credential": 200,
    "PUT /api/v1/instance/key": 422,
    "POST /api/v1/heartbeat": 200,
    "PUT /api/v1/inventory": 200,
    "GET /api/v1/instance/tokens": 200,
    "POST /api/v1/licenses/validate": 403,
    "POST /api/v1/entitlements/check": 200,
    "GET /api/v1/usage/head": 200,
    "GET /api/v1/usage/events": 200,
    "GET /api/v1/usage/batches": 200,
    "POST /api/v1/usage/batch": 403,
    # Subscriptions, invoices, usage, quotas, notifications.
    "GET /api/billing/subscription": 200,
    "POST /api/billing/subscription": 409,
    "PUT /api/billing/subscription": 200,
    "DELETE /api/billing/subscription": 200,
    "POST /api/billing/subscription/preview": 200,
    "GET /api/billing/invoices": 200,
    "GET /api/billing/invoices/upcoming": 200,
    "GET /api/billing/invoices/{invoice_id}": 404,
    "GET /api/billing/invoices/{invoice_id}/pdf": 404,
    "GET /api/billing/usage": 200,
    "GET /api/billing/usage/{metric}": 200,
    "GET /api/billing/usage/{metric}/top": 200,
    "GET /api/billing/quotas": 200,
    "GET /api/billing/cost-alerts": 200,
    "POST /api/billing/cost-alerts": 200,
    "DELETE /api/billing/cost-alerts/{alert}": 404,
    "GET /api/billing/notifications": 200,
    "GET /api/billing/notifications/targets": 200,
    "POST /api/billing/notifications/targets": 200,
    "PUT /api/billing/notifications/targets/{target}": 404,
    "POST /api/billing/notifications/targets/{target}/enable": 404,
    "POST /api/billing/notifications/targets/{target}/roll-secret": 404,
    "DELETE /api/billing/notifications/targets/{target}": 404,
    "GET /api/v1/gateway/authorize": 403,
    "POST /api/v1/gateway/authorize": 403,
    # People and programs.
    "GET /api/billing/keys": 200,
    "POST /api/billing/keys": 201,
    "POST /api/billing/keys/{key_id}/rotate": 404,
    "DELETE /api/billing/keys/{key_id}": 404,
    "GET /api/billing/users": 200,
    "POST /api/billing/users": 201,
    "POST /api/billing/users/{user_id}/invitation": 404,
    "PATCH /api/billing/users/{user_id}": 404,
    "DELETE /api/billing/users/{user_id}": 404,
    "GET /api/account/session": 200,
    "GET /api/account/sessions": 200,
    "DELETE /api/account/sessions/{session_id}": 404,
    "PUT /api/account/password": 204,
    # Last, as they end what the others need.
    "POST /api/account/sign-out": 204,
    "DELETE /api/v1/instance": 204,
}
LAST = (
    "DELETE /api/billing/subscription",
    "POST /api/account/sign-out",
    "DELETE /api/v1/instance",
)
SCHEMES = ("instanceCredential", "tenantKey", "session")


def path_of(name: str, company: Company) -> str:
    """Return an operation's path with a customer's ids."""
    path = name.partition(" ")[2]
    return re.sub(r"\{(\w+)\}", lambda found: company.ids[found[1]], path)


def of_the_other(value: Any, world: World) -> Any:
    """Return an example with the other customer's ids where one is named."""
    other = world.other
    named = {
        "customerId": other.customer,
        "tenant_id": other.customer,
        "cameraId": other.ids["camera_id"],
        "camera_id": other.ids["camera_id"],
        "hardwareId": f"hw-{other.customer}-device",
        "device_id": f"hw-{other.customer}-device",
        "instanceId": other.site.instance_id,
    }
    if isinstance(value, dict):
        return {k: named.get(k) or of_the_other(v, world) for k, v in value.items()}
    return [of_the_other(v, world) for v in value] if isinstance(value, list) else value


def request_of(name: str, operation: dict[str, Any], world: World) -> dict[str, Any]:
    """Return the body of a call that names the other customer wherever it can."""
    if name == "POST /api/v1/usage/batch":
        return {"content": world.other.site.seal([world.other.site.event()]).to_wire()}
    if name == "PUT /api/account/password":
        return {"json": {"password": "another horse battery"}}
    body = example_body(operation)
    if body is None:
        return {}
    if name == "PUT /api/v1/inventory":
        body.pop("baseRevision", None)
    body = of_the_other(body, world)
    for each in body.get("devices", ()):
        each.update(name="box", uid="uid-box")
    for each in body.get("cameras", ()):
        each.update(name="door", uid="uid-door")
    return {"json": body}


async def call_as(
    scheme: str | None, name: str, world: World, path: str, **more: Any
) -> httpx.Response:
    """Call with a credential of the first customer's."""
    method, mine = name.partition(" ")[0], world.mine
    if scheme == "instanceCredential":
        return await mine.site.call(method, path, **more)
    if scheme == "tenantKey":
        return await mine.program.request(method, path, **more)
    if scheme == "session":
        return await mine.owner.call(method, path, **more)
    async with httpx.AsyncClient(
        transport=world.billing.http._transport, base_url="https://billing"
    ) as nobody:
        return await nobody.request(method, path, **more)


async def test_nothing_of_another_customer_is_read_or_written(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    async with world(billing, vendor) as found:
        before = found.everything_of(found.other.customer)
        listed = dict(found.operations())
        wrong: list[str] = []
        for name in sorted(listed, key=lambda each: (each in LAST, each)):
            operation = listed[name]
            if name in PUBLIC:
                assert not operation.get("security"), name
                continue
            path = path_of(name, found.other)
            admitted = {scheme for each in operation["security"] for scheme in each}
            if admitted != {"vendorCredential"} and name not in WITH_THE_OTHERS_IDS:
                wrong.append(f"{name}: give it a line in WITH_THE_OTHERS_IDS")
                continue
            for scheme in (None, *SCHEMES):
                body = request_of(name, operation, found)
                answer = await call_as(scheme, name, found, path, **body)
                if scheme is None:
                    expected = {401}
                elif scheme not in admitted:
                    expected = {401, 403}
                else:
                    expected = {WITH_THE_OTHERS_IDS[name]}
                if answer.status_code not in expected:
                    wrong.append(f"{name} as {scheme}: {answer.status_code} {answer.text[:200]}")
                sent = path + str(body)
                told = [m for m in found.other.markers if m in answer.text and m not in sent]
                if told:
                    wrong.append(f"{name} as {scheme}: tells {told}")
        assert wrong == [], "\n".join(wrong)
        assert found.everything_of(found.other.customer) == before
        stale = set(WITH_THE_OTHERS_IDS) - set(listed)
        assert stale == set(), "these operations are gone"


async def test_a_session_counts_no_use_at_a_gateway(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    """Another site's page has a browser send the cookie: with a link, for GET needs no token."""
    asked = "/api/v1/gateway/authorize"
    async with world(billing, vendor) as found:
        await billing.buy(found.mine.customer, {"plans": {"platform": "free"}})
        before = found.everything_of(found.mine.customer)
        for method in ("GET", "POST"):
            for path in (asked, f"{asked}/things", f"{asked}?refuse=403"):
                answer = await found.mine.owner.call(method, path)
                assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized"), path
        assert found.everything_of(found.mine.customer) == before
        # A key's call does count.
        answer = await found.mine.program.get(asked)
        assert answer.status_code == 200, answer.text
        after = found.everything_of(found.mine.customer)
        assert {"usage_events"} <= {name for name in before if before[name] != after[name]}


async def test_no_table_shows_or_takes_a_row_of_another_customer(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    """As the API's own role, under row security alone: whatever a statement says."""
    async with world(billing, vendor) as found:
        mine, other = found.mine.customer, found.other.customer
        before = found.everything_of(other)
        filled = [name for name, rows in before.items() if rows]
        assert len(filled) > 12, "the world should have rows to protect"
        with psycopg.connect(billing.dsn(API)) as connection:
            connection.execute("SELECT set_config('brinkbyte.tenant_id', %s, false)", [mine])
            connection.commit()
            for table in before:
                for statement in (
                    f"SELECT 1 FROM {table} WHERE tenant_id = '{other}'",
                    f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = '{other}'",
                    f"DELETE FROM {table} WHERE tenant_id = '{other}'",
                    f"UPDATE {table} SET tenant_id = '{other}' WHERE tenant_id = '{mine}'",
                ):
                    # Refused, or without an effect.
                    with suppress(psycopg.errors.InsufficientPrivilege):
                        assert connection.execute(statement).rowcount == 0, statement
                    connection.rollback()
        assert found.everything_of(other) == before


async def test_the_walk_sees_what_it_looks_for(vendor: httpx.AsyncClient, billing: Billing) -> None:
    """The same calls with the own ids do read and write: the proof above is not of nothing."""
    async with world(billing, vendor) as found:
        before = found.everything_of(found.other.customer)
        other = found.other
        answer = await other.owner.call("GET", "/api/billing/keys")
        assert f"key-of-{other.customer}" in answer.text
        path = path_of("DELETE /api/billing/users/{user_id}", other)
        assert (await other.owner.call("DELETE", path)).status_code == 204
        after = found.everything_of(other.customer)
        changed = {name for name in before if before[name] != after[name]}
        assert {"tenant_users", "user_links", "audit_log"} <= changed
