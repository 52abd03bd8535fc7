"""A pack that is retired: from the seats list to the last way into Triton, on every pod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from brinkbyte.license.claims import CameraMode
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.license.seats import Seat
from services.instance.test_inference import CAMERA, SMALL, frame
from support.instance_api import OPERATOR, Api, device, eventually, running_app
from support.instance_site import Site
from support.triton import TritonServer, running_triton, write_few_models

pytestmark = pytest.mark.services
MODELS = {"car", "person", "trolley"}
PACK: dict[str, Any] = {"base": SMALL, "packs": {"retail": {"models": ["trolley"]}}}
REFUSED = {400, 404}
"""What Triton says of a model that is not loaded."""


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[list[TritonServer]]:
    """Two Triton pods of one Tenant."""
    with ExitStack() as stack:
        servers = []
        for number in range(2):
            repository = tmp_path / f"models-{number}"
            write_few_models(repository, MODELS)
            servers.append(stack.enter_context(running_triton(repository)))
        yield servers


async def infer(api: Api, key: str) -> httpx.Response:
    return await api.http.post(
        CAMERA,
        params={"model": "trolley"},
        headers=device("hw-1", key=key),
        content=frame("trolley"),
    )


async def directly(pod: TritonServer) -> int:
    """Send a frame to a pod's own inference port, past the instance."""
    tensor = {"name": "IMAGE", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3]}
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"{pod.url}/v2/models/trolley/infer"
        return (await http.post(url, content=json.dumps({"inputs": [tensor]}))).status_code


async def test_an_inference_that_worked_is_refused_once_its_pack_is_gone(
    site: Site, pods: list[TritonServer]
) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return [pod.url for pod in pods]

    site.install(sequence=7, seats=[Seat("cam-1", "hw-1", CameraMode.BASE, ("retail",))], **PACK)
    async with running_app(site) as api:
        api.instance.loader._resolve = resolve
        loader = api.instance.loader
        await eventually(lambda: loader.state.ready and len(loader.pods) == 2, seconds=60)
        assert [pod.ready_models() for pod in pods] == [MODELS, MODELS]
        worked = await infer(api, "before")
        assert worked.status_code == 200, worked.text
        assert [item["label"] for item in worked.json()["detections"]] == ["trolley"]
        assert [await directly(pod) for pod in pods] == [200, 200]

        site.install(sequence=8, seats=[Seat("cam-1", "hw-1", CameraMode.BASE, ())], **PACK)
        await eventually(lambda: loader.state.loaded == ("car", "person") and loader.state.ready)
        assert [pod.ready_models() for pod in pods] == [{"car", "person"}] * 2
        refused = await infer(api, "after")
        body = refused.json()
        assert (refused.status_code, body["reason"]) == (403, "ModelNotLicensed")
        assert "retail" in body["packs"]
        assert UPGRADE_URL in body["detail"]
        # The stored answer of before is not an inference.
        assert (await infer(api, "before")).content == worked.content
        assert {await directly(pod) for pod in pods} <= REFUSED
        state = (await api.http.get("/internal/v1/state", headers=OPERATOR)).json()["triton"]
        assert (state["ready"], state["loaded"]) == (True, ["car", "person"])
        # Nobody without the control key brings it back, on any pod.
        async with httpx.AsyncClient(trust_env=False) as http:
            for pod in pods:
                for path in ("models/trolley/load", "models/car/unload", "index"):
                    for headers in ({}, {"brinkbyte-control": "guess"}):
                        url = f"{pod.url}/v2/repository/{path}"
                        assert (await http.post(url, headers=headers)).status_code == 403
        assert [pod.ready_models() for pod in pods] == [{"car", "person"}] * 2
