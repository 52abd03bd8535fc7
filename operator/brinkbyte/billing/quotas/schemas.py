"""Requests and answers about quotas."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from brinkbyte.billing.quotas.limits import plain
from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import Identifier, UnixTime

MAX_QUANTITY = Decimal(10) ** 12
Quantity = Annotated[Decimal, Field(ge=0, lt=MAX_QUANTITY, decimal_places=9)]
EventId = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
]
"""UUIDv7 text, lower case."""
Basis = Literal["so_far", "projected"]


class Reservation(WireModel):
    """``POST /api/v1/quotas/reserve``: a quantity that a service of the vendor's is about to use.

    ``eventId`` makes it safe to repeat: an id counts once.
    """

    customer_id: Identifier
    meter: Identifier
    quantity: Quantity = Decimal(1)
    event_id: EventId | None = None


class QuotaAlert(OpenWireModel):
    """An alert of the running period."""

    percent: int
    used: str
    included: str
    at: UnixTime


class QuotaState(OpenWireModel):
    """One meter's quota; quantities are decimal text in the meter's unit.

    ``ending``: what comes beyond ``included``: ``overage`` (charged), ``soft`` (refused at
    ``ceiling`` or from ``refusedFrom`` on), ``hard`` (refused), ``unlimited``.
    """

    meter: str
    title: str
    unit: str
    used: str
    included: str | None
    remaining: str | None
    percent: str | None
    ending: str
    ceiling: str | None = None
    refused_from: UnixTime | None = None
    over: bool
    alerts: tuple[QuotaAlert, ...] = ()


class Quotas(OpenWireModel):
    """``GET /api/billing/quotas``."""

    customer_id: str
    period_start: UnixTime
    period_end: UnixTime
    quotas: tuple[QuotaState, ...]
    upgrade_url: str


class Reserved(OpenWireModel):
    """A quantity that was counted; ``warning`` says what comes next."""

    allowed: bool
    meter: str
    used: str
    limit: str | None
    remaining: str | None
    warning: str | None = None
    event_id: str | None = None
    repeated: bool = False


class CostAlertSet(WireModel):
    """``POST /api/billing/cost-alerts``: an amount to be told of, once a billing period.

    ``amount``: money before tax, decimal text in the price list's currency. ``basis``: what the
    period has cost so far, or what it will have cost at its end if use goes on as it did.
    """

    amount: Annotated[Decimal, Field(gt=0, le=10**12, decimal_places=2)]
    basis: Basis = "so_far"


class CostAlert(OpenWireModel):
    """A cost alert; ``notified_at``: in the running period."""

    id: str
    amount: str
    basis: Basis
    currency: str
    created_at: UnixTime
    notified_at: UnixTime | None = None


class CostAlerts(OpenWireModel):
    """``GET /api/billing/cost-alerts``."""

    currency: str
    so_far: str
    projected: str
    alerts: tuple[CostAlert, ...]


def text(value: Decimal | None) -> str | None:
    """Return a quantity as decimal text; None stays None."""
    return None if value is None else plain(value)
