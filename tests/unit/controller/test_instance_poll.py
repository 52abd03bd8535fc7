"""How long an instance may stay silent before its state counts as unknown."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from brinkbyte.controller import instance_poll
from brinkbyte.controller.asking import Asking
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.queue import Key
from unit.controller.test_status import state

pytestmark = pytest.mark.unit
KEY = Key("State", "ns", "acme")


class Poll:
    """One Tenant that is asked again and again; ``answer`` is what its instance says."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.woken: list[Key] = []
        no_asking = cast("Asking", None)
        self.memory = TenantMemory(enrolling=no_asking, taking_inventory=no_asking)
        self.memory.instance_url, self.memory.operator_token = "http://instance", "t"
        self.context = cast(
            "Context",
            types.SimpleNamespace(
                http=http,
                tenants={("ns", "acme"): self.memory},
                metrics=Metrics(),
                monotonic=lambda: 0.0,
                add=lambda key, _delay: self.woken.append(key),
            ),
        )

    async def ask(self) -> list[Key]:
        self.woken.clear()
        assert await instance_poll.reconcile(self.context, KEY) == instance_poll.PERIOD_SECONDS
        return [key for key in self.woken if key.what == "Tenant"]


@pytest.fixture
async def answers() -> list[Any]:
    return []


@pytest.fixture
async def poll(answers: list[Any]) -> AsyncIterator[Poll]:
    def handle(_request: httpx.Request) -> httpx.Response:
        answer = answers[-1]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, content=state().model_dump_json(by_alias=True))

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        yield Poll(http)


async def test_three_missed_questions_make_the_state_unknown(
    poll: Poll, answers: list[Any]
) -> None:
    answers.append(200)
    assert await poll.ask()
    answers.append(httpx.ConnectError("no route"))
    for _ in range(2):
        assert await poll.ask() == []
        assert poll.memory.state is not None
    # Within a minute: each question waits five seconds at most.
    assert 3 * (instance_poll.PERIOD_SECONDS + 5) < 60
    assert await poll.ask()
    assert poll.memory.state is None
    assert "no route" in poll.memory.state_error
    assert await poll.ask() == []
    answers.append(200)
    assert await poll.ask()
    assert (poll.memory.state_error, poll.memory.state_failures) == ("", 0)


async def test_two_missed_questions_and_an_answer_begin_anew(
    poll: Poll, answers: list[Any]
) -> None:
    for answer in (200, 503, 503, 200, 503, 503):
        answers.append(answer)
        await poll.ask()
    assert poll.memory.state is not None
