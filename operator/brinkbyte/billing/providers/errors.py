"""What can go wrong with a payment provider: what a retry may cure, and what somebody must see."""

from __future__ import annotations

from brinkbyte.kit.errors import BrinkByteError, PermanentError, TemporaryError


class BillingProviderError(BrinkByteError):
    """Base of all that a payment provider refuses or fails at."""


class TemporaryProviderError(TemporaryError, BillingProviderError):
    """The provider does not answer, is busy, or failed: the next run tries again."""


class FaultError(TemporaryProviderError):
    """The provider failed (5xx): the work may have been done or not.

    Args:
        replayed: the answer is that of an earlier call under the same key, kept by the provider.
    """

    def __init__(self, message: str, *, replayed: bool, retry_after: float | None = None) -> None:
        super().__init__(message, reason="ProviderFault", retry_after=retry_after)
        self.replayed = replayed


class PermanentProviderError(PermanentError, BillingProviderError):
    """The provider refuses: the same call fails the same way until somebody changes something."""


class MissingObjectError(PermanentProviderError):
    """The provider does not have the object (any more)."""


class KeyReusedError(PermanentProviderError):
    """An idempotency key of ours came with other parameters: somebody must look at it."""


class MismatchError(PermanentProviderError):
    """The provider's copy is not what our invoice says: nothing was finalized."""


class WebhookError(PermanentProviderError):
    """A delivery that the provider did not send, or not now."""
