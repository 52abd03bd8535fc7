"""Requests and answers of the administration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, model_validator

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import CameraMode, UnixTime
from brinkbyte.license.wire import Use

Note = Annotated[str, Field(max_length=400, pattern=r"^[^\x00-\x1f]*$")]


class FlagsPatch(WireModel):
    """``PATCH /api/v1/admin/customers/{id}/flags``: what is left out stays as it is."""

    license_validation: StrictBool | None = None
    usage_tracking: StrictBool | None = None
    offline_mode: StrictBool | None = None
    triton_enforcement: StrictBool | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.given:
            raise ValueError("name at least one flag")
        return self

    @property
    def given(self) -> dict[str, bool]:
        """The flags that are set, under their names in Python."""
        found = self.model_dump(by_alias=False, exclude_none=True)
        return {name: bool(value) for name, value in found.items()}


class CustomerFlags(OpenWireModel):
    """Feature flags in force; they are signed into the license at the instance's next ask."""

    customer_id: str
    flags: dict[str, bool]


class Acknowledgement(WireModel):
    """``POST /api/v1/admin/customers/{id}/clone-alarms/acknowledge``."""

    note: Note = ""


class CloneAlarmRow(OpenWireModel):
    """A clone alarm with both parties."""

    customer_id: str
    instance_id: str
    reason: str
    first_party: str
    second_party: str
    details: dict[str, str | int]
    raised_at: UnixTime
    last_seen_at: UnixTime
    times: int
    acknowledged_at: UnixTime | None = None
    acknowledged_by: str | None = None
    note: str = ""


class PaymentNotice(WireModel):
    """``POST /api/v1/admin/customers/{id}/payment``: ``dueAt`` goes with a failed one."""

    state: Literal["failed", "received"]
    due_at: UnixTime | None = None

    @model_validator(mode="after")
    def _due(self) -> Self:
        if (self.state == "failed") != (self.due_at is not None):
            raise ValueError("dueAt belongs to a failed payment, and only to one")
        return self


class Payment(OpenWireModel):
    """How the subscription stands after it: ``endsAt`` is the end that the license says."""

    customer_id: str
    status: str
    payment_due_at: UnixTime | None
    ends_at: UnixTime | None


class SeatChangeRow(OpenWireModel):
    """One line of a seat's history: who, what, from where to where, when."""

    at: UnixTime
    camera_id: str
    seat: str
    action: str
    from_hardware_id: str | None
    hardware_id: str
    mode: str
    growth_packs: tuple[str, ...]
    reason: str
    actor: str


class SeatRow(OpenWireModel):
    """A seat; ``heldUntil`` is set while it is free and waits for its camera."""

    camera_id: str
    seat: str
    resource: str
    hardware_id: str
    mode: CameraMode
    growth_packs: tuple[str, ...]
    taken_at: UnixTime
    until: UnixTime | None
    held_until: UnixTime | None


class TrialRow(OpenWireModel):
    """A camera that was ever tried, and until when it may be."""

    camera_id: str
    until: UnixTime


class Seats(OpenWireModel):
    """``GET /api/v1/admin/customers/{id}/seats``: seats, trials, and their newest 1,000 changes.

    With ``/{camera_id}`` behind it: of that camera, all of its history.
    """

    customer_id: str
    base: Use
    trial: Use
    seats: tuple[SeatRow, ...]
    trials: tuple[TrialRow, ...]
    history: tuple[SeatChangeRow, ...]


class KeyRow(OpenWireModel):
    """A public key of the set: next (signs nothing yet), signing, or retired."""

    key_id: str
    kinds: tuple[str, ...]
    state: Literal["next", "signing", "retired"]
    key_set_number: int = Field(description="of the set that it came with")
    retired_at: UnixTime | None = None
    goes_at: UnixTime | None = Field(None, description="when it goes by itself")


class InstanceRow(OpenWireModel):
    """A live instance in a rollout of keys."""

    customer_id: str
    instance_id: str
    name: str
    key_set_number: int = Field(description="newest set that it has seen, 0: none")
    via: Literal["online", "bundle", "never"]
    last_contact_at: UnixTime | None
    seen: bool
    in_touch: bool
    needs_old_key_until: UnixTime | None = None


class KeyRollout(OpenWireModel):
    """``GET /api/v1/admin/keys``: the keys, and how far the instances are.

    ``target`` is the set that the newest keys came with: an instance that has seen it can check
    what they sign. ``lacking`` are the first 1,000 that have not, ``needing`` those that may hold
    what a retired key signed.
    """

    number: int
    target: int
    phase: Literal["settled", "published", "overlap"]
    expires_at: UnixTime
    keys: tuple[KeyRow, ...]
    instances: int
    seen: int
    waiting: int = Field(description="lacking and in touch: switching waits for them")
    lacking: tuple[InstanceRow, ...]
    needing: tuple[InstanceRow, ...]
