"""Reading inventory answers, and terms for them."""

from __future__ import annotations

from typing import Any

from brinkbyte.license.claims import SeatsClaims
from brinkbyte.license.seats import SeatList, unpack_seats
from brinkbyte.license.tokens import verify
from services.billing.conftest import Billing
from services.billing.site import Site
from support.billing import CUSTOMER


def seats_of(answer: dict[str, Any], billing: Billing) -> SeatList:
    return unpack_seats(verify(answer["seats"], SeatsClaims, billing.keys, now=billing.clock.now))


def statuses(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(c["status"], c["reason"]) for c in answer["cameras"]]


def terms(**quantities: int) -> dict[str, Any]:
    """Return vision-only terms; underscores stand for the dots of the SKU's end."""
    return {"quantities": {f"vision.{k.replace('__', '.')}": v for k, v in quantities.items()}}


async def enrolled(billing: Billing, bought: dict[str, Any], **more: Any) -> Site:
    await billing.customer(CUSTOMER, bought, **more)
    return await billing.site()
