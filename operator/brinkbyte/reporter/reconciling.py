"""Is the ledger what the outbox is? Every difference by its name; nothing is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from brinkbyte.client import BillingClient
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.uuid7 import first_of
from brinkbyte.reporter.air_gap import locked_outbox
from brinkbyte.reporter.settings import ReporterSettings
from brinkbyte.store.database import Connection
from brinkbyte.store.identity import Identity
from brinkbyte.store.reconciling import OutboxEvent, acknowledged_batches, outbox_events

MAX_DAYS: Final = 90
"""Days back at most: acknowledged events are kept a little longer than that."""
_AHEAD: Final = timedelta(days=2)


class Kind(StrEnum):
    """What a difference is."""

    MISSING_AT_VENDOR = "MissingAtVendor"
    UNKNOWN_HERE = "UnknownHere"
    OTHER_CONTENT = "OtherContent"
    QUARANTINED = "Quarantined"
    RECEIPT_WITHOUT_LEDGER = "ReceiptWithoutLedger"
    UNREADABLE_HERE = "UnreadableHere"


MEANING: Final = {
    Kind.MISSING_AT_VENDOR: "acknowledged by a receipt, and not in the ledger",
    Kind.UNKNOWN_HERE: "in the ledger, and not in this outbox",
    Kind.OTHER_CONTENT: "in both, with different content",
    Kind.QUARANTINED: "set aside by the ledger",
    Kind.RECEIPT_WITHOUT_LEDGER: "a batch with a receipt that the ledger does not have",
    Kind.UNREADABLE_HERE: "changed in the database so that it is no event: never sent",
}


@dataclass(frozen=True)
class Difference:
    """One difference; ``subject`` is an event's id or ``epoch/number`` of a batch."""

    kind: Kind
    subject: str
    detail: str = ""


@dataclass
class Reconciliation:
    """What was compared.

    Attributes:
        equal: events that are the same in both.
        waiting: events without a receipt that the ledger lacks: they go with the next report.
        received: events without a receipt here that the ledger has: so will their receipt come.
        differences: how many of each kind.
    """

    equal: int = 0
    waiting: int = 0
    received: int = 0
    differences: dict[Kind, int] = field(default_factory=dict)


async def reconcile(
    settings: ReporterSettings,
    found: Callable[[Difference], None],
    *,
    days: int = MAX_DAYS,
    client_factory: Callable[..., BillingClient] = BillingClient,
) -> Reconciliation:
    """Compare outbox and acknowledged batches with the ledger; no reporter runs meanwhile.

    Args:
        settings: where everything is.
        found: told each difference as it is met.
        days: how far back, by the events' own times.
        client_factory: makes the client of the billing API.

    Raises:
        TemporaryError: the line, the database, or a reporter that does not end.
        PermanentError: the site has no line, or the billing API refuses.
    """
    identity = Identity(settings.identity_dir)
    if identity.air_gapped:
        raise PermanentError(
            "this site has no line to compare over; the receipts of `brinkbyte usage import` say "
            "what the ledger has",
            reason="AirGapped",
        )
    now = datetime.now(UTC)
    since = now - timedelta(days=days)
    client = client_factory(identity.billing_url(), identity.credential, ca_file=identity.ca_file())
    async with locked_outbox(settings) as conn, client:
        comparison = _Comparison(conn, client, found)
        await comparison.events(_bound(since), _bound(now + _AHEAD))
        await comparison.batches(since)
    return comparison.result


class _Comparison:
    def __init__(
        self, conn: Connection, client: BillingClient, found: Callable[[Difference], None]
    ) -> None:
        self._conn = conn
        self._client = client
        self._found = found
        self._aside: dict[str, str] = {}
        self.result = Reconciliation()

    async def events(self, after: str, until: str) -> None:
        """Go through both in the order of ids."""
        theirs = self._ledger_events(after, until)
        ours = outbox_events(self._conn, after, until)
        their = await anext(theirs, None)
        our = await anext(ours, None)
        while their is not None or our is not None:
            if our is not None and (their is None or our.id < their[0]):
                self._only_here(our)
                our = await anext(ours, None)
            elif their is not None and (our is None or their[0] < our.id):
                self._differs(Kind.UNKNOWN_HERE, their[0])
                their = await anext(theirs, None)
            elif our is not None and their is not None:
                self._in_both(our, their[1])
                their, our = await anext(theirs, None), await anext(ours, None)
        for event_id, reason in sorted(self._aside.items()):
            self._differs(Kind.QUARANTINED, event_id, reason)

    async def batches(self, since: datetime) -> None:
        """Look for receipts that the ledger does not stand behind."""
        theirs: set[tuple[str, int, str]] = set()
        epoch: str | None = None
        batch_no, more = 0, True
        while more:
            page = await self._client.ledger_batches(epoch, batch_no)
            theirs.update(page.batches)
            more = page.more
            if page.batches:
                epoch, batch_no, _ = page.batches[-1]
        for batch in await acknowledged_batches(self._conn, since):
            if batch not in theirs:
                self._differs(Kind.RECEIPT_WITHOUT_LEDGER, f"{batch[0]}/{batch[1]}", batch[2])

    async def _ledger_events(self, after: str, until: str) -> AsyncIterator[tuple[str, str]]:
        position: str | None = after
        while position is not None:
            page = await self._client.ledger_events(position, until)
            self._aside |= {event.id: event.reason for event in page.quarantined}
            for event in page.events:
                yield event
            position = page.next

    def _only_here(self, our: OutboxEvent) -> None:
        if our.id in self._aside:
            return  # told with what else is set aside
        if our.unreadable:
            self._differs(Kind.UNREADABLE_HERE, our.id)
        elif our.acknowledged:
            self._differs(Kind.MISSING_AT_VENDOR, our.id)
        else:
            self.result.waiting += 1

    def _in_both(self, our: OutboxEvent, their_hash: str) -> None:
        if our.hash != their_hash:
            self._differs(Kind.OTHER_CONTENT, our.id, f"here {our.hash}, ledger {their_hash}")
        elif our.acknowledged:
            self.result.equal += 1
        else:
            self.result.received += 1

    def _differs(self, kind: Kind, subject: str, detail: str = "") -> None:
        counts = self.result.differences
        counts[kind] = counts.get(kind, 0) + 1
        self._found(Difference(kind, subject, detail))


def _bound(moment: datetime) -> str:
    return str(first_of(int(moment.timestamp() * 1000)))
