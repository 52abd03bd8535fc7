"""Where a customer stands: pure rules of status, trial, hard ends and billing periods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from brinkbyte.catalog import (
    Catalog,
    Entitlements,
    Terms,
    compile_entitlements,
    unlicensed_entitlements,
)
from brinkbyte.license.claims import SubscriptionStatus
from brinkbyte.rating.periods import add_months, month_index

DAY: Final = 86_400
GRACE_SECONDS: Final = 7 * DAY
DUNNING_SECONDS: Final = 14 * DAY
"""From the due date of an unpaid invoice to the hard end."""


@dataclass(frozen=True)
class Standing:
    """What a customer has bought and how the subscription stands.

    Attributes:
        subscription_id: None without a subscription.
        terms: what was bought.
        status: of the subscription.
        period_anchor: day on which billing periods turn; None without a subscription.
        trial_ends_at: Unix seconds; end of the plan trial.
        hard_end: Unix seconds; end of a cancellation or a fixed term, or one that was set by hand.
        payment_due_at: Unix seconds; due date of the oldest unpaid invoice, counts while past due
            and while suspended for it.
    """

    subscription_id: str | None
    terms: Terms
    status: SubscriptionStatus
    period_anchor: datetime | None
    trial_ends_at: int | None
    hard_end: int | None
    payment_due_at: int | None = None

    @property
    def trialing(self) -> bool:
        """Whether the plan trial is what the customer is on."""
        return self.status is SubscriptionStatus.TRIALING

    @property
    def dunning_ends_at(self) -> int | None:
        """Unix seconds at which an unpaid invoice ends the license; None: nothing is unpaid."""
        unpaid = (SubscriptionStatus.PAST_DUE, SubscriptionStatus.SUSPENDED)
        if self.status not in unpaid or self.payment_due_at is None:
            return None
        return self.payment_due_at + DUNNING_SECONDS

    def status_at(self, now: int) -> SubscriptionStatus:
        """Return the status that a license says: what stays unpaid past its grace is suspended."""
        end = self.dunning_ends_at
        if end is not None and now >= end + self.grace_seconds:
            return SubscriptionStatus.SUSPENDED
        return self.status

    @property
    def ends_at(self) -> int | None:
        """Unix seconds beyond which no token may reach; None: renews."""
        ends = [self.hard_end, self.dunning_ends_at]
        if self.trialing:
            ends.append(self.trial_ends_at)
        return min((end for end in ends if end is not None), default=None)

    @property
    def grace_seconds(self) -> int:
        """Grace after the end of a token; none extends a trial or a cancellation."""
        none = (SubscriptionStatus.TRIALING, SubscriptionStatus.CANCELED)
        return 0 if self.status in none else GRACE_SECONDS

    def active(self, now: int) -> bool:
        """Whether seats and devices of the terms may be taken now."""
        return self._runs(now)

    def keeps(self, now: int) -> bool:
        """Whether what is held may be kept: as long as instances run, grace included."""
        return self._runs(now - self.grace_seconds)

    def _runs(self, now: int) -> bool:
        if self.status in (SubscriptionStatus.NONE, SubscriptionStatus.SUSPENDED):
            return False
        if self.status is SubscriptionStatus.CANCELED and self.hard_end is None:
            return False
        return self.ends_at is None or now < self.ends_at

    def refusal(self, now: int) -> tuple[str, str]:
        """Return reason and message for a customer that is not active."""
        if self.status_at(now) is SubscriptionStatus.SUSPENDED:
            return "SubscriptionInactive", "the subscription is suspended; settle the open invoice"
        if self.dunning_ends_at is not None:
            return "SubscriptionInactive", "an invoice is long overdue; settle it"
        if self.trialing and self.trial_ends_at is not None and now >= self.trial_ends_at:
            return "TrialEnded", "the trial has ended; choose a plan"
        if self.status is SubscriptionStatus.NONE:
            return "SubscriptionInactive", "there is no subscription; choose a plan"
        return "SubscriptionInactive", "the subscription has ended; renew it"

    def period(self, now: int) -> tuple[datetime, datetime]:
        """Return start and end of the billing period that holds now."""
        moment = datetime.fromtimestamp(now, UTC)
        anchor = self.period_anchor or moment.replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        return period_of(anchor, moment)


def no_subscription() -> Standing:
    """Return the standing of a customer that has bought nothing."""
    return Standing(None, Terms(), SubscriptionStatus.NONE, None, None, None)


def standing_of(row: dict[str, Any] | None) -> Standing:
    """Read a row of ``subscriptions``; None: nothing bought."""
    if row is None:
        return no_subscription()
    return Standing(
        subscription_id=str(row["subscription_id"]),
        terms=Terms.model_validate(row["terms"]),
        status=SubscriptionStatus(row["status"]),
        period_anchor=row["period_anchor"],
        trial_ends_at=_seconds(row["trial_ends_at"]),
        hard_end=_seconds(row["hard_end"]),
        payment_due_at=_seconds(row["payment_due_at"]),
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def end_of_day(now: int) -> int:
    """Return the end of the UTC day, Unix seconds."""
    return (now // DAY + 1) * DAY


def period_of(anchor: datetime, moment: datetime) -> tuple[datetime, datetime]:
    """Return the month counted from the anchor that holds a moment."""
    index = month_index(anchor, moment)
    return add_months(anchor, index), add_months(anchor, index + 1)


@lru_cache(maxsize=512)
def _compiled(catalog_version: str, terms: str) -> Entitlements:
    return compile_entitlements(_catalogs[catalog_version], Terms.model_validate_json(terms))


_catalogs: dict[str, Catalog] = {}


def entitlements_of(catalog: Catalog, standing: Standing) -> Entitlements:
    """Return what the terms entitle to; compiled once per content.

    Raises:
        CatalogError: terms that cannot be bought under this price list.
    """
    if standing.subscription_id is None:
        return unlicensed_entitlements(catalog)
    _catalogs[catalog.version] = catalog
    return _compiled(catalog.version, standing.terms.model_dump_json())
