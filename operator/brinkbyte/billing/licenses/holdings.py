"""What is declared, held and bought, and what becomes of it: the words of seat allocation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from brinkbyte.license.claims import CameraMode
from brinkbyte.license.modes import UPGRADE_URL


@dataclass(frozen=True, slots=True)
class Device:
    """A declared EdgeDevice.

    Attributes:
        tier: asked for.
        registered_at: while it counts against the limit.
        registered_tier: the tier it counts in, which a refused change leaves as it is.
    """

    name: str
    uid: str
    hardware_id: str
    tier: str
    site: str
    created_at: int
    registered_at: int | None = None
    registered_tier: str | None = None
    reason: str = ""


class Camera(NamedTuple):
    """A declared CameraLicense; a tuple, as ten thousand are made at every inventory."""

    name: str
    uid: str
    camera_id: str
    hardware_id: str
    mode: CameraMode
    packs: tuple[str, ...]
    created_at: int
    reason: str = ""


class HeldSeat(NamedTuple):
    """A seat; ``held_until`` is set while it is free and waits for its camera."""

    camera_id: str
    seat_id: str
    request_name: str
    hardware_id: str
    mode: CameraMode
    packs: tuple[str, ...]
    taken_at: int
    until: int | None = None
    held_until: int | None = None


@dataclass(frozen=True, slots=True)
class TrialSlot:
    """One trial seat's running time."""

    slot: int
    started_at: int
    until: int
    camera_id: str | None


@dataclass(frozen=True)
class Bought:
    """What may be held.

    Attributes:
        active: more may be taken.
        kept: what is held may be kept; without ``active`` the customer is in grace.
        refusal: reason and message for a customer that is not active.
        device_limit: None is unlimited.
        tier_limits: by management tier where devices are bought one by one, else None.
        packs: quantity of every per-camera pack; 0 where none was bought.
        tenant_packs: packs that the whole tenant holds.
        other_tenant_packs: tenant-wide packs that were not bought.
        sku_of: SKU by pack, plus ``base``, ``trial`` and the tiers.
        revoked: cameras whose license the vendor revoked.
    """

    active: bool
    kept: bool
    refusal: tuple[str, str]
    device_limit: int | None
    tier_limits: Mapping[str, int] | None
    base_seats: int
    trial_seats: int
    trial_days: int | None
    packs: Mapping[str, int]
    tenant_packs: frozenset[str]
    other_tenant_packs: frozenset[str]
    sku_of: Mapping[str, str]
    revoked: frozenset[str] = frozenset()

    @property
    def in_grace(self) -> bool:
        """Whether what is held is kept and nothing is added."""
        return self.kept and not self.active


@dataclass(frozen=True)
class Decision:
    """What becomes of one declared resource."""

    accepted: bool
    reason: str
    message: str
    used: int | None = None
    limit: int | None = None
    sku: str | None = None

    @property
    def counted(self) -> bool:
        """Whether used and limit belong to the answer."""
        return self.used is not None


Action = Literal["taken", "retaken", "moved", "changed", "freed"]


@dataclass(frozen=True)
class SeatChange:
    """One line of the seat history; ``moved_from``: the device that a seat was on before."""

    action: Action
    seat: HeldSeat
    reason: str = ""
    moved_from: str | None = None


@dataclass
class Allocation:
    """The outcome.

    Attributes:
        devices: by resource name; ``registered_at`` says who counts.
        device_decisions: by resource name.
        camera_decisions: by resource name.
        seats: by camera id, free ones that wait included.
        trials: Unix seconds until which a camera may be tried, by camera id; for ever one trial.
    """

    devices: dict[str, Device] = field(default_factory=dict)
    device_decisions: dict[str, Decision] = field(default_factory=dict)
    camera_decisions: dict[str, Decision] = field(default_factory=dict)
    seats: dict[str, HeldSeat] = field(default_factory=dict)
    slots: dict[int, TrialSlot] = field(default_factory=dict)
    trials: dict[str, int] = field(default_factory=dict)
    history: list[SeatChange] = field(default_factory=list)

    @property
    def live_seats(self) -> list[HeldSeat]:
        """Seats in use."""
        return [seat for seat in self.seats.values() if seat.held_until is None]


REGISTERED: Final = Decision(True, "Registered", "")
ISSUED: Final = Decision(True, "Issued", "")
SWITCH: Final = Decision(False, "Switch", "the seat is given up for one of the other mode")


def full(what: str, used: int, limit: int, sku: str | None) -> Decision:
    """Refuse what is beyond a limit."""
    bought = f" ({sku})" if sku else ""
    return Decision(
        False,
        "QuotaExceeded",
        f"{used} of {limit} {what}{bought} are used; remove one or buy more at {UPGRADE_URL}",
        used,
        limit,
        sku,
    )
