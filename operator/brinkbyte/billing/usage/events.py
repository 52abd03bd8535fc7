"""Events as they come in: decoded and judged one by one. Pure.

This is the hot path of the ledger: whatever is the same for many events of a batch (a quantity, a
meter, a camera) is looked at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Final
from uuid import UUID

import msgspec

from brinkbyte.catalog import Catalog
from brinkbyte.metering.batches import MAX_EVENTS, BatchError

AHEAD_MILLISECONDS: Final = 24 * 3600 * 1000
KEPT_MILLISECONDS: Final = 400 * 86_400 * 1000
COST_ATTRIBUTE: Final = "cost"
NANO: Final = 9
"""Decimals of a quantity: sums are whole numbers of billionths, and exact."""
_MAX_ATTRIBUTES: Final = 16
_ID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_ID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_QUANTITY: Final = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{0,8}[1-9])?", re.ASCII)
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}", re.ASCII)


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /api/v1/usage/batch``; ``events`` stays the bytes that were signed."""

    header: str
    events: msgspec.Raw


class RawEvent(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel", gc=False
):
    """One event before it is judged."""

    id: str
    meter: str
    quantity: str
    key: str | None = None
    camera_id: str | None = None
    hardware_id: str | None = None
    attributes: dict[str, str] = msgspec.field(default_factory=dict)


class LedgerEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that may go into the ledger.

    Attributes:
        position: its place in what was sent.
        millisecond: Unix milliseconds, of its id.
        nanos: quantity in billionths of the meter's unit.
        cost_nanos: the cost that it carries in billionths of the currency's main unit.
        content_hash: SHA-256 of the canonical event.
    """

    position: int
    event: RawEvent
    millisecond: int
    family: str
    nanos: int
    cost_nanos: int | None
    content_hash: bytes

    @property
    def id(self) -> UUID:
        """The event's id."""
        return UUID(self.event.id)

    @property
    def occurred_at(self) -> datetime:
        """The time of the id, UTC."""
        return datetime.fromtimestamp(self.millisecond / 1000, UTC)


class RejectedEvent(msgspec.Struct, frozen=True):
    """An event that is set aside, and why."""

    position: int
    raw: bytes
    event_id: str
    reason: str


class Judged(msgspec.Struct, frozen=True):
    """Good events, each id once, and the ones to set aside."""

    good: list[LedgerEvent]
    bad: list[RejectedEvent]
    arrival: Arrived


_envelopes: Final = msgspec.json.Decoder(Envelope)
_raw_lists: Final = msgspec.json.Decoder(list[msgspec.Raw])
_lists: Final = msgspec.json.Decoder(list[RawEvent])
_events: Final = msgspec.json.Decoder(RawEvent)
_canonical: Final = msgspec.json.Encoder(order="sorted")
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def parse_envelope(body: bytes) -> Envelope:
    """Read a batch's body.

    Raises:
        BatchError: reason ``MalformedBatch``.
    """
    try:
        return _envelopes.decode(body)
    except _UNREADABLE as error:
        raise _malformed(error) from None


class Arrived:
    """A JSON array of events as it came.

    Args:
        payload: the array's bytes.
        raws: the bytes of each event, where they are known.

    Raises:
        BatchError: reason ``MalformedBatch``: no array, or of more than ``MAX_EVENTS``.
    """

    def __init__(self, payload: bytes, raws: Sequence[bytes] | None = None) -> None:
        self.payload = payload
        self._raws = raws
        self.events: Sequence[RawEvent | None]
        """What was sent, None where it is no event."""
        try:
            self.events = _lists.decode(payload)
        except _UNREADABLE:
            # One that is none, or no array at all.
            _check_count(self.raws)
            self.events = [_read(raw) for raw in self.raws]
        _check_count(self.events)

    @cached_property
    def raws(self) -> Sequence[bytes]:
        """The bytes of each event."""
        if self._raws is not None:
            return self._raws
        try:
            return [bytes(raw) for raw in _raw_lists.decode(self.payload)]
        except _UNREADABLE as error:
            raise _malformed(error) from None

    @property
    def holds_nul(self) -> bool:
        """Whether a text may hold a NUL, which PostgreSQL cannot store."""
        return b"\\u0000" in self.payload or b"\0" in self.payload


def arrived(raws: Sequence[bytes]) -> Arrived:
    """Return events that came each for itself."""
    return Arrived(b"[" + b",".join(raws) + b"]", raws)


def _check_count(listed: Sequence[object]) -> None:
    if len(listed) > MAX_EVENTS:
        raise BatchError(f"a batch holds at most {MAX_EVENTS} events", reason="MalformedBatch")


def _read(raw: bytes) -> RawEvent | None:
    try:
        return _events.decode(raw)
    except _UNREADABLE:
        return None


