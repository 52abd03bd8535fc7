"""Inference and enforcement on a real Triton server."""

from __future__ import annotations

import asyncio
import colorsys
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from brinkbyte.catalog import load_catalog
from brinkbyte.instance.triton.client import TritonClient, TritonUnavailableError
from brinkbyte.instance.triton.repository import ModelRepositoryError, model_hues, write_models
from brinkbyte.license.claims import CameraMode
from brinkbyte.license.seats import Seat
from services.instance.test_telemetry import batch
from support.instance_api import (
    OPERATOR,
    SERVICE,
    Api,
    device,
    eventually,
    running_app,
    running_process,
)
from support.instance_site import Site
from support.triton import TritonServer, running_triton

pytestmark = pytest.mark.services
CAMERA = "/api/v1/cameras/cam-1/infer"
BOX = (40, 30, 80, 60)
SMALL = {"models": ["car", "person"], "analytics": ["detection"], "outputs": ["api"]}


def frame(model: str, *, width: int = 160, height: int = 120, value: float = 1.0) -> bytes:
    """A grey picture with one blob of the model's hue."""
    hue = model_hues(load_catalog())[model] / 360
    blob = bytes(int(255 * part) for part in colorsys.hsv_to_rgb(hue, 1, value))
    left, top, right, bottom = BOX
    pixels = b"".join(
        blob if left <= x < right and top <= y < bottom else b"\x5a\x5a\x5a"
        for y in range(height)
        for x in range(width)
    )
    return b"P6 %d %d 255\n" % (width, height) + pixels


@pytest.fixture
async def triton_api(site: Site, triton_server: TritonServer) -> AsyncIterator[Api]:
    """The application with few licensed models, on the running Triton."""
    site.triton_port = triton_server.port
    site.install(base=SMALL, packs={"retail": {"models": ["trolley"]}})
    async with running_app(site) as api:
        await eventually(lambda: api.instance.loader.state.ready, seconds=60)
        yield api


async def _infer(api: Api, model: str, headers: dict[str, str], body: bytes | None = None) -> Any:
    content = frame(model) if body is None else body
    return await api.http.post(CAMERA, params={"model": model}, headers=headers, content=content)


async def events(site: Site) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(site.dsn, row_factory=dict_row) as connection:
        found = await (await connection.execute("SELECT event FROM usage_events")).fetchall()
    return [json.loads(row["event"]) for row in found]


async def test_a_licensed_model_finds_its_objects_and_the_call_is_metered(
    triton_api: Api, site: Site
) -> None:
    headers = device("hw-1", key="frame-1")
    answer = await _infer(triton_api, "car", headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"] == "car"
    (found,) = body["detections"]
    assert found["label"] == "car"
    assert found["box"] == list(BOX)
    assert found["score"] > 0.9
    assert (await _infer(triton_api, "car", device("hw-1"), frame("person"))).json()[
        "detections"
    ] == []
    repeat = await _infer(triton_api, "car", headers)
    assert repeat.content == answer.content
    assert repeat.headers["idempotent-replayed"] == "true"
    other = await _infer(triton_api, "person", headers)
    assert other.json()["reason"] == "IdempotencyKeyReused"
    said = [event for event in await events(site) if event["key"] == "frame-1"]
    assert said == [
        {
            "id": body["eventId"],
            "meter": "vision.api_calls",
            "quantity": "1",
            "key": "frame-1",
            "cameraId": "cam-1",
            "hardwareId": "hw-1",
            "attributes": {"operation": "infer", "model": "car"},
        }
    ]


async def test_an_unlicensed_model_is_refused_and_costs_nothing(
    triton_api: Api, site: Site
) -> None:
    for model, reason in (("boat", "ModelNotLicensed"), ("truck", "ModelNotLicensed")):
        answer = await _infer(triton_api, model, device("hw-1"))
        assert (answer.status_code, answer.json()["reason"]) == (403, reason)
        assert answer.json()["upgradeUrl"] in answer.json()["detail"]
    unknown = await _infer(triton_api, "unicorn", device("hw-1"), b"P6 1 1 255\n\0\0\0")
    assert (unknown.status_code, unknown.json()["reason"]) == (422, "UnknownModel")
    stranger = await _infer(triton_api, "car", device("hw-2"))
    assert (stranger.status_code, stranger.json()["reason"]) == (403, "CameraNotOnDevice")
    without = {"Authorization": device("hw-1")["Authorization"]}
    assert (await _infer(triton_api, "car", without)).status_code == 400
    assert await events(site) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"P5 1 1 255\n\0",
        b"P6 1 1 65535\n\0\0\0",
        b"P6 0 1 255\n",
        b"P6 2 2 255\n\0\0\0",
        b"P6 1025 1 255\n" + b"\0" * 3075,
        b"P6 1 1 255\n" + b"\0" * 4,
    ],
)
async def test_what_is_not_a_small_frame_is_refused(
    triton_api: Api, site: Site, body: bytes
) -> None:
    answer = await _infer(triton_api, "car", device("hw-1"), body)
    assert (answer.status_code, answer.json()["reason"]) == (422, "InvalidFrame")
    assert await events(site) == []


