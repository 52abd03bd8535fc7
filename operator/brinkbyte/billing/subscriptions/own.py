"""What customers do to their own subscription: choose, change, cancel, and see what it costs.

A customer chooses plans and quantities; prices and limits of their own are agreed with the vendor
(:class:`AgreedValues`) and can only come from there. A change takes the lock of the customer's row:
two at once come one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from brinkbyte.billing import audit
from brinkbyte.billing.auth import TenantCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.service import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.invoices import closing
from brinkbyte.billing.subscriptions import history, pricing, repository, service
from brinkbyte.billing.subscriptions.history import Recorded
from brinkbyte.billing.subscriptions.schemas import (
    AgreedValues,
    OwnSubscription,
    Pending,
    Preview,
    SubscriptionSet,
    SubscriptionWish,
)
from brinkbyte.billing.subscriptions.standing import Standing, end_of_day, standing_of
from brinkbyte.catalog import (
    Catalog,
    CatalogError,
    Entitlements,
    Terms,
    check_terms,
    compile_entitlements,
)
from brinkbyte.kit.problem import ProblemError
from brinkbyte.rating import period_at, redeem
from brinkbyte.rating.model import Agreement, Change

_DAY: Final = timedelta(days=1)
CancelAt = Literal["now", "period_end"]


async def get(context: Context, caller: TenantCaller) -> OwnSubscription:
    """Return the caller's subscription.

    Raises:
        ProblemError: 404 ``NoSubscription``.
    """
    async with context.database.tenant(caller.tenant_id) as connection:
        return await _answer(connection, context, caller.tenant_id)


async def create(
    context: Context, caller: TenantCaller, wish: SubscriptionWish
) -> OwnSubscription:
    """Subscribe, or subscribe again after an end; the first invoice is made at once.

    Raises:
        ProblemError: 409 ``SubscriptionExists`` or ``TrialUsed``; 402 ``SubscriptionSuspended``;
            422 ``InvalidTerms``.
    """
    tenant_id, now = caller.tenant_id, context.now()
    async with context.database.tenant(tenant_id) as connection:
        row, changes = await _locked(connection, context.catalog, tenant_id, now)
        change, _ = await _begin(connection, context.catalog, tenant_id, row, changes, wish, now)
        if row is None:
            await service.begin(
                connection, context.catalog, tenant_id, change, actor=caller.actor
            )
        else:
            await history.record(
                connection,
                context.catalog,
                tenant_id,
                row,
                change,
                actor=caller.actor,
                reason="resumed",
            )
        await _audit(connection, caller, "subscription.created", change, now)
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
        row, changes = await _locked(connection, context.catalog, tenant_id, now)
        wanted, _ = await _change(connection, context.catalog, tenant_id, row, changes, wish, now)
        if row is not None and wanted != history.latest(row, changes, wanted.at):
            await history.record(
                connection,
                context.catalog,
                tenant_id,
                row,
                wanted,
                actor=caller.actor,
                reason="changed",
            )
            await _audit(connection, caller, "subscription.changed", wanted, now)
        return await _answer(connection, context, tenant_id)


async def cancel(context: Context, caller: TenantCaller, at: CancelAt) -> OwnSubscription:
    """Cancel: what is paid stays paid, and the end is the end of today or of what is paid.

    Canceling again never makes it last longer.

    Raises:
        ProblemError: 404 ``NoSubscription``.
    """
    tenant_id, now = caller.tenant_id, context.now()
    async with context.database.tenant(tenant_id) as connection:
        row, changes = await _locked(connection, context.catalog, tenant_id, now)
        if row is None:
            raise _none(tenant_id)
        newest = history.latest(row, changes, datetime.fromtimestamp(now, UTC))
        end = _end(row, changes, newest, at, now)
        ends = [end] if newest.ends_at is None else [end, newest.ends_at]
        wanted = newest.model_copy(update={"status": "canceled", "ends_at": min(ends)})
        if wanted != newest:
            await history.record(
                connection,
                context.catalog,
                tenant_id,
                row,
                wanted,
                actor=caller.actor,
                reason="canceled",
            )
            await _audit(connection, caller, "subscription.canceled", wanted, now)
        return await _answer(connection, context, tenant_id)


def _end(
    row: Row, changes: Sequence[Recorded], newest: Change, at: CancelAt, now: int
) -> datetime:
    moment = datetime.fromtimestamp(now, UTC)
    if at == "now":
        return datetime.fromtimestamp(end_of_day(now), UTC)
    if newest.status == "trialing" and newest.trial_ends_at and newest.trial_ends_at > moment:
        return newest.trial_ends_at
    found = history.history_of(row, changes)
    end = period_at(found, moment).end
    if newest.agreement.interval == "year":
        # Twelve months were paid ahead: they count from the anchor.
        while (end.year - found.anchor.year) * 12 + end.month - found.anchor.month < 12 or (
            ((end.year - found.anchor.year) * 12 + end.month - found.anchor.month) % 12
        ):
            end = period_at(found, end).end
    return end


async def preview(context: Context, caller: TenantCaller, wish: SubscriptionWish) -> Preview:
    """Say what :func:`create` or :func:`change` would cost; nothing is written.

    Raises:
        ProblemError: as they do.
    """
    tenant_id, now = caller.tenant_id, context.now()
    catalog = context.catalog
    async with context.database.tenant(tenant_id) as connection:
        row = await history.current(connection, catalog, tenant_id, now)
        changes = [] if row is None else await history.load(connection, tenant_id, row)
        resumes = row is None or _over(standing_of(row), now)
        make = _begin if resumes else _change
        wanted, entitled = await make(connection, catalog, tenant_id, row, changes, wish, now)
        return pricing.preview(catalog, row, changes, wanted, plan=entitled.plan)


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


async def _locked(
    connection: Connection, catalog: Catalog, tenant_id: str, now: int
) -> tuple[Row | None, list[Recorded]]:
    if await customers.lock(connection, tenant_id) is None:
        raise unknown_customer(tenant_id)
    row = await history.current(connection, catalog, tenant_id, now)
    return row, [] if row is None else await history.load(connection, tenant_id, row)


async def _begin(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    row: Row | None,
    changes: Sequence[Recorded],
    wish: SubscriptionWish,
    now: int,
) -> tuple[Change, Entitlements]:
    """Return the change that subscribes."""
    standing = standing_of(row)
    _refuse_suspended(standing)
    if row is not None and not _over(standing, now) and standing.status.value != "canceled":
        raise ProblemError(
            409,
            "there is a subscription already; change it with PUT, or cancel it first",
            reason="SubscriptionExists",
        )
    return await _wanted(connection, catalog, tenant_id, row, changes, wish, now)


async def _change(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    row: Row | None,
    changes: Sequence[Recorded],
    wish: SubscriptionWish,
    now: int,
) -> tuple[Change, Entitlements]:
    """Return the change of a subscription that runs."""
    if row is None:
        raise _none(tenant_id)
    standing = standing_of(row)
    _refuse_suspended(standing)
    if standing.status.value == "canceled":
        raise ProblemError(
            409,
            "the subscription is canceled; subscribe again with POST",
            reason="SubscriptionEnding",
        )
    return await _wanted(connection, catalog, tenant_id, row, changes, wish, now)


async def _wanted(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    row: Row | None,
    changes: Sequence[Recorded],
    wish: SubscriptionWish,
    now: int,
) -> tuple[Change, Entitlements]:
    moment = datetime.fromtimestamp(now, UTC)
    agreed = await repository.agreed(connection, tenant_id)
    newest = None if row is None else history.latest(row, changes, moment)
    overrides = {
        **({} if newest is None else newest.terms.overrides),
        **({} if agreed is None else agreed["overrides"]),
    }
    given = {"plans": wish.plans, "quantities": wish.quantities, "overrides": overrides}
    terms, entitled = service.check(catalog, SubscriptionSet(customer_id=tenant_id, terms=given))
    if not terms.plans and not any(terms.quantities.values()):
        raise ProblemError(
            422, "choose a plan or a quantity; to have nothing, cancel", reason="InvalidTerms"
        )
    status, trial_end = "active", None if newest is None else newest.trial_ends_at
    if entitled.plan_trial_days is not None:
        status = "trialing"
        on_it = newest is not None and history.on_trial_plan(catalog, newest.terms)
        if not on_it or (trial_end is not None and trial_end <= moment):
            if await repository.had_trial(connection, tenant_id):
                raise ProblemError(
                    409, "the trial was used already; choose a plan", reason="TrialUsed"
                )
            trial_end = moment + entitled.plan_trial_days * _DAY
    elif newest is not None and newest.status == "trialing" and trial_end and trial_end > moment:
        # A trial of what is paid for goes on with other quantities; a trial plan is left for good.
        status = "active" if history.on_trial_plan(catalog, newest.terms) else "trialing"
    elif row is not None and row["status"] == "past_due":
        status = "past_due"
    fixed = newest.ends_at if newest is not None and newest.status != "canceled" else None
    return (
        Change.model_validate(
            {
                "at": moment,
                "terms": terms,
                "status": status,
                "agreement": _agreement(catalog, newest, wish, terms, agreed, moment),
                "ends_at": None if fixed is not None and fixed <= moment else fixed,
                "trial_ends_at": trial_end,
            }
        ),
        entitled,
    )


def _agreement(
    catalog: Catalog,
    newest: Change | None,
    wish: SubscriptionWish,
    terms: Terms,
    agreed: Row | None,
    moment: datetime,
) -> Agreement:
    before = Agreement() if newest is None else newest.agreement
    interval = wish.interval or before.interval
    percent = before.annual_percent if interval == before.interval else Decimal(0)
    if interval == "year" and before.interval != "year":
        own = None if agreed is None else agreed["annual_percent"]
        percent = pricing.annual_percent(catalog) if own is None else own
    promotions = before.promotions
    if wish.promotion_code is not None:
        try:
            promotion = redeem(catalog, wish.promotion_code, moment, terms=terms)
        except CatalogError as error:
            raise ProblemError(
                422, f"promotionCode: {'; '.join(error.problems)}", reason="InvalidPromotion"
            ) from None
        if all(promotion.code != other.code for other in promotions):
            promotions = (*promotions, promotion)
    return Agreement(interval=interval, annual_percent=percent, promotions=promotions)


def _over(standing: Standing, now: int) -> bool:
    """Tell whether a subscription has ended, so that a new one may begin."""
    return standing.ends_at is not None and standing.ends_at <= now


def _refuse_suspended(standing: Standing) -> None:
    if standing.status.value == "suspended":
        raise ProblemError(
            402,
            "the subscription is suspended; pay the open invoices first (GET "
            "/api/billing/invoices), then change it",
            reason="SubscriptionSuspended",
        )


def _none(tenant_id: str) -> ProblemError:
    return ProblemError(
        404,
        f"customer {tenant_id} has no subscription; create one with POST",
        reason="NoSubscription",
    )


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
        raise _none(tenant_id)
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
