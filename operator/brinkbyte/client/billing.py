"""``BillingClient``: every edge-side call of the billing API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from brinkbyte import __version__
from brinkbyte.client.errors import BillingUnreachableError
from brinkbyte.client.retry import RetryPolicy
from brinkbyte.client.transport import (
    TIMEOUT_SECONDS,
    check_url,
    error_of,
    open_http,
    unexpected,
    unreachable,
)
from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.wire import (
    CredentialRotation,
    Enrollment,
    EnrollmentRequest,
    EntitlementAnswer,
    EntitlementCheck,
    Heartbeat,
    HeartbeatAnswer,
    Held,
    InstanceKeyRequest,
    InventoryAnswer,
    InventoryRequest,
    Tokens,
    ValidateAnswer,
    ValidateRequest,
)
from brinkbyte.metering.batches import BatchAnswer, SealedBatch, UsageHead
from brinkbyte.metering.reconciling import LedgerBatches, LedgerEvents

_JSON: Final = {"content-type": "application/json"}
_LONG_SECONDS: Final = 30.0
"""Ten thousand licenses take the server some seconds to sign, and two megabytes of events take a
slow line some seconds to carry. Opening a connection never takes that long."""
_TOTAL_FACTOR: Final = 2
"""Time-outs bound each phase; this many of them bound the whole exchange, however it trickles."""
_CONNECT_TIMEOUTS: Final = 2
"""A connection that does not come about in time is tried once more, not three times."""
_UNAUTHORIZED: Final = 401
_NOT_MODIFIED: Final = 304
_log = get_logger(__name__)
A = TypeVar("A", bound=BaseModel)


@dataclass(frozen=True)
class _Call:
    method: str
    path: str
    body: bytes | None
    params: Mapping[str, str] | None
    authorize: bool
    phase_seconds: float


class BillingClient:
    """Calls the billing API; an async context manager.

    Every method raises ``BillingUnreachableError`` or ``BillingUnavailableError`` (temporary) after
    the retries, ``BillingRefusedError`` (permanent) with the answer's reason, and whatever the
    credential callable raises. Every call is safe to repeat.

    Args:
        url: base URL; https, or http to a loopback address.
        credential: returns the instance credential; asked before each request, so that a rotated
            one is used at once. None: only calls that need none.
        ca_file: PEM file of the CA to trust instead of the system's; read again when it changes.
        retry: when to try again.
        sleep: waits so many seconds.
        transport: carries the requests; the network by default.

    Raises:
        InvalidInputError: the URL or the CA file is not acceptable.
    """

    def __init__(
        self,
        url: str,
        credential: Callable[[], str] | None = None,
        *,
        ca_file: Path | None = None,
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = check_url(url)
        self._credential = credential
        self._ca_file = ca_file
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._transport = transport
        self._ca = self._read_ca()
        self._http = self._open()
        self._retired: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        for http in (*self._retired, self._http):
            await http.aclose()

    # Calls without a credential.

    async def keys(self) -> dict[str, Any]:
        """``GET /api/v1/keys``: the root-signed key set document, not verified yet."""
        response = await self._request("GET", "/api/v1/keys", authorize=False)
        document = _json(response)
        if not isinstance(document, dict):
            raise unexpected(response)
        return document

    async def enroll(self, request: EnrollmentRequest) -> Enrollment:
        """``POST /api/v1/enrollments``: exchange a one-time token for an identity."""
        return await self._post("/api/v1/enrollments", request, Enrollment, authorize=False)

    async def health(self) -> None:
        """``GET /health``: return if the billing API is well."""
        await self._request("GET", "/health", authorize=False)

    # Calls of the operator.

    async def rotate_credential(self) -> CredentialRotation:
        """``POST /api/v1/instance/credential``: a new credential; the old one stays good 24 h."""
        response = await self._request("POST", "/api/v1/instance/credential")
        return _parse(response, CredentialRotation)

    async def register_key(self, request: InstanceKeyRequest) -> None:
        """``PUT /api/v1/instance/key``: register a new instance key pair."""
        await self._request("PUT", "/api/v1/instance/key", body=_body(request))

    async def put_inventory(self, request: InventoryRequest) -> InventoryAnswer:
        """``PUT /api/v1/inventory``: tell which devices and cameras there are, get licenses."""
        response = await self._request(
            "PUT", "/api/v1/inventory", body=_body(request), phase_seconds=_LONG_SECONDS
        )
        return _parse(response, InventoryAnswer)

    async def end_instance(self) -> None:
        """``DELETE /api/v1/instance``: free everything and end this instance."""
        await self._request("DELETE", "/api/v1/instance")

    async def tokens(self, held: Held) -> Tokens | None:
        """``GET /api/v1/instance/tokens``: what is newer than what is held; None: nothing."""
        query = {key: str(value) for key, value in held.model_dump(mode="json").items()}
        response = await self._request("GET", "/api/v1/instance/tokens", params=query)
        return None if response.status_code == _NOT_MODIFIED else _parse(response, Tokens)

    # Calls of the instance.

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """``POST /api/v1/heartbeat``: say that the instance lives."""
        return await self._post("/api/v1/heartbeat", heartbeat, HeartbeatAnswer)

    async def validate_license(self, request: ValidateRequest) -> ValidateAnswer:
        """``POST /api/v1/licenses/validate``: ask about one camera on one device."""
        return await self._post("/api/v1/licenses/validate", request, ValidateAnswer)

    async def check_entitlement(self, request: EntitlementCheck) -> EntitlementAnswer:
        """``POST /api/v1/entitlements/check``: ask about a model, analytic, output or meter."""
        return await self._post("/api/v1/entitlements/check", request, EntitlementAnswer)

    # Calls of the reporter.

    async def usage_head(self) -> UsageHead:
        """``GET /api/v1/usage/head``: the newest batch that the ledger has accepted."""
        return _parse(await self._request("GET", "/api/v1/usage/head"), UsageHead)

    async def send_batch(self, batch: SealedBatch) -> BatchAnswer:
        """``POST /api/v1/usage/batch``: hand in a sealed batch, get its receipt."""
        response = await self._request(
            "POST", "/api/v1/usage/batch", body=batch.to_wire(), phase_seconds=_LONG_SECONDS
        )
        return _parse(response, BatchAnswer)

    async def ledger_events(self, after: str, until: str) -> LedgerEvents:
        """``GET /api/v1/usage/events``: what the ledger has above one id and below another."""
        query = {"after": after, "until": until}
        response = await self._request(
            "GET", "/api/v1/usage/events", params=query, phase_seconds=_LONG_SECONDS
        )
        return _parse(response, LedgerEvents)

    async def ledger_batches(self, epoch: str | None, batch_no: int) -> LedgerBatches:
        """``GET /api/v1/usage/batches``: the batches after that one; None: from the first."""
        query = {} if epoch is None else {"epoch": epoch, "batchNo": str(batch_no)}
        response = await self._request(
            "GET", "/api/v1/usage/batches", params=query, phase_seconds=_LONG_SECONDS
        )
        return _parse(response, LedgerBatches)

    async def _post(
        self, path: str, request: BaseModel, answer: type[A], *, authorize: bool = True
    ) -> A:
        response = await self._request("POST", path, body=_body(request), authorize=authorize)
        return _parse(response, answer)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
        authorize: bool = True,
        phase_seconds: float = TIMEOUT_SECONDS,
    ) -> httpx.Response:
        call = _Call(method, path, body, params, authorize, phase_seconds)
        attempt = swallowed = 0
        while True:
            try:
                return await self._attempt(call)
            except TemporaryError as error:
                swallowed += isinstance(error, BillingUnreachableError) and error.swallowed
                wait = self._retry.wait(attempt, error.retry_after)
                if wait is None or swallowed >= _CONNECT_TIMEOUTS:
                    raise
                _log.info(
                    "billing call is tried again",
                    method=method,
                    path=path,
                    reason=error.reason,
                    wait_seconds=round(wait, 3),
                )
            attempt += 1
            await self._sleep(wait)

    async def _attempt(self, call: _Call) -> httpx.Response:
        self._follow_ca()
        secret = self._secret() if call.authorize else None
        response = await self._send(call, secret)
        if response.status_code == _UNAUTHORIZED and secret is not None:
            renewed = self._secret()
            if renewed != secret:
                # It was rotated between our reading it and the server's judging it.
                response = await self._send(call, renewed)
        if response.is_success or response.status_code == _NOT_MODIFIED:
            return response
        raise error_of(response)

    async def _send(self, call: _Call, secret: str | None) -> httpx.Response:
        headers = dict(_JSON) if call.body is not None else {}
        if secret is not None:
            headers["authorization"] = f"Bearer {secret}"
        try:
            async with asyncio.timeout(call.phase_seconds * _TOTAL_FACTOR):
                return await self._http.request(
                    call.method,
                    call.path,
                    content=call.body,
                    params=call.params,
                    headers=headers,
                    timeout=httpx.Timeout(
                        call.phase_seconds, connect=TIMEOUT_SECONDS, pool=TIMEOUT_SECONDS
                    ),
                )
        except (httpx.RequestError, TimeoutError) as error:
            raise unreachable(self._base, error) from None

    def _secret(self) -> str:
        if self._credential is None:
            raise RuntimeError("this client was made without a credential")
        secret = self._credential()
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            # Said here: the HTTP library would quote the value in its message.
            raise PermanentError(
                "the instance credential is not a token; delete the identity Secret and the "
                "operator makes it anew",
                reason="MalformedCredential",
            )
        return secret

    def _read_ca(self) -> bytes | None:
        if self._ca_file is None:
            return None
        try:
            return self._ca_file.read_bytes()
        except OSError:
            return None

    def _open(self) -> httpx.AsyncClient:
        return open_http(self._base, self._ca_file, f"brinkbyte/{__version__}", self._transport)

    def _follow_ca(self) -> None:
        if self._ca_file is None:
            return
        ca = self._read_ca()
        if ca is not None and ca != self._ca:
            opened = self._open()
            # Requests on their way keep the old one; it is closed with this client.
            self._retired.append(self._http)
            self._http, self._ca = opened, ca


def _body(request: BaseModel) -> bytes:
    return request.model_dump_json(exclude_none=True).encode()


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        raise unexpected(response) from None


def _parse(response: httpx.Response, answer: type[A]) -> A:
    try:
        return answer.model_validate_json(response.content)
    except ValidationError:
        raise unexpected(response) from None
