"""What the vendor sees and sets: flags, clone alarms, unpaid invoices, keys for everyone."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock

import httpx
import psycopg
import pytest

from brinkbyte.billing.administration.gauges import Gauges
from brinkbyte.license.claims import LicenseClaims
from brinkbyte.license.modes import LicenseMode, decide_mode
from brinkbyte.license.tokens import verify
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, reason
from support.billing import CUSTOMER, DEFAULT_TERMS

DAY = 86_400
ADMIN = "/api/v1/admin"
OF_ACME = f"{ADMIN}/customers/{CUSTOMER}"
GETS = ["/keys", "/clone-alarms", f"/customers/{CUSTOMER}/flags", f"/customers/{CUSTOMER}/seats"]


async def license_of(site: Site, billing: Billing, **held: int) -> LicenseClaims:
    answer = await site.tokens(**held)
    assert answer.status_code == 200, answer.text
    return verify(
        answer.json()["license"],
        LicenseClaims,
        billing.keys,
        now=billing.clock.now,
        check_expiry=False,
    )


def audited(billing: Billing, action: str) -> list[dict[str, Any]]:
    return billing.query(
        "SELECT actor, subject, details FROM audit_log WHERE action = %s ORDER BY id", action
    )


async def metric(billing: Billing, name: str) -> float:
    text = (await billing.http.get("/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize("path", GETS)
async def test_the_administration_is_the_vendors_alone(
    acme: Site, billing: Billing, path: str
) -> None:
    assert reason(await billing.http.get(ADMIN + path)) == (401, "Unauthorized")
    assert reason(await acme.call("GET", ADMIN + path)) == (403, "MissingScope")


async def test_a_server_without_the_role_looks_across_no_customers(
    vendor: httpx.AsyncClient, acme: Site, billing: Billing
) -> None:
    object.__setattr__(billing.context, "administration", None)
    for path in ("/keys", "/clone-alarms"):
        assert reason(await vendor.get(ADMIN + path)) == (503, "AdministrationUnavailable")
    assert (await vendor.get(f"{OF_ACME}/flags")).status_code == 200
    assert "brinkbyte_billing_key_set_instances{" not in (await vendor.get("/metrics")).text


@pytest.mark.parametrize("path", ["flags", "seats", "seats/cam-1"])
async def test_an_unknown_customer_is_said(vendor: httpx.AsyncClient, path: str) -> None:
    answer = await vendor.get(f"{ADMIN}/customers/nobody/{path}")
    assert reason(answer) == (404, "UnknownCustomer")


# Public keys.


async def test_public_keys_are_published_as_a_plain_jwks(acme: Site, billing: Billing) -> None:
    answer = await billing.http.get("/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    keys = {key["kid"]: key for key in answer.json()["keys"]}
    assert set(answer.json()) == {"keys"}
    assert keys.keys() == billing.keys.keys()
    assert all(
        {"kty", "n", "e", "alg", "use"} <= key.keys() and "d" not in key for key in keys.values()
    )


# Feature flags.


async def test_a_flag_is_signed_at_the_next_ask_and_audited(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, run: Any
) -> None:
    first = await license_of(acme, billing)
    assert first.flags.offline_mode
    held = {"licenseSequence": first.license_sequence, "keySetNumber": 1}
    answer = await vendor.patch(f"{OF_ACME}/flags", json={"offlineMode": False})
    assert answer.status_code == 200, answer.text
    found = answer.json()["flags"]
    assert found == {
        "license_validation": True,
        "usage_tracking": True,
        "offline_mode": False,
        "triton_enforcement": True,
    }
    second = await license_of(acme, billing, **held)
    assert second.license_sequence > first.license_sequence
    assert (second.flags.offline_mode, second.flags.usage_tracking) == (False, True)
    # The same again changes nothing and is no change in the log.
    await vendor.patch(f"{OF_ACME}/flags", json={"offlineMode": False})
    (entry,) = audited(billing, "flags.set")
    assert entry["details"] == {"offline_mode": {"from": True, "to": False}}
    assert entry["actor"].startswith("operator:")
    # From the command line, one flag leaves the others.
    command = ("admin", "flags", "set", "--customer", CUSTOMER, "usage_tracking=false")
    out = await asyncio.to_thread(run, *command, "-o", "json")
    assert json.loads(out)["flags"] == {**found, "usage_tracking": False}
    assert "offline_mode=false" in await asyncio.to_thread(
        run, "admin", "flags", "show", "--customer", CUSTOMER
    )
    third = await license_of(acme, billing, licenseSequence=second.license_sequence)
    assert (third.flags.offline_mode, third.flags.usage_tracking) == (False, False)
    assert audited(billing, "flags.set")[1]["actor"] == "cli"


async def test_flags_that_come_with_a_customer_again_are_audited(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    body = {"customerId": CUSTOMER, "name": "Acme", "flags": {"usageTracking": False}}
    for _ in range(2):
        assert (await vendor.post("/api/customers", json=body)).status_code == 201
    assert audited(billing, "flags.set") == []
    await vendor.post("/api/customers", json={**body, "flags": {}})
    (entry,) = audited(billing, "flags.set")
    assert entry["details"]["from"]["usage_tracking"] is False
    assert entry["details"]["to"]["usage_tracking"] is True


@pytest.mark.parametrize(
    "body", [{}, {"offlineMode": "no"}, {"offlineMode": None}, {"offline": False}, []]
)
async def test_a_flag_that_is_none_is_refused(
    vendor: httpx.AsyncClient, acme: Site, billing: Billing, body: Any
) -> None:
    answer = await vendor.patch(f"{OF_ACME}/flags", json=body)
    assert reason(answer) == (422, "InvalidRequest")
    assert billing.query("SELECT flags FROM billing_customers")[0]["flags"] == {}


@pytest.mark.parametrize("flag", ["offline=false", "offline_mode=no", "offline_mode"])
def test_a_flag_that_is_none_is_named_on_the_command_line(run: Any, flag: str) -> None:
    out = run("admin", "flags", "set", "--customer", CUSTOMER, flag, fails=True)
    assert "license_validation" in out


# Clones.


async def beat(site: Site, cluster: str) -> dict[str, Any]:
    body = {"version": "1", "clusterFingerprint": cluster, "keySetNumber": 1}
    answer = await site.call("POST", "/api/v1/heartbeat", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_one_license_in_two_clusters_is_shown_and_goes_on(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, run: Any
) -> None:
    assert (await beat(acme, "cluster-1"))["cloneAlarm"] is None
    first = await acme.inventory([device(1)], [camera(1)], clusterFingerprint="cluster-1")
    assert first["cloneAlarm"] is None
    billing.clock.advance(seconds=300)
    # The copy's operator sends its inventory, the instances their heartbeats.
    copied = await acme.inventory([device(1)], [camera(1)], clusterFingerprint="cluster-2")
    alarm = copied["cloneAlarm"]
    assert (alarm["reason"], alarm["firstParty"], alarm["secondParty"]) == (
        "TwoClusters",
        "cluster-1",
        "cluster-2",
    )
    assert "cluster-1" in alarm["message"]
    assert "acknowledge" in alarm["message"]
    assert (await beat(acme, "cluster-1"))["cloneAlarm"] == alarm
    # Nothing is cut off.
    assert copied["cameras"][0]["status"] == "unchanged"
    assert decide_mode(await license_of(acme, billing), now=billing.clock.now).full
    (listed,) = (await vendor.get(f"{ADMIN}/clone-alarms")).json()
    assert (listed["customerId"], listed["instanceId"]) == (CUSTOMER, acme.instance_id)
    assert (listed["reason"], listed["times"]) == ("TwoClusters", 2)
    assert await metric(billing, 'brinkbyte_billing_clone_alarms_open{reason="TwoClusters"}') == 1
    assert await metric(billing, 'brinkbyte_billing_clone_alarms_total{reason="TwoClusters"}') == 1
    (entry,) = audited(billing, "clone_alarm.raised")
    assert (entry["details"]["first"], entry["details"]["second"]) == ("cluster-1", "cluster-2")
    out = await asyncio.to_thread(run, "admin", "clones", "list")
    assert "cluster-1" in out
    assert "open, 2 times" in out
    assert "CLONE ALARM" in await asyncio.to_thread(run, "admin", "instances", "list")


async def test_an_acknowledged_alarm_is_gone_until_it_goes_on(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, run: Any
) -> None:
    await beat(acme, "cluster-1")
    await beat(acme, "cluster-2")
    billing.clock.advance(seconds=60)
    url = f"{OF_ACME}/clone-alarms/acknowledge"
    answer = await vendor.post(url, json={"note": "moved"})
    assert [row["reason"] for row in answer.json()] == ["TwoClusters"]
    assert (await vendor.post(url, json={})).json() == []
    billing.clock.advance(seconds=60)
    # The move is done: one goes on alone.
    for _ in range(3):
        assert (await beat(acme, "cluster-2"))["cloneAlarm"] is None
        billing.clock.advance(seconds=60)
    assert (await vendor.get(f"{ADMIN}/clone-alarms")).json() == []
    (old,) = (await vendor.get(f"{ADMIN}/clone-alarms", params={"acknowledged": True})).json()
    assert (old["note"], old["acknowledgedBy"].partition(":")[0]) == ("moved", "operator")
    assert billing.query("SELECT clone_alarm_at FROM instances")[0]["clone_alarm_at"] is None
    (entry,) = audited(billing, "clone_alarm.acknowledged")
    assert entry["details"] == {"reason": "TwoClusters", "note": "moved"}
    # The other one is still there after all.
    again = (await beat(acme, "cluster-1"))["cloneAlarm"]
    assert (again["firstParty"], again["secondParty"]) == ("cluster-2", "cluster-1")
    out = await asyncio.to_thread(
        run, "admin", "clones", "acknowledge", "--customer", CUSTOMER, "--note", "x"
    )
    assert "1 acknowledged" in out
    out = await asyncio.to_thread(run, "admin", "clones", "list", "--all", "-o", "json")
    assert [row["acknowledgedBy"] for row in json.loads(out)].count("cli") == 1


async def test_a_cluster_restored_elsewhere_is_no_clone(acme: Site, billing: Billing) -> None:
    await beat(acme, "cluster-1")
    billing.clock.advance(hours=2)
    assert (await beat(acme, "cluster-2"))["cloneAlarm"] is None
    # An operator that cannot tell its cluster says nothing.
    assert (await beat(acme, "unknown"))["cloneAlarm"] is None
    assert billing.query("SELECT * FROM clone_alarms") == []
    assert len(billing.query("SELECT * FROM instance_clusters")) == 2


async def test_two_live_epochs_name_both(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    await acme.report([acme.event()], billing.keys)
    closed = acme.new_epoch()
    await acme.report([acme.event()], billing.keys, follows=closed)
    opened = acme.epoch
    # The copy goes on with the epoch that was closed.
    late = acme.seal([acme.event()], epoch=closed, batch_no=2)
    assert reason(await acme.send(late)) == (409, "EpochClosed")
    alarm = (await beat(acme, "cluster-1"))["cloneAlarm"]
    assert (alarm["reason"], alarm["firstParty"], alarm["secondParty"]) == (
        "TwoEpochs",
        opened,
        closed,
    )
    (row,) = (await vendor.get(f"{ADMIN}/clone-alarms")).json()
    assert row["details"] == {"refused": "EpochClosed", "batchNo": 2}


async def test_figures_stay_as_they_were_while_the_database_does_not_answer(
    acme: Site, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = 'brinkbyte_billing_key_set_instances{state="offline"}'
    assert await metric(billing, name) == 1
    await acme.tokens(keySetNumber=1)
    monkeypatch.setattr("brinkbyte.billing.administration.gauges.PAUSE_SECONDS", 0.0)
    # Looked at a moment ago: not again.
    assert await metric(billing, name) == 1
    gauges = Gauges(billing.context)
    broken = AsyncMock(side_effect=psycopg.OperationalError)
    with monkeypatch.context() as patch:
        patch.setattr("brinkbyte.billing.rollout.repository.live_instances", broken)
        await gauges.refresh()
    assert broken.await_count == 1
    assert await metric(billing, name) == 1
    await gauges.refresh()
    assert await metric(billing, name) == 0


# Unpaid invoices.


async def pay(vendor: httpx.AsyncClient, state: str, due: int | None = None) -> dict[str, Any]:
    body = {"state": state} | ({} if due is None else {"dueAt": due})
    answer = await vendor.post(f"{OF_ACME}/payment", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_unpaid_invoice_from_its_failure_to_suspension_and_back(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    """What an instance is told at each step; one that goes offline now ends alike."""
    await acme.inventory([device(1)], [camera(1)])
    now = billing.clock.now
    due, end = now + DAY, now + 15 * DAY
    found = await pay(vendor, "failed", due)
    assert (found["status"], found["paymentDueAt"], found["endsAt"]) == ("past_due", due, end)
    told = await license_of(acme, billing)
    assert (told.subscription.status, told.exp, told.grace_seconds) == ("past_due", end, 7 * DAY)
    for moment, mode in (
        (end - 1, LicenseMode.ACTIVE),
        (end, LicenseMode.GRACE),
        (end + 7 * DAY - 1, LicenseMode.GRACE),
        (end + 7 * DAY, LicenseMode.EXPIRED),
    ):
        assert decide_mode(told, now=moment).mode is mode
    # A later invoice does not give more time, an older one less; buying more owes no less.
    assert (await pay(vendor, "failed", due + 9 * DAY))["endsAt"] == end
    await billing.buy(CUSTOMER, DEFAULT_TERMS)
    assert (await license_of(acme, billing)).exp == end
    billing.clock.advance(days=16)
    await acme.rotate()
    kept = await acme.inventory([device(1)], [camera(1)])
    # Cut anew: the end that came nearer is told.
    assert kept["cameras"][0]["status"] == "issued"
    fresh = await acme.inventory([device(1)], [camera(1), camera(2)])
    assert fresh["cameras"][1]["reason"] == "SubscriptionInactive"
    assert "invoice" in fresh["cameras"][1]["message"]
    # Past its grace: who asks is told what to do.
    billing.clock.advance(days=7)
    over = decide_mode(await license_of(acme, billing), now=billing.clock.now)
    assert (over.mode, over.reason) == (LicenseMode.SUSPENDED, "SubscriptionSuspended")
    body = {"camera_id": "cam-1", "tenant_id": CUSTOMER, "device_id": "hw-1"}
    asked = (await acme.call("POST", "/api/v1/licenses/validate", json=body)).json()
    assert asked["license_mode"] == "suspended"
    # Paid: everything is back at the next ask, the camera's seat too.
    assert (await pay(vendor, "received"))["status"] == "active"
    back = await acme.inventory([device(1)], [camera(1)])
    assert back["cameras"][0]["status"] in ("issued", "unchanged")
    told = await license_of(acme, billing)
    assert decide_mode(told, now=billing.clock.now).mode is LicenseMode.ACTIVE
    assert told.exp == told.iat + 45 * DAY
    assert len(audited(billing, "subscription.payment_failed")) == 1
    assert len(audited(billing, "subscription.payment_received")) == 1
    assert (await pay(vendor, "received"))["status"] == "active"


async def test_a_fixed_term_outlives_a_debt_that_was_paid(
    vendor: httpx.AsyncClient, acme: Site, billing: Billing
) -> None:
    term = billing.clock.now + 30 * DAY
    await billing.buy(CUSTOMER, DEFAULT_TERMS, hard_end=term)
    await pay(vendor, "failed", billing.clock.now)
    assert (await license_of(acme, billing)).exp < term
    await pay(vendor, "received")
    assert (await license_of(acme, billing)).exp == term


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"state": "failed"}, (422, "InvalidRequest")),
        ({"state": "received", "dueAt": 5}, (422, "InvalidRequest")),
        ({"state": "late", "dueAt": 5}, (422, "InvalidRequest")),
        ({"state": "failed", "dueAt": 5}, (409, "NothingDue")),
    ],
)
async def test_a_payment_notice_that_makes_no_sense_is_refused(
    vendor: httpx.AsyncClient, acme: Site, billing: Billing, body: Any, expected: tuple[int, str]
) -> None:
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="canceled")
    assert reason(await vendor.post(f"{OF_ACME}/payment", json=body)) == expected
    assert billing.query("SELECT status FROM subscriptions")[0]["status"] == "canceled"


async def test_payments_from_the_command_line(
    vendor: httpx.AsyncClient, acme: Site, billing: Billing, run: Any
) -> None:
    command = ("admin", "payment", "failed", "--customer", CUSTOMER, "--due", "2026-01-01")
    out = await asyncio.to_thread(run, *command)
    assert "2026-01-15T00:00:00+00:00" in out
    out = await asyncio.to_thread(
        run, "admin", "payment", "received", "--customer", CUSTOMER, "-o", "json"
    )
    assert json.loads(out)["status"] == "active"
    await billing.customer("other")
    out = await asyncio.to_thread(
        run, "admin", "payment", "received", "--customer", "other", fails=True
    )
    assert "NoSubscription" in out
