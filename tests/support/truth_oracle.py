"""What must be in the ledger in the end, and what is wrong with it: pure, and able to say no.

The truth is the callers' own: an event whose commit was acknowledged is billed once. It may be
missing only when no copy of it is left anywhere, which is settled at the moment a disk dies: what
was on that disk, on no other and not in the ledger is lost, id by id. What the disk had marked as
acknowledged cannot be lost in this way.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

from brinkbyte.kit.uuid7 import millisecond_of
from brinkbyte.metering.events import UsageEvent

Wire: TypeAlias = dict[str, Any]
_GRAINS: Final = {
    "minute": {"second": 0, "microsecond": 0},
    "hour": {"minute": 0, "second": 0, "microsecond": 0},
    "day": {"hour": 0, "minute": 0, "second": 0, "microsecond": 0},
}


@dataclass(frozen=True)
class DiskView:
    """What an instance's database holds.

    Attributes:
        events: by id.
        acknowledged: ids of events that it marks as acknowledged.
        receipts: of its batches, by chain hash; None: no receipt.
    """

    events: dict[str, Wire]
    acknowledged: set[str]
    receipts: dict[str, str | None]

    @property
    def ids(self) -> set[str]:
        return set(self.events)


@dataclass(frozen=True)
class LedgerView:
    """What the billing database holds of one customer, rows as they are stored."""

    events: list[Wire]
    aggregates: list[Wire]
    batches: list[Wire]
    epochs: list[Wire]
    quarantined: int = 0
    alarms: int = 0

    @property
    def ids(self) -> set[str]:
        return {str(row["id"]) for row in self.events}


@dataclass
class Truth:
    """One customer's events.

    Attributes:
        tried: every event that was begun, by id.
        answered: its commit was acknowledged to the caller.
        undone: its transaction was rolled back.
        lost: the last copy went with a disk; says which.
        perhaps: lost, but in a request on its way as the disk died: there once or not at all.
        waiting: taken from the ledger by its restore; a disk still has it.
        broken: promises seen broken on the way.
    """

    tried: dict[str, Wire] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    lost: dict[str, str] = field(default_factory=dict)
    perhaps: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def read(self, files: Iterable[Path]) -> None:
        """Read what generators wrote; a torn last line counts as not written."""
        for path in files:
            for line in path.read_bytes().split(b"\n")[:-1]:
                ((what, listed),) = json.loads(line).items()
                if what == "try":
                    self.tried.update({event["id"]: event for event in listed})
                elif what == "ok":
                    self.answered.update(listed)
                else:
                    self.undone.update(listed)

    def destroyed(
        self,
        name: str,
        disk: DiskView,
        *,
        elsewhere: AbstractSet[str],
        ledger: AbstractSet[str],
        pending: AbstractSet[str],
    ) -> set[str]:
        """Note that a disk died; returns what is lost with it.

        Args:
            name: of the disk.
            disk: what was on it when nobody wrote any more.
            elsewhere: ids on disks that live, and on what takes its place.
            ledger: ids in the ledger, read after ``pending``.
            pending: ids in requests on their way.
        """
        self.waiting -= ledger
        self._marked(name, disk, ledger)
        gone = disk.ids - elsewhere - ledger
        self.lost.update(dict.fromkeys(gone, name))
        self.perhaps |= gone & pending
        self._back(elsewhere, "another disk")
        return gone

    def restored(
        self,
        before: AbstractSet[str],
        after: AbstractSet[str],
        *,
        on_disks: AbstractSet[str],
        pending: AbstractSet[str],
    ) -> set[str]:
        """Note that the billing database became an older one; returns what is lost with it."""
        vanished = before - after
        self.waiting = (self.waiting - before | vanished) - after
        gone = vanished - on_disks
        self.lost.update(dict.fromkeys(gone, "the billing database"))
        self.perhaps |= gone & pending
        self._back(after, "the ledger's backup")
        return gone

    def _back(self, ids: AbstractSet[str], _where: str) -> None:
        for event_id in ids & self.lost.keys():
            del self.lost[event_id]
            self.perhaps.discard(event_id)

    def _marked(self, name: str, disk: DiskView, ledger: AbstractSet[str]) -> None:
        false = disk.acknowledged - ledger - self.waiting
        if false:
            self.broken.append(
                f"{name} marks {len(false)} events as acknowledged that the ledger never had or "
                f"lost by itself: {sorted(false)[:3]}"
            )


@dataclass(frozen=True)
class Findings:
    """What is wrong; all empty when the promise was kept.

    Attributes:
        missing: acknowledged to a caller or on a disk, not in the ledger, not provably lost.
        invented: in the ledger, but nobody ever began it.
        undone: in the ledger, but its work was rolled back.
        doubled: ids that are there more than once.
        altered: the ledger says something else than the caller.
        risen: provably lost, yet there: the account of losses is wrong.
        unreceipted: in the ledger under no verified receipt.
        sums: aggregates that are not the sum of the ledger's events.
        chain: breaks in the chains of batches.
        disks: what a disk holds without a receipt, or with another receipt than the ledger's.
        broken: promises seen broken on the way.
    """

    missing: frozenset[str] = frozenset()
    invented: frozenset[str] = frozenset()
    undone: frozenset[str] = frozenset()
    doubled: frozenset[str] = frozenset()
    altered: frozenset[str] = frozenset()
    risen: frozenset[str] = frozenset()
    unreceipted: frozenset[str] = frozenset()
    sums: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def kinds(self) -> dict[str, int]:
        """How many of each kind there are, without the empty ones."""
        counts = {name: len(getattr(self, name)) for name in self.__dataclass_fields__}
        return {name: count for name, count in counts.items() if count}


def examine(
    truth: Truth,
    ledger: LedgerView,
    disks: Mapping[str, DiskView],
    verified: AbstractSet[tuple[str, int]],
) -> Findings:
    """Hold the ledger against the truth, event by event, with everything up and quiet.

    Args:
        truth: all generators' files are read.
        ledger: the customer's.
        disks: the customer's live databases by name.
        verified: batches (epoch, number) whose stored receipt the vendor's key signed for them.
    """
    counts = Counter(str(row["id"]) for row in ledger.events)
    on_disks = set().union(*(disk.ids for disk in disks.values()))
    must = (truth.answered | on_disks) - truth.lost.keys()
    known = truth.tried.keys()
    by_id = {str(row["id"]): row for row in ledger.events}
    return Findings(
        missing=frozenset(must - counts.keys()),
        invented=frozenset(counts.keys() - known),
        undone=frozenset(truth.undone & (counts.keys() | on_disks)),
        doubled=frozenset(event_id for event_id, count in counts.items() if count > 1),
        altered=frozenset(
            event_id
            for event_id in by_id.keys() & known
            if not _same(truth.tried[event_id], by_id[event_id])
        ),
        risen=frozenset((truth.lost.keys() - truth.perhaps) & counts.keys()),
        unreceipted=frozenset(
            event_id
            for event_id, row in by_id.items()
            if (str(row["epoch"]), row["batch_no"]) not in verified
        ),
        sums=tuple(_sums(ledger)),
        chain=tuple(_chain(ledger)),
        disks=tuple(_disks(disks, ledger, counts.keys())),
        broken=tuple(truth.broken),
    )


def _same(tried: Wire, row: Wire) -> bool:
    """Compare each member, and the hash that is computed here, not there."""
    event = UsageEvent.model_validate(tried)
    cost = event.attributes.get("cost")
    return (
        row["meter"] == event.meter
        and row["family"] == event.meter.partition(".")[0]
        and row["quantity"] == Decimal(event.quantity)
        and row["cost"] == (None if cost is None else Decimal(cost))
        and row["key"] == event.key
        and row["camera_id"] == event.camera_id
        and row["hardware_id"] == event.hardware_id
        and row["attributes"] == event.attributes
        and row["occurred_at"] == _moment(event.id)
        and bytes(row["content_hash"]).hex() == event.content_hash
    )


def _moment(event_id: str) -> datetime:
    return datetime.fromtimestamp(millisecond_of(UUID(event_id)) / 1000, UTC)


def _sums(ledger: LedgerView) -> Iterable[str]:
    """Sum the events anew, from the ids' own times."""
    groups: dict[tuple[str, str, datetime], list[Wire]] = defaultdict(list)
    for row in ledger.events:
        at = _moment(str(row["id"]))
        for grain, zeros in _GRAINS.items():
            groups[grain, row["meter"], at.replace(**zeros)].append(row)  # type: ignore[arg-type]  # members of a datetime
    expected = {}
    for place, rows in groups.items():
        last = max(rows, key=lambda row: str(row["id"]))
        expected[place] = (
            sum((row["quantity"] for row in rows), Decimal(0)),
            len(rows),
            sum((row["cost"] or Decimal(0) for row in rows), Decimal(0)),
            last["quantity"],
            str(last["id"]),
        )
    found: dict[tuple[str, str, datetime], tuple[Any, ...]] = {}
    for row in ledger.aggregates:
        place = (row["grain"], row["meter"], row["bucket"])
        if place in found:
            yield f"{place} is there twice"
        found[place] = (
            row["quantity"],
            row["events"],
            row["cost"],
            row["last_quantity"],
            str(row["last_id"]),
        )
    for place in expected.keys() | found.keys():
        if expected.get(place) != found.get(place):
            yield f"{place}: {found.get(place)} is not {expected.get(place)}"


