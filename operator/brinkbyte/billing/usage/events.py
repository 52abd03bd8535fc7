"""Events as they come in: decoded and judged one by one. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from brinkbyte.catalog import Catalog
from brinkbyte.kit.uuid7 import is_uuid7, millisecond_of
from brinkbyte.metering.batches import BatchError

AHEAD_MILLISECONDS: Final = 24 * 3600 * 1000
KEPT_MILLISECONDS: Final = 400 * 86_400 * 1000
COST_ATTRIBUTE: Final = "cost"
_MAX_ATTRIBUTES: Final = 16
_ID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_QUANTITY: Final = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{0,8}[1-9])?")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /api/v1/usage/batch``; ``events`` stays the bytes that were signed."""

    header: str
    events: msgspec.Raw


class RawEvent(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """One event before it is judged."""

    id: str
    meter: str
    quantity: str
    key: str | None = None
    camera_id: str | None = None
    hardware_id: str | None = None
    attributes: dict[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """An event that may go into the ledger; ``position`` is its place in what was sent."""

    position: int
    raw: bytes
    id: UUID
    occurred_at: datetime
    meter: str
    family: str
    quantity: Decimal
    cost: Decimal | None
    key: str | None
    camera_id: str | None
    hardware_id: str | None
    attributes: str
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that is set aside, and why."""

    position: int
    raw: bytes
    event_id: str
    reason: str


_envelopes: Final = msgspec.json.Decoder(Envelope)
_lists: Final = msgspec.json.Decoder(list[msgspec.Raw])
_events: Final = msgspec.json.Decoder(RawEvent)
_canonical: Final = msgspec.json.Encoder(order="sorted")


def parse_envelope(body: bytes) -> Envelope:
    """Read a batch's body.

    Raises:
        BatchError: reason ``MalformedBatch``.
    """
    try:
        return _envelopes.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _malformed(error) from None


def split_events(payload: bytes) -> list[bytes]:
    """Return the bytes of each event.

    Raises:
        BatchError: reason ``MalformedBatch``.
    """
    try:
        return [bytes(raw) for raw in _lists.decode(payload)]
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> BatchError:
    text = str(error).encode("ascii", "replace").decode()[:200]
    return BatchError(
        f'the body is not {{"header": "<JWS>", "events": [...]}}: {text}', reason="MalformedBatch"
    )


def judge(
    raws: Iterable[bytes], catalog: Catalog, families: Collection[str], now_milliseconds: int
) -> tuple[list[LedgerEvent], list[RejectedEvent]]:
    """Decide for each event whether it may go into the ledger.

    Args:
        raws: bytes of each event.
        catalog: knows the meters.
        families: product lines whose meters the emitter may report.
        now_milliseconds: Unix milliseconds.

    Returns:
        Good events, each id once, and the ones to set aside. Reasons: ``InvalidEvent``,
        ``TooFarAhead``, ``TooOld``, ``UnknownMeter``, ``WrongFamily``, ``MissingCost``,
        ``DuplicateIdOtherContent``.
    """
    good: dict[UUID, LedgerEvent] = {}
    bad: list[RejectedEvent] = []
    for position, raw in enumerate(raws):
        outcome = _judge(position, raw, catalog, families, now_milliseconds)
        if isinstance(outcome, RejectedEvent):
            bad.append(outcome)
            continue
        first = good.setdefault(outcome.id, outcome)
        if first.content_hash != outcome.content_hash:
            bad.append(RejectedEvent(position, raw, str(outcome.id), "DuplicateIdOtherContent"))
    return list(good.values()), bad


def _judge(
    position: int, raw: bytes, catalog: Catalog, families: Collection[str], now: int
) -> LedgerEvent | RejectedEvent:
    try:
        event = _events.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return RejectedEvent(position, raw, f"event-{position}", "InvalidEvent")
    known_id = _ID.fullmatch(event.id) is not None

    def reject(reason: str) -> RejectedEvent:
        return RejectedEvent(position, raw, event.id if known_id else f"event-{position}", reason)

    if not known_id or not _well_formed(event):
        return reject("InvalidEvent")
    event_id = UUID(event.id)
    if not is_uuid7(event_id):
        return reject("InvalidEvent")
    millisecond = millisecond_of(event_id)
    if millisecond > now + AHEAD_MILLISECONDS:
        return reject("TooFarAhead")
    if millisecond < now - KEPT_MILLISECONDS:
        return reject("TooOld")
    meter = catalog.meters.get(event.meter)
    if meter is None:
        return reject("UnknownMeter")
    if meter.family not in families:
        return reject("WrongFamily")
    cost = None
    if meter.pass_through is not None:
        text = event.attributes.get(COST_ATTRIBUTE, "")
        if not _QUANTITY.fullmatch(text):
            return reject("MissingCost")
        cost = Decimal(text)
    return LedgerEvent(
        position=position,
        raw=raw,
        id=event_id,
        occurred_at=datetime.fromtimestamp(millisecond / 1000, UTC),
        meter=event.meter,
        family=meter.family,
        quantity=Decimal(event.quantity),
        cost=cost,
        key=event.key,
        camera_id=event.camera_id,
        hardware_id=event.hardware_id,
        attributes=json.dumps(event.attributes, ensure_ascii=False),
        content_hash=hashlib.sha256(_canonical.encode(event)).digest(),
    )


def _well_formed(event: RawEvent) -> bool:
    """Check what ``metering.events.UsageEvent`` asks for, and that PostgreSQL can hold it."""
    if not _QUANTITY.fullmatch(event.quantity) or len(event.attributes) > _MAX_ATTRIBUTES:
        return False
    if not _fits(event.meter, 128) or (event.key is not None and not _fits(event.key, 200)):
        return False
    if any(
        name is not None and not _fits(name, 128) for name in (event.camera_id, event.hardware_id)
    ):
        return False
    return all(
        _ATTRIBUTE.fullmatch(name) is not None and len(value) <= 400 and "\0" not in value
        for name, value in event.attributes.items()
    )


def _fits(text: str, longest: int) -> bool:
    return 0 < len(text) <= longest and "\0" not in text
