"""Whatever is sent, the answer is never a 500 and the ledger is never wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.billing.conftest import Billing
from services.billing.site import Site, raw_batch, reason

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4)
    ),
    max_leaves=8,
)
events = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(
            ["01a1fad5-9b84-76ce-a808-f32c5b6c8fce", "ffffffff-ffff-7fff-bfff-ffffffffffff", ""]
        )
        | json_values,
        "meter": st.sampled_from(["vision.api_calls", "vision.sms", "x"]) | json_values,
        "quantity": st.sampled_from(["1", "0", "999999999999999.999999999", "1.0"]) | json_values,
        "key": json_values,
        "cameraId": json_values,
        "attributes": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
        | json_values,
        "surplus": json_values,
    },
)
vendor_bodies = st.fixed_dictionaries(
    {"customerId": st.sampled_from(["acme", "x", "a\0"]) | json_values},
    optional={
        "name": json_values,
        "flags": json_values | st.dictionaries(st.sampled_from(["offlineMode"]), st.booleans()),
        "terms": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "plans": st.dictionaries(
                    st.sampled_from(["fleet", "platform"]),
                    st.sampled_from(["trial", "standard"]) | json_values,
                )
                | json_values,
                "quantities": st.dictionaries(
                    st.sampled_from(["vision.base_seat", "x"]), st.integers() | json_values
                ),
                "overrides": json_values,
            },
        ),
        "status": st.sampled_from(["canceled", "trialing", "x"]) | json_values,
        "trialDays": st.integers(-1, 400) | json_values,
        "hardEnd": st.integers(-1, 2**60) | json_values,
        "events": st.lists(events | json_values, max_size=3),
    },
)
slow = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PATHS = [
    ("POST", "/api/v1/enrollments"),
    ("PUT", "/api/v1/instance/key"),
    ("PUT", "/api/v1/inventory"),
    ("POST", "/api/v1/heartbeat"),
    ("POST", "/api/v1/licenses/validate"),
    ("POST", "/api/v1/entitlements/check"),
    ("POST", "/api/v1/usage/batch"),
]
VENDOR_PATHS = [
    ("POST", "/api/customers"),
    ("POST", "/api/subscriptions"),
    ("POST", "/api/usage/report"),
]


def drive(billing: Billing, call: Any) -> httpx.Response:
    """Run a call on the loop that the fixtures live on, from inside a hypothesis test."""
    future: asyncio.Future[httpx.Response] = asyncio.run_coroutine_threadsafe(call, billing.loop)  # type: ignore[assignment]  # a concurrent future, waited for in a worker thread
    return future.result(60)


async def test_no_body_is_a_500(acme: Site, billing: Billing) -> None:
    async with billing.admin() as admin:
        own = await admin.create_operator("tests", ["vision"])

    @slow
    @given(
        st.sampled_from([*PATHS, *VENDOR_PATHS]),
        st.binary(max_size=300) | (vendor_bodies | json_values).map(_dump),
    )
    def attack(path: tuple[str, str], body: bytes) -> None:
        headers = {"Authorization": f"Bearer {own}"} if path in VENDOR_PATHS else {}
        answer = drive(billing, acme.call(*path, content=body, headers=headers))
        assert answer.status_code in {200, 201, 204, 401, 403, 404, 409, 410, 413, 422}, answer.text
        if answer.status_code >= 400:
            reason(answer)

    billing.loop = asyncio.get_running_loop()
    await asyncio.to_thread(attack)


async def test_no_signed_payload_is_a_500_and_every_event_is_accounted_for(
    acme: Site, billing: Billing
) -> None:
    @slow
    @given(st.lists(events | json_values, min_size=1, max_size=5))
    def attack(listed: list[Any]) -> None:
        payload = _dump(listed)
        answer = drive(billing, acme.send(raw_batch(acme, payload, len(listed))))
        if answer.status_code == 422:
            assert answer.json()["reason"] == "MalformedBatch"
            return
        assert answer.status_code == 200, answer.text
        batch = acme.batch_no + 1
        row = billing.query("SELECT * FROM usage_batches WHERE batch_no = %s", batch)[0]
        assert row["count"] == len(listed)
        assert row["inserted"] + row["quarantined"] <= len(listed)
        acme.batch_no, acme.last_hash = batch, bytes(row["chain_hash"]).hex()

    billing.loop = asyncio.get_running_loop()
    await asyncio.to_thread(attack)
    total = billing.query("SELECT count(*) AS n, sum(quantity) AS q FROM usage_events")[0]
    days = billing.query(
        "SELECT coalesce(sum(events), 0) AS n, sum(quantity) AS q FROM usage_aggregates "
        "WHERE grain = 'day'"
    )[0]
    assert (total["n"], total["q"]) == (days["n"], days["q"])


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"header":"x"}',
        b'{"header":1,"events":[]}',
        b'{"header":"x","events":{}}',
        b'{"header":"x","events":[],"more":1}',
        b'{"header":"x","events":[1,]}',
        b'{"header":"x","events":[' + b"[" * 50_000 + b"]" * 50_000 + b"]}",
        b'{"header":"x","events":["\\ud800"]}',
        b'{"header":"x","events":["\xff"]}',
        b'{"header":"\xff","events":[]}',
        b'{"header":"a.b.c","events":[{}]}',
        b'{"header":"' + b"a" * 9000 + b'","events":[{}]}',
        b'{"header":"eyJhbGciOiJub25lIn0.e30.","events":[{}]}',
    ],
)
async def test_garbage_batches_are_refused(acme: Site, body: bytes) -> None:
    assert reason(await acme.send(body)) == (422, "MalformedBatch")
