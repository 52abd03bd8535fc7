"""Errors in two families: what a retry may cure and what it never will.

Every error carries a ``reason`` (CamelCase, stable, the one shown in conditions and in
problem+json) and a message that says what to do next.
"""

from __future__ import annotations

from typing import Any


class BrinkByteError(Exception):
    """Base of all our errors.

    Args:
        message: one sentence for a person, ending in what to do next.
        reason: stable CamelCase word for programs; the class name without ``Error`` if left out.
        details: further JSON-serializable facts (``used``, ``limit``, ``upgradeUrl`` …).
    """

    def __init__(self, message: str, *, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).__name__.removesuffix("Error")
        self.details = details


class TemporaryError(BrinkByteError):
    """The cause may go away by itself: try again later.

    Args:
        retry_after: seconds to wait before the next try, when the other side named it.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, reason=reason, **details)
        self.retry_after = retry_after


class PermanentError(BrinkByteError):
    """The same call will fail the same way until somebody changes something."""


class InvalidInputError(PermanentError):
    """What the caller sent is not acceptable; nothing was changed."""
