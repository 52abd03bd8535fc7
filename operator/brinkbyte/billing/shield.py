"""The outermost layer: bounds what comes in, and what goes out is always an answer of ours."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brinkbyte.billing.http import LARGE_BODY
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.problem import problem

_log = get_logger(__name__)
_ALWAYS: Final = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-opener-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
    b"cache-control": b"no-store",
}
_API_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"
_PAGE_POLICY: Final = b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_TRANSPORT: Final = b"max-age=31536000; includeSubDomains"


class _TooLargeError(Exception):
    """The body went on beyond its limit."""


class Shield:
    """ASGI middleware: body size, security headers, and problem+json for what nobody caught.

    A header that an endpoint has set itself stays.

    Args:
        app: what is inside.
        limit: bytes of a body at most; endpoints have their own, smaller ones.
    """

    def __init__(self, app: ASGIApp, limit: int = LARGE_BODY) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limit:
                    raise _TooLargeError
            return message

        async def shielded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _with_headers(message, scope["scheme"])}
            await send(message)

        try:
            if _announced(scope) > self._limit:
                raise _TooLargeError
            await self._app(scope, bounded, shielded)
        except _TooLargeError:
            if started:
                raise
            await problem(
                413,
                f"the body is longer than {self._limit} bytes; send less at once",
                reason="BodyTooLarge",
            )(scope, receive, shielded)
        except Exception as error:
            if started:
                raise
            _log.exception("unexpected error", path=scope["path"], error=type(error).__name__)
            await problem(
                500,
                "An unexpected error happened on our side; it is logged. Try again, then tell "
                "support.",
                reason="InternalError",
            )(scope, receive, shielded)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _with_headers(message: Message, scheme: str) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
    given = {name.lower(): value for name, value in headers}
    page = given.get(b"content-type", b"").startswith(b"text/html")
    wanted = {
        **_ALWAYS,
        b"content-security-policy": _PAGE_POLICY if page else _API_POLICY,
        **({b"strict-transport-security": _TRANSPORT} if scheme == "https" else {}),
    }
    return headers + [(name, value) for name, value in wanted.items() if name not in given]
