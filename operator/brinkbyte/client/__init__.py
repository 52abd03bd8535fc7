"""The httpx client of the billing API, with one retry policy for every caller.

In: requests of ``license.wire`` and ``metering.batches``, and a callable that returns the instance
credential. Out: answers of those modules, or an error that is temporary or permanent. May import:
the domain and ``kit``.
"""

from brinkbyte.client.billing import BillingClient
from brinkbyte.client.errors import (
    BillingRefusedError,
    BillingUnavailableError,
    BillingUnreachableError,
)
from brinkbyte.client.retry import RetryPolicy

__all__ = [
    "BillingClient",
    "BillingRefusedError",
    "BillingUnavailableError",
    "BillingUnreachableError",
    "RetryPolicy",
]
