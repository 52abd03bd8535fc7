"""What a replay writes down, so that the next run knows what a killed one had sent."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx
import pytest

from stack.traffic import Call, Device, Replay, remembered

pytestmark = pytest.mark.unit

DEVICE = Device("hw", "token", ("camera",))


def call(key: str) -> Call:
    return Call(key, DEVICE, f"/{key}", "application/json", b"{}")


class KilledError(Exception):
    """Stands for the end of the process."""


async def replay(record: Path, *keys: str) -> None:
    await Replay(lambda: "http://instance", record).run([call(key) for key in keys])


async def test_every_key_is_on_record_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        key = request.headers.get("Idempotency-Key", "")
        if key == "killed":
            raise KilledError
        return httpx.Response(422 if key == "refused" else 201)

    client = partial(httpx.AsyncClient, transport=httpx.MockTransport(answer))
    monkeypatch.setattr(httpx, "AsyncClient", client)
    with pytest.raises(KilledError):
        await replay(tmp_path / "answered-1.txt", "killed")
    await replay(tmp_path / "answered-2.txt", "good", "refused")
    found = remembered(tmp_path)
    assert found.answered == {"good"}
    assert set(found.refused) == {"refused"}
    assert found.unanswered == {"killed"}
