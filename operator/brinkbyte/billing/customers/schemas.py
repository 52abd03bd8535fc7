"""Requests and answers about customers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import Flags, Identifier, UnixTime
from brinkbyte.license.wire import Use

CustomerName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]

Email = Annotated[
    str,
    Field(
        max_length=254,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
    ),
]


class CustomerCreate(WireModel):
    """``POST /api/customers``.

    Attributes:
        email: where invoices go, and who is told what concerns the customer until others are set.
    """

    customer_id: Identifier
    name: CustomerName
    email: Email | None = None
    flags: Flags | None = None


class Customer(OpenWireModel):
    """A customer."""

    customer_id: str
    name: str
    email: str | None = None
    flags: dict[str, bool]
    created_at: UnixTime


class LicenseDocument(OpenWireModel):
    """``GET /api/license/{customer_id}``: the newest license of the customer's instance."""

    customer_id: str
    instance_id: str
    license: str


class MeterUse(OpenWireModel):
    """What was used of a meter in the billing period; decimal text in the meter's unit."""

    used: str
    included: int | None = None


class CostItem(OpenWireModel):
    """One line of what the period costs so far; money as decimal text."""

    line: str
    kind: str
    description: str
    quantity: str
    amount: str


class Portal(OpenWireModel):
    """``GET /api/portal/{customer_id}``: what a customer sees at a glance."""

    customer_id: str
    name: str
    plan: str
    status: str
    trial_ends_at: UnixTime | None
    period_start: UnixTime
    period_end: UnixTime
    instance_id: str | None
    last_seen_at: UnixTime | None
    devices: Use
    cameras: Use
    usage: dict[str, MeterUse]
    currency: str
    cost: tuple[CostItem, ...]
    total: str
