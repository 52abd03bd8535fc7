"""The seat list: a dictionary look-up offline, ten thousand seats in one Secret."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.license.claims import CameraMode, Grant, TokenKind
from brinkbyte.license.seats import Seat, merge_grants, pack_seats, unpack_seats
from brinkbyte.license.tokens import TokenError, sign
from support.licensing import NOW, seats_claims, vendor

pytestmark = pytest.mark.unit
SECRET_BYTES = 1024 * 1024

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,30}", fullmatch=True)
seat_lists = st.lists(
    st.builds(
        Seat,
        camera_id=ids,
        hardware_id=ids,
        mode=st.sampled_from(CameraMode),
        packs=st.lists(st.sampled_from(["retail", "mining"]), unique=True).map(tuple),
        until=st.none() | st.integers(0, 2**40),
    ),
    unique_by=lambda seat: seat.camera_id,
    max_size=30,
)


@given(seat_lists)
def test_every_seat_comes_back(seats: list[Seat]) -> None:
    listed = unpack_seats(seats_claims(seats))
    assert listed.seats == {seat.camera_id: seat for seat in seats}


def test_a_seat_grants_base_and_its_packs_until_it_ends() -> None:
    listed = unpack_seats(
        seats_claims(
            [
                Seat("cam-1", "hw-1", CameraMode.BASE, ("retail",)),
                Seat("cam-2", "hw-1", CameraMode.TRIAL, (), until=NOW + 10),
            ]
        )
    )
    grant = listed.grant_of("cam-1", now=NOW)
    assert grant is not None
    assert grant.models == ("person", "trolley")
    assert listed.grant_of("cam-2", now=NOW + 9) is not None
    assert listed.grant_of("cam-2", now=NOW + 10) is None
    assert listed.grant_of("cam-3", now=NOW) is None


def test_a_pack_the_list_does_not_describe_grants_nothing() -> None:
    listed = unpack_seats(seats_claims([Seat("cam-1", "hw-1", CameraMode.BASE, ("unknown",))]))
    assert listed.grant_of("cam-1", now=NOW) == listed.claims.base


def test_ten_thousand_seats_fit_a_secret() -> None:
    seats = [
        Seat(
            f"warehouse-{n % 40:02}-camera-{n:05}", f"hw-{n % 100:03}", CameraMode.BASE, ("retail",)
        )
        for n in range(10_000)
    ]
    claims = seats_claims(seats)
    token = sign(claims, vendor().keys[TokenKind.SEATS])
    assert len(token) < SECRET_BYTES / 2
    assert len(unpack_seats(claims).seats) == 10_000


def packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "!",
        "AAAA",
        packed(zlib.compress(b"[")),
        packed(zlib.compress(b"{}")),
        packed(zlib.compress(b"[1]")),
        packed(zlib.compress(b"[[1,2,3,4,5]]")),
        packed(zlib.compress(b'[["a","b","other",[],null]]')),
        packed(zlib.compress(b'[["a","b","base",[1],null]]')),
        packed(zlib.compress(b'[["a","b","base",[],true]]')),
        packed(zlib.compress(b'[["a","b","base",[],null],["a","c","base",[],null]]')),
        packed(zlib.compress(b"[" * 100_000)),
        packed(zlib.compress(b" " * (17 * 1024 * 1024))),
        packed(zlib.compress(b"[]")[:-3]),
    ],
)
def test_a_broken_list_is_refused(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        unpack_seats(seats_claims([], seats=text, count=1))
    assert caught.value.reason == "InvalidClaims"


def test_a_list_shorter_than_it_says_is_refused() -> None:
    claims = seats_claims([Seat("a", "b", CameraMode.BASE, ())], count=2)
    with pytest.raises(TokenError, match="not as long"):
        unpack_seats(claims)


grants = st.builds(
    Grant,
    models=st.lists(st.sampled_from("abcd")).map(tuple),
    analytics=st.lists(st.sampled_from("efg")).map(tuple),
    outputs=st.lists(st.sampled_from("hi")).map(tuple),
)


@given(st.lists(grants), st.lists(grants))
def test_merging_is_a_union_in_any_order(left: list[Grant], right: list[Grant]) -> None:
    both = merge_grants([*left, *right])
    assert both == merge_grants([*right, *left]) == merge_grants([merge_grants(left), *right])
    assert set(both.models) == {name for part in [*left, *right] for name in part.models}


def test_packing_does_not_depend_on_order() -> None:
    seats = [Seat(name, "hw", CameraMode.BASE, ()) for name in "abc"]
    assert pack_seats(seats) == pack_seats(reversed(seats))
