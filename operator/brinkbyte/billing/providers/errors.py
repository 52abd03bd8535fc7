"""What can go wrong with a payment provider: what a retry may cure, and what somebody must see."""

from __future__ import annotations

from brinkbyte.kit.errors import BrinkByteError, PermanentError, TemporaryError


class BillingProviderError(BrinkByteError):
    """Base of all that a payment provider refuses or fails at.

    Attributes:
        replayed: the answer is that of an earlier call under the same key, kept by the provider:
            it says nothing of now.
    """

    replayed: bool = False


class TemporaryProviderError(TemporaryError, BillingProviderError):
    """The provider does not answer, is busy, or failed: the next run tries again."""


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
