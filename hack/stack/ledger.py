"""Hold the ledger against the truth: the generator's own list of keys, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from brinkbyte.license.claims import ReceiptClaims
from brinkbyte.license.keys import PublicJwk
from brinkbyte.license.tokens import TokenError, verify
from stack.traffic import Outcome

Batch: TypeAlias = tuple[str, int]
"""Epoch and number."""


@dataclass(frozen=True)
class Comparison:
    """Sets of keys that should be empty, and how many were compared.

    An event without a key goes by its own id: nobody asked for it, so it is invented. The daily
    snapshots of a site's gauges are its own: counted in none of the numbers, but they too are under
    a receipt, and none is there twice.

    Attributes:
        lost: answered 2xx, not in the ledger.
        doubled: more than one event of the ledger carries the key.
        invented: in the ledger, but neither answered nor unanswered.
        unreceipted: in the ledger under no receipt.
    """

    answered: int
    in_ledger: int
    unanswered_in_ledger: int
    lost: frozenset[str]
    doubled: frozenset[str]
    invented: frozenset[str]
    unreceipted: frozenset[str]

    @property
    def exact(self) -> bool:
        """Nothing lost, doubled, invented or without a receipt."""
        return not (self.lost or self.doubled or self.invented or self.unreceipted)


def verified_receipts(
    batches: Iterable[Mapping[str, Any]], keys: Mapping[str, PublicJwk], *, now: int
) -> set[Batch]:
    """Return the batches whose receipt the vendor's receipt key signed."""
    found: set[Batch] = set()
    for batch in batches:
        try:
            receipt = verify(batch["receipt"], ReceiptClaims, keys, now=now)
        except TokenError:
            continue
        if receipt.chain_hash == batch["chainHash"]:
            found.add((receipt.epoch, receipt.batch_no))
    return found


def compare(
    outcome: Outcome, events: Iterable[Mapping[str, Any]], receipts: Container[Batch]
) -> Comparison:
    """Compare keys one by one.

    Args:
        outcome: what the generator saw.
        events: the ledger's events, as ``brinkbyte billing admin ledger --json`` prints them.
        receipts: batches under a verified receipt, see :func:`verified_receipts`.
    """
    billed = [(str(event.get("key") or event["id"]), event) for event in events]
    counts = Counter(key for key, _ in billed)
    own = {key for key, event in billed if _is_snapshot(key, event)}
    known = outcome.answered | outcome.unanswered | own
    return Comparison(
        answered=len(outcome.answered),
        in_ledger=sum(key not in own for key, _ in billed),
        unanswered_in_ledger=len(outcome.unanswered & counts.keys()),
        lost=frozenset(outcome.answered - counts.keys()),
        doubled=frozenset(key for key, count in counts.items() if count > 1),
        invented=frozenset(counts.keys() - known),
        unreceipted=frozenset(
            key for key, event in billed if (event["epoch"], event["batchNo"]) not in receipts
        ),
    )


def _is_snapshot(key: str, event: Mapping[str, Any]) -> bool:
    """Tell whether an event is what the instance records by itself, once a day and meter."""
    day = (event.get("attributes") or {}).get("snapshot")
    return day is not None and key == f"snapshot {day} {event['meter']}"
