"""Events in a burst: good news is dropped first, and what is dropped is counted, not listed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from brinkbyte.controller import events
from brinkbyte.controller.cluster import Cluster
from brinkbyte.controller.events import EventSink

pytestmark = pytest.mark.unit
ABOUT = {
    "apiVersion": "vision.brinkbyte.io/v1alpha1",
    "kind": "CameraLicense",
    "metadata": {"name": "entry", "namespace": "site", "uid": "u-1"},
}


class Written:
    """Takes in Events as a cluster does.

    Attributes:
        complete: so many were written.
    """

    def __init__(self, count: int) -> None:
        self.events: list[dict[str, Any]] = []
        self.complete = asyncio.Event()
        self._count = count

    async def create(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if len(self.events) == self._count:
            self.complete.set()


async def test_in_a_burst_what_is_wrong_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_DELAY", 0)
    cluster = Written(events._QUEUED_GOOD_NEWS + 20)
    sink = EventSink(cast("Cluster", cluster))
    for _ in range(events._QUEUED_GOOD_NEWS + 300):
        sink.emit(ABOUT, "Normal", "Issued", "Issued", "a license")
    for _ in range(20):
        sink.emit(ABOUT, "Warning", "Issued", "QuotaExceeded", "10 of 10 used")
    with capture_logs() as logged:
        writing = asyncio.create_task(sink.run())
        await asyncio.wait_for(cluster.complete.wait(), 10)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    told = [each["reason"] for each in cluster.events]
    assert told.count("Issued") == events._QUEUED_GOOD_NEWS
    assert told.count("QuotaExceeded") == 20
    assert [each["count"] for each in logged] == [300]


async def test_there_is_an_end_to_warnings_too() -> None:
    sink = EventSink(cast("Cluster", Written(0)))
    for _ in range(events._QUEUED + 7):
        sink.emit(ABOUT, "Warning", "Issued", "QuotaExceeded", "10 of 10 used")
    assert sink._queue.qsize() == events._QUEUED
