"""When the next pass over a crowd begins."""

from __future__ import annotations

import pytest

from brinkbyte.controller.gathering import Gathering
from brinkbyte.controller.roster import Crew

pytestmark = pytest.mark.unit


def test_a_pass_that_left_nothing_is_followed_at_once() -> None:
    assert Gathering().seconds(Crew(), 5.0) == 0.0


def test_the_more_there_are_the_longer_newcomers_wait_for_each_other() -> None:
    for count, seconds in ((10, 0.003), (500, 0.15)):
        gathering, some = Gathering(), Crew()
        some.heard = 1
        gathering.begin(count, begun=100.0)
        assert gathering.seconds(some, 100.0) == pytest.approx(seconds)
        assert gathering.seconds(some, 100.0 + seconds) == 0.0


def test_nobody_waits_longer_than_they_keep_coming() -> None:
    gathering, some = Gathering(), Crew()
    gathering.begin(10_000, begun=100.0)
    for tenth in range(10):
        some.heard += 1
        assert gathering.seconds(some, 100.0 + tenth / 10) == pytest.approx(0.25)
    assert gathering.seconds(some, 101.1) == pytest.approx(0.05)
    assert gathering.seconds(some, 101.15) == 0.0


def test_who_keeps_coming_is_not_waited_for_for_ever() -> None:
    gathering, some = Gathering(), Crew()
    gathering.begin(10_000, begun=100.0)
    waits = []
    for tenth in range(60):
        some.heard += 1
        waits.append(gathering.seconds(some, 100.0 + tenth / 10))
    assert waits.index(0.0) == 30


def test_a_secret_that_was_tampered_with_waits_for_nobody() -> None:
    gathering, some = Gathering(), Crew()
    gathering.begin(10_000, begun=100.0)
    some.heard, some.tampered = 1, {"1"}
    assert gathering.seconds(some, 100.0) == 0.0
