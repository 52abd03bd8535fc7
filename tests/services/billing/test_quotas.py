"""Quotas: counted once, never passed, told of once; on real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from brinkbyte.billing.quotas import service
from brinkbyte.billing.quotas.repository import DaySum
from brinkbyte.billing.subscriptions.standing import standing_of
from brinkbyte.billing.usage import repository as ledger
from services.billing.conftest import Billing
from services.billing.quota_callers import (
    CALLS,
    FREE,
    SEATS,
    STANDARD,
    bearer,
    counted,
    emitter,
    ledger_sum,
    reserve,
    tenant_key,
)
from services.billing.site import event_id
from support.billing import CUSTOMER

pytestmark = pytest.mark.services


def percents(billing: Billing, meter: str = CALLS) -> list[int]:
    rows = billing.query(
        "SELECT percent FROM usage_alerts WHERE meter = %s ORDER BY percent", meter
    )
    return [row["percent"] for row in rows]


def told(billing: Billing) -> list[str]:
    return [row["kind"] for row in billing.query("SELECT kind FROM notifications ORDER BY id")]


async def test_soft_cap_warns_and_refuses_beyond_120_percent(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    first = (await reserve(billing, key, quantity=800)).json()
    assert (first["used"], first["limit"], first["warning"]) == ("800", "1000", None)
    full = (await reserve(billing, key, quantity=200)).json()
    assert full["remaining"] == "0"
    assert "refused soon" in full["warning"]
    last = await reserve(billing, key, quantity=200)
    assert last.status_code == 200
    refused = await reserve(billing, key, quantity=1)
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    body = refused.json()
    assert (body["reason"], body["used"], body["limit"]) == ("QuotaExceeded", "1200", "1000")
    assert body["upgradeUrl"].startswith("https://")
    assert refused.headers["ratelimit-remaining"] == "0"
    assert int(refused.headers["retry-after"]) > 0
    assert ledger_sum(billing) == counted(billing) == 1200


async def test_soft_cap_refuses_after_seven_days_over(billing: Billing) -> None:
    billing.clock.offset = (
        datetime.now(UTC).replace(day=1, hour=12) - datetime.now(UTC)
    ).total_seconds()
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    assert (await reserve(billing, key, quantity=1001)).status_code == 200
    billing.clock.advance(days=6, hours=23)
    assert (await reserve(billing, key)).status_code == 200
    billing.clock.advance(hours=2)
    assert (await reserve(billing, key)).status_code == 429
    shown = await billing.http.get("/api/billing/quotas", headers=bearer(await tenant_key(billing)))
    (calls,) = [q for q in shown.json()["quotas"] if q["meter"] == CALLS]
    assert calls["over"]
    assert calls["refusedFrom"] <= billing.clock.now
    # The next period begins with nothing used.
    billing.clock.advance(days=26)
    again = await reserve(billing, key)
    assert (again.status_code, again.json()["used"]) == (200, "1")


async def report(billing: Billing, key: str, *quantities: str, meter: str = CALLS) -> None:
    events = [
        {"id": event_id(billing.clock() * 1000), "meter": meter, "quantity": quantity}
        for quantity in quantities
    ]
    answer = await billing.http.post(
        "/api/usage/report",
        json={"customerId": CUSTOMER, "events": events},
        headers=bearer(key),
    )
    assert answer.json()["accepted"] == len(events), answer.text


async def test_hard_cap_and_a_gauge_go_by_the_newest_level(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    for n in range(1, 4):
        answer = (await reserve(billing, key, SEATS)).json()
        assert answer["used"] == str(n)
    refused = await reserve(billing, key, SEATS)
    assert refused.status_code == 429
    assert "release some" in refused.json()["detail"]
    assert "retry-after" not in refused.headers
    # A report of a lower level makes room.
    billing.clock.advance(seconds=1)
    await report(billing, key, "1", meter=SEATS)
    billing.clock.advance(seconds=1)
    assert (await reserve(billing, key, SEATS)).json()["used"] == "2"


async def test_overage_goes_on_with_a_warning(billing: Billing) -> None:
    await billing.customer(CUSTOMER, STANDARD)
    key = await emitter(billing)
    answer = (await reserve(billing, key, quantity=250_000)).json()
    assert answer["allowed"]
    assert "charged" in answer["warning"]


async def test_two_callers_never_share_the_last_unit(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await reserve(billing, key, quantity=1195)
    answers = await asyncio.gather(*(reserve(billing, key) for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [200] * 5 + [429] * 15
    assert ledger_sum(billing) == counted(billing) == 1200


async def test_repeated_event_counts_once_whichever_way_it_comes(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    one = event_id(billing.clock() * 1000)
    first = (await reserve(billing, key, quantity=5, eventId=one)).json()
    again = (await reserve(billing, key, quantity=5, eventId=one)).json()
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert first["used"] == again["used"] == "5"
    other = await reserve(billing, key, quantity=6, eventId=one)
    assert (other.status_code, other.json()["reason"]) == (409, "DuplicateIdOtherContent")
    report = await billing.http.post(
        "/api/usage/report",
        json={
            "customerId": CUSTOMER,
            "events": [{"id": one, "meter": CALLS, "quantity": "5"}],
        },
        headers=bearer(key),
    )
    assert report.json()["duplicates"] == 1
    assert ledger_sum(billing) == counted(billing) == 5


async def test_an_event_of_another_period_is_refused(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    old = event_id((billing.clock() - 40 * 86_400) * 1000)
    refused = await reserve(billing, key, eventId=old)
    assert (refused.status_code, refused.json()["reason"]) == (422, "OutsidePeriod")
    assert ledger_sum(billing) == 0


async def test_alerts_come_once_a_period_each(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await reserve(billing, key, quantity=799)
    assert percents(billing) == []
    await reserve(billing, key, quantity=1)
    assert percents(billing) == [80]
    await reserve(billing, key, quantity=100)
    await reserve(billing, key, quantity=300)
    assert percents(billing) == [80, 100, 120]
    assert told(billing) == ["limit_approaching", "limit_reached", "limit_exceeded"]
    payload = billing.query("SELECT payload FROM notifications ORDER BY id LIMIT 1")[0]["payload"]
    assert (payload["used"], payload["included"], payload["usedPercent"]) == ("800", "1000", "80")
    billing.clock.advance(days=32)
    await reserve(billing, key, quantity=900)
    assert told(billing)[3:] == ["limit_approaching"]


async def test_upgrade_counts_at_once_and_use_stays(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await reserve(billing, key, quantity=1200)
    assert (await reserve(billing, key)).status_code == 429
    await billing.buy(CUSTOMER, STANDARD)
    answer = (await reserve(billing, key)).json()
    assert (answer["used"], answer["limit"]) == ("1201", "100000")


async def test_events_of_before_the_quota_rows_are_counted(billing: Billing) -> None:
    """Whoever comes first in a period, ledger or check: the sum is the ledger's."""
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await report(billing, key, "7", "7", "7")
    assert (await reserve(billing, key)).json()["used"] == "22"


