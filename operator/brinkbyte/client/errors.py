"""What a call of the billing API may end in, temporary and permanent apart."""

from __future__ import annotations

from typing import Any

from brinkbyte.kit.errors import PermanentError, TemporaryError


class BillingUnreachableError(TemporaryError):
    """No answer came: no route, no TLS, no reply in time. Reason ``BillingUnreachable``.

    Attributes:
        swallowed: not even a connection came about in time, as on a line that drops everything:
            trying again and again only costs time.
    """

    swallowed = False


class BillingUnavailableError(TemporaryError):
    """The billing API answered 408, 425, 429 or 5xx: it wants to be asked again later.

    Args:
        message: what happened and what to do next.
        status: HTTP status.
        reason: the answer's own, else ``BillingUnavailable``.
        retry_after: seconds the answer asks to wait.
        details: further members of the problem object.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str | None = None,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after, **details)
        self.status = status


class BillingRefusedError(PermanentError):
    """The billing API refused; ``reason`` and ``details`` are those of its problem+json.

    Args:
        message: the problem's detail.
        status: HTTP status.
        reason: the problem's reason, ``UnexpectedAnswer`` when the answer is not the API's.
        details: further members of the problem object, such as ``missing``.
    """

    def __init__(
        self, message: str, *, status: int, reason: str | None = None, **details: Any
    ) -> None:
        super().__init__(message, reason=reason, **details)
        self.status = status
