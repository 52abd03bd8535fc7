"""Types of rating: what was agreed, when it changed, what was used, and the lines that follow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from brinkbyte.catalog import Terms
from brinkbyte.catalog.values import Frozen, Money

Percent = Annotated[Decimal, Field(ge=0, le=100)]
Status = Literal["trialing", "active", "past_due", "canceled", "suspended"]
LineKind = Literal[
    "prepaid", "rise", "plan_change", "yearly", "once", "overage", "pass_through", "discount",
    "adjustment",
]  # fmt: skip


class Promotion(Frozen):
    """A promotion code that a customer has redeemed.

    It counts for whole billing periods: those that begin within its dates.

    Attributes:
        code: as it was redeemed.
        percent: off each charge it applies to; None: ``amount`` counts.
        amount: off one period's sum of what it applies to, never below zero.
        lines: line ids it applies to, also meters and one-time charges; empty: every prepaid
            charge (opening and risen, plan fees, yearly items).
        starts_at: from when, UTC midnight.
        ends_at: until when, exclusive; None: no end.
    """

    code: Annotated[str, Field(min_length=1, max_length=64)]
    percent: Percent | None = None
    amount: Money | None = None
    lines: tuple[str, ...] = ()
    starts_at: datetime
    ends_at: datetime | None = None


class Agreement(Frozen):
    """A customer's own way of paying.

    Attributes:
        interval: monthly items are paid by the month, or twelve months ahead.
        annual_percent: off twelve months that are paid ahead.
        promotions: redeemed codes, in the order in which they count.
    """

    interval: Literal["month", "year"] = "month"
    annual_percent: Percent = Decimal(0)
    promotions: tuple[Promotion, ...] = ()


class Change(Frozen):
    """What was wanted from a moment on; when it counts is for rating to say.

    Attributes:
        at: when it was made, UTC.
        terms: plans, quantities, own values.
        status: of the subscription.
        agreement: the way of paying.
        ends_at: end of a cancellation or a fixed term, UTC; None: renews.
        trial_ends_at: end of the plan trial; None: none.
    """

    at: datetime
    terms: Terms
    status: Status
    agreement: Agreement = Agreement()
    ends_at: datetime | None = None
    trial_ends_at: datetime | None = None


class History(Frozen):
    """All of a subscription, oldest change first; the first one made it.

    Attributes:
        anchor: UTC midnight from which billing periods (months) are counted.
    """

    anchor: datetime
    changes: Annotated[tuple[Change, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        moments = [self.anchor, *(change.at for change in self.changes)]
        if any(moment.tzinfo is None for moment in moments):
            msg = "times must carry their zone; give UTC"
            raise ValueError(msg)
        if self.anchor != self.anchor.astimezone(UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        ):
            msg = "the anchor must be a UTC midnight"
            raise ValueError(msg)
        if any(later < earlier for earlier, later in pairwise(moments[1:])):
            msg = "changes must be in the order in which they were made; sort them by their time"
            raise ValueError(msg)
        return self


class Period(Frozen):
    """A billing period ``[start, end)``, both UTC midnight."""

    start: datetime
    end: datetime


class MeterUsage(Frozen):
    """What was used of one meter in a period.

    Attributes:
        quantity: a counter's sum; a gauge's mean of daily snapshots; in the meter's unit.
        cost: sum of the costs that events carry (pass-through meters).
        events: how many events there are.
    """

    quantity: Decimal
    cost: Decimal = Decimal(0)
    events: int = 0


Usage = Mapping[str, MeterUsage]
"""By meter."""


class Line(Frozen):
    """One line of an invoice, before tax.

    Attributes:
        line: stable id: the charge's line id, or the meter's name.
        kind: why it is charged.
        description: for people.
        quantity: units charged.
        unit_price: price of ``per`` units; None where each event carries its own.
        per: units that ``unit_price`` is for.
        days: days charged of ``of_days``, where only a part of the period counts.
        of_days: days of the whole period.
        period: the time that is charged.
        amount: in the currency's main unit, rounded once; negative: a discount or a credit.
    """

    line: str
    kind: LineKind
    description: str
    quantity: Decimal
    unit_price: Decimal | None = None
    per: int = 1
    days: int | None = None
    of_days: int | None = None
    period: Period
    amount: Decimal
