"""Batches of good, repeated, forged and broken events: the ledger is what a small model says."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brinkbyte.billing.usage import repository
from brinkbyte.kit.uuid7 import from_parts
from services.billing.conftest import Billing
from services.billing.site import Site, key_pair, raw_batch, reason
from services.billing.test_hostile import drive
from support.billing import CUSTOMER, DEFAULT_TERMS
from support.campaign_plan import soaking

quantities = st.decimals(
    0, Decimal("999999999999999.999999999"), allow_nan=False, allow_infinity=False, places=9
).map(lambda value: format(value.normalize(), "f"))
HOUR: Final = 3_600_000
GOOD: Final = ("vision.api_calls", "vision.llm_tokens", "vision.storage_gb")
few_ids = st.integers(1, 12)
"""So few that ids come again, with the same and with other content."""
times = st.sampled_from([-399 * 24 * HOUR, -40 * 24 * HOUR, -90_000, -1, 0, 23 * HOUR])
good = st.fixed_dictionaries(
    {"tail": few_ids, "at": times, "meter": st.sampled_from(GOOD), "quantity": quantities},
    optional={
        "key": st.sampled_from(
            ["k", 'a "quoted" \\ key', "{a,b}", "NULL", "\u00e9\u4e2d\U0001f600"]
        ),
        "cameraId": st.sampled_from(["cam,1", "{}", "cam\t2", "\\N", "a\nb"]),
        "attributes": st.sampled_from([{}, {"route": '/a"b\\c'}, {"a": "", "b": "\u2028"}]),
    },
)
REASONS: Final[dict[str, dict[str, Any]]] = {
    "TooFarAhead": {"at": 25 * HOUR},
    "TooOld": {"at": -401 * 24 * HOUR},
    "UnknownMeter": {"meter": "vision.nonsense"},
    "WrongFamily": {"meter": "platform.llm_tokens"},
    "MissingCost": {"meter": "vision.sms"},
}
bad = st.tuples(good, st.sampled_from(sorted(REASONS)))
broken = st.sampled_from(
    ["-1", "NaN", "Infinity", "1e400", "1.0", "01", "", " 1", "1_000", "\u0661", "9" * 16, "0x1"]
)


class Model:
    """What the ledger should hold."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> str | None:
        """Take an event in; returns why it is set aside."""
        first = self.held.setdefault(event["id"], event)
        return None if first == event else "DuplicateIdOtherContent"

    def sums(self, length: int) -> Counter[tuple[str, str]]:
        """Return quantities in billionths by meter and the first characters of their time."""
        found: Counter[tuple[str, str]] = Counter()
        for event in self.held.values():
            at = datetime.fromtimestamp(int(event["id"].replace("-", "")[:12], 16) / 1000, UTC)
            nanos = int(Decimal(event["quantity"]).scaleb(9))
            found[event["meter"], at.isoformat()[:length]] += nanos
        return found


def wire(given_: dict[str, Any], now: int) -> dict[str, Any]:
    """Return an event as it is sent."""
    event = {name: value for name, value in given_.items() if name not in {"tail", "at"}}
    if not event.get("attributes"):
        event.pop("attributes", None)
    return {"id": str(from_parts(now + given_["at"], given_["tail"])), **event}


def deliver(
    billing: Billing, site: Site, sent: list[tuple[dict[str, Any], str | None]], model: Model
) -> None:
    """Send a batch, and compare what was set aside with what the model says."""
    expected = []
    firsts: dict[str, dict[str, Any]] = {}
    for event, why in sent:
        first = event if why else firsts.setdefault(event["id"], event)
        if first is event:
            found = why or model.take(event)
        else:
            # In a batch the first of an id stands for it: a copy says nothing new.
            found = None if first == event else "DuplicateIdOtherContent"
        if found is not None:
            expected.append((event["id"], found))
    payload = json.dumps([event for event, _ in sent]).encode()
    body = raw_batch(site, payload, len(sent))
    answer = drive(billing, site.send(body))
    assert answer.status_code == 200, answer.text
    assert drive(billing, site.send(body)).content == answer.content
    row = billing.query(
        "SELECT * FROM usage_batches WHERE tenant_id = %s AND batch_no = %s",
        site.customer, site.batch_no + 1,
    )[0]  # fmt: skip
    site.batch_no, site.last_hash = row["batch_no"], bytes(row["chain_hash"]).hex()
    claims = json.loads(_payload_of(row["receipt"]))
    assert [(q["id"], q["reason"]) for q in claims["quarantined"]] == expected


