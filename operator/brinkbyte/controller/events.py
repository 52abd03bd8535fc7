"""Kubernetes Events on transitions: written in the background, never in the way of a reconcile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from brinkbyte.controller.cluster import Cluster
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.uuid7 import Uuid7Generator
from brinkbyte.resources.conditions import FINE_REASONS, Condition, ConditionType
from brinkbyte.resources.names import MANAGED_BY

_log = get_logger(__name__)
_QUEUED: Final = 5000
_QUEUED_GOOD_NEWS: Final = 500
"""Of ten thousand licenses issued at once, the statuses say as much; what is wrong is told."""
_TELL_SECONDS: Final = 10.0
_WRITERS: Final = 4
_DELAY: Final = 0.5
_MAX_NOTE: Final = 1000
# Nobody has to do anything about these.
_CALM: Final = frozenset(
    {"Provisioning", "Enrolling", "Pending", "Deleting", "NeverSeen", "NeverReported", "Paused"}
)


def transitions(
    old: Iterable[Condition], new: Iterable[Condition]
) -> list[tuple[str, str, str, str]]:
    """Return (type, condition, reason, note) of the Events that a change of conditions is worth.

    Ready says nothing that another condition does not say at the same time, so it speaks only when
    it alone has changed.
    """
    before = {item.type: (item.status, item.reason) for item in old}
    changed = [item for item in new if before.get(item.type) != (item.status, item.reason)]
    told = [item for item in changed if item.type != ConditionType.READY.value] or changed
    return [
        (
            "Normal"
            if (item.true and item.reason in FINE_REASONS) or item.reason in _CALM
            else "Warning",
            item.type,
            item.reason,
            item.message,
        )
        for item in told
        # The first sight of an object is no transition unless it says something.
        if item.type in before or item.status == "True" or item.reason not in _CALM
    ]


class EventSink:
    """Takes Events and writes them when there is time; drops them when there are far too many."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._name = Uuid7Generator()
        self._dropped = 0
        self._tell_at = 0.0

    def emit(
        self, about: Mapping[str, Any], kind: str, action: str, reason: str, note: str
    ) -> None:
        """Note an Event.

        Args:
            about: the object as the API returned it.
            kind: ``Normal`` or ``Warning``.
            action: the condition, or what was done.
            reason: CamelCase.
            note: a sentence.
        """
        if self._queue.qsize() >= (_QUEUED if kind == "Warning" else _QUEUED_GOOD_NEWS):
            self._dropped += 1
            return
        meta = about["metadata"]
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta['name']}.{self._name().hex[:20]}",
                "namespace": meta["namespace"],
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": MANAGED_BY,
            "reportingInstance": MANAGED_BY,
            "type": kind,
            "action": action,
            "reason": reason,
            "note": note[:_MAX_NOTE],
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
                "resourceVersion": meta.get("resourceVersion", ""),
            },
        }
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Write Events until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_WRITERS):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            event = await self._queue.get()
            self._tell_dropped()
            # Whatever else a burst has to write comes first.
            await asyncio.sleep(_DELAY)
            try:
                await self._cluster.create(event)
            except BrinkByteError as error:
                # An Event is a courtesy; its namespace may be going.
                _log.debug("event not written", error=str(error))

    def _tell_dropped(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._dropped and now >= self._tell_at:
            _log.warning("too many events waited, some were dropped", count=self._dropped)
            self._dropped, self._tell_at = 0, now + _TELL_SECONDS