def _chain(ledger: LedgerView) -> Iterable[str]:
    epochs = {str(row["epoch"]): row for row in ledger.epochs}
    batches: dict[str, list[Wire]] = defaultdict(list)
    for row in ledger.batches:
        batches[str(row["epoch"])].append(row)
    open_ones = Counter(row["instance_id"] for row in ledger.epochs if row["state"] == "open")
    for instance, count in open_ones.items():
        if count > 1:
            yield f"instance {instance} has {count} open epochs"
    for epoch, row in epochs.items():
        held = sorted(batches.pop(epoch, ()), key=lambda batch: batch["batch_no"])
        if [batch["batch_no"] for batch in held] != list(range(1, row["last_batch_no"] + 1)):
            yield f"epoch {epoch} has gaps"
            continue
        if bytes(held[-1]["chain_hash"]) != bytes(row["last_chain_hash"]):
            yield f"epoch {epoch} ends elsewhere"
        for before, after in itertools.pairwise(held):
            if bytes(after["previous_hash"]) != bytes(before["chain_hash"]):
                yield f"epoch {epoch} breaks before batch {after['batch_no']}"
    if batches:
        yield f"batches of unknown epochs: {sorted(batches)}"
    inserted = sum(row["inserted"] for row in ledger.batches)
    if inserted != len(ledger.events):
        yield f"batches inserted {inserted} events, the ledger has {len(ledger.events)}"
    if ledger.quarantined:
        yield f"{ledger.quarantined} events are set aside"


def _disks(
    disks: Mapping[str, DiskView], ledger: LedgerView, billed: AbstractSet[str]
) -> Iterable[str]:
    stored = {bytes(row["chain_hash"]).hex(): row["receipt"] for row in ledger.batches}
    for name, disk in disks.items():
        waiting = disk.ids - disk.acknowledged
        if waiting:
            yield f"{name}: {len(waiting)} events without a receipt"
        false = disk.acknowledged - billed
        if false:
            yield f"{name}: {len(false)} events marked as acknowledged, not in the ledger"
        for chain_hash, receipt in disk.receipts.items():
            if receipt is not None and stored.get(chain_hash) != receipt:
                yield f"{name}: the receipt of {chain_hash[:12]} is not the ledger's"


def describe(findings: Sequence[tuple[str, Findings]]) -> str:
    """Say what is wrong, with examples."""
    lines = []
    for customer, found in findings:
        for name, count in found.kinds.items():
            lines.append(f"{customer}: {count} {name}: {sorted(getattr(found, name))[:5]}")
    return "\n".join(lines)
