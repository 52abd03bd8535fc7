"""The way into every endpoint: credential first, bounded bodies, measured answers."""

from __future__ import annotations

import time
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brinkbyte.instance.container import Instance
from brinkbyte.instance.credentials import Caller, Principal
from brinkbyte.instance.metrics import Metrics
from brinkbyte.instance.services.metered import MeteredCall
from brinkbyte.kit.problem import ProblemError, problem

OPEN_PATHS: Final = frozenset({"/health", "/health/live", "/health/ready"})
MAX_BODY_BYTES: Final = 2 * 1024 * 1024 + 64
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BEARER: Final = "bearer "
_TOO_LARGE: Final = f"the body is larger than {MAX_BODY_BYTES} bytes; send less at once"


class Gate:
    """ASGI middleware: no credential, no endpoint; every path but health needs one.

    It runs before routing and before a body is read, so an unknown path tells a stranger nothing.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 413, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] not in OPEN_PATHS:
            principal = _authenticate(scope)
            if principal is None:
                answer = problem(
                    401,
                    "send Authorization: Bearer with a token of this instance (service-token of "
                    "its access Secret, or a device's token)",
                    reason="Unauthorized",
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await answer(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        if _announced_length(scope) > MAX_BODY_BYTES:
            await problem(413, _TOO_LARGE, reason="BodyTooLarge")(scope, receive, send)
            return
        await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 500
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                # The one kind of error that FastAPI lets through while it reads a body.
                raise HTTPException(413, _TOO_LARGE)
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, bounded, watched)
        finally:
            route = scope.get("route")
            template = getattr(route, "path", "(none)")
            # Anybody may make up methods: each would be a series of its own for ever.
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, template, str(status)).observe(
                time.perf_counter() - started
            )


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _authenticate(scope: Scope) -> Principal | None:
    instance: Instance = scope["app"].state.instance
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    text = values[0].decode("latin-1")
    if text[: len(_BEARER)].lower() != _BEARER:
        return None
    return instance.credentials.authenticate(text[len(_BEARER) :].strip())


# Dependencies are async although none waits: FastAPI runs sync ones in threads, a hop for each.
async def get_instance(request: Request) -> Instance:
    """Return the application's parts."""
    instance: Instance = request.app.state.instance
    return instance


async def get_principal(request: Request) -> Principal:
    """Return who calls."""
    principal: Principal = request.state.principal
    return principal


InstanceDep = Annotated[Instance, Depends(get_instance)]
PrincipalDep = Annotated[Principal, Depends(get_principal)]


class RequireCaller:
    """Dependency: only these kinds of credentials may call."""

    def __init__(self, *callers: Caller) -> None:
        self._callers = frozenset(callers)

    async def __call__(self, request: Request) -> None:
        """Refuse the others.

        Raises:
            ProblemError: 403 ``WrongCredential``.
        """
        principal: Principal = request.state.principal
        if principal.caller not in self._callers:
            wanted = " or ".join(sorted(caller.value for caller in self._callers))
            raise ProblemError(
                403,
                f"this endpoint takes a {wanted} token, not a {principal.caller.value} token",
                reason="WrongCredential",
            )


SERVICE: Final = Depends(RequireCaller(Caller.SERVICE))
DEVICE: Final = Depends(RequireCaller(Caller.DEVICE))
OPERATOR: Final = Depends(RequireCaller(Caller.OPERATOR))
SERVICE_OR_OPERATOR: Final = Depends(RequireCaller(Caller.SERVICE, Caller.OPERATOR))


async def metered_call(request: Request, principal: PrincipalDep) -> MeteredCall:
    """Return the call as it came, its body read whole."""
    query = request.url.query
    return MeteredCall(
        principal=principal,
        key=request.headers.get("idempotency-key"),
        method=request.method,
        target=f"{request.url.path}?{query}" if query else request.url.path,
        body=await request.body(),
    )


MeteredCallDep = Annotated[MeteredCall, Depends(metered_call)]
