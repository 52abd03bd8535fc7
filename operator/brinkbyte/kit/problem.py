"""problem+json (RFC 9457) answers for the FastAPI programs, in one place.

``BrinkByteError`` raised anywhere below an endpoint becomes
``{"type", "title", "status", "detail", "reason", …details}``.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from brinkbyte.kit.errors import BrinkByteError, PermanentError, TemporaryError
from brinkbyte.kit.logging import get_logger

MEDIA_TYPE = "application/problem+json"
_log = get_logger(__name__)


class ProblemError(PermanentError):
    """An error that knows its HTTP status.

    Args:
        status: HTTP status of the answer.
        detail: what happened and what to do next.
        reason: stable CamelCase word for programs.
        headers: further answer headers, such as ``Retry-After``.
        details: further members of the problem object.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str,
        headers: dict[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(detail, reason=reason, **details)
        self.status = status
        self.headers = headers or {}


def problem(
    status: int,
    detail: str,
    *,
    reason: str,
    headers: dict[str, str] | None = None,
    **details: Any,
) -> JSONResponse:
    """Build a problem+json answer."""
    body = {
        "type": f"urn:brinkbyte:problem:{reason}",
        "title": reason,
        "status": status,
        "detail": detail,
        "reason": reason,
        **details,
    }
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of an application a problem+json answer that leaks nothing."""

    @app.exception_handler(ProblemError)
    async def _problem(_request: Request, error: ProblemError) -> JSONResponse:
        return problem(
            error.status,
            error.message,
            reason=error.reason,
            headers=error.headers,
            **error.details,
        )

    @app.exception_handler(BrinkByteError)
    async def _ours(_request: Request, error: BrinkByteError) -> JSONResponse:
        if isinstance(error, TemporaryError):
            headers = {"Retry-After": str(int(error.retry_after or 5))}
            return problem(
                503, error.message, reason=error.reason, headers=headers, **error.details
            )
        return problem(422, error.message, reason=error.reason, **error.details)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"field": ".".join(str(part) for part in e["loc"]), "message": e["msg"]}
            for e in error.errors()
        ]
        first = errors[0] if errors else {"field": "body", "message": "invalid"}
        return problem(
            422,
            f"{first['field']}: {first['message']}. Correct the field and send again.",
            reason="InvalidRequest",
            errors=errors,
        )

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed"}
        return problem(
            error.status_code,
            str(error.detail),
            reason=reason.get(error.status_code, "HttpError"),
            headers=dict(error.headers or {}),
        )

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("unexpected error", path=request.url.path, exc_info=error)
        return problem(
            500,
            "An unexpected error happened on our side; it is logged. Try again, then tell support.",
            reason="InternalError",
        )
