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
