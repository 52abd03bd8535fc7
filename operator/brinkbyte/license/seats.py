"""The seat list: every camera of a customer in one signed, compressed document.

Offline, who holds the newest list decides by it alone: a dictionary look-up per camera. Ten
thousand seats fit a Kubernetes Secret (1 MiB): about 370 kB.

A row is ``[camera id, hardware id, mode, packs, until]``; ``until`` is Unix seconds or null.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from brinkbyte.kit.canonical import canonical_json
from brinkbyte.license.claims import CameraMode, Grant, SeatsClaims
from brinkbyte.license.tokens import TokenError

_MAX_INFLATED_BYTES: Final = 16 * 1024 * 1024
_ROW_LENGTH: Final = 5


class Seat(NamedTuple):
    """One camera's seat.

    Attributes:
        until: Unix seconds after which the seat allows nothing (trial seats), or None.
    """

    camera_id: str
    hardware_id: str
    mode: CameraMode
    packs: tuple[str, ...]
    until: int | None = None


@dataclass(frozen=True)
class SeatList:
    """A verified seat list, ready for look-ups."""

    claims: SeatsClaims
    seats: Mapping[str, Seat]

    @property
    def sequence(self) -> int:
        """Number of the list; higher replaces lower."""
        return self.claims.seats_sequence

    def grant_of(self, camera_id: str, *, now: int) -> Grant | None:
        """Return what a camera may use, or None when it has no seat or its seat has ended."""
        seat = self.seats.get(camera_id)
        if seat is None or (seat.until is not None and seat.until <= now):
            return None
        return merge_grants(
            [
                self.claims.base,
                *(self.claims.packs[pack] for pack in seat.packs if pack in self.claims.packs),
            ]
        )


def merge_grants(grants: Iterable[Grant]) -> Grant:
    """Return the union, each name once, sorted."""
    parts = list(grants)
    return Grant(
        models=tuple(sorted({name for part in parts for name in part.models})),
        analytics=tuple(sorted({name for part in parts for name in part.analytics})),
        outputs=tuple(sorted({name for part in parts for name in part.outputs})),
    )


def pack_seats(seats: Iterable[Seat]) -> str:
    """Compress seats into the ``seats`` claim, ordered by camera id."""
    rows = [
        [seat.camera_id, seat.hardware_id, seat.mode.value, list(seat.packs), seat.until]
        for seat in sorted(seats, key=lambda seat: seat.camera_id)
    ]
    return base64.urlsafe_b64encode(zlib.compress(canonical_json(rows), 9)).rstrip(b"=").decode()


def unpack_seats(claims: SeatsClaims) -> SeatList:
    """Read the seats out of verified claims.

    Raises:
        TokenError: reason ``InvalidClaims``: the list is broken, too large, or not ``count`` long.
    """
    try:
        padded = claims.seats + "=" * (-len(claims.seats) % 4)
        inflater = zlib.decompressobj()
        data = inflater.decompress(
            base64.b64decode(padded, altchars=b"-_", validate=True), _MAX_INFLATED_BYTES
        )
        if inflater.unconsumed_tail or not inflater.eof:
            raise ValueError("truncated or larger than any of ours")
        seats = [_seat(row) for row in json.loads(data)]
    except (binascii.Error, zlib.error, ValueError, TypeError, KeyError, RecursionError) as error:
        raise TokenError(f"the seat list is broken: {error}", reason="InvalidClaims") from None
    by_camera = {seat.camera_id: seat for seat in seats}
    if len(by_camera) != claims.count or len(seats) != claims.count:
        raise TokenError("the seat list is not as long as it says", reason="InvalidClaims")
    return SeatList(claims, by_camera)


def _seat(row: object) -> Seat:
    if not isinstance(row, list) or len(row) != _ROW_LENGTH:
        raise ValueError("a row is not a seat")
    camera_id, hardware_id, mode, packs, until = row
    if not isinstance(camera_id, str) or not isinstance(hardware_id, str):
        raise ValueError("a row has no ids")
    if not isinstance(packs, list) or not all(isinstance(pack, str) for pack in packs):
        raise ValueError("a row has no packs")
    if until is not None and (not isinstance(until, int) or isinstance(until, bool)):
        raise ValueError("a row has no end")
    return Seat(camera_id, hardware_id, CameraMode(mode), tuple(packs), until)