def _malformed(error: Exception) -> BatchError:
    text = str(error).encode("ascii", "replace").decode()[:200]
    return BatchError(
        f'the body is not {{"header": "<JWS>", "events": [...]}}: {text}', reason="MalformedBatch"
    )


def nanos_of(text: str) -> int | None:
    """Return a decimal text in billionths; None: it is not in its canonical form."""
    if _QUANTITY.fullmatch(text) is None:
        return None
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(NANO, "0"))


def judge(
    arrival: Arrived, catalog: Catalog, families: Collection[str], now_milliseconds: int
) -> Judged:
    """Decide for each event whether it may go into the ledger.

    The first event of an id in a batch stands for it: copies of it are passed over, others under
    its id are set aside.

    Args:
        arrival: what was sent.
        catalog: knows the meters.
        families: product lines whose meters the emitter may report.
        now_milliseconds: Unix milliseconds of the arrival.

    Returns:
        What may go in and what is set aside. Reasons: ``InvalidEvent``, ``TooFarAhead``,
        ``TooOld``, ``UnknownMeter``, ``WrongFamily``, ``MissingCost``,
        ``DuplicateIdOtherContent``.
    """
    good: list[LedgerEvent] = []
    bad: list[RejectedEvent] = []
    first_of: dict[str, bytes] = {}
    newest, oldest = now_milliseconds + AHEAD_MILLISECONDS, now_milliseconds - KEPT_MILLISECONDS
    quantities: dict[str, int | None] = {}
    meters: dict[str, _Meter] = {}
    well_formed = _well_formed if not arrival.holds_nul else _well_formed_and_storable
    encode, sha256, accept = _canonical.encode, hashlib.sha256, good.append

    def reject(position: int, event: RawEvent | None, reason: str) -> None:
        known = event is not None and _ID.fullmatch(event.id) is not None
        name = event.id if event is not None and known else f"event-{position}"
        bad.append(RejectedEvent(position, arrival.raws[position], name, reason))

    for position, event in enumerate(arrival.events):
        if event is None:
            reject(position, event, "InvalidEvent")
            continue
        text = event.quantity
        if text in quantities:
            nanos = quantities[text]
        else:
            nanos = quantities[text] = nanos_of(text)
        event_id = event.id
        if nanos is None or _ID7.fullmatch(event_id) is None or not well_formed(event):
            reject(position, event, "InvalidEvent")
            continue
        millisecond = int(event_id[:8] + event_id[9:13], 16)
        if not oldest <= millisecond <= newest:
            reject(position, event, "TooOld" if millisecond < oldest else "TooFarAhead")
            continue
        meter = meters.get(event.meter)
        if meter is None:
            meter = meters[event.meter] = _meter(catalog, families, event.meter)
        if meter.refused:
            reject(position, event, meter.refused)
            continue
        cost = None
        if meter.carries_cost:
            cost = nanos_of(event.attributes.get(COST_ATTRIBUTE, ""))
            if cost is None:
                reject(position, event, "MissingCost")
                continue
        content_hash = sha256(encode(event)).digest()
        first = first_of.setdefault(event_id, content_hash)
        if first is content_hash:
            accept(
                LedgerEvent(position, event, millisecond, meter.family, nanos, cost, content_hash)
            )
        elif first != content_hash:
            reject(position, event, "DuplicateIdOtherContent")
    return Judged(good, bad, arrival)


class _Meter(msgspec.Struct, frozen=True):
    family: str = ""
    carries_cost: bool = False
    refused: str = ""


def _meter(catalog: Catalog, families: Collection[str], name: str) -> _Meter:
    found = catalog.meters.get(name)
    if found is None:
        return _Meter(refused="UnknownMeter")
    if found.family not in families:
        return _Meter(refused="WrongFamily")
    return _Meter(found.family, found.pass_through is not None)


def _well_formed(event: RawEvent) -> bool:
    """Check what ``metering.events.UsageEvent`` asks for, but for id and quantity."""
    if not 0 < len(event.meter) <= 128:
        return False
    name = event.key
    if name is not None and not 0 < len(name) <= 200:
        return False
    name = event.camera_id
    if name is not None and not 0 < len(name) <= 128:
        return False
    name = event.hardware_id
    if name is not None and not 0 < len(name) <= 128:
        return False
    attributes = event.attributes
    if not attributes:
        return True
    return len(attributes) <= _MAX_ATTRIBUTES and all(
        _ATTRIBUTE.fullmatch(name) is not None and len(value) <= 400
        for name, value in attributes.items()
    )


def _well_formed_and_storable(event: RawEvent) -> bool:
    texts = (event.meter, event.key, event.camera_id, event.hardware_id, *event.attributes.values())
    return _well_formed(event) and not any(text is not None and "\0" in text for text in texts)