async def test_triton_has_exactly_the_licensed_models(
    triton_api: Api, site: Site, triton_server: TritonServer
) -> None:
    assert triton_server.ready_models() == {"car", "person", "trolley"}
    state = (await triton_api.http.get("/internal/v1/state", headers=OPERATOR)).json()["triton"]
    assert state["ready"] is True
    assert state["loaded"] == ["car", "person", "trolley"]
    # The pack is retired: its model goes, and with the seats everything goes.
    site.install(sequence=8, base=SMALL, seats=[Seat("cam-1", "hw-1", CameraMode.BASE, ())])
    await eventually(lambda: triton_server.ready_models() == {"car", "person"}, seconds=30)
    site.install(sequence=9, base=SMALL, seats=[])
    await eventually(lambda: triton_server.ready_models() == set(), seconds=30)
    await eventually(lambda: triton_api.instance.loader.state.ready)
    # Somebody with the key loads one by hand: it is gone at the next look.
    async with httpx.AsyncClient(timeout=60) as http:
        client = TritonClient(http, lambda: triton_server.control_key)
        await client.load(triton_server.url, "boat")
    await eventually(lambda: triton_server.ready_models() == set(), seconds=30)


async def test_without_the_control_key_nobody_loads(triton_server: TritonServer) -> None:
    url = f"{triton_server.url}/v2/repository/models/boat/load"
    async with httpx.AsyncClient() as http:
        assert (await http.post(url)).status_code == 403
        assert (await http.post(url, headers={"brinkbyte-control": "x"})).status_code == 403
        client = TritonClient(http, lambda: "wrong")
        with pytest.raises(TritonUnavailableError, match="control key") as refused:
            await client.models(triton_server.url)
    assert refused.value.reason == "ControlKeyRefused"


async def test_a_triton_that_comes_back_empty_is_loaded_again(site: Site, tmp_path: Path) -> None:
    write_models(tmp_path / "models", load_catalog())
    site.install(
        base={"models": ["car"]}, packs={}, seats=[Seat("cam-1", "hw-1", CameraMode.BASE, ())]
    )
    with running_triton(tmp_path / "models") as server:
        site.triton_port = server.port
        async with running_app(site) as api:
            await eventually(lambda: api.instance.loader.state.ready, seconds=30)
            server.stop()
            answer = await _infer(api, "car", device("hw-1", key="again"))
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert await events(site) == []
            await eventually(lambda: not api.instance.loader.state.ready)
            server.start()
            await eventually(lambda: api.instance.loader.state.ready, seconds=30)
            answer = await _infer(api, "car", device("hw-1", key="again"))
            assert answer.status_code == 200
    assert len(await events(site)) == 1