def _payload_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.split(".")[1] + "==")


def check(billing: Billing, tenant: str, model: Model) -> None:
    """Compare ledger and aggregates with the model."""
    rows = billing.query("SELECT * FROM usage_events WHERE tenant_id = %s", tenant)
    assert {str(row["id"]): row["quantity"] for row in rows} == {
        name: Decimal(event["quantity"]) for name, event in model.held.items()
    }
    for row in rows:
        event = model.held[str(row["id"])]
        assert row["key"] == event.get("key")
        assert row["camera_id"] == event.get("cameraId")
        assert row["attributes"] == event.get("attributes", {})
        assert row["occurred_at"].timestamp() * 1000 == pytest.approx(row["id"].int >> 80, abs=0.5)
    for grain, length in (("minute", 16), ("hour", 13), ("day", 10)):
        found = billing.query(
            "SELECT meter, bucket, quantity, events FROM usage_aggregates "
            "WHERE tenant_id = %s AND grain = %s", tenant, grain,
        )  # fmt: skip
        assert {
            (row["meter"], row["bucket"].isoformat()[:length]): int(row["quantity"].scaleb(9))
            for row in found
        } == dict(model.sums(length))
        assert sum(row["events"] for row in found) == len(model.held)
    newest: dict[str, str] = {}
    for name, event in sorted(model.held.items()):
        newest[event["meter"]] = name
    lasts = billing.query(
        "SELECT DISTINCT ON (meter) meter, last_id, last_quantity FROM usage_aggregates "
        "WHERE tenant_id = %s AND grain = 'day' ORDER BY meter, bucket DESC", tenant,
    )  # fmt: skip
    assert {row["meter"]: str(row["last_id"]) for row in lasts} == newest
    for row in lasts:
        assert row["last_quantity"] == Decimal(model.held[str(row["last_id"])]["quantity"])


@pytest.mark.soak
async def test_ledger_is_what_the_model_says(acme: Site, billing: Billing) -> None:
    now = billing.clock.now * 1000
    model = Model()

    @settings(
        max_examples=300 if soaking() else 20,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        st.lists(
            good.map(lambda g: (wire(g, now), None))
            | bad.map(lambda b: (wire({**b[0], **REASONS[b[1]]}, now), b[1]))
            | st.tuples(good, broken).map(
                lambda b: (wire({**b[0], "quantity": b[1]}, now), "InvalidEvent")
            ),
            min_size=1,
            max_size=12,
        )
    )
    def batches(sent: list[tuple[dict[str, Any], str | None]]) -> None:
        deliver(billing, acme, sent, model)
        check(billing, CUSTOMER, model)

    billing.loop = asyncio.get_running_loop()
    await asyncio.to_thread(batches)


async def test_ids_that_another_tenant_sent_first_are_fresh(acme: Site, billing: Billing) -> None:
    """B's ledger is complete, and A is told nothing that it would not be told of fresh ids."""
    await billing.customer("other", DEFAULT_TERMS)
    other = await billing.site("other", key=key_pair(1))
    events = [acme.event(quantity="7", key=f"k{n}") for n in range(20)]
    first = await acme.report(
        [other.event(id=event.id, quantity="1") for event in events], billing.keys
    )
    second = await other.report(events, billing.keys)
    fresh = await acme.report([acme.event() for _ in range(20)], billing.keys)
    assert first.quarantined == second.quarantined == fresh.quarantined == ()
    assert (first.count, fresh.count) == (20, 20)
    rows = billing.query("SELECT id::text, quantity FROM usage_events WHERE tenant_id = 'other'")
    assert {row["id"]: row["quantity"] for row in rows} == {event.id: 7 for event in events}


