"""Properties of seat allocation: never more than bought, stable, nobody loses without cause."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brinkbyte.billing.licenses.allocation import HOLD_SECONDS, allocate
from brinkbyte.billing.licenses.holdings import (
    Allocation,
    Bought,
    Camera,
    Device,
    HeldSeat,
    TrialSlot,
)
from brinkbyte.license.claims import CameraMode

pytestmark = pytest.mark.unit
NOW = 1_800_000_000
DAY = 86_400


def bought(**more: Any) -> Bought:
    given_: dict[str, Any] = {
        "active": True,
        "refusal": ("SubscriptionInactive", "none"),
        "device_limit": None,
        "tier_limits": None,
        "base_seats": 3,
        "trial_seats": 2,
        "trial_days": 90,
        "packs": {"a": 2, "b": 0},
        "tenant_packs": frozenset({"t"}),
        "other_tenant_packs": frozenset({"u"}),
        "sku_of": {"base": "base", "trial": "trial", "a": "pa", "b": "pb", "u": "pu", "t": "pt"},
        **more,
    }
    return Bought(kept=given_.pop("kept", given_["active"]), **given_)


def device(number: int, **more: Any) -> Device:
    return replace(Device(f"d{number}", f"ud{number}", f"hw{number}", "basic", "", number), **more)


def camera(number: int, **more: Any) -> Camera:
    plain = Camera(f"c{number}", f"uc{number}", f"cam{number}", "hw0", CameraMode.BASE, (), number)
    return plain._replace(**more)


_ids = itertools.count()


def run(
    cameras: list[Camera],
    before: Allocation | None = None,
    what: Bought | None = None,
    *,
    devices: list[Device] | None = None,
    now: int = NOW,
) -> Allocation:
    held = before or Allocation()
    known = {d.name: d for d in held.devices.values()}
    wanted = [known.get(d.name, d) for d in devices or [device(0), device(1)]]
    return allocate(
        wanted,
        cameras,
        list(held.seats.values()),
        list(held.slots.values()),
        held.trials,
        what or bought(),
        now=now,
        new_seat_id=lambda: f"s{next(_ids)}",
    )


def check(result: Allocation, what: Bought, cameras: list[Camera], now: int) -> None:
    """Assert what must always hold."""
    live = result.live_seats
    modes = Counter(seat.mode for seat in result.seats.values())
    assert modes[CameraMode.BASE] <= max(what.base_seats, 0) or not what.kept
    assert modes[CameraMode.TRIAL] <= max(what.trial_seats, 0) or not what.kept
    packs = Counter(pack for seat in result.seats.values() for pack in seat.packs)
    for pack, limit in what.packs.items():
        assert packs[pack] <= limit or not what.kept
    assert set(result.camera_decisions) == {camera.name for camera in cameras}
    registered = {d.hardware_id for d in result.devices.values() if d.registered_at is not None}
    for one in cameras:
        decision = result.camera_decisions[one.name]
        if decision.accepted:
            seat = result.seats[one.camera_id]
            assert seat.held_until is None
            assert (seat.hardware_id, seat.mode, seat.packs) == (
                one.hardware_id,
                one.mode,
                one.packs,
            )
            assert one.hardware_id in registered
            assert seat.mode is CameraMode.BASE or (seat.until or 0) > now
        else:
            assert decision.message
    assert all(seat.camera_id in {c.camera_id for c in cameras} for seat in live)
    assert all(
        seat.until is not None and seat.until <= result.trials[seat.camera_id]
        for seat in live
        if seat.mode is CameraMode.TRIAL
    )
    trial = {s.camera_id for s in live if s.mode is CameraMode.TRIAL}
    slots = [slot.camera_id for slot in result.slots.values() if slot.camera_id]
    assert len(slots) == len(set(slots))
    assert trial <= set(slots)


cameras_strategy = st.lists(
    st.builds(
        lambda n, cam, hw, mode, packs, created: Camera(
            f"c{n}", f"uc{n}", f"cam{cam}", f"hw{hw}", mode, tuple(sorted(packs)), created
        ),
        st.integers(0, 7),
        st.integers(0, 5),
        st.integers(0, 2),
        st.sampled_from(CameraMode),
        st.sets(st.sampled_from(["a", "b", "t", "u", "nonsense"]), max_size=2),
        st.integers(0, 5),
    ),
    max_size=8,
    unique_by=lambda c: c.name,
)
bought_strategy = st.builds(
    lambda stands, base, trial, a, devices, revoked: bought(
        active=stands == "active",
        kept=stands != "ended",
        base_seats=base,
        trial_seats=trial,
        packs={"a": a, "b": 1},
        device_limit=devices,
        revoked=revoked,
    ),
    st.sampled_from(["active", "active", "grace", "ended"]),
    st.integers(0, 4),
    st.integers(0, 2),
    st.integers(0, 3),
    st.none() | st.integers(0, 2),
    st.sets(st.sampled_from(["cam0", "cam1"]), max_size=1).map(frozenset),
)
steps = st.lists(
    st.tuples(cameras_strategy, bought_strategy, st.sampled_from([1, 300, 700, 50 * DAY])),
    min_size=1,
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(steps)
def test_never_more_than_bought_whatever_happens(
    history: list[tuple[list[Camera], Bought, int]],
) -> None:
    state, now = Allocation(), NOW
    for cameras, what, step in history:
        now += step
        tried = dict(state.trials)
        state = run(cameras, state, what, now=now)
        check(state, what, cameras, now)
        # A trial that has begun is never longer, nor another one.
        assert state.trials.items() >= tried.items()
        assert all(until == now + 90 * DAY for c, until in state.trials.items() if c not in tried)
        # Who loses a seat may lose a conflict with it: that is settled one call later.
        settled = run(cameras, state, what, now=now)
        again = run(cameras, settled, what, now=now)
        assert again.seats == settled.seats
        assert again.devices == settled.devices
        assert again.camera_decisions == settled.camera_decisions
        assert again.history == []


@settings(max_examples=50, deadline=None)
@given(cameras_strategy, cameras_strategy)
def test_new_claims_never_take_a_seat_from_a_holder(
    first: list[Camera], second: list[Camera]
) -> None:
    devices = [device(0), device(1), device(2)]
    before = run(first, devices=devices)
    taken = {c.camera_id for c in first}
    names = {c.name for c in first}
    new = [c for c in second if c.camera_id not in taken and c.name not in names]
    after = run([*first, *new], before, devices=devices)
    for seat in before.live_seats:
        assert after.seats[seat.camera_id] == seat


def test_seat_freed_by_removal_waits_and_counts() -> None:
    before = run([camera(0), camera(1), camera(2)])
    after = run([camera(1), camera(2), camera(3)], before)
    assert after.seats["cam0"].held_until == NOW + HOLD_SECONDS
    assert not after.camera_decisions["c3"].accepted
    later = run([camera(1), camera(2), camera(3)], after, now=NOW + HOLD_SECONDS)
    assert later.camera_decisions["c3"].accepted
    assert "cam0" not in later.seats


def test_switching_mode_needs_room_in_the_other_mode() -> None:
    what = bought(trial_seats=1)
    before = run([camera(0), camera(1, mode=CameraMode.TRIAL)], what=what)
    after = run([camera(0, mode=CameraMode.TRIAL), camera(1, mode=CameraMode.TRIAL)], before, what)
    assert after.camera_decisions["c0"].reason == "QuotaExceeded"
    assert after.seats["cam0"].mode is CameraMode.BASE


def test_lost_seat_is_claimed_in_the_wanted_mode() -> None:
    before = run([camera(0)])
    after = run([camera(0, mode=CameraMode.TRIAL)], before, bought(base_seats=0))
    assert after.camera_decisions["c0"].accepted
    assert after.seats["cam0"].mode is CameraMode.TRIAL


def test_running_trial_slot_that_ends_first_is_used_first() -> None:
    slots = [TrialSlot(0, NOW, NOW + 9 * DAY, None), TrialSlot(1, NOW, NOW + 5 * DAY, None)]
    before = Allocation(slots={slot.slot: slot for slot in slots})
    after = run([camera(0, mode=CameraMode.TRIAL)], before)
    assert after.seats["cam0"].until == NOW + 5 * DAY


@pytest.mark.parametrize("name", ["c0", "renamed"])
def test_a_camera_that_was_tried_gets_no_second_trial(name: str) -> None:
    again = camera(0, mode=CameraMode.TRIAL, name=name, uid=f"u-{name}")
    before = run([camera(0, mode=CameraMode.TRIAL)])
    gone = run([], before, now=NOW + 60 * DAY)
    # Both seats are free by now, one of them never used.
    late = run([again], gone, now=NOW + 90 * DAY)
    assert late.camera_decisions[name].reason == "TrialEnded"
    back = run([again], gone, now=NOW + 90 * DAY - 1)
    assert back.seats["cam0"].until == NOW + 90 * DAY
    other = run([again, camera(1, mode=CameraMode.TRIAL)], gone, now=NOW + 90 * DAY)
    assert other.camera_decisions["c1"].accepted


def test_seat_moves_only_to_a_registered_device() -> None:
    before = run([camera(0)])
    after = run([camera(0, hardware_id="hw9")], before)
    assert after.camera_decisions["c0"].reason == "DeviceNotRegistered"
    assert after.seats["cam0"].hardware_id == "hw0"


def test_in_grace_holders_keep_and_nothing_is_added() -> None:
    before = run([camera(0, packs=("a",)), camera(1)])
    grace = bought(active=False, kept=True)
    wanted = [
        camera(0, hardware_id="hw1"),
        camera(1, packs=("a",)),
        camera(2),
    ]
    after = run(wanted, before, grace, devices=[device(0), device(1), device(2)])
    reasons = [after.camera_decisions[c.name].reason for c in wanted]
    # Less, or elsewhere, is always possible.
    assert reasons == ["Issued", "SubscriptionInactive", "SubscriptionInactive"]
    assert (after.seats["cam0"].hardware_id, after.seats["cam0"].packs) == ("hw1", ())
    assert after.seats["cam1"].packs == ()
    assert [after.device_decisions[f"d{n}"].accepted for n in range(3)] == [True, True, False]
    # A switch to the other mode is more.
    trial = run([camera(1, mode=CameraMode.TRIAL)], before, grace)
    assert not trial.camera_decisions["c1"].accepted
    assert trial.seats["cam1"].mode is CameraMode.BASE


def test_bigger_site_is_decided_in_no_time() -> None:
    what = bought(base_seats=20_000)
    cameras = [camera(n) for n in range(5_000)]
    result = run(cameras, what=what)
    assert len(result.live_seats) == 5_000
    seat = result.seats["cam7"]
    assert isinstance(seat, HeldSeat)
    assert seat.request_name == "c7"
