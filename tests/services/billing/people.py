"""A customer's people as a browser has them: cookie, CSRF token, e-mailed links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from brinkbyte.billing.users.links import link_token
from services.billing.conftest import Billing
from support.billing import CUSTOMER

PASSWORD = "correct horse battery"
COOKIE = "__Host-brinkbyte-session"


class Browser:
    """One person's browser; keeps the cookie and sends the CSRF token."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.csrf = ""
        self.session: dict[str, Any] = {}

    async def sign_in(self, path: str, body: dict[str, Any]) -> httpx.Response:
        answer = await self.http.post(f"/api/account/{path}", json=body)
        if answer.status_code == 200:
            self.session = answer.json()
            self.csrf = self.session["csrfToken"]
        return answer

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"x-csrf-token": self.csrf, **more.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **more)


@asynccontextmanager
async def browser(billing: Billing) -> AsyncIterator[Browser]:
    """Open a browser without a session; it talks HTTPS, else it would not send the cookie."""
    async with httpx.AsyncClient(
        transport=billing.http._transport, base_url="https://billing"
    ) as http:
        yield Browser(http)


def last_link(billing: Billing, email: str, kind: str) -> str:
    """Return the token that the newest e-mail of a kind to an address carries."""
    rows = billing.query(
        "SELECT tenant_id, payload FROM notifications WHERE kind = %s AND payload->>'to' = %s "
        "ORDER BY id DESC LIMIT 1",
        kind,
        email,
    )
    assert rows, f"no {kind} to {email}"
    return link_token(billing.context.secrets, rows[0]["tenant_id"], rows[0]["payload"]["linkId"])


async def invite(
    billing: Billing, vendor: httpx.AsyncClient, email: str, role: str, customer: str = CUSTOMER
) -> dict[str, Any]:
    """Have the vendor invite a person."""
    answer = await vendor.post(
        f"/api/v1/admin/customers/{customer}/users", json={"email": email, "role": role}
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@asynccontextmanager
async def person(
    billing: Billing,
    vendor: httpx.AsyncClient,
    *,
    email: str = "olive@example.com",
    role: str = "owner",
    customer: str = CUSTOMER,
    password: str | None = None,
) -> AsyncIterator[Browser]:
    """Invite somebody and sign them in by the invitation."""
    await invite(billing, vendor, email, role, customer)
    async with browser(billing) as found:
        body = {"token": last_link(billing, email, "user_invited")}
        if password is not None:
            body["password"] = password
        answer = await found.sign_in("sign-in/token", body)
        assert answer.status_code == 200, answer.text
        yield found
