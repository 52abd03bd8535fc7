"""Every router of the API, in the order in which the documents show them."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from brinkbyte.billing.administration import endpoints as administration
from brinkbyte.billing.administration import listing_endpoints as listings
from brinkbyte.billing.api_keys import endpoints as api_keys
from brinkbyte.billing.customers import endpoints as customers
from brinkbyte.billing.instances import endpoints as instances
from brinkbyte.billing.invoices import endpoints as invoices
from brinkbyte.billing.licenses import endpoints as licenses
from brinkbyte.billing.notifications import endpoints as notifications
from brinkbyte.billing.quotas import endpoints as quotas
from brinkbyte.billing.quotas import gateway
from brinkbyte.billing.subscriptions import endpoints as subscriptions
from brinkbyte.billing.usage import endpoints as usage
from brinkbyte.billing.usage import queries as usage_queries
from brinkbyte.billing.usage import reconciling
from brinkbyte.billing.users import endpoints as people
from brinkbyte.billing.webhooks import endpoints as webhooks

ROUTERS: Final[tuple[APIRouter, ...]] = (
    customers.router,
    subscriptions.router,
    invoices.router,
    instances.router,
    licenses.router,
    licenses.well_known,
    usage.router,
    usage_queries.router,
    reconciling.router,
    quotas.router,
    gateway.router,
    notifications.router,
    webhooks.router,
    api_keys.tenant,
    people.tenant,
    people.account,
    administration.router,
    listings.router,
    api_keys.vendor,
    people.vendor,
)
