"""One call to Stripe: its errors as ours, and how something is made exactly once.

Stripe keeps the answer to the first call under an idempotency key for 24 hours, faults (5xx) and
refusals included, and refuses a key that comes with other parameters. So whatever shall exist once
is looked for before it is made, each time: then neither a key that Stripe has forgotten nor a kept
failure matters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import httpx
import stripe

from brinkbyte.billing.providers.errors import (
    BillingProviderError,
    KeyReusedError,
    MissingObjectError,
    PermanentProviderError,
    TemporaryProviderError,
)

T = TypeVar("T")
_KEY_ROUNDS: Final = 32
_MAX_MESSAGE: Final = 300


async def call(answer: Awaitable[T]) -> T:
    """Wait for an answer of Stripe's.

    Raises:
        BillingProviderError: in our terms; never with a key or a body in it.
    """
    try:
        return await answer
    except stripe.StripeError as error:
        raise translated(error) from None


class StripeLine(stripe.HTTPClient):
    """The SDK's connections, by httpx; the SDK's own client for it uses what httpx deprecates.

    Args:
        timeout: seconds for one call.
    """

    name = "httpx"

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._line = httpx.AsyncClient(timeout=timeout)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Make one call."""
        try:
            answer = await self._line.request(
                method, url, headers=dict(headers), content=post_data or None
            )
        except httpx.HTTPError as error:
            said = type(error).__name__
            raise stripe.APIConnectionError(said, should_retry=True) from error  # type: ignore[no-untyped-call]  # the SDK's
        return answer.content, answer.status_code, answer.headers

    async def close_async(self) -> None:
        """Close the connections."""
        await self._line.aclose()


async def once(
    key: str,
    find: Callable[[], Awaitable[T | None]],
    make: Callable[[str], Awaitable[T]],
    *,
    looked: bool = False,
) -> T:
    """Return the one object of a key, made if it is not there.

    Args:
        key: made from our ids: the same for the same work, whoever does it.
        find: looks for the object by what it carries.
        make: makes it under an idempotency key.
        looked: the caller has just seen that it is not there.

    Raises:
        BillingProviderError: as the calls do.
    """
    for number in range(1, _KEY_ROUNDS + 1):
        found = None if looked and number == 1 else await find()
        if found is not None:
            return found
        try:
            return await make(key if number == 1 else f"{key}:{number}")
        except MissingObjectError:
            # The kept answer names an object that somebody has deleted since.
            continue
        except BillingProviderError as error:
            # A fresh fault: the next run looks what became of it. A kept fault or refusal says
            # nothing of now, and as the object is not there, another key can do no harm.
            if not error.replayed:
                raise
    raise TemporaryProviderError(
        f"Stripe has kept {_KEY_ROUNDS} failures of {key}; they are forgotten after 24 hours",
        reason="ProviderFault",
    )


def translated(error: stripe.StripeError) -> BillingProviderError:
    """Return one of Stripe's errors in our terms."""
    ours = _translated(error)
    ours.replayed = _header(error, "idempotent-replayed") == "true"
    return ours


def _translated(error: stripe.StripeError) -> BillingProviderError:
    status = error.http_status
    said = (error.user_message or type(error).__name__)[:_MAX_MESSAGE]
    if isinstance(error, stripe.APIConnectionError):
        return TemporaryProviderError(
            "Stripe does not answer; the next run tries again", reason="ProviderUnreachable"
        )
    if isinstance(error, stripe.RateLimitError) or status == 429:
        return TemporaryProviderError(
            "Stripe is asked too often; the next run tries again",
            reason="ProviderBusy",
            retry_after=_retry_after(error),
        )
    if status == 409:
        return TemporaryProviderError(
            f"another call is at this object: {said}", reason="ProviderBusy"
        )
    if isinstance(error, stripe.IdempotencyError):
        return KeyReusedError(
            f"a key of ours was used with other parameters; compare both: {said}",
            reason="ProviderKeyReused",
        )
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return PermanentProviderError(
            "Stripe refuses our key; see BRINKBYTE_STRIPE_API_KEY and the key's permissions",
            reason="ProviderRefusedKey",
        )
    if status == 404:
        return MissingObjectError(f"Stripe does not have it: {said}", reason="MissingAtProvider")
    if isinstance(error, stripe.InvalidRequestError | stripe.CardError):
        return PermanentProviderError(f"Stripe refuses: {said}", reason="ProviderRefused")
    return TemporaryProviderError(
        f"Stripe failed ({status or 'no status'}): {said}; the next run tries again",
        reason="ProviderFault",
        retry_after=_retry_after(error),
    )


def _header(error: stripe.StripeError, wanted: str) -> str | None:
    for name, value in (error.headers or {}).items():
        if name.lower() == wanted:
            return str(value)
    return None


def _retry_after(error: stripe.StripeError) -> float | None:
    try:
        seconds = float(_header(error, "retry-after") or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds <= 86_400 else None
