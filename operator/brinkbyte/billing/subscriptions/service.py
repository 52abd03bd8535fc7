"""Rules of subscriptions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

from pydantic import ValidationError

from brinkbyte.billing import audit
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.service import unknown_customer
from brinkbyte.billing.db import Connection
from brinkbyte.billing.subscriptions import repository
from brinkbyte.billing.subscriptions.schemas import Subscription, SubscriptionSet
from brinkbyte.billing.subscriptions.standing import (
    DAY,
    Standing,
    end_of_day,
    entitlements_of,
    standing_of,
)
from brinkbyte.catalog import (
    Catalog,
    CatalogError,
    Entitlements,
    Terms,
    compile_entitlements,
    quote,
)
from brinkbyte.kit.problem import ProblemError

MAX_CLAIM = 10**9
MAX_ALLOWANCE = 2**53 - 1


def check(catalog: Catalog, request: SubscriptionSet) -> tuple[Terms, Entitlements]:
    """Read and judge the terms.

    Raises:
        ProblemError: 422 ``InvalidTerms`` names every problem.
    """
    try:
        terms = Terms.model_validate_json(json.dumps(request.terms))
        entitled = compile_entitlements(catalog, terms)
        problems = _too_large(entitled) + _trial_with_paid(catalog, terms, entitled)
        if not problems:
            return terms, entitled
    except CatalogError as error:
        problems = list(error.problems)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:20]]
    raise ProblemError(
        422, f"terms: {'; '.join(problems)}", reason="InvalidTerms", problems=problems
    )


def _too_large(entitled: Entitlements) -> list[str]:
    """Name what does not fit a license's claims."""
    values = {
        "seats": entitled.base_seats + entitled.trial_seats,
        **entitled.features.model_dump(by_alias=True),
        **entitled.limits.model_dump(by_alias=True),
    }
    allowances = {name: a.included for name, a in entitled.allowances.items()}
    return [
        f"{name} is {value}; at most {most} can be held"
        for found, most in ((values, MAX_CLAIM), (allowances, MAX_ALLOWANCE))
        for name, value in found.items()
        if value is not None and value > most
    ]


def _trial_with_paid(catalog: Catalog, terms: Terms, entitled: Entitlements) -> list[str]:
    """Refuse a plan trial beside what is paid for: the trial's end would end that too."""
    paid = [line.line for line in quote(catalog, terms).lines if line.amount > 0]
    if entitled.plan_trial_days is None or not paid:
        return []
    return [
        f"a trial plan ends everything with it after {entitled.plan_trial_days} days, also what is "
        f"paid for ({', '.join(paid)}); choose a plan that is bought, or leave these out"
    ]


def _hard_end(request: SubscriptionSet, before: Standing, status: str, now: int) -> int | None:
    """Return the hard end; a cancellation without one ends today, never later than before."""
    if status != "canceled" or request.hard_end is not None:
        return request.hard_end
    today = end_of_day(now)
    return today if before.ends_at is None else min(today, before.ends_at)


async def set_in(
    connection: Connection, catalog: Catalog, request: SubscriptionSet, *, actor: str, now: int
) -> Subscription:
    """Set what a customer has bought; the same request again changes nothing.

    Raises:
        ProblemError: 404 ``UnknownCustomer``, 422 ``InvalidTerms``.
    """
    terms, entitled = check(catalog, request)
    moment = datetime.fromtimestamp(now, UTC)
    if await customers.lock(connection, request.customer_id) is None:
        raise unknown_customer(request.customer_id)
    row = await repository.live(connection, request.customer_id)
    before = standing_of(row)
    days = request.trial_days if request.trial_days is not None else entitled.plan_trial_days
    trial_end = before.trial_ends_at
    if days and (trial_end is None or request.trial_days is not None):
        # A trial runs from the subscription's beginning: setting it again never extends it.
        start = now if row is None else int(row["created_at"].timestamp())
        trial_end = start + days * DAY
    status: str = request.status or ("trialing" if days else "active")
    if request.status is None and before.dunning_ends_at is not None:
        # Who buys more still owes what is unpaid.
        status = before.status.value
    if status == "trialing" and trial_end is None:
        raise ProblemError(422, "a trial needs its length; give trialDays", reason="InvalidTerms")
    hard_end = _hard_end(request, before, status, now)
    ends = {
        "trial_ends_at": None if trial_end is None else datetime.fromtimestamp(trial_end, UTC),
        "hard_end": None if hard_end is None else datetime.fromtimestamp(hard_end, UTC),
    }
    if row is None:
        await repository.insert(
            connection,
            request.customer_id,
            uuid4(),
            terms=terms,
            status=status,
            period_anchor=moment.replace(hour=0, minute=0, second=0, microsecond=0),
            now=moment,
            **ends,
        )
    elif (terms, status, trial_end, hard_end) != (
        before.terms,
        before.status.value,
        before.trial_ends_at,
        before.hard_end,
    ):
        await repository.update(
            connection, request.customer_id, terms=terms, status=status, now=moment, **ends
        )
    await audit.record(
        connection,
        request.customer_id,
        now=now,
        actor=actor,
        action="subscription.set",
        subject=request.customer_id,
        details={
            "status": status,
            "hardEnd": hard_end,
            "terms": terms.model_dump(mode="json"),
        },
    )
    return await get_in(connection, catalog, request.customer_id, now=now)


async def get_in(
    connection: Connection, catalog: Catalog, customer_id: str, *, now: int
) -> Subscription:
    """Return the subscription of a customer.

    Raises:
        ProblemError: 404 ``NoSubscription``.
    """
    standing = standing_of(await repository.live(connection, customer_id))
    if standing.subscription_id is None:
        raise ProblemError(
            404, f"customer {customer_id} has no subscription", reason="NoSubscription"
        )
    start, end = standing.period(now)
    return Subscription.model_validate(
        {
            "subscription_id": standing.subscription_id,
            "customer_id": customer_id,
            "status": standing.status.value,
            "plan": entitlements_of(catalog, standing).plan,
            "terms": standing.terms.model_dump(mode="json"),
            "trial_ends_at": standing.trial_ends_at,
            "hard_end": standing.hard_end,
            "payment_due_at": standing.payment_due_at,
            "period_start": int(start.timestamp()),
            "period_end": int(end.timestamp()),
        }
    )


async def set_subscription(context: Context, request: SubscriptionSet, actor: str) -> Subscription:
    """Set what a customer has bought (see :func:`set_in`)."""
    async with context.database.tenant(request.customer_id) as connection:
        return await set_in(connection, context.catalog, request, actor=actor, now=context.now())
