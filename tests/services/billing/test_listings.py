"""What the vendor lists across customers: searched, filtered, in pages, and of nobody else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, key_pair, reason
from support.billing import CUSTOMER, DEFAULT_TERMS

ADMIN = "/api/v1/admin"
LISTS = ("customers", "instances", "devices", "licenses", "metering", "audit")


async def pages(vendor: httpx.AsyncClient, path: str, member: str, **query: Any) -> list[Any]:
    """Return everything of a list, two at a time."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        given = {**query, "limit": 2} | ({} if cursor is None else {"cursor": cursor})
        answer = await vendor.get(f"{ADMIN}/{path}", params=given)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert len(body[member]) <= 2
        found += body[member]
        cursor = body["next"]
        if cursor is None:
            return found


@pytest.fixture
async def five(acme: Site, billing: Billing) -> Site:
    """Acme with devices and usage, and four more: paying, in trial, ended, without anything."""
    await acme.inventory([device(n) for n in range(1, 4)], [camera(1)])
    await acme.report([acme.event(), acme.event()], billing.keys)
    await acme.call(
        "POST",
        "/api/v1/heartbeat",
        json={
            "version": "0.2.0",
            "clusterFingerprint": "cluster-1",
            "devicesOnline": 2,
            "backlog": 17,
            "licenseSequence": 5,
            "keySetNumber": 1,
        },
    )
    await billing.customer("beta_1", DEFAULT_TERMS)
    other = await billing.site("beta_1", key=key_pair(1))
    await other.inventory([device(1)])
    await billing.customer("beta-2", {"plans": {"fleet": "trial"}})
    await billing.customer("gone", DEFAULT_TERMS, status="suspended")
    await billing.customer("nothing")
    return acme


async def test_what_is_listed(five: Site, vendor: httpx.AsyncClient, billing: Billing) -> None:
    listed = await pages(vendor, "customers", "customers")
    modes = {row["customerId"]: (row["licenseMode"], row["plan"]) for row in listed}
    assert modes == {
        "acme": ("active", "professional"),
        "beta-2": ("trial", "trial"),
        "beta_1": ("active", "professional"),
        "gone": ("suspended", "professional"),
        "nothing": ("unlicensed", "unlicensed"),
    }
    for search, expected in (
        ("BETA", ["beta-2", "beta_1"]),
        ("_", ["beta_1"]),
        ("%", []),
        ("acme Ltd", ["acme"]),
        ("\\", []),
    ):
        found = await pages(vendor, "customers", "customers", search=search)
        assert [row["customerId"] for row in found] == expected

    instances = await pages(vendor, "instances", "instances")
    assert [row["customerId"] for row in instances] == ["acme", "beta_1"]
    assert (instances[0]["version"], instances[0]["devicesOnline"]) == ("0.2.0", 2)
    devices = await pages(vendor, "devices", "devices")
    assert [(row["customerId"], row["name"]) for row in devices] == [
        ("acme", "device-1"),
        ("acme", "device-2"),
        ("acme", "device-3"),
        ("beta_1", "device-1"),
    ]
    assert len(await pages(vendor, "devices", "devices", customerId="beta_1")) == 1
    licenses = await pages(vendor, "licenses", "licenses")
    assert [(row["customerId"], row["mode"]) for row in licenses] == [
        ("acme", "active"),
        ("beta_1", "active"),
    ]
    assert licenses[0]["heldSequence"] == 5
    acme, beta = await pages(vendor, "metering", "metering")
    assert (acme["backlog"], acme["lastBatchNo"], acme["silent"]) == (17, 1, False)
    assert (beta["backlog"], beta["lastBatchAt"], beta["silent"]) == (None, None, True)

    # An instance that has ended is listed on request.
    await five.call("DELETE", "/api/v1/instance")
    rest = await pages(vendor, "instances", "instances", customerId=CUSTOMER)
    ended = await pages(vendor, "instances", "instances", customerId=CUSTOMER, ended=True)
    assert (len(rest), len(ended)) == (0, 1)
    assert ended[0]["endedAt"] is not None


async def test_the_audit_log_is_filtered_and_newest_first(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    await acme.inventory([device(1)])
    billing.clock.advance(days=1)
    later = billing.clock.now
    await vendor.patch(f"{ADMIN}/customers/{CUSTOMER}/flags", json={"offlineMode": False})
    everything = await pages(vendor, "audit", "entries")
    ids = [row["id"] for row in everything]
    assert ids == sorted(ids, reverse=True)
    (first, *_) = everything
    assert (first["action"], first["customerId"]) == ("flags.set", CUSTOMER)
    assert first["details"] == {"offline_mode": {"from": True, "to": False}}
    assert await pages(vendor, "audit", "entries", since=later) == [first]
    assert await pages(vendor, "audit", "entries", until=later) == everything[1:]
    assert await pages(vendor, "audit", "entries", by=first["actor"]) == [first]
    assert await pages(vendor, "audit", "entries", customerId="nobody") == []
    enrolled = await pages(vendor, "audit", "entries", action="instance.enrolled")
    assert [row["subject"] for row in enrolled] == [acme.instance_id]
    own = await pages(vendor, "audit", "entries", own=True)
    assert [(row["action"], row["customerId"]) for row in own] == [("operator.created", None)]


async def test_lists_are_the_vendors_alone_and_take_only_their_own_cursors(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    for path in (f"{ADMIN}/{name}" for name in LISTS):
        assert reason(await acme.call("GET", path)) == (403, "MissingScope")
        for cursor in ("WyJhIiwiYiIsImMiXQ", "bnVsbA", "W3siYSI6MX1d", "."):
            answer = await vendor.get(path, params={"cursor": cursor})
            assert reason(answer) == (422, "InvalidCursor")
    object.__setattr__(billing.context, "administration", None)
    for path in (f"{ADMIN}/{name}" for name in LISTS):
        assert reason(await vendor.get(path)) == (503, "AdministrationUnavailable")
