"""Rules of subscriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

from pydantic import ValidationError

from brinkbyte.billing import audit
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.quotas import service as quotas
from brinkbyte.billing.subscriptions import history, repository
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
from brinkbyte.rating.model import Agreement, Change, Status

MAX_CLAIM = 10**9
MAX_ALLOWANCE = 2**53 - 1


def check(catalog: Catalog, request: SubscriptionSet) -> tuple[Terms, Entitlements]:
    """Read and judge the terms.

    Raises:
        ProblemError: 422 ``InvalidTerms`` names every problem.
    """
    terms = read_terms(request.terms)
    try:
        entitled = compile_entitlements(catalog, terms)
        problems = _too_large(entitled) + _trial_with_paid(catalog, terms, entitled)
    except CatalogError as error:
        problems = list(error.problems)
    if problems:
        raise invalid_terms(problems)
    return terms, entitled


def read_terms(given: Mapping[str, Any]) -> Terms:
    """Read terms from JSON.

    Raises:
        ProblemError: 422 ``InvalidTerms``.
    """
    try:
        return Terms.model_validate_json(json.dumps(given))
    except ValidationError as error:
        raise invalid_terms(
            [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:20]]
        ) from None


def invalid_terms(problems: Sequence[str]) -> ProblemError:
    """Return the refusal of terms that names every problem."""
    return ProblemError(
        422, f"terms: {'; '.join(problems)}", reason="InvalidTerms", problems=list(problems)
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
    row = await history.current(connection, catalog, request.customer_id, now)
    before = standing_of(row)
    days = request.trial_days if request.trial_days is not None else entitled.plan_trial_days
    trial_end = before.trial_ends_at
    if days and (trial_end is None or request.trial_days is not None):
        # A trial runs from the subscription's beginning: setting it again never extends it.
        start = now if row is None else int(row["created_at"].timestamp())
        trial_end = start + days * DAY
    status: Status = request.status or ("trialing" if days else "active")
    if request.status is None and before.dunning_ends_at is not None:
        # Who buys more still owes what is unpaid.
        status = cast("Status", before.status.value)
    if status == "trialing" and trial_end is None:
        raise ProblemError(422, "a trial needs its length; give trialDays", reason="InvalidTerms")
    hard_end = _hard_end(request, before, status, now)
    await _apply(
        connection,
        catalog,
        row,
        request,
        Change(
            at=moment,
            terms=terms,
            status=status,
            agreement=Agreement() if row is None else history.read_agreement(row["agreement"]),
            ends_at=None if hard_end is None else datetime.fromtimestamp(hard_end, UTC),
            trial_ends_at=None if trial_end is None else datetime.fromtimestamp(trial_end, UTC),
        ),
        actor=actor,
    )
    await quotas.renew_current(connection, catalog, request.customer_id, now)
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


async def _apply(
    connection: Connection,
    catalog: Catalog,
    row: Row | None,
    request: SubscriptionSet,
    change: Change,
    *,
    actor: str,
) -> None:
    """Write a change, unless it is what was wanted before."""
    if row is None:
        await begin(connection, catalog, request.customer_id, change, actor=actor)
        return
    changes = await history.load(connection, request.customer_id, row)
    newest = history.latest(row, changes, change.at)
    in_force = change.terms == Terms.model_validate(row["terms"]) or not request.at_once
    # A trial that became paid by itself is not set again by what says the same of it.
    same = newest == change or newest.model_copy(update={"status": row["status"]}) == change
    if same and in_force:
        return
    await history.record(
        connection,
        catalog,
        request.customer_id,
        row,
        change,
        actor=actor,
        reason="set",
        at_once=request.at_once,
        # Who was not said to have another status still owes what is unpaid.
        keeps_due=change.status == "past_due"
        or (request.status is None and change.status == "suspended"),
    )


async def begin(
    connection: Connection, catalog: Catalog, customer_id: str, change: Change, *, actor: str
) -> Row:
    """Create a customer's subscription with its first change; returns its row.

    Billing periods are counted from the midnight before.
    """
    row = await repository.insert(
        connection,
        customer_id,
        uuid4(),
        change,
        period_anchor=change.at.replace(hour=0, minute=0, second=0, microsecond=0),
        now=change.at,
    )
    return await history.record(
        connection, catalog, customer_id, row, change, actor=actor, reason="created"
    )


async def get_in(
    connection: Connection, catalog: Catalog, customer_id: str, *, now: int
) -> Subscription:
    """Return the subscription of a customer.

    Raises:
        ProblemError: 404 ``NoSubscription``.
    """
    standing = standing_of(await history.current(connection, catalog, customer_id, now))
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
