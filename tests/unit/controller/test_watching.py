"""List and watch: goes on after every interruption, and a new list says what is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import pytest

from brinkbyte.controller.cluster import ClusterRefusedError, ClusterUnreachableError
from brinkbyte.controller.watching import Watcher


def live(uid: str, version: int) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"uid": uid, "resourceVersion": str(version)}}


class EndOfStory(Exception):  # noqa: N818 - ends a test
    """Nothing more is to come."""


@dataclass
class Story:
    """A cluster that tells what it is told to, and a sink that writes down what it hears."""

    lists: list[list[Any]]
    watches: list[list[Any]]
    asked: list[str] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[tuple[list[Any], str]]:
        self.asked.append("list")
        for page in self.lists.pop(0):
            if isinstance(page, Exception):
                raise page
            yield page, "10"

    async def watch(
        self, *_: Any, since: str, seconds: int, **__: Any
    ) -> AsyncIterator[tuple[str, Any]]:
        assert 200 < seconds < 400
        self.asked.append(since)
        if not self.watches:
            raise EndOfStory
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event

    def take(self, kind: str | None, found: Mapping[str, Any]) -> None:
        self.heard.append((kind, found["metadata"]["uid"]))

    def listed(self, kind: str, namespace: str | None, uids: Set[str]) -> None:
        self.heard.append((kind, namespace, set(uids)))

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def tell(self) -> None:
        cluster: Any = self
        watcher = Watcher(
            cluster, "Secret", None, labels="a=b", sink=self, sleep=self.sleep, jitter=lambda: 0.5
        )
        with pytest.raises(EndOfStory):
            await watcher.run()


async def test_every_page_and_event_is_told() -> None:
    story = Story(
        [[[live("a", 1)], [live("b", 2)]]],
        [[("ADDED", live("c", 11)), ("BOOKMARK", live("", 15))], [("DELETED", live("a", 20))]],
    )
    await story.tell()
    assert story.heard == [
        (None, "a"), (None, "b"), ("Secret", None, {"a", "b"}), ("ADDED", "c"), ("DELETED", "a"),
    ]  # fmt: skip
    assert story.asked == ["list", "10", "15", "20"]
    assert story.waits == []


async def test_a_broken_line_goes_on_where_it_was() -> None:
    broken = ClusterUnreachableError("no")
    story = Story([[[live("a", 1)]]], [[("ADDED", live("b", 11)), broken], [broken], []])
    await story.tell()
    assert story.asked == ["list", "10", "11", "11", "11"]
    assert story.waits == [0.25, 0.5]


async def test_a_version_that_is_too_old_takes_a_new_list() -> None:
    old = ClusterRefusedError("too old", reason="KubernetesRefused", status=410)
    story = Story([[[live("a", 1)]], [[live("b", 2)]]], [[old], []])
    await story.tell()
    assert story.heard == [
        (None, "a"), ("Secret", None, {"a"}), (None, "b"), ("Secret", None, {"b"}),
    ]  # fmt: skip


async def test_a_list_that_breaks_says_nothing_of_what_is_gone() -> None:
    story = Story([[[live("a", 1)], ClusterUnreachableError("no")], [[live("a", 1)]]], [[]])
    await story.tell()
    assert story.heard == [(None, "a"), (None, "a"), ("Secret", None, {"a"})]


async def test_an_api_that_stays_away_is_asked_seldom() -> None:
    gone = ClusterRefusedError("no such kind", reason="KubernetesRefused", status=404)
    story = Story([[gone] for _ in range(12)] + [[[]]], [])
    await story.tell()
    assert story.waits[0] == 0.25
    assert max(story.waits) == 10.0