async def count_day(billing: Billing, days_ago: int, quantity: int) -> None:
    moment = datetime.fromtimestamp(billing.clock.now, UTC) - timedelta(days=days_ago)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    sums = [
        DaySum(
            CALLS,
            midnight,
            Decimal(quantity),
            Decimal(quantity),
            UUID(event_id(moment.timestamp() * 1000)),
        )
    ]
    async with billing.context.database.tenant(CUSTOMER) as connection:
        await ledger.lock_chain(connection, CUSTOMER)
        await service.count(connection, billing.context.catalog, CUSTOMER, sums, billing.clock.now)


async def test_late_events_count_in_their_own_period_and_raise_nothing(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await reserve(billing, key, quantity=10)
    billing.clock.advance(days=31)
    await reserve(billing, key, quantity=20)
    await count_day(billing, 31, 5000)
    rows = billing.query(
        "SELECT used FROM usage_quotas WHERE meter = %s ORDER BY period_start", CALLS
    )
    assert [int(row["used"]) for row in rows] == [5010, 20]
    assert percents(billing) == []


async def test_counting_costs_one_statement_and_no_lost_update(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await reserve(billing, key)
    await asyncio.gather(*(count_day(billing, 0, 1) for _ in range(8)))
    assert counted(billing) == 9


async def test_sql_functions_agree_and_see_one_tenant_alone(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    await billing.customer("other", FREE)
    key = await emitter(billing)
    await reserve(billing, key, quantity=1100)
    await reserve(billing, key, SEATS, quantity=2)
    asked = (
        "SELECT get_current_usage('acme', 'platform.api_calls', 'current') AS used, "
        "get_current_usage('acme', 'platform.user_seats') AS seats, "
        "get_current_usage('acme', 'platform.api_calls', 'previous') AS before, "
        "is_over_quota('acme', 'platform.api_calls') AS over, "
        "is_over_quota('acme', 'platform.user_seats') AS seats_over, "
        "get_usage_percentage('acme', 'platform.api_calls') AS percent, "
        "get_usage_percentage('acme', 'vision.cameras') AS unlimited"
    )

    async def ask(tenant: str) -> dict[str, Any]:
        async with billing.context.database.tenant(tenant) as connection:
            cursor = await connection.execute(asked)
            row = await cursor.fetchone()
            assert row is not None
            return row

    assert await ask(CUSTOMER) == {
        "used": 1100,
        "seats": 2,
        "before": 0,
        "over": True,
        "seats_over": False,
        "percent": Decimal("110.00"),
        "unlimited": None,
    }
    hidden = await ask("other")
    assert (hidden["used"], hidden["over"], hidden["percent"]) == (0, False, None)


async def test_billing_period_of_sql_is_that_of_the_code(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    for anchor, moment in (
        ("2026-01-31", "2026-02-28T12:00"),
        ("2026-01-31", "2026-03-30T23:59"),
        ("2026-01-31", "2026-03-31T00:00"),
        ("2024-02-29", "2026-02-28T00:00"),
        ("2026-05-15", "2026-04-15T00:00"),
        ("2026-05-15", "2027-01-14T23:59"),
    ):
        billing.query("UPDATE subscriptions SET period_anchor = %s", f"{anchor}T00:00Z")
        (row,) = billing.query("SELECT * FROM subscriptions")
        at = datetime.fromisoformat(f"{moment}+00:00")
        async with billing.context.database.tenant(CUSTOMER) as connection:
            cursor = await connection.execute(
                "SELECT lower(p) AS a, upper(p) AS b FROM billing_period('acme', %s) AS p", [at]
            )
            found = await cursor.fetchone()
        assert found is not None
        expected = standing_of(row).period(int(at.timestamp()))
        assert (found["a"], found["b"]) == expected, (anchor, moment)


async def test_a_changed_anchor_leaves_one_period(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await reserve(billing, key, quantity=3)
    billing.query("UPDATE subscriptions SET period_anchor = period_anchor - interval '3 days'")
    assert (await reserve(billing, key)).json()["used"] == "4"
    rows = billing.query("SELECT DISTINCT period_start FROM usage_quotas")
    assert len(rows) == 1


async def test_without_a_plan_of_the_family_nothing_is_counted(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    key = await emitter(billing)
    refused = await reserve(billing, key)
    assert (refused.status_code, refused.json()["reason"]) == (403, "SubscriptionInactive")
    await billing.buy(CUSTOMER, {"quantities": {"vision.base_seat": 1}})
    refused = await reserve(billing, key)
    assert (refused.status_code, refused.json()["reason"]) == (403, "NotSubscribed")
    await billing.buy(CUSTOMER, FREE, status="suspended")
    assert (await reserve(billing, key)).status_code == 403
    assert ledger_sum(billing) == 0


async def test_emitter_counts_its_own_families_of_known_customers(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing, "platform")
    wrong = await reserve(billing, key, "vision.api_calls")
    assert (wrong.status_code, wrong.json()["reason"]) == (403, "WrongFamily")
    unknown = await reserve(billing, key, "platform.nothing")
    assert (unknown.status_code, unknown.json()["reason"]) == (422, "UnknownMeter")
    nobody = await reserve(billing, key, customerId="nobody")
    assert nobody.status_code == 404
    for quantity in (-1, "NaN", "1e30", "0.0000000001"):
        assert (await reserve(billing, key, quantity=quantity)).status_code == 422  # type: ignore[arg-type]
    assert (await reserve(billing, await tenant_key(billing))).status_code in (401, 403)


async def test_entitlement_check_reserves_for_a_service_of_the_vendors(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)

    async def check(**more: Any) -> dict[str, Any]:
        answer = await billing.http.post(
            "/api/v1/entitlements/check",
            json={"kind": "meter", "name": CALLS, "customerId": CUSTOMER, **more},
            headers=bearer(key),
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert (await check(quantity=900))["used"] == 0
    taken = await check(quantity=1200, reserve=True)
    assert (taken["allowed"], taken["used"], taken["remaining"]) == (True, 1200, 0)
    assert taken["eventId"]
    refused = await check(reserve=True)
    assert (refused["allowed"], refused["reason"]) == (False, "QuotaExceeded")
    assert refused["upgradeUrl"]
    assert ledger_sum(billing) == 1200


async def test_an_instance_may_not_reserve(billing: Billing) -> None:
    await billing.customer(CUSTOMER, {"quantities": {"vision.base_seat": 2}})
    site = await billing.site()
    question = {"kind": "meter", "name": "vision.api_calls", "quantity": 100_001}
    answer = (await site.call("POST", "/api/v1/entitlements/check", json=question)).json()
    assert (answer["allowed"], answer["limit"]) == (True, 100_000)
    question["quantity"] = 120_001
    answer = (await site.call("POST", "/api/v1/entitlements/check", json=question)).json()
    assert (answer["allowed"], answer["reason"]) == (False, "QuotaExceeded")
    for more in ({"reserve": True}, {"customerId": "other"}):
        refused = await site.call("POST", "/api/v1/entitlements/check", json=question | more)
        assert (refused.status_code, refused.json()["reason"]) == (422, "NotForInstances")


async def test_customer_sees_quotas_and_alerts(billing: Billing) -> None:
    await billing.customer(CUSTOMER, FREE)
    key = await emitter(billing)
    await reserve(billing, key, quantity=900)
    own = await tenant_key(billing)
    answer = await billing.http.get("/api/billing/quotas", headers=bearer(own))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    found = {quota["meter"]: quota for quota in body["quotas"]}
    calls = found[CALLS]
    assert (calls["used"], calls["included"], calls["percent"]) == ("900", "1000", "90")
    assert (calls["ending"], calls["ceiling"], calls["over"]) == ("soft", "1200", False)
    assert [alert["percent"] for alert in calls["alerts"]] == [80]
    assert found[SEATS]["ending"] == "hard"
    assert "fleet.api_calls" in found
    assert "vision.api_calls" not in found
    assert body["periodStart"] <= billing.clock.now < body["periodEnd"]
    assert (await billing.http.get("/api/billing/quotas", headers=bearer(key))).status_code == 403


async def test_cost_alerts_tell_once_a_period(billing: Billing) -> None:
    await billing.customer(CUSTOMER, STANDARD)
    key, own = await emitter(billing), bearer(await tenant_key(billing))
    path = "/api/billing/cost-alerts"
    added = await billing.http.post(path, json={"amount": "120.00"}, headers=own)
    assert added.status_code == 200, added.text
    assert added.json()["soFar"] == "99.00"
    again = await billing.http.post(path, json={"amount": "120"}, headers=own)
    assert len(again.json()["alerts"]) == 1
    await billing.http.post(path, json={"amount": "500", "basis": "projected"}, headers=own)
    assert told(billing) == []
    from brinkbyte.billing.quotas import costs  # noqa: PLC0415

    await reserve(billing, key, quantity=130_000)  # 30,000 beyond at 0.001
    assert await costs.evaluate_all(billing.context, [CUSTOMER], billing.clock.now) == 2
    assert await costs.evaluate_all(billing.context, [CUSTOMER], billing.clock.now) == 0
    shown = (await billing.http.get(path, headers=own)).json()
    assert shown["soFar"] == "129.00"
    assert Decimal(shown["projected"]) > 500
    assert all(alert["notifiedAt"] for alert in shown["alerts"])
    for alert in shown["alerts"]:
        gone = await billing.http.delete(f"{path}/{alert['id']}", headers=own)
        assert gone.status_code == 204
    assert (await billing.http.delete(f"{path}/{alert['id']}", headers=own)).status_code == 404
    for bad in ("0", "-1", "1.234", "NaN", "x"):
        refused = await billing.http.post(path, json={"amount": bad}, headers=own)
        assert refused.status_code == 422


async def test_sealed_batches_count_and_tell_in_the_ledgers_transaction(billing: Billing) -> None:
    await billing.customer(CUSTOMER, {"quantities": {"vision.base_seat": 1}})
    site = await billing.site()
    meter = "vision.api_calls"
    first = site.event(quantity="39999")
    await site.report([first], billing.keys)
    assert (counted(billing, meter), percents(billing, meter)) == (39_999, [])
    # The same event again in another batch counts nothing.
    await site.report([first, site.event(quantity="1")], billing.keys)
    assert (counted(billing, meter), percents(billing, meter)) == (40_000, [80])
    await site.report([site.event(quantity="5000") for _ in range(4)], billing.keys)
    assert (counted(billing, meter), percents(billing, meter)) == (60_000, [80, 100, 120])
    assert len(told(billing)) == 3
    assert counted(billing, meter) == ledger_sum(billing, meter)