CORRUPTIONS: Final[dict[str, tuple[Callable[[bytes], bytes], set[tuple[int, str]]]]] = {
    "truncated": (lambda body: body[: len(body) // 2], {(422, "MalformedBatch")}),
    "empty": (lambda body: body[:0], {(422, "MalformedBatch")}),
    "not-utf8": (lambda body: body.replace(b"vision", b"\xff\xfe", 1), {(422, "PayloadMismatch")}),
    "two-bodies": (lambda body: body + body, {(422, "MalformedBatch")}),
    "signature": (
        lambda body: body[:-8] + (b"A" if body[-8:-7] != b"A" else b"B") + body[-7:],
        {(403, "BadSignature")},
    ),
    "no-header": (lambda body: body[: body.index(b',"header"')] + b"}", {(422, "MalformedBatch")}),
    "header-number": (
        lambda body: body[: body.index(b'"header":')] + b'"header":1}',
        {(422, "MalformedBatch")},
    ),
    "header-text": (
        lambda body: body[: body.index(b'"header":')] + b'"header":"a.b.c"}',
        {(422, "MalformedBatch")},
    ),
    "events-object": (lambda body: b'{"events":{},' + body[body.index(b'"header"') :],
                      {(422, "MalformedBatch")}),
    "deep": (
        lambda body: b'{"events":' + b"[" * 50_000 + b"]" * 50_000 + b',"header":"x"}',
        {(422, "MalformedBatch")},
    ),
    "too-many": (
        lambda body: b'{"events":[' + b",".join([b"{}"] * 1001) + b"]," + body[body.index(b'"h') :],
        {(422, "MalformedBatch")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
async def test_broken_batch_is_refused_and_the_good_one_goes_in(
    acme: Site, billing: Billing, kind: str
) -> None:
    batch = acme.seal([acme.event() for _ in range(3)])
    change, expected = CORRUPTIONS[kind]
    assert reason(await acme.send(change(batch.to_wire()))) in expected
    assert billing.query("SELECT 1 FROM usage_epochs") == []
    assert (await acme.send(batch)).status_code == 200
    assert len(billing.query("SELECT 1 FROM usage_events")) == 3


BAD_REPORTS: Final[dict[str, bytes]] = {
    "nan": b'{"customerId":"acme","events":[{"id":NaN}]}',
    "infinity": b'{"customerId":"acme","events":[{"quantity":-Infinity}]}',
    "surrogate": b'{"customerId":"acme","events":[{"id":"\\ud800"}]}',
    "huge-number": b'{"customerId":"acme","events":[{"id":' + b"9" * 6000 + b"}]}",
    "deep": b'{"customerId":"acme","events":[{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]}",
    "nul": b'{"customerId":"acme","events":[{"id":"\\u0000","meter":"\\u0000"}]}',
    "none": b'{"customerId":"acme","events":[]}',
    "too-many": b'{"customerId":"acme","events":[' + b",".join([b"{}"] * 1001) + b"]}",
    "truncated": b'{"customerId":"acme","events":[{',
    "binary": b"\x00\xff",
}


@pytest.mark.parametrize("kind", sorted(BAD_REPORTS))
async def test_bad_report_is_never_a_500(acme: Site, billing: Billing, kind: str) -> None:
    async with billing.admin() as admin:
        credential = await admin.create_operator("own", ["platform"])
    own = Site(billing.http, CUSTOMER, billing.clock, credential=credential)
    answer = await own.call("POST", "/api/usage/report", content=BAD_REPORTS[kind])
    if answer.status_code == 200:
        assert answer.json()["accepted"] == 0
        assert [q["reason"] for q in answer.json()["quarantined"]] == ["InvalidEvent"]
    else:
        assert reason(answer) == (422, "InvalidRequest")
    assert billing.query("SELECT 1 FROM usage_events") == []


async def test_closing_sees_all_of_a_writers_events_or_none(acme: Site, billing: Billing) -> None:
    """Whoever holds the chain's lock waits for batches and reports alike, and lets none in."""
    async with billing.admin() as admin:
        credential = await admin.create_operator("own", ["vision"])
    own = Site(billing.http, CUSTOMER, billing.clock, credential=credential)
    body = {"customerId": CUSTOMER, "events": [acme.event().to_wire()]}
    async with billing.context.database.tenant(CUSTOMER) as connection:
        await repository.lock_chain(connection, CUSTOMER)
        waiting = [
            asyncio.create_task(acme.send(acme.seal([acme.event()]))),
            asyncio.create_task(own.call("POST", "/api/usage/report", json=body)),
        ]
        done, _ = await asyncio.wait(waiting, timeout=0.5)
        assert done == set()
        assert billing.query("SELECT 1 FROM usage_events") == []
    assert [(await task).status_code for task in waiting] == [200, 200]
    assert len(billing.query("SELECT 1 FROM usage_events")) == 2
