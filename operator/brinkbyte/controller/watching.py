"""List and watch of the kinds that come by the ten thousand: camera licenses and Secrets.

kopf feeds the other kinds. It keeps a task and a memory for each object, and does not tell of what
went while its watch was broken; here an event costs its JSON, and a new list says what is gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any, Final, Protocol

from brinkbyte.controller.cluster import Cluster, ClusterRefusedError
from brinkbyte.controller.queue import backoff
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger

_log = get_logger(__name__)

_WATCH_SECONDS: Final = 300
_LONGEST_PAUSE: Final = 10.0


class Sink(Protocol):
    """Who is told."""

    def take(self, kind: str | None, live: Mapping[str, Any]) -> None:
        """Take an event: ADDED, MODIFIED, DELETED, or None for what a list holds."""

    def listed(self, kind: str, namespace: str | None, uids: Set[str]) -> None:
        """Take that a complete list holds these objects and no others."""


class Watcher:
    """Follows one kind.

    Args:
        cluster: where.
        kind: what.
        namespace: None: everywhere.
        labels: selector.
        sink: is told.
        sleep: waits so many seconds.
        jitter: returns a number from 0 to 1.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        namespace: str | None,
        *,
        labels: str,
        sink: Sink,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._cluster = cluster
        self.kind = kind
        self.namespace = namespace
        self._labels = labels
        self._sink = sink
        self._sleep = sleep
        self._jitter = jitter
        self._since = ""
        self._failures = 0

    async def run(self) -> None:
        """Follow until cancelled, whatever the API says."""
        while True:
            try:
                if not self._since:
                    await self._list()
                await self._follow()
            except BrinkByteError as error:
                if isinstance(error, ClusterRefusedError):
                    # Most often the version is too old: only a new list says what is there.
                    self._since = ""
                self._failures += 1
                pause = min(_LONGEST_PAUSE, backoff(self._failures, self._jitter()))
                _log.info(
                    "watch broken, will go on", kind=self.kind, error=error.message,
                    seconds=round(pause, 2),
                )  # fmt: skip
                await self._sleep(pause)

    async def _list(self) -> None:
        uids: set[str] = set()
        since = ""
        async for items, version in self._cluster.pages(
            self.kind, self.namespace, labels=self._labels
        ):
            since = version
            for live in items:
                uids.add(live["metadata"]["uid"])
                self._sink.take(None, live)
        self._sink.listed(self.kind, self.namespace, uids)
        self._since = since

    async def _follow(self) -> None:
        seconds = int(_WATCH_SECONDS * (0.8 + 0.4 * self._jitter()))
        async for kind, live in self._cluster.watch(
            self.kind, self.namespace, labels=self._labels, since=self._since, seconds=seconds
        ):
            self._failures = 0
            if kind != "BOOKMARK":
                self._sink.take(kind, live)
            self._since = live["metadata"]["resourceVersion"]
