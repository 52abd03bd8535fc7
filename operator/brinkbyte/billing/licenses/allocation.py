"""Who gets a seat: a pure function from what is declared, held and bought to decisions.

Who holds something keeps it first, longest holders first; changes of holders come next, new claims
last, in the order the resources were created. In grace holders keep and nothing is added. A freed
seat waits 10 minutes for the same camera and meanwhile counts as used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from brinkbyte.billing.licenses.holdings import (
    ISSUED,
    SWITCH,
    Allocation,
    Bought,
    Camera,
    Decision,
    Device,
    HeldSeat,
    SeatChange,
    TrialSlot,
    full,
)
from brinkbyte.billing.licenses.registration import register_devices
from brinkbyte.license.claims import CameraMode
from brinkbyte.license.modes import UPGRADE_URL

HOLD_SECONDS: Final = 600


def allocate(  # noqa: PLR0917 - the five sets of which each is what it is
    devices: Iterable[Device],
    cameras: Sequence[Camera],
    seats: Iterable[HeldSeat],
    slots: Iterable[TrialSlot],
    trials: Mapping[str, int],
    bought: Bought,
    *,
    now: int,
    new_seat_id: Callable[[], str],
    hold_seconds: int = HOLD_SECONDS,
) -> Allocation:
    """Decide devices and cameras of the complete declared set.

    Args:
        devices: all declared devices.
        cameras: all declared cameras.
        seats: all seats that are held or wait.
        slots: trial seats that were ever started.
        trials: until when each camera that was ever tried may be, Unix seconds.
        bought: what may be held.
        now: Unix seconds.
        new_seat_id: makes the id of a new seat.
        hold_seconds: how long a freed seat waits for its camera.
    """
    result = register_devices(devices, bought, now=now)
    result.trials = dict(trials)
    run = _Cameras(result, cameras, seats, slots, bought, now, new_seat_id)
    run.hold_seconds = hold_seconds
    return run.run()


class _Cameras:
    """The camera half; one instance a run."""

    def __init__(  # noqa: PLR0917 - private, called once
        self,
        result: Allocation,
        cameras: Sequence[Camera],
        seats: Iterable[HeldSeat],
        slots: Iterable[TrialSlot],
        bought: Bought,
        now: int,
        new_seat_id: Callable[[], str],
    ) -> None:
        self.result = result
        self.bought = bought
        self.now = now
        self.new_seat_id = new_seat_id
        self.hold_seconds = HOLD_SECONDS
        self.before = {s.camera_id: s for s in seats if s.held_until is None or s.held_until > now}
        self.result.slots = {slot.slot: slot for slot in slots}
        self.registered = {
            d.hardware_id for d in result.devices.values() if d.registered_at is not None
        }
        self.declared_devices = {d.hardware_id for d in result.devices.values()}
        self.claims = self._claims(cameras)
        self.used: Counter[str] = Counter()

    def _claims(self, cameras: Sequence[Camera]) -> dict[str, Camera]:
        """Return one claim a camera id; the later claimants are refused."""
        claims: dict[str, Camera] = {}

        def rank(camera: Camera) -> tuple[bool, int, str, str]:
            seat = self.before.get(camera.camera_id)
            return (
                seat is None or seat.request_name != camera.name,
                camera.created_at,
                camera.uid,
                camera.name,
            )

        for camera in sorted(cameras, key=rank):
            first = claims.setdefault(camera.camera_id, camera)
            if first is not camera:
                self.result.camera_decisions[camera.name] = Decision(
                    False,
                    "CameraConflict",
                    f"camera {camera.camera_id} is claimed by {first.name} on "
                    f"{first.hardware_id} already; delete one of the two",
                )
        return claims

    def run(self) -> Allocation:
        """Decide in three rounds: keep, change, claim."""
        live = [seat for seat in self.before.values() if seat.held_until is None]
        keepers = sorted(
            (seat for seat in live if seat.camera_id in self.claims),
            key=lambda seat: (seat.taken_at, seat.camera_id),
        )
        if not self.bought.kept:
            self._inactive(live)
            return self.result
        for seat in live:
            if seat.camera_id not in self.claims:
                self._free(seat, "Removed", hold=True)
        kept = [seat for seat in keepers if self._keep(seat)]
        self._hold()
        for seat in kept:
            self._change(self.result.seats[seat.camera_id])
        decided = self.result.camera_decisions
        for camera in sorted(
            self.claims.values(), key=lambda camera: (camera.created_at, camera.uid, camera.name)
        ):
            if camera.name not in decided:
                decided[camera.name] = self._claim(camera)
        self._release_slots()
        return self.result

    def _inactive(self, live: list[HeldSeat]) -> None:
        """Refuse everything, but take no seat away from who still declares it."""
        for camera in self.claims.values():
            self.result.camera_decisions[camera.name] = Decision(False, *self.bought.refusal)
        for seat in self.before.values():
            if seat.camera_id in self.claims or seat.held_until is not None:
                self.result.seats[seat.camera_id] = seat
        for seat in live:
            if seat.camera_id not in self.claims:
                self._free(seat, "Removed", hold=True)
        self._release_slots()

    def _hold(self) -> None:
        """Let free seats wait within what holders leave; the rest is given up."""
        for seat in self.before.values():
            if seat.held_until is not None:
                self.result.seats[seat.camera_id] = seat
        waiting = [seat for seat in self.result.seats.values() if seat.held_until is not None]
        for seat in sorted(waiting, key=lambda seat: (seat.held_until, seat.camera_id)):
            del self.result.seats[seat.camera_id]
            if self.used[seat.mode.value] < self._limit(seat.mode):
                packs = tuple(pack for pack in seat.packs if self._pack_decision(pack) is None)
                self.result.seats[seat.camera_id] = seat._replace(packs=packs)
                self._count(self.result.seats[seat.camera_id], 1)

    def _free(self, seat: HeldSeat, reason: str, *, hold: bool) -> None:
        self.result.history.append(SeatChange("freed", seat, reason))
        self.result.seats.pop(seat.camera_id, None)
        if hold and self.hold_seconds:
            held_until = self.now + self.hold_seconds
            self.result.seats[seat.camera_id] = seat._replace(held_until=held_until)

    def _count(self, seat: HeldSeat, sign: int) -> None:
        self.used[seat.mode.value] += sign
        for pack in seat.packs:
            self.used[f"pack:{pack}"] += sign

    def _limit(self, mode: CameraMode) -> int:
        return self.bought.base_seats if mode is CameraMode.BASE else self.bought.trial_seats

    def _pack_decision(self, pack: str) -> Decision | None:
        """Return why a pack cannot be taken once more, None if it can."""
        if pack in self.bought.tenant_packs:
            return None
        sku = self.bought.sku_of.get(pack)
        if pack in self.bought.other_tenant_packs:
            return full(f"{pack} packs", 0, 0, sku)
        if pack not in self.bought.packs:
            return Decision(
                False, "UnknownPack", f"there is no growth pack {pack!r}; correct spec.growthPacks"
            )
        used, limit = self.used[f"pack:{pack}"], self.bought.packs[pack]
        return full(f"{pack} packs", used, limit, sku) if used >= limit else None

    def _keep(self, seat: HeldSeat) -> bool:
        """Keep what a holder holds within what is bought; False if the seat is lost."""
        camera = self.claims[seat.camera_id]
        decision = self._lost(seat)
        if decision is not None:
            if decision is not SWITCH:
                self.result.camera_decisions[camera.name] = decision
            self._free(seat, decision.reason, hold=decision.reason == "DeviceNotRegistered")
            return False
        packs = tuple(p for p in seat.packs if p in camera.packs and self._pack_decision(p) is None)
        kept = seat if packs == seat.packs else seat._replace(packs=packs)
        self._count(kept, 1)
        self.result.seats[seat.camera_id] = kept
        return True

    def _lost(self, seat: HeldSeat) -> Decision | None:
        camera = self.claims[seat.camera_id]
        if seat.camera_id in self.bought.revoked:
            return _revoked(seat.camera_id)
        if camera.hardware_id not in self.registered and seat.hardware_id not in self.registered:
            return self._no_device(camera)
        if seat.mode is CameraMode.TRIAL and seat.until is not None and seat.until <= self.now:
            # A wish for a bought seat is decided as a new claim.
            return self._trial_ended() if camera.mode is CameraMode.TRIAL else SWITCH
        if self.used[seat.mode.value] >= self._limit(seat.mode):
            if camera.mode is not seat.mode:
                return SWITCH
            return self._no_seat(seat.mode)
        return None

    def _change(self, kept: HeldSeat) -> None:
        """Give a holder what the resource now asks for, or leave the seat as it is."""
        camera = self.claims[kept.camera_id]
        before = self.before[kept.camera_id]
        decision = self._refuse_change(kept, camera)
        seat = kept
        held = (kept.hardware_id, kept.mode, kept.packs, kept.request_name)
        asked = (camera.hardware_id, camera.mode, camera.packs, camera.name)
        if decision is None and held != asked:
            self._count(kept, -1)
            until = kept.until
            if camera.mode is not kept.mode:
                until = self._take_slot(camera) if camera.mode is CameraMode.TRIAL else None
            seat = kept._replace(
                hardware_id=camera.hardware_id,
                mode=camera.mode,
                packs=camera.packs,
                until=until,
                request_name=camera.name,
            )
            self._count(seat, 1)
            self.result.seats[seat.camera_id] = seat
        self.result.camera_decisions[camera.name] = decision or ISSUED
        if seat.hardware_id != before.hardware_id:
            self.result.history.append(
                SeatChange(
                    "moved", seat, f"from {before.hardware_id}", moved_from=before.hardware_id
                )
            )
        if (seat.mode, seat.packs) != (before.mode, before.packs):
            self.result.history.append(SeatChange("changed", seat))

    def _refuse_change(self, kept: HeldSeat, camera: Camera) -> Decision | None:
        if camera.hardware_id not in self.registered:
            return self._no_device(camera)
        if self.bought.in_grace and self._asks_more(kept, camera):
            return Decision(False, *self.bought.refusal)
        if camera.mode is not kept.mode:
            refused = self._refuse_seat(camera)
            if refused is not None:
                return refused
        for pack in camera.packs:
            if pack not in kept.packs:
                refused = self._pack_decision(pack)
                if refused is not None:
                    return refused
        return None

    def _asks_more(self, seat: HeldSeat, camera: Camera) -> bool:
        """Tell whether a camera wants more than its seat gives."""
        free = self.bought.tenant_packs
        return camera.mode is not seat.mode or not set(camera.packs) <= {*seat.packs, *free}

    def _claim(self, camera: Camera) -> Decision:
        if camera.camera_id in self.bought.revoked:
            return _revoked(camera.camera_id)
        if camera.hardware_id not in self.registered:
            return self._no_device(camera)
        waiting = self.result.seats.get(camera.camera_id)
        if self.bought.in_grace and (waiting is None or self._asks_more(waiting, camera)):
            return Decision(False, *self.bought.refusal)
        if waiting is not None:
            self._count(waiting, -1)
        refused = self._refuse_seat(camera)
        if refused is None:
            refused = next(
                (d for d in (self._pack_decision(pack) for pack in camera.packs) if d), None
            )
        if refused is not None:
            if waiting is not None:
                self._count(waiting, 1)
            return refused
        until = self._take_slot(camera) if camera.mode is CameraMode.TRIAL else None
        seat = HeldSeat(
            camera_id=camera.camera_id,
            seat_id=waiting.seat_id if waiting else self.new_seat_id(),
            request_name=camera.name,
            hardware_id=camera.hardware_id,
            mode=camera.mode,
            packs=camera.packs,
            taken_at=waiting.taken_at if waiting else self.now,
            until=until,
        )
        self._count(seat, 1)
        self.result.seats[camera.camera_id] = seat
        self.result.history.append(SeatChange("retaken" if waiting else "taken", seat))
        return ISSUED

    def _refuse_seat(self, camera: Camera) -> Decision | None:
        if camera.mode is CameraMode.TRIAL:
            if self._tried(camera) or (self.bought.trial_seats and self._all_slots_ended()):
                return self._trial_ended()
            if self._free_slot(camera) is None:
                return self._no_seat(camera.mode)
        if self.used[camera.mode.value] >= self._limit(camera.mode):
            return self._no_seat(camera.mode)
        return None

    def _no_seat(self, mode: CameraMode) -> Decision:
        used, limit = self.used[mode.value], self._limit(mode)
        return full(
            "camera seats" if mode is CameraMode.BASE else "trial seats",
            used,
            limit,
            self.bought.sku_of.get(mode.value),
        )

    def _no_device(self, camera: Camera) -> Decision:
        if camera.hardware_id in self.declared_devices:
            why = "was refused; see that EdgeDevice's conditions"
        else:
            why = "is not declared; create the EdgeDevice or correct spec.deviceRef"
        return Decision(False, "DeviceNotRegistered", f"device {camera.hardware_id} {why}")

    def _trial_ended(self) -> Decision:
        return Decision(
            False,
            "TrialEnded",
            f"the camera trial has ended; set mode to base, or buy seats at {UPGRADE_URL}",
        )

    # Trials: two seats with a time each, and every camera once.

    def _tried(self, camera: Camera) -> bool:
        """Whether the camera's one trial is over, whatever its resource was called then."""
        return self.result.trials.get(camera.camera_id, self.now + 1) <= self.now

    def _slots(self) -> list[TrialSlot]:
        return [s for s in self.result.slots.values() if s.slot < self.bought.trial_seats]

    def _all_slots_ended(self) -> bool:
        slots = self._slots()
        return len(slots) >= self.bought.trial_seats and all(s.until <= self.now for s in slots)

    def _occupied(self, slot: TrialSlot) -> bool:
        """Whether another camera uses the slot or may still come back to it."""
        seat = self.result.seats.get(slot.camera_id or "")
        return seat is not None and seat.mode is CameraMode.TRIAL

    def _free_slot(self, camera: Camera) -> int | None:
        running = [slot for slot in self._slots() if slot.until > self.now]
        for slot in running:
            if slot.camera_id == camera.camera_id:
                return slot.slot
        for slot in sorted(running, key=lambda slot: slot.until):
            if not self._occupied(slot):
                return slot.slot
        used = {slot.slot for slot in self._slots()}
        return next((n for n in range(self.bought.trial_seats) if n not in used), None)

    def _take_slot(self, camera: Camera) -> int | None:
        number = self._free_slot(camera)
        if number is None:
            raise AssertionError("a trial seat was granted without a slot")
        slot = self.result.slots.get(number)
        end = self.now + (self.bought.trial_days or 0) * 86_400
        if slot is None:
            slot = TrialSlot(number, self.now, end, camera.camera_id)
        self.result.slots[number] = replace(slot, camera_id=camera.camera_id)
        return min(slot.until, self.result.trials.setdefault(camera.camera_id, end))

    def _release_slots(self) -> None:
        for number, slot in self.result.slots.items():
            if slot.camera_id is not None and not self._occupied(slot):
                self.result.slots[number] = replace(slot, camera_id=None)


def _revoked(camera_id: str) -> Decision:
    return Decision(
        False, "Revoked", f"the vendor revoked the license of camera {camera_id}; contact support"
    )
