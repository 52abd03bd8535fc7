"""Whatever is sent to the instance, the answer is never a 500, and what was kept can be read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.instance.test_telemetry import batch
from support.instance_api import SERVICE, Api, device

pytestmark = [
    pytest.mark.services,
    # Jitter of the application's jobs, on the other thread, is none of the strategies'.
    pytest.mark.filterwarnings(
        "ignore:Do not use the .random. module:hypothesis.errors.HypothesisDeprecationWarning"
    ),
]

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
moments = st.datetimes().map(lambda at: at.isoformat() + "Z") | st.sampled_from(
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1960-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-12:00",
        "1e308",
        "-1",
        "",
    ]
)
shares = st.floats(0, 1) | json_values
points = st.tuples(shares, shares) | json_values
words = st.sampled_from(["person", "detection", "api", "email", "inference", "x"]) | json_values
configurations = st.fixed_dictionaries(
    {},
    optional={
        "name": json_values,
        "hardwareId": st.just("hw-1") | json_values,
        "pipeline": st.fixed_dictionaries(
            {},
            optional={
                "models": st.lists(words, max_size=2) | json_values,
                "settings": st.dictionaries(st.text(max_size=5), json_values, max_size=3),
            },
        )
        | json_values,
        "components": st.lists(
            st.fixed_dictionaries(
                {"name": st.just("c"), "kind": st.sampled_from(["source", "processor", "sink"])},
                optional={"type": words, "settings": json_values},
            ),
            max_size=2,
        )
        | json_values,
        "lineZones": st.lists(
            st.fixed_dictionaries({"name": st.just("l"), "start": points, "end": points}),
            max_size=1,
        ),
        "polygonZones": st.lists(
            st.fixed_dictionaries({"name": st.just("p"), "points": st.lists(points, max_size=4)}),
            max_size=1,
        ),
    },
)
observations = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.just("detection") | json_values,
        "label": st.just("person") | json_values,
        "occurredAt": moments | json_values,
        "trackId": json_values,
        "zone": json_values,
        "score": shares,
        "attributes": json_values,
    },
)
BODIES = [
    ("POST", "/api/v1/cameras"),
    ("PUT", "/api/v1/cameras/cam-1"),
    ("PUT", "/api/v1/cameras/cam-1/components/c"),
    ("PUT", "/api/v1/cameras/cam-1/line-zones/l"),
    ("PUT", "/api/v1/cameras/cam-1/polygon-zones/p"),
    ("POST", "/api/v1/telemetry"),
    ("POST", "/api/v1/license/heartbeat"),
    ("POST", "/api/v1/cameras/cam-1/infer?model=person"),
]
REFUSED = {400, 402, 403, 404, 409, 413, 422}
slow = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


async def attacked(attack: Any) -> None:
    """Run a hypothesis test in a thread: the application lives on this thread's loop."""
    await asyncio.to_thread(attack)


class Attacker:
    """Sends from a thread, and sees that no answer is our own failure."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._loop = asyncio.get_running_loop()

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        devices = path.endswith(("/telemetry", "/heartbeat")) or "/infer" in path
        headers = device("hw-1") if devices else SERVICE
        call = self._api.http.request(method, path, headers=headers, **request)
        answer = asyncio.run_coroutine_threadsafe(call, self._loop).result(60)
        assert answer.is_success or answer.status_code in REFUSED, (request, answer.text)
        if not answer.is_success:
            assert answer.json()["reason"]
        return answer


async def test_no_body_is_a_500(api: Api) -> None:
    send = Attacker(api)

    @slow
    @given(st.sampled_from(BODIES), st.binary(max_size=300) | json_values.map(dump))
    def attack(call: tuple[str, str], body: bytes) -> None:
        send(*call, content=body)

    await attacked(attack)


async def test_no_configuration_is_a_500_and_what_was_kept_can_be_read(api: Api) -> None:
    send = Attacker(api)
    await api.http.post("/api/v1/cameras", headers=SERVICE, json={"cameraId": "cam-1"})

    @slow
    @given(configurations)
    def attack(body: dict[str, Any]) -> None:
        send("PUT", "/api/v1/cameras/cam-1", content=dump(body))
        assert send("GET", "/api/v1/cameras").json()["cameras"]

    await attacked(attack)


async def test_no_observation_is_a_500(api: Api) -> None:
    send = Attacker(api)
    sound = batch(count=1)["events"][0]

    @slow
    @given(st.lists(observations.map(lambda more: {**sound, **more}), min_size=1, max_size=3))
    def attack(events: list[dict[str, Any]]) -> None:
        send("POST", "/api/v1/telemetry", content=dump({"cameraId": "cam-1", "events": events}))

    await attacked(attack)


async def test_no_question_is_a_500(api: Api) -> None:
    send = Attacker(api)
    texts = st.text(max_size=20)

    @slow
    @given(
        st.sampled_from(["/api/v1/usage/summary", "/api/v1/telemetry/aggregates"]),
        st.fixed_dictionaries(
            {},
            optional={
                "since": moments | texts,
                "until": moments | texts,
                "bucket": st.sampled_from(["hour", "day"]) | texts,
                "camera_id": texts,
                "kind": texts,
            },
        ),
    )
    def attack(path: str, params: dict[str, str]) -> None:
        send("GET", path, params=params)

    await attacked(attack)


@pytest.mark.parametrize("score", [1e-46, 5e-324, 1e-40, 0.0, -0.0, 1.0])
async def test_every_score_can_be_kept(api: Api, score: float) -> None:
    answer = await api.http.post(
        "/api/v1/telemetry", headers=device("hw-1"), json=batch(count=1, score=score)
    )
    assert answer.status_code == 201, answer.text


# What is deeper than the parser's own stack is no JSON to it.
DEPTHS = [(32, {201}), (33, {422}), (300, {422}), (900, {400, 422})]


@pytest.mark.parametrize(("depth", "statuses"), DEPTHS)
async def test_settings_are_as_deep_as_can_be_read_again(
    api: Api, depth: int, statuses: set[int]
) -> None:
    nested: Any = 1
    for _ in range(depth - 1):
        nested = [nested]
    body = {"cameraId": "cam-1", "pipeline": {"settings": {"a": nested}}}
    answer = await api.http.post("/api/v1/cameras", headers=SERVICE, json=body)
    assert answer.status_code in statuses, answer.text
    for path in ("/api/v1/cameras", "/api/v1/cameras/cam-1"):
        read = await api.http.get(path, headers=SERVICE)
        assert read.status_code in {200, 404}


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("usage/summary", {"since": "1960-01-01T00:00:00Z"}, 200),
        ("usage/summary", {"until": "0001-01-01T00:00:00Z"}, 422),
        ("telemetry/aggregates", {"until": "0001-01-01T00:00:00Z"}, 422),
        ("telemetry/aggregates", {"until": "9999-12-31T23:59:59-12:00"}, 200),
        ("telemetry/aggregates", {"since": "0001-01-01T00:00:00+14:00"}, 200),
    ],
)
async def test_the_ends_of_time(api: Api, path: str, params: dict[str, str], status: int) -> None:
    answer = await api.http.get(f"/api/v1/{path}", headers=SERVICE, params=params)
    assert answer.status_code == status, answer.text
