"""Answers of ``POST /api/v1/entitlements/check`` about meters."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from brinkbyte.billing.auth import VendorCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import lookup as customers
from brinkbyte.billing.db import Connection
from brinkbyte.billing.quotas import enforcement
from brinkbyte.billing.quotas.limits import Verdict
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.license.wire import EntitlementAnswer, EntitlementCheck


def answer_of(found: Verdict) -> EntitlementAnswer:
    """Return a verdict in whole units; a warning is the message of what is allowed."""
    return EntitlementAnswer(
        allowed=found.allowed,
        remaining=None if found.remaining is None else int(found.remaining),
        used=int(found.used),
        limit=None if found.included is None else int(found.included),
        reason=found.reason,
        message=found.message,
        upgrade_url=None if found.allowed else UPGRADE_URL,
        event_id=found.event_id,
    )


def _unknown(context: Context, meter: str) -> EntitlementAnswer | None:
    if meter in context.catalog.meters:
        return None
    return EntitlementAnswer(
        allowed=False,
        reason="UnknownMeter",
        message=f"there is no meter {meter!r}; known: {', '.join(context.catalog.meters)}",
    )


async def check_in(
    connection: Connection, context: Context, tenant_id: str, check: EntitlementCheck
) -> EntitlementAnswer:
    """Answer an instance about a meter; its outbox brings what it uses, so nothing is counted.

    Raises:
        ProblemError: 422 ``NotForInstances`` when it wants to reserve, or names a customer.
    """
    if check.reserve or check.customer_id not in (None, tenant_id) or check.event_id is not None:
        raise ProblemError(
            422,
            "an instance asks for itself and reports what it used; leave customerId, reserve and "
            "eventId out",
            reason="NotForInstances",
        )
    unknown = _unknown(context, check.name)
    if unknown is not None:
        return unknown
    quantity = Decimal(check.quantity)
    found = await enforcement.check_in(connection, context, tenant_id, check.name, quantity)
    if found.reason == "NotSubscribed":
        # A license is in force, and what it does not speak of is neither limited nor priced.
        return EntitlementAnswer(allowed=True, used=int(found.used))
    return answer_of(found)


async def check_for_vendor(
    context: Context, caller: VendorCaller, check: EntitlementCheck
) -> EntitlementAnswer:
    """Answer a service of the vendor's own, and count if it wants that and it fits.

    Raises:
        ProblemError: 404 ``UnknownCustomer``; 403 ``WrongFamily``; 422 ``CustomerMissing``.
    """
    if check.customer_id is None or check.kind != "meter":
        raise ProblemError(
            422,
            "name the customer in customerId and ask for a meter: a service of the vendor's has "
            "quotas of its customers alone",
            reason="CustomerMissing",
        )
    await customers.require(context, check.customer_id)
    unknown = _unknown(context, check.name)
    if unknown is not None:
        return unknown
    enforcement.check_family(context, caller, check.name)
    quantity = Decimal(check.quantity)
    if not check.reserve:
        return answer_of(await enforcement.check(context, check.customer_id, check.name, quantity))
    event_id = None if check.event_id is None else UUID(check.event_id)
    use = enforcement.Use(check.name, quantity, event_id, caller.actor)
    return answer_of(await enforcement.reserve(context, check.customer_id, use))
