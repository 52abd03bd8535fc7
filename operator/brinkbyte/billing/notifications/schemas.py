"""Requests and answers about whom to tell of what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import UnixTime

Channel = Literal["email", "webhook", "sms"]
TargetKind = Literal[
    "trial_expiring", "trial_ended", "payment_failed", "limit_approaching", "limit_reached",
    "limit_exceeded", "license_expiring", "cost_alert", "invoice_issued",
]  # fmt: skip
Kinds = Annotated[tuple[TargetKind, ...], Field(max_length=20)]


class TargetCreate(WireModel):
    """An address to tell: an e-mail address, an https URL, or a phone number (E.164).

    ``kinds`` empty: everything.
    """

    channel: Channel
    address: Annotated[str, Field(min_length=3, max_length=2000)]
    kinds: Kinds = ()


class TargetChange(WireModel):
    """What a target is told of from now on; empty: everything."""

    kinds: Kinds


class Target(OpenWireModel):
    """A target as it stands.

    ``secret`` of a webhook is in the answers that make or roll it alone.
    """

    id: str
    channel: Channel
    address: str
    kinds: tuple[str, ...]
    created_at: UnixTime
    waiting: int
    failing_since: UnixTime | None = None
    disabled_at: UnixTime | None = None
    disabled_reason: str | None = None
    secret: str | None = None
    previous_secret_until: UnixTime | None = None


class Targets(OpenWireModel):
    """A customer's targets."""

    targets: tuple[Target, ...]


class DeliveryState(OpenWireModel):
    """What became of telling one target."""

    target_id: str
    channel: Channel
    address: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    last_error: str | None = None
    delivered_at: UnixTime | None = None
    next_try_at: UnixTime | None = None


class Notification(OpenWireModel):
    """One notification; without a delivery nobody had asked to be told."""

    id: str
    kind: str
    subject: str
    data: dict[str, Any]
    created_at: UnixTime
    deliveries: tuple[DeliveryState, ...]


class Notifications(OpenWireModel):
    """The newest first; ``next`` asks for what came before."""

    notifications: tuple[Notification, ...]
    next: str | None = None
