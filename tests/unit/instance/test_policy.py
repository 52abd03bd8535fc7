from __future__ import annotations

from typing import Any

import pytest

from brinkbyte.catalog import load_catalog
from brinkbyte.license.claims import CameraMode
from brinkbyte.license.documents import Snapshot
from brinkbyte.license.seats import Seat, unpack_seats
from brinkbyte.store.policy import Policy
from support.licensing import DAY, NOW, license_claims, revocations_claims, seats_claims

pytestmark = pytest.mark.unit
SEATS = [
    Seat("cam-1", "hw-1", CameraMode.BASE, ("retail",)),
    Seat("cam-4", "hw-4", CameraMode.BASE, ()),
    Seat("trial", "hw-1", CameraMode.TRIAL, (), NOW + 10),
]
DEVICES = ["hw-1", "hw-2", "hw-3", "hw-4"]


def policy(
    *,
    now: int = NOW,
    seats: list[Seat] | None = SEATS,
    entries: list[dict[str, Any]] | None = None,
    licensed: bool = True,
    first: tuple[str, ...] = (),
    **over: Any,
) -> Policy:
    return Policy(
        Snapshot(
            license=license_claims(**over) if licensed else None,
            seats=unpack_seats(seats_claims(seats, devices=DEVICES)) if seats is not None else None,
            revocations=revocations_claims(entries) if entries is not None else None,
        ),
        now,
        load_catalog(),
        first,
    )


def test_a_seat_allows_base_its_packs_and_the_tenants_packs() -> None:
    decision = policy(grant={"outputs": ["sms"]}).camera("cam-1")
    assert decision.allowed
    assert decision.grant.models == ("person", "trolley")
    assert decision.grant.outputs == ("api", "sms")
    assert decision.valid_until == NOW + 52 * DAY


@pytest.mark.parametrize(
    "over",
    [
        {"trial": {"isActive": True, "endsAt": NOW + 45 * DAY}},
        {"subscription": {"status": "canceled", "currentPeriodEnd": None}},
    ],
)
def test_what_has_no_grace_ends_with_the_license(over: dict[str, Any]) -> None:
    held = policy(**over)
    assert held.camera("cam-1").valid_until == NOW + 45 * DAY
    assert not policy(now=NOW + 45 * DAY, **over).camera("cam-4").allowed


def test_a_trial_seat_ends_on_its_own() -> None:
    assert policy().camera("trial").valid_until == NOW + 10
    ended = policy(now=NOW + 10).camera("trial")
    assert (ended.allowed, ended.reason) == (False, "SeatEnded")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"seats": None}, "SeatsMissing"),
        ({"entries": [{"kind": "seats", "subject": "acme", "upTo": 9}]}, "SeatsRevoked"),
        ({"exp": NOW + 400 * DAY, "now": NOW + 60 * DAY}, "SeatsExpired"),
    ],
)
def test_a_license_without_a_good_seat_list_licenses_no_camera(
    made: dict[str, Any], reason: str
) -> None:
    judged = policy(**made)
    assert judged.decision.full
    assert judged.camera("cam-1").reason == reason
    assert judged.licensed_models == frozenset()


def test_models_are_the_union_of_live_seats() -> None:
    assert policy().licensed_models == {"person", "trolley"}
    assert policy(seats=[SEATS[1]]).licensed_models == {"person"}
    assert policy(seats=[]).licensed_models == frozenset()
    assert policy(seats=[SEATS[2]], now=NOW + 11).licensed_models == frozenset()


def test_out_of_force_the_first_three_devices_go_on_with_the_base_models() -> None:
    judged = policy(now=NOW + 60 * DAY)
    assert judged.decision.mode == "expired"
    assert judged.base_devices == ("hw-1", "hw-2", "hw-3")
    first = judged.camera("cam-1")
    assert first.allowed
    assert first.grant.models == ("person",)
    assert judged.camera("cam-4").reason == "LicenseExpired"
    # Configuring more cameras on such a device gains nothing.
    assert not judged.camera("cam-new", "hw-1").allowed
    assert judged.licensed_models == {"person"}
    assert (judged.plan, judged.max_devices, judged.readable_days) == ("unlicensed", 3, 7)
    assert judged.features.data_retention_days == 7
    assert judged.limits.max_users is None


def test_never_licensed_the_configured_device_counts() -> None:
    judged = policy(licensed=False, seats=None, first=("hw-1", "hw-2", "hw-3", "hw-4"))
    assert judged.camera("any", "hw-3").allowed
    assert not judged.camera("any", "hw-4").allowed
    assert not judged.camera("any", None).allowed
    assert "person" in judged.licensed_models
    assert judged.device_of("any", "hw-3") == "hw-3"
    nobody = policy(licensed=False, seats=None)
    assert nobody.licensed_models == frozenset()
    assert nobody.tenant_grant.models == ()


def test_trial_days_round_up_and_end_at_the_license_without_a_date() -> None:
    trial = {"isActive": True, "endsAt": NOW + DAY + 1}
    assert policy(trial=trial).trial_days_remaining == 2
    assert policy(trial={"isActive": True, "endsAt": None}).trial_days_remaining == 45
    assert policy().trial_days_remaining == 0