async def test_a_licensed_model_that_the_repository_lacks_is_named(
    site: Site, tmp_path: Path
) -> None:
    write_models(tmp_path / "models", load_catalog())
    (tmp_path / "models" / "car" / "config.pbtxt").unlink()
    (tmp_path / "models" / "car" / "1" / "model.py").write_text("raise RuntimeError('broken')")
    (tmp_path / "models" / "person" / "1" / "model.py").write_text("raise RuntimeError('broken')")
    site.install(base={"models": ["car", "person"]}, packs={})
    with running_triton(tmp_path / "models") as server:
        site.triton_port = server.port
        async with running_app(site) as api:
            await eventually(lambda: api.instance.loader.pods and api.instance.loader.state.missing)
            state = api.instance.loader.state
            assert state.ready is False
            assert set(state.missing) == {"car", "person"}
            assert "broken" in state.message or "Failed" in state.message or "car" in state.message


@pytest.mark.parametrize("point", ["infer.before_commit", "infer.committed"])
async def test_killed_around_the_commit_the_repeat_counts_once(
    site: Site, triton_server: TritonServer, point: str
) -> None:
    site.triton_port = triton_server.port
    site.install(base=SMALL, packs={})

    def call(url: str) -> httpx.Response:
        return httpx.post(
            f"{url}{CAMERA}",
            params={"model": "car"},
            headers=device("hw-1", key="k"),
            content=frame("car"),
            timeout=30,
        )

    def until_ready(url: str) -> httpx.Response:
        while (answer := call(url)).status_code == 503:
            assert answer.json()["reason"] == "ModelNotReady"
        return answer

    with running_process(site, failpoint=point) as server, pytest.raises(httpx.TransportError):
        until_ready(server.url)
    committed = point.endswith("committed")
    assert len(await events(site)) == committed
    with running_process(site) as server:
        answer = until_ready(server.url)
    assert answer.status_code == 200
    assert ("idempotent-replayed" in answer.headers) is committed
    assert [event["id"] for event in await events(site)] == [answer.json()["eventId"]]


def test_the_model_repository_is_written_twice_alike(tmp_path: Path) -> None:
    catalog = load_catalog()
    names = write_models(tmp_path, catalog)
    assert names == sorted(catalog.models)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 2 * len(names)
    write_models(tmp_path, catalog)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ModelRepositoryError, match="writable"):
        write_models(blocked / "below", catalog)


async def test_without_any_triton_pod_the_state_says_so(site: Site) -> None:
    site.install()
    async with running_app(site, triton_host="nowhere.invalid") as api:
        await eventually(lambda: "resolves to no Triton pod" in api.instance.loader.state.message)
        answer = await _infer(api, "car", device("hw-1"))
        assert (answer.status_code, answer.json()["reason"]) == (503, "ModelNotReady")


async def test_service_tokens_cannot_infer(triton_api: Api) -> None:
    answer = await _infer(triton_api, "car", SERVICE)
    assert answer.json()["reason"] == "WrongCredential"


async def test_a_triton_that_hangs_leaves_the_others_their_connections(site: Site) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if b"/index" in request:
            body = b'[{"name": "person", "state": "READY"}]'
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
        else:
            await reader.read()  # an inference never gets its answer
        writer.close()

    site.install(base=SMALL, packs={})
    server = await asyncio.start_server(serve, "127.0.0.1")
    site.triton_port = server.sockets[0].getsockname()[1]
    async with running_app(site, database_pool_size=4, triton_seconds=60) as api:
        await eventually(lambda: api.instance.loader.servers_of("person"))
        frames = [asyncio.create_task(_infer(api, "person", device("hw-1"))) for _ in range(8)]
        await asyncio.sleep(0.5)
        began = time.monotonic()
        for _ in range(3):
            sent = await api.http.post(
                "/api/v1/telemetry", headers=device("hw-1"), json=batch(count=1)
            )
            assert sent.status_code == 201
        assert time.monotonic() - began < 2
        answers = await asyncio.gather(*frames)
    server.close()
    assert {answer.status_code for answer in answers} == {503}
    busy = [answer for answer in answers if answer.json()["reason"] == "InferenceBusy"]
    assert len(busy) == 6
    assert all(answer.headers["retry-after"] == "2" for answer in busy)
    assert [event["attributes"]["operation"] for event in await events(site)] == ["telemetry"] * 3
