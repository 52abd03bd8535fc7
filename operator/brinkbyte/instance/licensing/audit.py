"""The audit of license decisions: what was validated, taken in, refused.

No answer waits for it: decisions are noted in memory and written by :meth:`Audit.flush`. The same
decision met again within the hour counts on in its row, so that a thousand cameras asked hundreds
of times a second are a thousand rows an hour.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.documents import Refusal
from brinkbyte.license.modes import LicenseMode
from brinkbyte.store.following import DATABASE_ERRORS
from brinkbyte.store.licenses import (
    AuditRow,
    ValidationRecord,
    new_audit_ids,
    record_validations,
)

FLUSH_SECONDS: Final = 1.0
REPEATS_SECONDS: Final = 60.0
"""A row that only counts on is written again this often."""
ROW_SECONDS: Final = 3600.0
"""Then the same decision begins a new row."""
CAPACITY: Final = 20_000
"""Decisions remembered; beyond what could be written of them, new ones are dropped."""
_PATIENCE_SECONDS: Final = 1.0
_REST_SECONDS: Final = 5.0
_REMEMBERED: Final = 200
_SHOWN: Final = 20
_log = get_logger(__name__)


@dataclass(frozen=True)
class RefusedDocument:
    """A document that was refused lately, for the status page."""

    kind: TokenKind
    reason: str
    message: str
    source: str
    at: int


@dataclass
class _Row:
    """A decision of this hour.

    Attributes:
        id: of its row; None: it has none yet.
        written: how many of ``times`` the row has.
        opened: monotonic time of the first.
    """

    record: ValidationRecord
    opened: float
    first_at: float
    last_at: float
    times: int = 1
    written: int = 0
    id: int | None = None


class Audit:
    """Notes decisions, and writes them later.

    Args:
        pool: the instance's database.
        customer_id: whose decisions these are.
        wall: the machine's clock, Unix seconds.
        monotonic: seconds that never go back.
        capacity: decisions remembered at most.

    Attributes:
        dropped: decisions that were noted nowhere, as the database was away for too long.
        refused: documents refused lately.
    """

    def __init__(
        self,
        pool: Pool,
        customer_id: str,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        capacity: int = CAPACITY,
    ) -> None:
        self._pool = pool
        self._customer_id = customer_id
        self._wall = wall
        self._monotonic = monotonic
        self._capacity = capacity
        self._rest_until = float("-inf")
        self._flushing = asyncio.Lock()
        self._repeats_at = monotonic() + REPEATS_SECONDS
        self._rows: OrderedDict[ValidationRecord, _Row] = OrderedDict()
        self._fresh: dict[ValidationRecord, _Row] = {}
        self._before: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.dropped = 0
        self.refused: deque[RefusedDocument] = deque(maxlen=_SHOWN)

    @property
    def waiting(self) -> int:
        """Decisions that have no row in the database yet."""
        return len(self._fresh)

    def note(self, record: ValidationRecord) -> bool:
        """Note a decision, and tell whether it is new: not made alike within the hour."""
        now, at = self._monotonic(), self._wall()
        row = self._rows.get(record)
        if row is not None:
            fresh = now - row.opened < ROW_SECONDS
            if fresh or row.written < row.times:
                row.times += 1
                row.last_at = at
                self._rows.move_to_end(record)
                if not fresh:
                    # Its hour is over: written at the next flush, and then begun anew.
                    self._repeats_at = now
                return False
        if row is None and len(self._rows) >= self._capacity and not self._forget_one():
            self.dropped += 1
            return True
        self._rows[record] = self._fresh[record] = _Row(record, now, at, at)
        self._rows.move_to_end(record)
        return True

    def _forget_one(self) -> bool:
        """Make room: forget the oldest row that is written in full."""
        for record, row in self._rows.items():
            if row.written == row.times:
                del self._rows[record]
                return True
        return False

    async def flush(self, *, everything: bool = False) -> None:
        """Write what is new, and now and then what counts on.

        Without a database all of it waits, within bounds; it is logged and tried again.

        Args:
            everything: also what only counts on.
        """
        async with self._flushing:
            await self._flush(everything=everything)

    async def _flush(self, *, everything: bool) -> None:
        now = self._monotonic()
        if not everything and now < self._rest_until:
            return
        repeats = everything or now >= self._repeats_at
        listed = self._rows if repeats else self._fresh
        rows = [row for row in listed.values() if row.written < row.times]
        if repeats:
            self._repeats_at = now + REPEATS_SECONDS
        if not rows:
            return
        try:
            async with self._pool.connection(timeout=_PATIENCE_SECONDS) as connection:
                without = [row for row in rows if row.id is None]
                if without:
                    ids = await new_audit_ids(connection, len(without))
                    for row, number in zip(without, ids, strict=True):
                        row.id = number
                counts = [row.times for row in rows]
                await record_validations(
                    connection,
                    self._customer_id,
                    [
                        AuditRow(row.id, row.record, times, row.first_at, row.last_at)
                        for row, times in zip(rows, counts, strict=True)
                        if row.id is not None
                    ],
                )
        except DATABASE_ERRORS as error:
            self._rest_until = self._monotonic() + _REST_SECONDS
            _log.warning("audit rows wait: no database", rows=len(rows), error=str(error))
            return
        for row, times in zip(rows, counts, strict=True):
            row.written = times
            self._fresh.pop(row.record, None)

    def refusals(
        self, refused: Sequence[Refusal], *, source: str, mode: LicenseMode, at: int
    ) -> None:
        """Note refusals that were not seen before, and keep them for the status page.

        Args:
            refused: what was refused just now.
            source: where it came from.
            mode: the mode that stays in force.
            at: Unix seconds.
        """
        for refusal in refused:
            key = (refusal.fingerprint, refusal.reason)
            if key in self._before:
                continue
            self._before[key] = None
            while len(self._before) > _REMEMBERED:
                self._before.popitem(last=False)
            kind, reason, message = refusal.kind, refusal.reason, refusal.message
            _log.warning(
                "document refused; the last good one stays in force",
                kind=kind.value,
                reason=reason,
                source=source,
            )
            self.refused.append(RefusedDocument(kind, reason, message, source, at))
            self.note(
                ValidationRecord("document", kind.value, False, mode.value, reason, message, source)
            )
