"""The tables of modes: whole, exact, and what the code above them goes by."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from brinkbyte.catalog import load_catalog
from brinkbyte.license.claims import CameraMode, RevocationsClaims
from brinkbyte.license.docs import main, render
from brinkbyte.license.documents import Snapshot
from brinkbyte.license.modes import (
    ALLOWS,
    MOVES,
    RULES,
    UPGRADE_URL,
    Basis,
    Event,
    LicenseMode,
    Phase,
    basis_of,
    decide_mode,
    phase_of,
)
from brinkbyte.license.seats import Seat, unpack_seats
from brinkbyte.store.policy import Policy
from support.licensing import (
    CUSTOMER,
    DAY,
    NOW,
    license_claims,
    revocations_claims,
    seats_claims,
)

pytestmark = pytest.mark.unit
PAGE = Path(__file__).parents[3] / "docs" / "license-modes.md"
State = tuple[Basis, Phase]
STATES: list[State] = list(product(Basis, Phase))
TAKEN_IN = {
    Event.PAID: Basis.PAID,
    Event.TRIAL: Basis.TRIAL,
    Event.CANCELED: Basis.CANCELED,
    Event.SUSPENDED: Basis.SUSPENDED,
    Event.UNBOUGHT: Basis.UNBOUGHT,
    Event.REVOKED: Basis.REVOKED,
    Event.WITHDRAWN: Basis.ABSENT,
}
WITHOUT_GRACE = {Basis.TRIAL, Basis.CANCELED}
SUBSCRIPTION = {
    Basis.SUSPENDED: "suspended",
    Basis.UNBOUGHT: "none",
    Basis.CANCELED: "canceled",
    Basis.TRIAL: "trialing",
}
WHEN = {
    Phase.RUNNING: NOW,
    Phase.OVERTIME: NOW + 45 * DAY,
    Phase.UNCONFIRMED: NOW + DAY,
    Phase.OVER: NOW + 52 * DAY,
}


def happens(event: Event, before: State, after: State) -> bool:
    """What an event is, said without the table."""
    (basis, phase), (then, later) = before, after
    if event in TAKEN_IN:
        return then is TAKEN_IN[event]
    if event is Event.REINSTATED:
        return basis is Basis.REVOKED and then not in {Basis.REVOKED, Basis.ABSENT}
    if then is not basis:
        return False
    order = list(Phase)
    step = (order.index(phase), order.index(later))
    return {
        Event.ENDED: step == (0, 1) and basis not in WITHOUT_GRACE,
        Event.UNCONFIRMED: step in {(0, 2), (1, 2)},
        Event.HARD_ENDED: step in {(0, 1), (0, 3)} and basis in WITHOUT_GRACE,
        Event.GRACE_ENDED: step in {(0, 3), (1, 3)} and basis not in WITHOUT_GRACE,
        Event.CLOCK_RIGHT: step[0] > step[1],
    }[event]


def moves(event: Event) -> Iterator[tuple[LicenseMode, LicenseMode]]:
    for before, after in product(STATES, STATES):
        if happens(event, before, after):
            pair = RULES[before[0]][before[1]].mode, RULES[after[0]][after[1]].mode
            if pair[0] is not pair[1] or event in TAKEN_IN:
                yield pair


@pytest.mark.parametrize("event", Event)
def test_the_table_of_moves_has_every_move_and_no_other(event: Event) -> None:
    table = {(mode, after) for mode, targets in MOVES[event].items() for after in targets}
    assert table == set(moves(event))


def snapshot(basis: Basis, phase: Phase = Phase.RUNNING) -> Snapshot:
    listed: RevocationsClaims | None = None
    if basis is Basis.ABSENT:
        return Snapshot()
    if basis is Basis.REVOKED:
        listed = revocations_claims([{"kind": "license", "subject": CUSTOMER, "upTo": 7}])
    trial = {"isActive": basis is Basis.TRIAL, "endsAt": None}
    status = SUBSCRIPTION.get(basis, "active")
    return Snapshot(
        license=license_claims(
            trial=trial,
            subscription={"status": status, "currentPeriodEnd": None},
            flags={"offlineMode": phase is not Phase.UNCONFIRMED},
            features={**license_claims().features.model_dump(mode="json"), "maxDevices": 50},
        ),
        seats=unpack_seats(
            seats_claims(
                [Seat(f"cam-{n}", f"hw-{n}", CameraMode.BASE, ("retail",)) for n in range(1, 6)],
                devices=[f"hw-{n}" for n in range(1, 6)],
            )
        ),
        revocations=listed,
    )


@pytest.mark.parametrize(("basis", "phase"), STATES)
def test_what_a_license_says_and_the_clock_decide(basis: Basis, phase: Phase) -> None:
    held = snapshot(basis, phase)
    entries = held.revocations.entries if held.revocations else ()
    assert basis_of(held.license, entries) is basis
    if held.license is not None:
        assert phase_of(held.license, WHEN[phase]) is phase
    decision = decide_mode(held.license, now=WHEN[phase], revocations=entries)
    assert decision == RULES[basis][phase]
    assert decision.allows is ALLOWS[decision.mode]


@pytest.mark.parametrize(("basis", "phase"), STATES)
def test_the_policy_goes_by_the_table(basis: Basis, phase: Phase) -> None:
    held, now = snapshot(basis, phase), WHEN[phase]
    policy = Policy(held, now, load_catalog(), ("hw-1", "hw-2", "hw-3", "hw-4"))
    allowed = ALLOWS[RULES[basis][phase].mode]
    assert policy.decision.full is allowed.full
    assert policy.max_devices == (50 if allowed.full else allowed.devices)
    assert policy.readable_days == allowed.readable_days
    cameras = {n: policy.camera(f"cam-{n}", f"hw-{n}") for n in range(1, 6)}
    if allowed.full:
        assert all(decision.allowed for decision in cameras.values())
        assert policy.licensed_models == {"person", "trolley"}
        assert cameras[5].grant.models == ("person", "trolley")
        return
    assert allowed.devices == 3
    assert [n for n, decision in cameras.items() if decision.allowed] == [1, 2, 3]
    assert "trolley" not in policy.licensed_models
    assert UPGRADE_URL in cameras[5].message
    assert cameras[5].reason == RULES[basis][phase].reason
    assert not policy.features.can_export_data


def test_every_refusal_says_where_it_is_mended() -> None:
    for rules in RULES.values():
        for decision in rules.values():
            assert decision.full or UPGRADE_URL in decision.message


def test_grace_extends_no_trial_and_no_cancellation_whatever_the_license_says() -> None:
    for basis in WITHOUT_GRACE:
        claims = snapshot(basis).license
        assert claims is not None
        assert claims.grace_seconds == 7 * DAY
        assert decide_mode(claims, now=NOW + 45 * DAY - 1).full
        assert decide_mode(claims, now=NOW + 45 * DAY).mode is LicenseMode.EXPIRED


def test_the_page_is_what_the_tables_say(tmp_path: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == render()
    fresh = tmp_path / "page.md"
    assert main([str(fresh)]) == 0
    assert main(["--check", str(fresh)]) == 0


def test_a_stale_page_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = tmp_path / "page.md"
    assert main(["--check", str(stale)]) == 1
    stale.write_text("old")
    assert main(["--check", str(stale)]) == 1
    assert "run: python -m brinkbyte.license.docs" in capsys.readouterr().err


def test_the_diagram_has_an_arrow_for_every_move() -> None:
    text = render()
    for event, table in MOVES.items():
        everywhere = set(table) == set(LicenseMode)
        for source, targets in table.items():
            for target in targets:
                arrow = f"{'any' if everywhere else source} --> {target}: "
                line = next(line for line in text.splitlines() if arrow in line)
                assert event.value in line
