"""A call over a line that may be bad must not hold up the repair of what is near.

A dead line does not refuse, it is silent: each call takes until its time-out. So a reconcile waits
a moment for the answer and goes on without it; the call goes on too and wakes the reconcile when it
has ended. Failed calls are tried again with backoff, whatever else wakes the reconcile meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from brinkbyte.controller.queue import backoff
from brinkbyte.kit.errors import TemporaryError
from brinkbyte.resources.conditions import Reason

T = TypeVar("T")

PATIENCE_SECONDS: Final = 3.0
_ONCE_FAILED_SECONDS: Final = 0.5
"""Patience with a line that was dead the last time."""


class StillAskingError(TemporaryError):
    """No answer yet; the reconcile is woken when it is there."""


@dataclass
class Asking:
    """One call at a time.

    Args:
        clock: seconds that only go forward.
        jitter: returns a number from 0 to 1.
    """

    clock: Callable[[], float]
    jitter: Callable[[], float] = random.random
    _about: Hashable = None
    _task: asyncio.Task[Any] | None = None
    _error: TemporaryError | None = None
    _failures: int = 0
    _not_before: float = 0.0

    async def ask(
        self,
        start: Callable[[], Coroutine[Any, Any, T]],
        *,
        about: Hashable,
        wake: Callable[[], None],
    ) -> T:
        """Return the answer of a call.

        Args:
            start: begins it.
            about: what it depends on; when that changes, backoff and a call in flight are dropped.
            wake: called once the call has ended, if its answer was not waited for.

        Raises:
            StillAskingError: it is on its way.
            TemporaryError: it failed, and is not tried again before ``retry_after``.
            BrinkByteError: it was refused.
        """
        if about != self._about:
            self.drop()
            self._about = about
        patience = PATIENCE_SECONDS
        if self._error is not None:
            left = self._not_before - self.clock()
            if left > 0:
                error = self._error
                raise TemporaryError(error.message, reason=error.reason, retry_after=left)
            patience = _ONCE_FAILED_SECONDS
        task = self._task
        if task is None:
            task = self._task = asyncio.create_task(start())
        await asyncio.wait({task}, timeout=patience)
        if not task.done():
            task.add_done_callback(lambda _task: wake())
            raise StillAskingError(
                "The billing API has not answered yet", reason=Reason.BILLING_UNREACHABLE
            )
        self._task, self._error = None, None
        try:
            answer: T = task.result()
        except TemporaryError as error:
            self._failed(error)
            raise
        self._failures = 0
        return answer

    def _failed(self, error: TemporaryError) -> None:
        self._failures += 1
        self._error = error
        wait = max(error.retry_after or 0.0, backoff(self._failures, self.jitter()))
        self._not_before = self.clock() + wait

    def drop(self) -> None:
        """Forget what was asked; a call in flight is cancelled (every call may be repeated)."""
        abandon(self._task)
        self._task, self._error, self._failures = None, None, 0


def abandon(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task that nobody waits for; how it ended, if it has, is nobody's warning."""
    if task is not None and not task.cancel() and not task.cancelled():
        task.exception()
