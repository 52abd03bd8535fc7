"""Writes of one batch of cameras that go on while the billing API is asked about the next.

Kubernetes and the billing API are two servers: with ten thousand new cameras each would wait for
the other half of the time. At most one batch is under way, and the next is written after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from brinkbyte.controller.asking import abandon
from brinkbyte.kit.errors import BrinkByteError


@dataclass
class Writing:
    """The batch that is under way, if one is.

    Attributes:
        names: of its camera licenses. What was answered of them may not be in their Secrets yet.
    """

    names: frozenset[str] = frozenset()
    _task: asyncio.Task[list[BrinkByteError]] | None = None

    @property
    def going(self) -> bool:
        """Whether a batch was begun whose end nobody has heard of."""
        return self._task is not None

    def start(self, write: Coroutine[Any, Any, list[BrinkByteError]], names: Iterable[str]) -> None:
        """Begin a batch; the one before is over.

        Args:
            write: writes it, and returns what could not be written.
            names: of its camera licenses.
        """
        if self._task is not None:
            raise AssertionError("the batch before is not over")
        self.names = frozenset(names)
        self._task = asyncio.create_task(write, name="write-cameras")

    async def over(self) -> list[BrinkByteError]:
        """Wait for the end of the batch; return what could not be written.

        Raises:
            Exception: what the batch ended with before its time.
        """
        if self._task is None:
            return []
        try:
            return await self._task
        finally:
            self.names, self._task = frozenset(), None

    def drop(self) -> None:
        """Cancel what is under way: all of it can be written again."""
        abandon(self._task)
        self.names, self._task = frozenset(), None
