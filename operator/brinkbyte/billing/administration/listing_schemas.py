"""What the vendor lists across customers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel
from brinkbyte.license.claims import UnixTime

_NEXT = "cursor of the next page; null on the last one"


class CustomerRow(OpenWireModel):
    """A customer at a glance."""

    customer_id: str
    name: str
    created_at: UnixTime
    plan: str
    status: str
    license_mode: str
    instance_id: str | None
    last_seen_at: UnixTime | None


class Customers(OpenWireModel):
    """A page of customers by id."""

    customers: tuple[CustomerRow, ...]
    next: str | None = Field(None, description=_NEXT)


class SiteRow(OpenWireModel):
    """A customer's instance."""

    customer_id: str
    instance_id: str
    name: str
    created_at: UnixTime
    ended_at: UnixTime | None
    ended_reason: str | None
    air_gapped: bool
    last_seen_at: UnixTime | None
    version: str | None
    devices_online: int | None
    clone_alarm: bool


class Sites(OpenWireModel):
    """A page of instances by customer."""

    instances: tuple[SiteRow, ...]
    next: str | None = Field(None, description=_NEXT)


class DeviceRow(OpenWireModel):
    """An edge device as its cluster declares it."""

    customer_id: str
    name: str
    hardware_id: str
    management_tier: str
    site: str
    declared_at: UnixTime
    registered_at: UnixTime | None
    reason: str


class Devices(OpenWireModel):
    """A page of devices by customer and name."""

    devices: tuple[DeviceRow, ...]
    next: str | None = Field(None, description=_NEXT)


class LicenseRow(OpenWireModel):
    """The newest license that was signed for a customer, and the mode that it leads to now."""

    customer_id: str
    instance_id: str
    mode: str
    plan: str
    status: str
    sequence: int
    issued_at: UnixTime
    expires_at: UnixTime
    held_sequence: int | None = Field(description="that the instance last said it holds")


class Licenses(OpenWireModel):
    """A page of licenses by customer."""

    licenses: tuple[LicenseRow, ...]
    next: str | None = Field(None, description=_NEXT)


class MeteringRow(OpenWireModel):
    """How far a live instance's metering is."""

    customer_id: str
    instance_id: str
    air_gapped: bool
    last_seen_at: UnixTime | None
    backlog: int | None = Field(description="events that wait there, as it last said")
    last_batch_at: UnixTime | None
    last_batch_no: int | None
    quarantined: int = Field(description="events that are set aside and not released")
    silent: bool = Field(description="not heard of for an hour, though it has a line")


class Metering(OpenWireModel):
    """A page of live instances by customer."""

    metering: tuple[MeteringRow, ...]
    next: str | None = Field(None, description=_NEXT)


class AuditRow(OpenWireModel):
    """One change: who, what, when."""

    id: str
    at: UnixTime
    customer_id: str | None
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


class AuditLog(OpenWireModel):
    """A page of the audit log, newest first."""

    entries: tuple[AuditRow, ...]
    next: str | None = Field(None, description=_NEXT)
