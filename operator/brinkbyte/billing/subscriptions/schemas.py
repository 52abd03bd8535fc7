"""Requests and answers about subscriptions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import Identifier, UnixTime

Status = Literal["trialing", "active", "past_due", "canceled", "suspended"]


class SubscriptionSet(WireModel):
    """``POST /api/subscriptions``: what the customer has bought from now on.

    ``terms`` is ``{plans, quantities, overrides}`` of the catalog. ``status`` is derived if left
    out: trialing with trial days or a trial plan, else active; an unpaid invoice stays past due. A
    trial plan is refused beside what is paid for. ``hardEnd``: end of a cancellation, a fixed term
    or dunning; None: renews, and for ``canceled`` the end of today (UTC).
    """

    customer_id: Identifier
    terms: dict[str, Any]
    status: Status | None = None
    trial_days: Annotated[int, Field(ge=0, le=366)] | None = None
    hard_end: UnixTime | None = None
    at_once: bool = False


class Subscription(OpenWireModel):
    """A subscription as it stands."""

    subscription_id: str
    customer_id: str
    status: Status
    plan: str
    terms: dict[str, Any]
    trial_ends_at: UnixTime | None
    hard_end: UnixTime | None
    payment_due_at: UnixTime | None = None
    period_start: UnixTime
    period_end: UnixTime


MAX_NAMED = 200


class SubscriptionWish(WireModel):
    """What a customer wants to have from now on, all of it.

    Attributes:
        plans: family to plan.
        quantities: SKU to quantity.
        interval: pay by the month, or twelve months ahead; None: as before.
        promotion_code: a code to redeem with it.
    """

    plans: dict[str, str] = Field(default_factory=dict, max_length=MAX_NAMED)
    quantities: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, max_length=MAX_NAMED
    )
    interval: Literal["month", "year"] | None = None
    promotion_code: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Pending(WireModel):
    """What time alone will change next: a fall or lower plan that waits, a trial's end."""

    at: UnixTime
    status: Status
    plan: str
    terms: dict[str, Any]


class OwnSubscription(Subscription):
    """A customer's subscription as the customer sees it.

    Attributes:
        interval: how monthly items are paid.
        promotions: codes that were redeemed.
        ends_at: when it ends for good, a cancellation or an unpaid invoice included.
        pending: what changes next by itself.
    """

    interval: Literal["month", "year"]
    promotions: tuple[str, ...]
    ends_at: UnixTime | None
    pending: Pending | None


class LineItem(WireModel):
    """One line of an invoice or a preview, before tax; money as decimal strings.

    Attributes:
        line: stable id of the charge, or the meter.
        per: units that ``unit_price`` is for.
        days: days charged of ``of_days``, where only a part counts.
    """

    line: str
    kind: str
    description: str
    quantity: str
    unit_price: str | None
    per: int
    days: int | None
    of_days: int | None
    period_start: UnixTime
    period_end: UnixTime
    amount: str


class Cost(WireModel):
    """Lines that are invoiced at one time.

    Attributes:
        invoiced_at: Unix seconds.
    """

    invoiced_at: UnixTime
    lines: tuple[LineItem, ...]
    total: str


class Preview(WireModel):
    """What a change costs; nothing is written.

    Attributes:
        plan: that is in force right after the change.
        effective_at: when all of it is in force.
        now: what the change itself costs in the period that runs.
        next_period: what is paid ahead for the next period.
    """

    currency: str
    plan: str
    status: Status
    effective_at: UnixTime
    now: Cost
    next_period: Cost


class AgreedValues(WireModel):
    """``PUT /api/customers/{id}/agreed``: own values for what the customer then buys.

    Attributes:
        overrides: as in a subscription's terms.
        annual_percent: off twelve months paid ahead, as a decimal string; None: the price list's.
    """

    overrides: dict[str, bool | int | str] = Field(default_factory=dict, max_length=MAX_NAMED)
    annual_percent: Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,4})?$")] | None = None
