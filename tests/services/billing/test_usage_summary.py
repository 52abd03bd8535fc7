"""What customers and the vendor read from the aggregates: periods, trends, projections, tops."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from brinkbyte.billing.auth import TENANT_SCOPES, scope_names
from brinkbyte.billing.usage import repository
from brinkbyte.billing.usage.aggregator import UsageAggregator
from services.billing.conftest import Billing
from services.billing.site import Site, event_id, key_pair, reason
from support.billing import CUSTOMER, DEFAULT_TERMS


def api_key(billing: Billing, tenant: str = CUSTOMER) -> str:
    """Make an API key of a customer, as the portal does."""
    secret = billing.context.secrets.create("tenant")
    billing.query(
        "INSERT INTO credentials (tenant_id, credential_id, kind, secret_hash, scopes, created_at, "
        "expires_at) VALUES (%s, %s, 'tenant', %s, %s, now(), '2100-01-01')",
        tenant, uuid4(), billing.context.secrets.hash(secret), scope_names(TENANT_SCOPES),
    )  # fmt: skip
    return secret


async def get(billing: Billing, path: str, key: str, **query: Any) -> httpx.Response:
    return await billing.http.get(path, params=query, headers={"Authorization": f"Bearer {key}"})


def settle(billing: Billing, day: int, hour: int = 12) -> datetime:
    """Put the clock on a day of a period that began at midnight of its first; returns its start."""
    midnight = billing.clock.now // 86_400 * 86_400
    start = datetime.fromtimestamp(midnight - (day - 1) * 86_400, UTC)
    billing.query("UPDATE subscriptions SET period_anchor = %s", start)
    billing.clock.offset += midnight + hour * 3600 - billing.clock()
    return start


async def send(site: Site, billing: Billing, *events: tuple[float, str, str], **more: Any) -> None:
    """Send events: days ago, meter, quantity."""
    made = [
        site.event(ahead=-days * 86_400, meter=meter, quantity=quantity, **more)
        for days, meter, quantity in events
    ]
    await site.report(made, billing.keys)


async def test_summary_has_sums_and_projections(acme: Site, billing: Billing) -> None:
    start = settle(billing, 5)
    await send(
        acme, billing, (0, "vision.api_calls", "30"), (1, "vision.api_calls", "60.5"),
        (2, "vision.storage_gb", "4"), (40, "vision.api_calls", "7"),
    )  # fmt: skip
    key = api_key(billing)
    body = (await get(billing, "/api/billing/usage", key)).json()
    meters = {meter["meter"]: meter for meter in body["meters"]}
    assert datetime.fromisoformat(body["periodStart"]) == start
    length = (datetime.fromisoformat(body["periodEnd"]) - start).days
    calls = meters["vision.api_calls"]
    assert (calls["used"], calls["events"], calls["unit"]) == ("90.5", 2, "call")
    # Four and a half days are gone.
    expected = Decimal("90.5") * length / Decimal("4.5")
    assert abs(Decimal(calls["projection"]) - expected) < Decimal("1e-6")
    assert meters["vision.storage_gb"]["used"] == meters["vision.storage_gb"]["projection"] == "4"
    before = (await get(billing, "/api/billing/usage", key, period="previous")).json()
    assert datetime.fromisoformat(before["periodEnd"]) == start
    assert before["meters"] == []
    await send(acme, billing, (20, "vision.api_calls", "8"))
    before = (await get(billing, "/api/billing/usage", key, period="previous")).json()
    (late,) = before["meters"]
    # A period that is over is not projected; a late event counts in it.
    assert (late["used"], late["projection"]) == ("8", "8")


async def test_metric_by_meter_and_by_what_it_measures(acme: Site, billing: Billing) -> None:
    settle(billing, 10)
    await send(
        acme, billing, *((n, "vision.llm_tokens", "100") for n in range(4)),
        (0, "fleet.llm_tokens", "5"), (1, "vision.storage_gb", "3"),
    )  # fmt: skip
    key = api_key(billing)
    one = (await get(billing, "/api/billing/usage/vision.llm_tokens", key, days=6)).json()
    (trend,) = one["trends"]
    assert [point["quantity"] for point in trend["points"]] == ["0", "0", *["100"] * 4]
    assert trend["changePercent"] == "200"
    both = (await get(billing, "/api/billing/usage/llm_tokens", key, days=1)).json()
    assert {meter["meter"]: meter["used"] for meter in both["meters"]} == {
        "vision.llm_tokens": "400",
        "fleet.llm_tokens": "5",
    }
    hours = (
        await get(billing, "/api/billing/usage/vision.llm_tokens", key, days=2, grain="hour")
    ).json()
    assert len(hours["trends"][0]["points"]) == 24 + 13
    assert sum(int(point["quantity"]) for point in hours["trends"][0]["points"]) == 200
    minutes = (
        await get(billing, "/api/billing/usage/vision.llm_tokens", key, grain="minute")
    ).json()
    assert len(minutes["trends"][0]["points"]) == 1440 + 721
    gauge = (await get(billing, "/api/billing/usage/vision.storage_gb", key, days=3)).json()
    assert [p["quantity"] for p in gauge["trends"][0]["points"]] == ["0", "3", "3"]


async def test_what_cannot_be_answered_is_refused(acme: Site, billing: Billing) -> None:
    key = api_key(billing)
    cases = [
        ("/api/billing/usage/nonsense", {}, (404, "UnknownMetric")),
        ("/api/billing/usage/api_calls", {"grain": "minute", "days": 3}, (422, "TooManyDays")),
        ("/api/billing/usage/api_calls", {"days": 0}, (422, "InvalidRequest")),
        ("/api/billing/usage/api_calls", {"grain": "year"}, (422, "InvalidRequest")),
        ("/api/billing/usage/api%00calls", {}, (422, "InvalidRequest")),
        ("/api/billing/usage/api_calls/top", {"days": 36}, (422, "InvalidRequest")),
        ("/api/billing/usage", {"period": "next"}, (422, "InvalidRequest")),
    ]
    for path, query, expected in cases:
        assert reason(await get(billing, path, key, **query)) == expected, path
    assert (await billing.http.get("/api/billing/usage")).status_code == 401
    answer = await get(billing, "/api/billing/usage", acme.credential)
    assert reason(answer) == (403, "MissingScope")


async def test_top_consumers_of_a_customer_and_of_all(
    acme: Site, billing: Billing, vendor: httpx.AsyncClient
) -> None:
    for camera, quantity in (("cam-1", "5"), ("cam-2", "9"), ("cam-1", "6")):
        await send(
            acme, billing, (0, "vision.api_calls", quantity), camera_id=camera, hardware_id="hw-1"
        )
    await send(acme, billing, (0, "vision.api_calls", "1000"))
    await billing.customer("other", DEFAULT_TERMS)
    other = await billing.site("other", key=key_pair(1))
    await send(other, billing, (0, "vision.api_calls", "7"), camera_id="cam-1")
    key = api_key(billing)
    path = "/api/billing/usage/vision.api_calls/top"
    found = (await get(billing, path, key)).json()
    assert [(each["consumer"], each["quantity"], each["events"]) for each in found] == [
        ("cam-1", "11", 2),
        ("cam-2", "9", 1),
    ]
    devices = (await get(billing, path, key, by="device", limit=1)).json()
    assert [(each["consumer"], each["quantity"]) for each in devices] == [("hw-1", "20")]
    answer = await vendor.get("/api/v1/admin/usage/top", params={"meter": "vision.api_calls"})
    assert [(each["consumer"], each["quantity"]) for each in answer.json()] == [
        (CUSTOMER, "1020"),
        ("other", "7"),
    ]
    answer = await vendor.get(f"/api/v1/admin/customers/{CUSTOMER}/usage")
    assert [meter["used"] for meter in answer.json()["meters"]] == ["1020"]
    assert reason(await vendor.get("/api/v1/admin/customers/nobody/usage")) == (
        404, "UnknownCustomer",
    )  # fmt: skip
    # One customer's key never shows another's.
    theirs = (await get(billing, path, api_key(billing, "other"))).json()
    assert [each["quantity"] for each in theirs] == ["7"]


async def test_late_event_changes_the_vector_of_a_closed_period(
    acme: Site, billing: Billing
) -> None:
    start = settle(billing, 1)
    first = start - timedelta(days=10)
    async with billing.context.database.tenant(CUSTOMER) as connection:
        assert await repository.period_vector(connection, CUSTOMER, first, start) == {}
    await acme.report(
        [
            acme.event(id=event_id(start.timestamp() * 1000 - 1), quantity="3"),
            acme.event(id=event_id(start.timestamp() * 1000), quantity="4"),
            acme.event(
                id=event_id(first.timestamp() * 1000 - 5), meter="vision.storage_gb", quantity="2"
            ),
        ],
        billing.keys,
    )
    async with billing.context.database.tenant(CUSTOMER) as connection:
        vector = await repository.period_vector(connection, CUSTOMER, first, start)
    assert (vector["vision.api_calls"].quantity, vector["vision.api_calls"].events) == (3, 1)
    assert vector["vision.storage_gb"].before == 2
    assert vector["vision.storage_gb"].events == 0


@pytest.mark.parametrize(("days", "grain"), [(1, "minute"), (30, "hour"), (400, "day")])
async def test_trend_has_every_bucket_up_to_now(
    acme: Site, billing: Billing, days: int, grain: Any
) -> None:
    settle(billing, 3, hour=1)
    now = datetime.fromtimestamp(billing.clock(), UTC)
    aggregator = UsageAggregator(billing.context.database, billing.context.catalog, now)
    trend = await aggregator.get_usage_trends(CUSTOMER, "vision.api_calls", days, grain)
    seconds = {"minute": 60, "hour": 3600, "day": 86_400}[grain]
    assert len(trend.points) == ((days - 1) * 86_400 + 3600) // seconds + 1
    assert trend.change_percent is None
