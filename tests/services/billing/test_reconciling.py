"""What the ledger tells a site: the customer's own, in pages that fit together."""

from __future__ import annotations

from typing import Any

import pytest

from services.billing.conftest import Billing
from services.billing.site import Site, reason

EVENTS, BATCHES = "/api/v1/usage/events", "/api/v1/usage/batches"


async def get(billing: Billing, site: Site, path: str, **query: Any) -> Any:
    return await billing.http.get(
        path, params=query, headers={"authorization": f"Bearer {site.credential}"}
    )


async def test_pages_of_events_fit_together(acme: Site, billing: Billing) -> None:
    events = [acme.event() for _ in range(7)]
    await acme.report([*events, acme.event(meter="no.such")], billing.keys)
    found: list[list[str]] = []
    aside: list[str] = []
    after: str | None = "00000000-0000-0000-0000-000000000000"
    while after is not None:
        page = (await get(billing, acme, EVENTS, after=after, limit=3)).json()
        found += page["events"]
        aside += [one["id"] for one in page.get("quarantined", ())]
        after = page["next"]
    assert found == sorted([event.id, event.content_hash] for event in events)
    assert len(aside) == 1
    until = sorted(event.id for event in events)[3]
    page = (await get(billing, acme, EVENTS, until=until)).json()
    assert [one[0] for one in page["events"]] == sorted(event.id for event in events)[:3]


async def test_pages_of_batches_fit_together(acme: Site, billing: Billing) -> None:
    for _ in range(3):
        await acme.report([acme.event()], billing.keys)
    first = (await get(billing, acme, BATCHES, limit=2)).json()
    epoch, number, _ = first["batches"][-1]
    rest = (await get(billing, acme, BATCHES, epoch=epoch, batchNo=number, limit=2)).json()
    assert [one[1] for one in first["batches"] + rest["batches"]] == [1, 2, 3]
    assert (first["more"], rest["more"]) == (True, False)
    assert rest["batches"][0][2] == acme.last_hash


async def test_another_customers_are_not_there(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    await billing.customer("other", {"quantities": {"vision.base_seat": 1}})
    other = await billing.site("other")
    assert (await get(billing, other, EVENTS)).json()["events"] == []
    assert (await get(billing, other, BATCHES)).json()["batches"] == []


async def test_what_was_reported_without_a_batch_is_no_sites(acme: Site, billing: Billing) -> None:
    async with billing.admin() as admin:
        secret = await admin.create_operator("reporter", ["vision"])
    answer = await billing.http.post(
        "/api/usage/report",
        json={"customerId": acme.customer, "events": [acme.event().to_wire()]},
        headers={"authorization": f"Bearer {secret}"},
    )
    assert answer.status_code == 200
    assert (await get(billing, acme, EVENTS)).json()["events"] == []


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (EVENTS, {"after": "x"}),
        (EVENTS, {"limit": 0}),
        (EVENTS, {"limit": 1_000_000}),
        (BATCHES, {"epoch": "'"}),
        (BATCHES, {"batchNo": -1}),
        (BATCHES, {"batchNo": 2**60}),
    ],
    ids=["after", "few", "many", "epoch", "number", "large"],
)
async def test_bad_queries_are_refused(
    acme: Site, billing: Billing, path: str, query: dict[str, Any]
) -> None:
    assert (await get(billing, acme, path, **query)).status_code == 422


async def test_a_credential_is_needed(billing: Billing) -> None:
    for path in (EVENTS, BATCHES):
        assert reason(await billing.http.get(path)) == (401, "Unauthorized")
