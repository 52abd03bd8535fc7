"""From what a customer asks for to the change that it is, or a refusal that says what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.subscriptions import history, pricing, repository, service
from brinkbyte.billing.subscriptions.history import Recorded
from brinkbyte.billing.subscriptions.schemas import SubscriptionSet, SubscriptionWish
from brinkbyte.billing.subscriptions.standing import Standing, standing_of
from brinkbyte.catalog import Catalog, CatalogError, Entitlements, Terms
from brinkbyte.kit.problem import ProblemError
from brinkbyte.rating import redeem
from brinkbyte.rating.model import Agreement, Change, Status

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Held:
    """A customer's subscription as a change finds it.

    Attributes:
        row: in force now; None: there is none.
        changes: oldest first.
        now: Unix seconds.
    """

    connection: Connection
    catalog: Catalog
    tenant_id: str
    row: Row | None
    changes: Sequence[Recorded]
    now: int

    @property
    def moment(self) -> datetime:
        """Now."""
        return datetime.fromtimestamp(self.now, UTC)

    @property
    def newest(self) -> Change | None:
        """The newest wish, to be changed into the next one; None without a subscription."""
        return None if self.row is None else history.latest(self.row, self.changes, self.moment)

    @property
    def standing(self) -> Standing:
        """How the subscription stands."""
        return standing_of(self.row)

    @property
    def ended(self) -> bool:
        """Whether it has ended, so that a new one may begin."""
        end = self.standing.ends_at
        return end is not None and end <= self.now


async def lock(connection: Connection, catalog: Catalog, tenant_id: str, now: int) -> Held:
    """Return a customer's subscription; nobody else changes it until the transaction ends.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    if await customers.lock(connection, tenant_id) is None:
        raise unknown_customer(tenant_id)
    return await read(connection, catalog, tenant_id, now)


async def read(connection: Connection, catalog: Catalog, tenant_id: str, now: int) -> Held:
    """Return a customer's subscription."""
    row = await history.current(connection, catalog, tenant_id, now)
    changes = [] if row is None else await history.load(connection, tenant_id, row)
    return Held(connection, catalog, tenant_id, row, changes, now)


def no_subscription(tenant_id: str) -> ProblemError:
    """Return the refusal of what needs a subscription."""
    return ProblemError(
        404,
        f"customer {tenant_id} has no subscription; create one with POST",
        reason="NoSubscription",
    )


async def begin(held: Held, wish: SubscriptionWish) -> tuple[Change, Entitlements]:
    """Return the change that subscribes, and what it entitles to.

    Raises:
        ProblemError: 409 ``SubscriptionExists``, ``TrialUsed``; 402 ``SubscriptionSuspended``;
            422 ``InvalidTerms``, ``InvalidPromotion``.
    """
    _refuse_suspended(held.standing)
    if held.row is not None and not held.ended and held.standing.status.value != "canceled":
        raise ProblemError(
            409,
            "there is a subscription already; change it with PUT, or cancel it first",
            reason="SubscriptionExists",
        )
    return await _wanted(held, wish)


async def change(held: Held, wish: SubscriptionWish) -> tuple[Change, Entitlements]:
    """Return the change of a subscription that runs, and what it entitles to.

    Raises:
        ProblemError: 404 ``NoSubscription``; 409 ``SubscriptionEnding``, ``TrialUsed``; 402
            ``SubscriptionSuspended``; 422 ``InvalidTerms``, ``InvalidPromotion``.
    """
    if held.row is None:
        raise no_subscription(held.tenant_id)
    _refuse_suspended(held.standing)
    if held.standing.status.value == "canceled":
        raise ProblemError(
            409,
            "the subscription is canceled; subscribe again with POST",
            reason="SubscriptionEnding",
        )
    return await _wanted(held, wish)


async def _wanted(held: Held, wish: SubscriptionWish) -> tuple[Change, Entitlements]:
    agreed = await repository.agreed(held.connection, held.tenant_id)
    newest = held.newest
    overrides: Mapping[str, Any] = {
        **({} if newest is None else newest.terms.overrides),
        **({} if agreed is None else agreed["overrides"]),
    }
    given = {
        "plans": wish.plans,
        "quantities": {sku: n for sku, n in wish.quantities.items() if n > 0},
        "overrides": overrides,
    }
    terms, entitled = service.check(
        held.catalog, SubscriptionSet(customer_id=held.tenant_id, terms=given)
    )
    if not terms.plans and not terms.quantities:
        raise ProblemError(
            422, "choose a plan or a quantity; to have nothing, cancel", reason="InvalidTerms"
        )
    status, trial_end = await _status(held, newest, entitled)
    ends_at = None if newest is None or newest.status == "canceled" else newest.ends_at
    if ends_at is not None and ends_at <= held.moment:
        ends_at = None
    made = Change(
        at=held.moment,
        terms=terms,
        status=status,
        agreement=_agreement(held, newest, wish, terms, agreed),
        ends_at=ends_at,
        trial_ends_at=trial_end,
    )
    return made, entitled


async def _status(
    held: Held, newest: Change | None, entitled: Entitlements
) -> tuple[Status, datetime | None]:
    """Return the status of what is wanted, and the end of its trial."""
    trial_end = None if newest is None else newest.trial_ends_at
    on_trial_plan = newest is not None and history.on_trial_plan(held.catalog, newest.terms)
    trialing = newest is not None and newest.status == "trialing"
    runs = trialing and trial_end is not None and trial_end > held.moment
    if entitled.plan_trial_days is not None:
        if runs and on_trial_plan:
            return "trialing", trial_end
        if await repository.had_trial(held.connection, held.tenant_id):
            raise ProblemError(409, "the trial was used already; choose a plan", reason="TrialUsed")
        return "trialing", held.moment + entitled.plan_trial_days * _DAY
    if runs and not on_trial_plan:
        # A trial of what is paid for goes on with other quantities.
        return "trialing", trial_end
    if held.row is not None and held.row["status"] == "past_due":
        return "past_due", trial_end
    return "active", trial_end


def _agreement(
    held: Held,
    newest: Change | None,
    wish: SubscriptionWish,
    terms: Terms,
    agreed: Row | None,
) -> Agreement:
    before = Agreement() if newest is None else newest.agreement
    interval = wish.interval or before.interval
    percent = before.annual_percent if interval == before.interval else Decimal(0)
    if interval == "year" and before.interval != "year":
        own = None if agreed is None else agreed["annual_percent"]
        percent = pricing.annual_percent(held.catalog) if own is None else own
    promotions = before.promotions
    if wish.promotion_code is not None:
        try:
            promotion = redeem(held.catalog, wish.promotion_code, held.moment, terms=terms)
        except CatalogError as error:
            raise ProblemError(
                422, f"promotionCode: {'; '.join(error.problems)}", reason="InvalidPromotion"
            ) from None
        if all(promotion.code != other.code for other in promotions):
            promotions = (*promotions, promotion)
    return Agreement(interval=interval, annual_percent=percent, promotions=promotions)


def _refuse_suspended(standing: Standing) -> None:
    if standing.status.value == "suspended":
        raise ProblemError(
            402,
            "the subscription is suspended; pay the open invoices first (GET "
            "/api/billing/invoices), then change it",
            reason="SubscriptionSuspended",
        )
