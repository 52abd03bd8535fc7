"""An invoice that is not paid: past due, 14 days after its due date the end, then suspended.

The license says the end as soon as the payment has failed, so an instance offline knows it too. 7
days of grace follow; after them a license says suspended, and what to settle. A payment brings all
of it back at the next ask. Ends of a cancellation or a fixed term are not touched.
"""

from __future__ import annotations

from datetime import UTC, datetime

from brinkbyte.billing import audit
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.subscriptions import history, repository
from brinkbyte.billing.subscriptions.standing import (
    DUNNING_SECONDS,
    GRACE_SECONDS,
    Standing,
    standing_of,
)
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import SubscriptionStatus
from brinkbyte.rating.model import Status


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
            subscription that charges nothing: on trial, canceled or suspended by hand.
    """
    before, row = await _standing(connection, customer_id)
    owing = before.status in (SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE)
    if not owing and before.dunning_ends_at is None:
        raise ProblemError(
            409,
            f"the subscription of {customer_id} is {before.status}: nothing is due; set its status "
            "first if that is wrong",
            reason="NothingDue",
        )
    oldest = due_at if before.payment_due_at is None else min(due_at, before.payment_due_at)
    status: Status = "suspended" if before.status is SubscriptionStatus.SUSPENDED else "past_due"
    if (before.status.value, before.payment_due_at) != (status, oldest):
        await _set(
            connection,
            customer_id,
            row,
            status,
            oldest,
            action="subscription.payment_failed",
            actor=actor,
            now=now,
        )
    return (await _standing(connection, customer_id))[0]


async def payment_received(
    connection: Connection, customer_id: str, *, actor: str, now: int
) -> Standing:
    """Note that nothing is unpaid any more; without a debt this changes nothing.

    Raises:
        ProblemError: 404 ``UnknownCustomer``, ``NoSubscription``.
    """
    before, row = await _standing(connection, customer_id)
    if before.status is SubscriptionStatus.PAST_DUE or before.dunning_ends_at is not None:
        await _set(
            connection,
            customer_id,
            row,
            "active",
            None,
            action="subscription.payment_received",
            actor=actor,
            now=now,
        )
    return (await _standing(connection, customer_id))[0]


async def owes(
    connection: Connection, customer_id: str, *, due_at: int, actor: str, now: int
) -> None:
    """Note an unpaid invoice as :func:`payment_failed` does; where nothing runs, nothing is cut.

    Who is canceled or suspended by hand, or on trial, still owes the invoice, no more than that.
    """
    before, _ = await _standing(connection, customer_id)
    owing = before.status in (SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE)
    if owing or before.dunning_ends_at is not None:
        await payment_failed(connection, customer_id, due_at=due_at, actor=actor, now=now)


async def due_since(
    connection: Connection, customer_id: str, *, due_at: int, actor: str, now: int
) -> None:
    """Note that of several unpaid invoices one was paid: the next one's due date counts.

    A suspension stays until the grace of that one is not over any more.
    """
    before, row = await _standing(connection, customer_id)
    if before.dunning_ends_at is None or before.payment_due_at == due_at:
        return
    over = now >= due_at + DUNNING_SECONDS + GRACE_SECONDS
    suspended = before.status is SubscriptionStatus.SUSPENDED
    await _set(
        connection,
        customer_id,
        row,
        "suspended" if suspended and over else "past_due",
        due_at,
        action="subscription.payment_received",
        actor=actor,
        now=now,
    )


async def suspend_overdue(
    connection: Connection, customer_id: str, *, actor: str, now: int
) -> bool:
    """Note that what stayed unpaid past its grace is suspended; True: it was not yet.

    Licenses say so by the due date alone; this is for invoices, which stop meanwhile.
    """
    before, row = await _standing(connection, customer_id)
    late = before.status_at(now) is SubscriptionStatus.SUSPENDED
    if before.status is not SubscriptionStatus.PAST_DUE or not late:
        return False
    await _set(
        connection,
        customer_id,
        row,
        "suspended",
        before.payment_due_at,
        action="subscription.suspended",
        actor=actor,
        now=now,
    )
    return True


async def _standing(connection: Connection, customer_id: str) -> tuple[Standing, Row]:
    if await customers.lock(connection, customer_id) is None:
        raise unknown_customer(customer_id)
    row = await repository.live(connection, customer_id)
    if row is None:
        raise ProblemError(
            404, f"customer {customer_id} has no subscription", reason="NoSubscription"
        )
    return standing_of(row), row


async def _set(
    connection: Connection,
    customer_id: str,
    row: Row,
    status: Status,
    due_at: int | None,
    *,
    action: str,
    actor: str,
    now: int,
) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    if row["status"] != status:
        await history.note_status(
            connection,
            customer_id,
            row,
            status,
            at=moment,
            actor=actor,
            reason=action.partition(".")[2],
        )
    await repository.set_payment(
        connection,
        customer_id,
        status=status,
        due_at=None if due_at is None else datetime.fromtimestamp(due_at, UTC),
        now=moment,
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
