"""Opening the provider that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from brinkbyte.billing.db import Database
from brinkbyte.billing.providers.base import BillingProvider
from brinkbyte.billing.providers.local_provider import LocalBillingProvider
from brinkbyte.billing.providers.stripe_provider import StripeBillingProvider
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks
from brinkbyte.billing.settings import ProviderSettings
from brinkbyte.kit.settings import SettingsError


@asynccontextmanager
async def open_provider(
    settings: ProviderSettings, database: Database, clock: Callable[[], float]
) -> AsyncIterator[BillingProvider]:
    """Open the provider for the worker.

    Args:
        settings: which one, and its key.
        database: transactions of the role ``brinkbyte_worker``.
        clock: returns Unix seconds.

    Raises:
        SettingsError: it lacks its key.
    """
    if settings.billing_provider == "local":
        yield LocalBillingProvider(database, clock)
        return
    if settings.stripe_api_key is None:
        raise SettingsError(
            "BRINKBYTE_BILLING_PROVIDER is stripe: set BRINKBYTE_STRIPE_API_KEY, or "
            "BRINKBYTE_STRIPE_API_KEY_FILE to a file that is there"
        )
    provider = StripeBillingProvider(
        settings.stripe_api_key.get_secret_value(),
        StripeWebhooks(settings.webhook_secrets(), clock),
        clock=clock,
        api_base=settings.stripe_api_base,
        automatic_tax=settings.stripe_automatic_tax,
    )
    try:
        yield provider
    finally:
        await provider.close()
