"""The offline clock of a running process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.license.clock import ClockState
from brinkbyte.store.following import RunningClock
from support.licensing import DAY, NOW

pytestmark = pytest.mark.unit
SECONDS = st.integers(0, 400 * DAY)


class Machine:
    """A machine whose clocks a test turns."""

    def __init__(self) -> None:
        self.wall, self.ran = float(NOW), 1000.0
        self.clock = RunningClock(wall=lambda: self.wall, monotonic=lambda: self.ran)


@given(ran=SECONDS, back=SECONDS, signed=SECONDS)
def test_a_wall_clock_turned_back_gains_nothing(ran: int, back: int, signed: int) -> None:
    machine = Machine()
    machine.clock.signed(NOW - signed)
    machine.ran += ran
    machine.wall = NOW - back
    assert machine.clock.now() == max(NOW - back, NOW - signed + ran)
    assert machine.clock.now() == machine.clock.state.now(int(machine.wall))


@given(ran=SECONDS, ahead=SECONDS)
def test_a_jump_forward_ends_when_the_clock_is_right_again(ran: int, ahead: int) -> None:
    machine = Machine()
    machine.clock.signed(NOW)
    machine.ran += ran
    machine.wall = NOW + ran + ahead
    assert machine.clock.now() == NOW + ran + ahead
    machine.wall = NOW + ran
    assert machine.clock.now() == NOW + ran


def test_an_older_document_changes_nothing_and_a_newer_one_begins_anew() -> None:
    machine = Machine()
    machine.clock.signed(NOW)
    machine.ran += 100.9
    machine.clock.signed(NOW - DAY)
    machine.ran += 0.2
    # Fractions add up: what is not newer does not begin anew.
    assert machine.clock.state == ClockState(signed_time=NOW, running_seconds=101)
    machine.clock.signed(NOW + 5)
    assert machine.clock.state == ClockState(signed_time=NOW + 5, running_seconds=0)


@pytest.mark.parametrize(
    ("kept", "ahead"),
    [((NOW, 50), False), ((NOW, 200), True), ((NOW - 1, 10**6), False), ((NOW + 1, 0), True)],
)
def test_what_was_kept_counts_when_it_is_ahead(kept: tuple[int, int], ahead: bool) -> None:
    machine = Machine()
    machine.clock.signed(NOW)
    machine.ran += 100
    before = machine.clock.state
    found = ClockState(signed_time=kept[0], running_seconds=kept[1])
    machine.clock.merge(found)
    assert machine.clock.state == (found if ahead else before)
