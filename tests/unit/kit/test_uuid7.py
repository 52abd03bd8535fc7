"""UUIDv7: in the order of time, and never far from the clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.kit.uuid7 import (
    MAX_MILLISECOND,
    Uuid7Generator,
    first_of,
    from_parts,
    is_uuid7,
    millisecond_of,
    uuid7,
)

pytestmark = pytest.mark.unit


def generator(milliseconds: list[int]) -> Uuid7Generator:
    clock: Iterator[int] = iter(milliseconds)
    return Uuid7Generator(lambda: next(clock) * 1_000_000)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_ids_only_grow_while_the_clock_steps_back_a_little(steps: list[int]) -> None:
    make = generator([1_700_000_000_000 + step for step in steps])
    ids = [make() for _ in steps]
    assert ids == sorted(set(ids))
    assert all(is_uuid7(value) for value in ids)
    assert millisecond_of(ids[0]) == 1_700_000_000_000 + steps[0]
    assert millisecond_of(ids[-1]) == 1_700_000_000_000 + max(steps)


@given(st.lists(st.integers(0, MAX_MILLISECOND - 10), min_size=1, max_size=200))
def test_ids_differ_and_stay_near_the_clock_however_it_jumps(milliseconds: list[int]) -> None:
    make = generator(milliseconds)
    ids = [make() for _ in milliseconds]
    assert len(set(ids)) == len(ids)
    assert all(
        0 <= millisecond_of(value) - now <= 10_000
        for value, now in zip(ids, milliseconds, strict=True)
    )


def test_a_month_ahead_for_a_minute_ends_with_the_minute() -> None:
    month, minute = 30 * 86_400_000, 60_000
    make = generator([0, month, month + minute, minute, minute, minute + 1])
    times = [millisecond_of(make()) for _ in range(6)]
    assert times == [0, month, month + minute, minute, minute, minute + 1]


def test_a_hundred_thousand_ids_of_one_process_differ() -> None:
    assert len({uuid7() for _ in range(100_000)}) == 100_000


def test_layout_is_that_of_rfc_9562() -> None:
    # The example of RFC 9562, appendix A.6.
    value = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    assert millisecond_of(value) == 0x017F22E279B0
    assert first_of(0x017F22E279B0) <= value < first_of(0x017F22E279B1)


def test_what_is_no_uuid7_has_no_time() -> None:
    with pytest.raises(ValueError, match="not a UUIDv7"):
        millisecond_of(uuid4())
    with pytest.raises(ValueError, match="48 bits"):
        first_of(MAX_MILLISECOND + 1)
    with pytest.raises(ValueError, match="74 bits"):
        from_parts(0, -1)


@given(st.lists(st.integers(-20_000, 20_000), max_size=300), st.integers(0, 2**32))
def test_ids_in_bulk_are_those_of_single_calls(steps: list[int], start: int) -> None:
    times = [10**12 + start]
    for step in steps:
        times.append(times[-1] + step)
    clock = iter(times)
    single = Uuid7Generator(lambda: next(clock) * 1_000_000)
    bulk = Uuid7Generator()
    ones = [single() for _ in times]
    many = [UUID(text) for text in bulk.texts(times)]
    assert [millisecond_of(one) for one in many] == [millisecond_of(one) for one in ones]
    assert [str(one) for one in many] == bulk_text(many)
    assert all(is_uuid7(one) for one in many)
    for before, after in pairwise(many):
        # Only a clock that is put right makes them go back.
        assert after > before or millisecond_of(after) < millisecond_of(before) - 10_000


def bulk_text(ids: list[UUID]) -> list[str]:
    return [str(UUID(int=one.int)) for one in ids]


def test_a_counter_that_overflows_takes_the_next_millisecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = Uuid7Generator()
    monkeypatch.setattr("secrets.randbits", lambda bits: (1 << bits) - 1)
    monkeypatch.setattr("secrets.token_bytes", lambda size: b"\xff" * size)
    (first,) = generator.texts([5])
    generator._tail = (1 << 74) - 2
    second, third = generator.texts([5, 5])
    assert [millisecond_of(UUID(text)) for text in (first, second, third)] == [5, 6, 6]
    assert first < second < third
