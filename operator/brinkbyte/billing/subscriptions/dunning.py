"""An invoice that is not paid: past due, 14 days after its due date the end, then suspended.

The license says the end as soon as the payment has failed, so an instance offline knows it too. 7
days of grace follow; after them a license says suspended, and what to settle. A payment brings all
of it back at the next ask. Ends of a cancellation or a fixed term are not touched.
"""

from __future__ import annotations

from datetime import UTC, datetime

from brinkbyte.billing import audit
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.service import unknown_customer
from brinkbyte.billing.db import Connection
from brinkbyte.billing.subscriptions import repository
from brinkbyte.billing.subscriptions.standing import Standing, standing_of
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import SubscriptionStatus


async def payment_failed(
    connection: Connection, customer_id: str, *, due_at: int, actor: str, now: int
) -> Standing:
    """Note an unpaid invoice; of several the oldest due date counts.

    Args:
        connection: a transaction of the customer.
        customer_id: who has not paid.
        due_at: Unix seconds; due date of the invoice.
        actor: as in the audit log.
        now: Unix seconds.

    Raises:
        ProblemError: 404 ``UnknownCustomer``, ``NoSubscription``; 409 ``NothingDue`` for a
            subscription that charges nothing: on trial, canceled or suspended.
    """
    before = await _standing(connection, customer_id)
    if before.status not in (SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE):
        raise ProblemError(
            409,
            f"the subscription of {customer_id} is {before.status}: nothing is due; set its status "
            "first if that is wrong",
            reason="NothingDue",
        )
    oldest = due_at if before.payment_due_at is None else min(due_at, before.payment_due_at)
    if (before.status, before.payment_due_at) != (SubscriptionStatus.PAST_DUE, oldest):
        await _set(
            connection,
            customer_id,
            SubscriptionStatus.PAST_DUE,
            oldest,
            action="subscription.payment_failed",
            actor=actor,
            now=now,
        )
    return await _standing(connection, customer_id)


async def payment_received(
    connection: Connection, customer_id: str, *, actor: str, now: int
) -> Standing:
    """Note that nothing is unpaid any more; without a debt this changes nothing.

    Raises:
        ProblemError: 404 ``UnknownCustomer``, ``NoSubscription``.
    """
    before = await _standing(connection, customer_id)
    if before.status is SubscriptionStatus.PAST_DUE:
        await _set(
            connection,
            customer_id,
            SubscriptionStatus.ACTIVE,
            None,
            action="subscription.payment_received",
            actor=actor,
            now=now,
        )
    return await _standing(connection, customer_id)


async def _standing(connection: Connection, customer_id: str) -> Standing:
    if await customers.lock(connection, customer_id) is None:
        raise unknown_customer(customer_id)
    found = standing_of(await repository.live(connection, customer_id))
    if found.subscription_id is None:
        raise ProblemError(
            404, f"customer {customer_id} has no subscription", reason="NoSubscription"
        )
    return found


async def _set(
    connection: Connection,
    customer_id: str,
    status: SubscriptionStatus,
    due_at: int | None,
    *,
    action: str,
    actor: str,
    now: int,
) -> None:
    await repository.set_payment(
        connection,
        customer_id,
        status=status.value,
        due_at=None if due_at is None else datetime.fromtimestamp(due_at, UTC),
        now=datetime.fromtimestamp(now, UTC),
    )
    await audit.record(
        connection,
        customer_id,
        now=now,
        actor=actor,
        action=action,
        subject=customer_id,
        details={} if due_at is None else {"dueAt": due_at},
    )
