"""What customers do to their own subscription: choose, change, cancel, and see what it costs.

A customer chooses plans and quantities; prices and limits of their own are agreed with the vendor
(:class:`AgreedValues`) and can only come from there. A change takes the lock of the customer's row:
two at once come one after the other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from brinkbyte.billing import audit
from brinkbyte.billing.auth import TenantCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.invoices import closing
from brinkbyte.billing.quotas import service as quotas
from brinkbyte.billing.subscriptions import history, pricing, repository, service, wishes
from brinkbyte.billing.subscriptions.schemas import (
    AgreedValues,
    OwnSubscription,
    Pending,
    Preview,
    SubscriptionWish,
)
from brinkbyte.billing.subscriptions.standing import end_of_day, standing_of
from brinkbyte.catalog import Catalog, CatalogError, check_terms, compile_entitlements
from brinkbyte.kit.problem import ProblemError
from brinkbyte.rating import period_at
from brinkbyte.rating.model import Change

CancelAt = Literal["now", "period_end"]


async def get(context: Context, caller: TenantCaller) -> OwnSubscription:
    """Return the caller's subscription.

    Raises:
        ProblemError: 404 ``NoSubscription``.
    """
    async with context.database.tenant(caller.tenant_id) as connection:
        return await _answer(connection, context, caller.tenant_id)


async def create_in(
    connection: Connection, context: Context, caller: TenantCaller, wish: SubscriptionWish
) -> OwnSubscription:
    """Subscribe, or subscribe again after an end; the first invoice is made at once.

    Raises:
        ProblemError: 409 ``SubscriptionExists`` or ``TrialUsed``; 402 ``SubscriptionSuspended``;
            422 ``InvalidTerms``.
    """
    tenant_id, now = caller.tenant_id, context.now()
    held = await wishes.lock(connection, context.catalog, tenant_id, now)
    wanted, _ = await wishes.begin(held, wish)
    if held.row is None:
        await service.begin(connection, context.catalog, tenant_id, wanted, actor=caller.actor)
        await quotas.renew_current(connection, context.catalog, tenant_id, now)
    else:
        await _record(held, wanted, caller, "resumed")
    await _audit(connection, caller, "subscription.created", wanted, now)
    await closing.settle_due(connection, context.catalog, tenant_id, now=now)
    return await _answer(connection, context, tenant_id)


async def change(context: Context, caller: TenantCaller, wish: SubscriptionWish) -> OwnSubscription:
    """Change plans and quantities; the same again changes nothing.

    Raises:
        ProblemError: 404 ``NoSubscription``; 409 ``SubscriptionEnding`` for one that is canceled;
            402 ``SubscriptionSuspended``; 422 ``InvalidTerms``.
    """
    tenant_id, now = caller.tenant_id, context.now()
    async with context.database.tenant(tenant_id) as connection:
        held = await wishes.lock(connection, context.catalog, tenant_id, now)
        wanted, _ = await wishes.change(held, wish)
        if wanted != held.newest:
            await _record(held, wanted, caller, "changed")
            await _audit(connection, caller, "subscription.changed", wanted, now)
        answer = await _answer(connection, context, tenant_id)
    await context.quota_cache.forget(tenant_id)
    return answer


async def cancel(context: Context, caller: TenantCaller, at: CancelAt) -> OwnSubscription:
    """Cancel: what is paid stays paid, and the end is the end of today or of what is paid.

    Canceling again never makes it last longer.

    Raises:
        ProblemError: 404 ``NoSubscription``.
    """
    tenant_id, now = caller.tenant_id, context.now()
    async with context.database.tenant(tenant_id) as connection:
        held = await wishes.lock(connection, context.catalog, tenant_id, now)
        newest = held.newest
        if newest is None:
            raise wishes.no_subscription(tenant_id)
        end = _end(held, newest, at)
        ends = [end] if newest.ends_at is None else [end, newest.ends_at]
        wanted = newest.model_copy(update={"status": "canceled", "ends_at": min(ends)})
        if wanted != newest:
            await _record(held, wanted, caller, "canceled")
            await _audit(connection, caller, "subscription.canceled", wanted, now)
        answer = await _answer(connection, context, tenant_id)
    await context.quota_cache.forget(tenant_id)
    return answer


async def _record(held: wishes.Held, change: Change, caller: TenantCaller, reason: str) -> None:
    if held.row is not None:
        await history.record(
            held.connection,
            held.catalog,
            held.tenant_id,
            held.row,
            change,
            actor=caller.actor,
            reason=reason,
        )
        await quotas.renew_current(held.connection, held.catalog, held.tenant_id, held.now)


def _end(held: wishes.Held, newest: Change, at: CancelAt) -> datetime:
    if at == "now" or held.row is None:
        return datetime.fromtimestamp(end_of_day(held.now), UTC)
    if newest.status == "trialing" and newest.trial_ends_at and newest.trial_ends_at > held.moment:
        return newest.trial_ends_at
    found = history.history_of(held.row, held.changes)
    end = period_at(found, held.moment).end
    # Twelve months that were paid ahead count from the subscription's anchor.
    while newest.agreement.interval == "year" and _months(found.anchor, end) % 12:
        end = period_at(found, end).end
    return end


def _months(start: datetime, end: datetime) -> int:
    return (end.year - start.year) * 12 + end.month - start.month


async def preview(context: Context, caller: TenantCaller, wish: SubscriptionWish) -> Preview:
    """Say what :func:`create` or :func:`change` would cost; nothing is written.

    Raises:
        ProblemError: as they do.
    """
    tenant_id, now = caller.tenant_id, context.now()
    catalog = context.catalog
    async with context.database.tenant(tenant_id) as connection:
        held = await wishes.read(connection, catalog, tenant_id, now)
        make = wishes.begin if held.newest is None or held.ended else wishes.change
        wanted, entitled = await make(held, wish)
        return pricing.preview(catalog, held.row, held.changes, wanted, plan=entitled.plan)


async def set_agreed(
    context: Context, customer_id: str, request: AgreedValues, actor: str
) -> AgreedValues:
    """Set the own values that a customer buys with from the next change on.

    Raises:
        ProblemError: 404 ``UnknownCustomer``, 422 ``InvalidTerms``.
    """
    percent = None if request.annual_percent is None else Decimal(request.annual_percent)
    if percent is not None and percent > 100:
        raise ProblemError(422, "annualPercent is from 0 to 100", reason="InvalidTerms")
    try:
        check_terms(context.catalog, service.read_terms({"overrides": request.overrides}))
    except CatalogError as error:
        raise service.invalid_terms(error.problems) from None
    async with context.database.tenant(customer_id) as connection:
        if await customers.lock(connection, customer_id) is None:
            raise unknown_customer(customer_id)
        moment = datetime.fromtimestamp(context.now(), UTC)
        await repository.set_agreed(connection, customer_id, request.overrides, percent, moment)
        await audit.record(
            connection,
            customer_id,
            now=context.now(),
            actor=actor,
            action="subscription.agreed",
            subject=customer_id,
            details=request.model_dump(mode="json"),
        )
    return request


async def _audit(
    connection: Connection, caller: TenantCaller, action: str, change: Change, now: int
) -> None:
    await audit.record(
        connection,
        caller.tenant_id,
        now=now,
        actor=caller.actor,
        action=action,
        subject=caller.tenant_id,
        details=change.model_dump(mode="json", exclude={"at"}),
    )


async def _answer(connection: Connection, context: Context, tenant_id: str) -> OwnSubscription:
    now = context.now()
    found = await service.get_in(connection, context.catalog, tenant_id, now=now)
    row = await history.current(connection, context.catalog, tenant_id, now)
    if row is None:
        raise wishes.no_subscription(tenant_id)
    standing = standing_of(row)
    agreement = history.read_agreement(row["agreement"])
    return OwnSubscription(
        **found.model_dump(by_alias=False) | {"status": standing.status_at(now).value},
        interval=agreement.interval,
        promotions=tuple(promotion.code for promotion in agreement.promotions),
        ends_at=standing.ends_at,
        pending=await _pending(connection, context.catalog, tenant_id, row),
    )


async def _pending(
    connection: Connection, catalog: Catalog, tenant_id: str, row: Row
) -> Pending | None:
    at = row["projected_until"]
    if at is None:
        return None
    changes = await history.load(connection, tenant_id, row)
    later = history.projected(catalog, row, changes, at).change
    return Pending.model_validate(
        {
            "at": int(at.timestamp()),
            "status": later.status,
            "plan": compile_entitlements(catalog, later.terms).plan,
            "terms": later.terms.model_dump(mode="json"),
        }
    )
