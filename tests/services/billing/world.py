"""Two customers with everything that belongs to one, and the API's document to walk through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import httpx

from brinkbyte.billing.invoices import closing
from services.billing.conftest import Billing
from services.billing.people import PASSWORD, Browser, invite, person
from services.billing.site import Site, camera, device, key_pair
from support.billing import CUSTOMER, DEFAULT_TERMS

OTHER = "other"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
UNSAFE = METHODS[1:]


@dataclass
class Company:
    """A customer: instance, API key, owner, and the ids of what is theirs."""

    customer: str
    site: Site
    program: httpx.AsyncClient
    owner: Browser
    ids: dict[str, str] = field(default_factory=dict)
    markers: set[str] = field(default_factory=set)


@dataclass
class World:
    """The vendor's client, the two customers, and the document."""

    billing: Billing
    vendor: httpx.AsyncClient
    mine: Company
    other: Company
    document: dict[str, Any]

    def operations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Walk through the document: ``METHOD /path`` and what is said of it."""
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method.lower() in item:
                    yield f"{method} {path}", item[method.lower()]

    def everything_of(self, customer: str) -> dict[str, list[str]]:
        """Return every row of every table that is a customer's."""
        tables = self.billing.query(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_attribute a "
            "ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
            "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND c.relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        assert len(tables) > 25
        return {
            table["name"]: [
                row["line"]
                for row in self.billing.query(
                    f"SELECT t::text AS line FROM {table['name']} t WHERE tenant_id = %s "
                    "ORDER BY 1",
                    customer,
                )
            ]
            for table in tables
        }


def example_body(operation: dict[str, Any]) -> dict[str, Any] | None:
    """Return a copy of the example of an operation's request."""
    content = operation.get("requestBody", {}).get("content", {})
    found = content.get("application/json", {}).get("example")
    return deepcopy(found) if isinstance(found, dict) else None


async def _company(
    stack: AsyncExitStack, billing: Billing, vendor: httpx.AsyncClient, customer: str, number: int
) -> Company:
    await billing.customer(customer, DEFAULT_TERMS)
    site = await billing.site(customer, key=key_pair(number))
    # The clients of vendor and site are one, whose header is the vendor's: calls bring their own.
    hardware, watched = f"hw-{customer}-device", f"cam-{customer}-door"
    devices = [device(1, hardwareId=hardware, name=f"box-{customer}")]
    cameras = [camera(1, cameraId=watched, hardwareId=hardware, name=f"door-{customer}")]
    await site.inventory(devices, cameras)
    event = site.event()
    await site.report([event], billing.keys)
    program = await stack.enter_async_context(billing.tenant_client(customer))
    owner = await stack.enter_async_context(
        person(
            billing, vendor, email=f"owner@{customer}.example", customer=customer, password=PASSWORD
        )
    )
    second = await invite(billing, vendor, f"viewer@{customer}.example", "viewer", customer)
    made = (
        await owner.call("POST", "/api/billing/keys", json={"name": f"key-of-{customer}"})
    ).json()
    told = f"https://{customer}.example/told"
    target = await owner.call(
        "POST",
        "/api/billing/notifications/targets",
        json={"channel": "webhook", "address": told},
    )
    alerts = await owner.call("POST", "/api/billing/cost-alerts", json={"amount": "250"})
    async with billing.context.database.tenant(customer) as connection:
        await closing.settle_due(
            connection, billing.context.catalog, customer, now=billing.clock.now
        )
    (invoice,) = billing.query("SELECT invoice_id FROM invoices WHERE tenant_id = %s", customer)
    ids = {
        "customer_id": customer,
        "camera_id": watched,
        "key_id": made["keyId"],
        "user_id": second["userId"],
        "session_id": owner.session["sessionId"],
        "invoice_id": str(invoice["invoice_id"]),
        "metric": "vision.api_calls",
        "alert": alerts.json()["alerts"][0]["id"],
        "target": target.json()["id"],
    }
    markers = {
        f"{customer} Ltd",
        f"owner@{customer}.example",
        f"viewer@{customer}.example",
        f"key-of-{customer}",
        f"box-{customer}",
        f"door-{customer}",
        hardware,
        watched,
        site.instance_id,
        made["secret"],
        event.id,
        told,
        target.json()["secret"],
        *(value for name, value in ids.items() if name != "metric"),
    }
    return Company(customer, site, program, owner, ids, markers)


@asynccontextmanager
async def world(billing: Billing, vendor: httpx.AsyncClient) -> AsyncIterator[World]:
    """Make the two customers."""
    async with AsyncExitStack() as stack:
        mine = await _company(stack, billing, vendor, CUSTOMER, 0)
        other = await _company(stack, billing, vendor, OTHER, 1)
        document = (await billing.http.get("/openapi.json")).json()
        yield World(billing, vendor, mine, other, document)
