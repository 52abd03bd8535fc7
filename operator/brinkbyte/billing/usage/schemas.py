"""Requests and answers of usage that only the billing API has."""

from __future__ import annotations

from datetime import datetime
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


class MeterSummary(OpenWireModel):
    """One meter in a billing period; quantities are decimal text in its unit.

    ``projection`` is what the period comes to if it goes on as so far; ``cost`` is the sum of what
    events of a pass-through meter carry.
    """

    meter: str
    title: str
    family: str
    unit: str
    kind: str
    used: str
    projection: str
    cost: str
    events: int


class UsageSummary(OpenWireModel):
    """``GET /api/billing/usage``."""

    period_start: datetime
    period_end: datetime
    meters: tuple[MeterSummary, ...]


class TrendPoint(OpenWireModel):
    """A bucket of a trend."""

    at: datetime
    quantity: str
    events: int


class MeterTrend(OpenWireModel):
    """The last days of a meter; ``changePercent``: the newer half against the older."""

    meter: str
    grain: str
    change_percent: str | None
    points: tuple[TrendPoint, ...]


class MetricUsage(OpenWireModel):
    """``GET /api/billing/usage/{metric}``: one meter, or every meter of a measure."""

    metric: str
    period_start: datetime
    period_end: datetime
    meters: tuple[MeterSummary, ...]
    trends: tuple[MeterTrend, ...]


class Consumption(OpenWireModel):
    """A camera, device or customer and what it used."""

    meter: str
    consumer: str
    quantity: str
    events: int


class QuarantinedEvent(OpenWireModel):
    """An event that is set aside; ``event`` is what was sent."""

    id: str
    instance: str
    epoch: str | None
    batch_no: int | None
    position: int
    event_id: str
    reason: str
    event: str
    received_at: datetime


class Quarantine(OpenWireModel):
    """``GET /api/v1/admin/customers/{id}/quarantine``; ``next`` is the page after this one."""

    waiting: dict[str, int]
    events: tuple[QuarantinedEvent, ...]
    next: str | None


class ReleaseAnswer(OpenWireModel):
    """``POST /api/v1/admin/customers/{id}/quarantine/release``; ``kept`` by reason."""

    released: int
    known: int
    kept: dict[str, int]
