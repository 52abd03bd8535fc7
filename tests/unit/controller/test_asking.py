"""A silent line holds up nothing near; a call is made once, and again with backoff."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from brinkbyte.controller import asking
from brinkbyte.controller.asking import Asking, StillAskingError
from brinkbyte.controller.queue import BACKOFF_FIRST
from brinkbyte.kit.errors import PermanentError, TemporaryError


@dataclass
class Line:
    """A line that answers when it is told to, and counts calls."""

    now: float = 0.0
    calls: int = 0
    woken: int = 0
    answer: asyncio.Future[str] = field(default_factory=asyncio.Future)

    async def call(self) -> str:
        self.calls += 1
        return await self.answer

    def wake(self) -> None:
        self.woken += 1

    async def ask(self, subject: Asking, about: str = "x") -> str:
        return await subject.ask(self.call, about=about, wake=self.wake)

    def says(self, answer: str | Exception) -> None:
        self.answer = asyncio.Future()
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


@pytest.fixture
async def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(asking, "_ONCE_FAILED_SECONDS", 0.0)
    return Line()


def subject(line: Line) -> Asking:
    return Asking(lambda: line.now, jitter=lambda: 0.5)


async def test_a_silent_line_is_asked_once_and_wakes_when_it_answers(line: Line) -> None:
    one = subject(line)
    for _ in range(3):
        with pytest.raises(StillAskingError):
            await line.ask(one)
    assert (line.calls, line.woken) == (1, 0)
    line.answer.set_result("yes")
    for _ in range(3):
        await asyncio.sleep(0)
    assert line.woken > 0
    assert await line.ask(one) == "yes"
    assert line.calls == 1


async def patiently(line: Line, one: Asking) -> str:
    """Ask until the call has ended."""
    while True:
        try:
            return await line.ask(one)
        except StillAskingError:
            await asyncio.sleep(0)


async def fail(line: Line, one: Asking) -> None:
    line.says(TemporaryError("no route", reason="BillingUnreachable"))
    with pytest.raises(TemporaryError, match="no route"):
        await patiently(line, one)


async def test_a_failed_call_is_made_again_only_when_its_time_has_come(line: Line) -> None:
    one = subject(line)
    await fail(line, one)
    for _ in range(5):
        with pytest.raises(TemporaryError, match="no route") as caught:
            await line.ask(one)
        assert caught.value.retry_after == pytest.approx(BACKOFF_FIRST)
        assert caught.value.reason == "BillingUnreachable"
    assert line.calls == 1
    line.now += BACKOFF_FIRST
    await fail(line, one)
    with pytest.raises(TemporaryError) as again:
        await line.ask(one)
    assert again.value.retry_after == pytest.approx(2 * BACKOFF_FIRST)
    line.now += 2 * BACKOFF_FIRST
    line.says("yes")
    assert await patiently(line, one) == "yes"
    assert line.calls == 3


async def test_something_else_to_ask_drops_backoff_and_call(line: Line) -> None:
    one = subject(line)
    await fail(line, one)
    silent = line.answer = asyncio.Future()
    with pytest.raises(StillAskingError):
        await line.ask(one, about="another address")
    await asyncio.sleep(0)
    line.answer = asyncio.Future()
    with pytest.raises(StillAskingError):
        await line.ask(one, about="a third")
    await asyncio.sleep(0)
    assert silent.cancelled()
    one.drop()


async def test_a_refusal_is_no_reason_to_wait(line: Line) -> None:
    one = subject(line)
    for _ in range(2):
        line.says(PermanentError("no", reason="EnrollmentExpired"))
        with pytest.raises(PermanentError, match="no"):
            await patiently(line, one)
    assert line.calls == 2
