"""Gateways: the example of nginx on a real nginx, Envoy's contract over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml

from services.billing.conftest import Billing
from services.billing.quota_callers import (
    CALLS,
    FREE,
    bearer,
    counted,
    emitter,
    ledger_sum,
    reserve,
    tenant_key,
)
from support.billing import CUSTOMER
from support.nginx import running_nginx
from support.processes import free_port
from support.served import served

pytestmark = pytest.mark.services
EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "gateway"
PATH = "/api/v1/gateway/authorize"


def configuration(billing: int, gateway: int, service: int, *, fail_open: bool) -> str:
    """Return the example with these ports, and a service that says who called."""
    text = (EXAMPLES / "nginx.conf").read_text()
    for before, after in ((8080, billing), (8088, gateway), (9000, service)):
        assert f":{before};" in text
        text = text.replace(f":{before};", f":{after};")
    assert text.count("#fail-open# ") == 2
    if fail_open:
        text = text.replace("#fail-open# ", "")
    return f"""{text}
    server {{
        listen 127.0.0.1:{service};
        location / {{
            return 200 "served $http_x_brinkbyte_customer $http_authorization$http_x_api_key.";
        }}
        location /denied {{ return 403 "the service's own"; }}
    }}"""


@asynccontextmanager
async def gateway(
    billing: Billing, *, fail_open: bool = False, up: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """An nginx in front of a service, that asks this billing API (or a port without one)."""
    app = billing.http._transport.app  # type: ignore[attr-defined]  # of the fixture
    front, back = free_port(), free_port()
    async with served(app) as port:
        asked = port if up else free_port()
        text = configuration(asked, front, back, fail_open=fail_open)
        with running_nginx(text, front):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front}") as client:
                yield client


async def test_nginx_lets_through_counts_and_refuses(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await tenant_key(billing)
    async with gateway(billing) as client:
        allowed = await client.post("/things?x=1", headers=bearer(key), content=b"x" * 10_000)
        assert (allowed.status_code, allowed.text) == (200, "served acme .")
        assert allowed.headers["ratelimit-limit"] == "1000"
        assert allowed.headers["ratelimit-remaining"] == "999"
        assert allowed.headers["x-brinkbyte-used"] == "1"
        by_key = await client.get("/", headers={"X-API-Key": key})
        assert (by_key.status_code, by_key.text) == (200, "served acme .")
        # What a client says about meter and quantity is not what counts.
        said = {"X-BrinkByte-Quantity": "0", "X-BrinkByte-Meter": "platform.llm_tokens"}
        await client.get("/", headers=bearer(key) | said)
        assert ledger_sum(billing) == counted(billing) == 3
        own = await client.get("/denied", headers=bearer(key))
        assert (own.status_code, own.text) == (403, "the service's own")

        await reserve(billing, await emitter(billing), quantity=1196)
        refused = await client.get("/", headers=bearer(key))
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        body = refused.json()
        assert (body["status"], body["reason"]) == (429, "QuotaExceeded")
        assert (body["used"], body["limit"], body["meter"]) == ("1200", "1000", CALLS)
        assert body["upgradeUrl"].startswith("https://")
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["ratelimit-remaining"] == "0"
        assert ledger_sum(billing) == 1200

        for headers in ({}, bearer("bbt_wrong"), bearer("x"), {"X-API-Key": "bbt_wrong"}):
            wrong = await client.get("/", headers=headers)
            assert (wrong.status_code, wrong.json()["status"]) == (401, 401)
        billing.query("UPDATE subscriptions SET status = 'suspended'")
        suspended = await client.get("/", headers=bearer(key))
        assert suspended.status_code == 403
        assert suspended.json()["reason"] == "SubscriptionInactive"


@pytest.mark.parametrize("fail_open", [True, False])
async def test_nginx_without_the_billing_api(billing: Billing, fail_open: bool) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await tenant_key(billing)
    async with gateway(billing, fail_open=fail_open, up=False) as client:
        answer = await client.get("/", headers=bearer(key))
    if fail_open:
        assert (answer.status_code, answer.text) == (200, "served  .")
    else:
        assert (answer.status_code, answer.json()["reason"]) == (503, "QuotaUnavailable")
        assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("fail_open", [True, False])
async def test_nginx_when_the_billing_api_has_no_database(
    billing: Billing, fail_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await tenant_key(billing)

    def gone(*_: object) -> None:
        raise psycopg.OperationalError("gone")

    async with gateway(billing, fail_open=fail_open) as client:
        monkeypatch.setattr(type(billing.context.database), "nobody", gone)
        answer = await client.get("/", headers=bearer(key))
        assert answer.status_code == (200 if fail_open else 503)
        # Who is refused is refused: only a missing answer lets through.
        monkeypatch.undo()
        assert (await client.get("/", headers=bearer("bbt_x"))).status_code == 401


async def test_envoy_gets_the_refusal_itself(billing: Billing) -> None:
    """The client's method and path behind the prefix; status, body and headers as they are."""
    filtered = yaml.safe_load((EXAMPLES / "envoy.yaml").read_text())["typed_config"]
    http_service = filtered["http_service"]
    assert http_service["path_prefix"] == PATH
    added = {h["key"]: h["value"] for h in http_service["authorization_request"]["headers_to_add"]}
    await billing.customer(CUSTOMER, FREE)
    key = await tenant_key(billing)
    for method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD"):
        answer = await billing.http.request(
            method, f"{PATH}/v1/things/7?refuse=x", headers=bearer(key) | added
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-brinkbyte-customer"] == CUSTOMER
    assert counted(billing) == 5
    await reserve(billing, await emitter(billing), quantity=1195)
    refused = await billing.http.get(f"{PATH}/v1/things", headers=bearer(key) | added)
    assert refused.status_code == 429
    assert refused.json()["used"] == "1200"
    assert refused.headers["retry-after"]
    assert (await billing.http.get(f"{PATH}/x", headers=added)).status_code == 401


async def test_gateway_with_a_credential_of_the_vendors(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = bearer(await emitter(billing))
    named = {**key, "X-BrinkByte-Customer": CUSTOMER, "X-BrinkByte-Quantity": "2.5"}
    answer = await billing.http.get(PATH, headers=named)
    assert (answer.status_code, answer.headers["x-brinkbyte-used"]) == (200, "2.5")
    look = await billing.http.get(PATH, headers={**named, "X-BrinkByte-Quantity": "0"})
    assert look.headers["x-brinkbyte-used"] == "2.5"
    assert (await billing.http.get(PATH, headers=key)).json()["reason"] == "MissingCustomer"
    for bad in ("x", "-1", "NaN", "Infinity", "1e13", "0.0000000001"):
        refused = await billing.http.get(PATH, headers={**named, "X-BrinkByte-Quantity": bad})
        assert (refused.status_code, refused.json()["reason"]) == (422, "InvalidQuantity")
    other = {**named, "X-BrinkByte-Meter": "vision.api_calls"}
    assert (await billing.http.get(PATH, headers=other)).json()["reason"] == "WrongFamily"
    unknown = {**named, "X-BrinkByte-Meter": "nothing"}
    refused = await billing.http.get(f"{PATH}?refuse=403", headers=unknown)
    assert (refused.status_code, refused.headers["x-brinkbyte-status"]) == (403, "422")
