from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from brinkbyte.instance.triton.client import (
    FrameRefusedError,
    ModelLoadError,
    TritonClient,
    TritonUnavailableError,
)
from brinkbyte.instance.triton.loader import ModelLoader, Pod, resolve

pytestmark = pytest.mark.unit
Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> TritonClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return TritonClient(http, lambda: None)


def answering(status: int, **options: object) -> Answer:
    return lambda _request: httpx.Response(status, **options)  # type: ignore[arg-type]


async def _infer(answer: Answer) -> object:
    return await client(answer).infer("http://t", "car", width=1, height=1, pixels=b"rgb")


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (
            answering(400, json={"error": "Model is not ready"}),
            TritonUnavailableError,
            "ModelNotReady",
        ),
        (answering(400, json={"error": "IMAGE must be"}), FrameRefusedError, "FrameRefused"),
        (answering(500, text="oops"), TritonUnavailableError, "InferenceFailed"),
        (answering(200, text="oops"), TritonUnavailableError, "UnexpectedAnswer"),
        (answering(200, json={"outputs": []}), TritonUnavailableError, "UnexpectedAnswer"),
    ],
)
async def test_inference_errors_say_whose_they_are(
    answer: Answer, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error) as raised:
        await _infer(answer)
    assert raised.value.reason == reason  # type: ignore[attr-defined]


async def test_what_is_not_triton_is_told_apart() -> None:
    for body in ({"json": {"x": 1}}, {"text": "<html>"}, {"json": [1]}):
        with pytest.raises(TritonUnavailableError) as raised:
            await client(answering(200, **body)).models("http://t")
        assert raised.value.reason == "UnexpectedAnswer"
    with pytest.raises(ModelLoadError):
        await client(answering(500, json={"error": "no"})).load("http://t", "car")


def loader(licensed: set[str], pods: list[Pod]) -> ModelLoader:
    made = ModelLoader(
        client(answering(500)), host="triton", port=1, licensed=lambda: frozenset(licensed)
    )
    made.pods = tuple(pods)
    made._looked = True
    return made


def pod(*ready: str, absent: tuple[str, ...] = (), error: str = "") -> Pod:
    return Pod("http://t", frozenset(ready), frozenset(absent), error)


@pytest.mark.parametrize(
    ("licensed", "pods", "ready", "missing", "says"),
    [
        ({"car"}, [pod("car"), pod("car")], True, (), "ready on 2 pods"),
        ({"car"}, [pod("car"), pod()], False, ("car",), "loading car"),
        ({"car"}, [pod("car", "boat")], False, (), "unloading boat"),
        ({"car"}, [pod(absent=("car",))], False, ("car",), "repository lacks car"),
        ({"car"}, [pod("car", error="cannot")], False, (), "cannot"),
        ({"car"}, [], False, ("car",), "no Triton pod"),
        (set(), [pod()], True, (), "0 licensed models"),
    ],
)
def test_ready_means_every_licensed_model_everywhere_and_no_other(
    licensed: set[str], pods: list[Pod], ready: bool, missing: tuple[str, ...], says: str
) -> None:
    state = loader(licensed, pods).state
    assert (state.ready, state.missing) == (ready, missing)
    assert says in state.message


def test_before_the_first_look_nothing_is_claimed() -> None:
    made = loader({"car"}, [])
    made._looked = False
    assert made.state.ready is False
    assert made.state.missing == ("car",)


async def test_each_pod_is_brought_up_on_its_own() -> None:
    held: dict[str, set[str]] = {"a": {"boat"}, "b": set()}

    def answer(request: httpx.Request) -> httpx.Response:
        host, path = request.url.host, request.url.path
        if host == "gone":
            raise httpx.ConnectError("gone")
        if path.endswith("index"):
            return httpx.Response(
                200,
                json=[
                    {"name": name, "state": "READY" if name in held[host] else "UNAVAILABLE"}
                    for name in ("car", "boat", "person")
                ],
            )
        name, change = path.split("/")[-2:]
        if (host, name) == ("b", "person"):
            return httpx.Response(400, json={"error": "broken model"})
        (held[host].add if change == "load" else held[host].discard)(name)
        return httpx.Response(200)

    async def pods(_host: str, _port: int) -> list[str]:
        return ["http://a", "http://b", "http://gone"]

    made = ModelLoader(
        client(answer),
        host="t",
        port=1,
        licensed=lambda: frozenset({"car", "person", "new"}),
        resolver=pods,
    )
    await made.run_once()
    assert held == {"a": {"car", "person"}, "b": {"car"}}
    a, b, gone = made.pods
    assert (a.absent, a.error) == (frozenset({"new"}), "")
    assert "broken model" in b.error
    assert "does not answer" in gone.error
    assert made.servers_of("car") == ["http://a", "http://b"]


async def test_a_pod_that_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brinkbyte.instance.triton.loader._PASS_SECONDS", 0.1)
    held: dict[str, set[str]] = {"well": set(), "hung": set()}
    release = asyncio.Event()
    loads: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        host, path = request.url.host, request.url.path
        if path.endswith("index"):
            state = "READY" if "car" in held[host] else "UNAVAILABLE"
            return httpx.Response(200, json=[{"name": "car", "state": state}])
        loads.append(host)
        if host == "hung":
            await release.wait()
        held[host].add("car")
        return httpx.Response(200)

    bases = ["http://well", "http://hung"]

    async def pods(_host: str, _port: int) -> list[str]:
        return bases

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    made = ModelLoader(
        TritonClient(http, lambda: None),
        host="t",
        port=1,
        licensed=lambda: frozenset({"car"}),
        resolver=pods,
    )
    for _ in range(2):
        await asyncio.wait_for(made.run_once(), 2)
        assert made.servers_of("car") == ["http://well"]
        assert made.state.message == "loading car"
    assert loads == ["well", "hung"]
    release.set()
    await made.run_once()
    assert made.servers_of("car") == bases
    # Gone from the name: whatever was at work there ends.
    release.clear()
    held["hung"].clear()
    await made.run_once()
    task = made._at_work["http://hung"]
    bases.pop()
    await made.run_once()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    await made.aclose()


async def test_looking_at_a_pod_takes_seconds_at_most() -> None:
    seen: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, json=[])

    await client(answer).models("http://t")
    await client(answer).load("http://t", "car")
    assert [each["read"] for each in seen] == [4.0, 60.0]


async def test_names_resolve_to_every_address() -> None:
    assert await resolve("127.0.0.1", 8000) == ["http://127.0.0.1:8000"]
    assert await resolve("::1", 8000) == ["http://[::1]:8000"]
