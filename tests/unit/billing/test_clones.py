"""When two clusters are one instance's move, and when they are two copies of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.clones.service import Sighting, other_cluster

pytestmark = pytest.mark.unit
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def sighting(name: str, last: datetime, first: datetime | None = None) -> Sighting:
    return Sighting(name, first or ago(days=30), last)


@pytest.mark.parametrize(
    ("seen", "other"),
    [
        ([], None),
        ([sighting("a", ago(minutes=5))], None),
        # Another cluster, while the first is alive.
        ([sighting("b", ago(minutes=59))], "b"),
        # Restored elsewhere after the first has been silent: a move.
        ([sighting("b", ago(minutes=61))], None),
        ([sighting("a", ago(minutes=5)), sighting("b", ago(hours=2))], None),
        # The first comes back after the move, whenever that is.
        ([sighting("a", ago(days=9)), sighting("b", ago(days=8))], "b"),
        ([sighting("a", ago(minutes=5)), sighting("b", ago(minutes=4))], "b"),
        # Of several the one that was seen last is named.
        ([sighting("b", ago(minutes=50)), sighting("c", ago(minutes=3))], "c"),
    ],
)
def test_two_clusters_are_told_from_a_move(seen: list[Sighting], other: str | None) -> None:
    found = other_cluster(seen, "a", NOW)
    assert (None if found is None else found.fingerprint) == other


def test_what_was_acknowledged_raises_nothing_and_what_comes_after_does() -> None:
    seen = [sighting("a", ago(minutes=9)), sighting("b", ago(minutes=4))]
    assert other_cluster(seen, "a", NOW, ago(minutes=3)) is None
    assert other_cluster(seen, "a", NOW, ago(minutes=5)) is not None


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=30), st.integers(1, 100))
def test_a_cluster_that_returns_is_always_noticed_and_one_alone_never(
    beats: list[str], hours: int
) -> None:
    """However far apart: a, b, a is two; a then b, hours later, is a move."""
    seen: dict[str, Sighting] = {}
    for number, name in enumerate(beats):
        now = NOW + timedelta(hours=hours * 2 * number)
        found = other_cluster(seen.values(), name, now)
        returned = name in seen and beats[number - 1] != name
        assert (found is not None) == returned
        first = seen[name].first_seen_at if name in seen else now
        seen[name] = Sighting(name, first, now)
