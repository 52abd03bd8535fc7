"""One HTTP exchange: where it may go, over which TLS, and what its answer means."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from brinkbyte.client.errors import (
    BillingRefusedError,
    BillingUnavailableError,
    BillingUnreachableError,
)
from brinkbyte.client.retry import parse_retry_after
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError

TIMEOUT_SECONDS: Final = 5.0
_TEMPORARY: Final = frozenset({408, 425, 429})
_PROBLEM_MEMBERS: Final = frozenset(
    # The last three would collide with arguments of the error classes.
    {"type", "title", "status", "detail", "reason", "instance", "message", "retry_after"}
)


def check_url(url: str) -> httpx.URL:
    """Return the base URL if secrets may be sent to it.

    Raises:
        InvalidInputError: not https, and not http to a loopback address; reason
            ``InsecureBillingUrl``. Or not a URL at all; reason ``InvalidBillingUrl``.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError):
        parsed = httpx.URL("")
    if not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        raise InvalidInputError(
            "the billing URL must look like https://billing.example.com, without user, query or "
            "fragment; correct billing.url",
            reason="InvalidBillingUrl",
        )
    if parsed.scheme == "https" or (parsed.scheme == "http" and is_loopback(parsed.host)):
        return parsed
    raise InvalidInputError(
        f"{parsed.scheme}://{parsed.host} would carry the credential in the clear; use https "
        "(plain http is for loopback addresses only)",
        reason="InsecureBillingUrl",
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_http(
    base: httpx.URL,
    ca_file: Path | None,
    user_agent: str,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """Open a client that trusts the CA file alone, or the system's CAs without one.

    Raises:
        InvalidInputError: the CA file cannot be read; reason ``InvalidBillingCa``.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"the billing CA {ca_file} is not a readable PEM file ({error}); correct caSecretRef",
            reason="InvalidBillingCa",
        ) from None
    return httpx.AsyncClient(
        base_url=base,
        verify=context,
        transport=transport,
        timeout=TIMEOUT_SECONDS,
        follow_redirects=False,
        headers={"user-agent": user_agent, "accept": "application/json, application/problem+json"},
        limits=httpx.Limits(max_connections=16, max_keepalive_connections=4),
    )


def unreachable(base: httpx.URL, error: Exception) -> BillingUnreachableError:
    """Say that no answer came, in words that hold no secret."""
    what = str(error) or type(error).__name__
    hint = "check the line, the firewall and billing.url"
    if "CERTIFICATE_VERIFY_FAILED" in what:
        hint = "its certificate is not trusted here: check caSecretRef"
    unreachable_error = BillingUnreachableError(
        f"the billing API at {base.host} cannot be reached ({what}); it is tried again, {hint}",
        reason="BillingUnreachable",
    )
    unreachable_error.swallowed = isinstance(error, httpx.ConnectTimeout)
    return unreachable_error


def error_of(response: httpx.Response) -> BrinkByteError:
    """Return the error that an answer outside 2xx and 304 stands for."""
    status = response.status_code
    problem = _problem(response)
    details = {key: value for key, value in problem.items() if key not in _PROBLEM_MEMBERS}
    reason = problem.get("reason")
    detail = problem.get("detail")
    if status in _TEMPORARY or status >= 500:
        return BillingUnavailableError(
            str(detail or f"the billing API answered {status}; it is tried again"),
            status=status,
            reason=str(reason or "BillingUnavailable"),
            retry_after=parse_retry_after(response.headers.get("retry-after"), datetime.now(UTC)),
            **details,
        )
    if reason is None:
        return unexpected(response)
    return BillingRefusedError(
        str(detail or f"the billing API refused with {status} {reason}"),
        status=status,
        reason=str(reason),
        **details,
    )


def unexpected(response: httpx.Response) -> BillingRefusedError:
    """Say that whatever answers there does not speak our protocol."""
    return BillingRefusedError(
        f"{response.request.url.host} answered {response.status_code} in a form that is not the "
        "billing API's; check billing.url and whatever stands between (proxy, portal)",
        status=response.status_code,
        reason="UnexpectedAnswer",
    )


def _problem(response: httpx.Response) -> dict[str, Any]:
    if "json" not in response.headers.get("content-type", ""):
        return {}
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return {str(key): value for key, value in body.items()} if isinstance(body, dict) else {}
