"""Requests and answers of usage that only the billing API has."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import Identifier, Quarantined
from brinkbyte.metering.batches import MAX_EVENTS


class UsageReport(WireModel):
    """``POST /api/usage/report``: events of the vendor's own services, not sealed."""

    customer_id: Identifier
    events: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_EVENTS)]


class ReportAnswer(OpenWireModel):
    """What became of reported events."""

    accepted: int
    duplicates: int
    quarantined: tuple[Quarantined, ...] = ()
