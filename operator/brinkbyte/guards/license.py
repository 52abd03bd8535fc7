"""The license in force, followed while the service runs: mounted directory, then PostgreSQL.

What comes is verified as the instance verifies it, and the higher sequence wins. Nothing is
written: the instance keeps documents and the offline clock. Checks read memory only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from brinkbyte.catalog import Catalog
from brinkbyte.guards.standing import Standing, stand
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.license.clock import ClockState
from brinkbyte.license.documents import ORDER, Documents, Refusal, Snapshot, Verifier
from brinkbyte.store.directories import WatchedDirectory, read_documents
from brinkbyte.store.licenses import get_config, load_documents

DATABASE_ERRORS: Final = (psycopg.Error, PoolTimeout, BrinkByteError, OSError)
_REFUSED_SECONDS: Final = 60.0
_log = get_logger(__name__)


class FollowedLicense:
    """The license of one instance.

    Args:
        verifier: returns what documents are verified with now; the instance id may come later.
        customer_id: whose license it is.
        pool: the instance's database.
        directory: the mounted license documents.
        catalog: what holds without a license.
        wall: the machine's clock, Unix seconds.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        *,
        verifier: Callable[[], Verifier],
        customer_id: str,
        pool: Pool,
        directory: WatchedDirectory,
        catalog: Catalog,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verifier = verifier
        self._customer_id = customer_id
        self._pool = pool
        self._directory = directory
        self._catalog = catalog
        self._wall = wall
        self._monotonic = monotonic
        # The state, and our monotonic time when it was right: one value, threads read it.
        self._clock = (ClockState(), monotonic())
        self._lock = asyncio.Lock()
        self._instance_id: str | None = None
        self._again = float("inf")
        self._refused: dict[str, tuple[Refusal, ...]] = {}
        self.snapshot = Snapshot()
        self._standing = self._stand(self.now())

    def now(self) -> int:
        """Return the time to judge licenses by, Unix seconds."""
        clock, since = self._clock
        ran = clock.running_seconds + int(self._monotonic() - since)
        return max(int(self._wall()), clock.signed_time + ran)

    @property
    def standing(self) -> Standing:
        """What holds now."""
        now, held = self.now(), self._standing
        if held.policy.snapshot is self.snapshot and held.since <= now < held.until:
            return held
        self._standing = self._stand(now)
        return self._standing

    def _stand(self, now: int) -> Standing:
        return stand(self.snapshot, now, self._catalog)

    async def start(self) -> None:
        """Take in what database and directory have; without either, nothing is licensed yet."""
        await self.look_into_database()
        await self.look_into_directory()

    async def look_into_directory(self) -> None:
        """Take in what the mounted directory holds, if it changed since the last look.

        What was refused is tried again: at once under another instance id, else now and then, as
        a document may only have come before its time.
        """
        instance_id = self._verifier().instance_id
        enrolled_anew = instance_id != self._instance_id
        self._instance_id = instance_id
        if enrolled_anew or self._monotonic() >= self._again:
            self._directory.forget()
        if not self._directory.changed():
            return
        good = await self._take_in(read_documents(self._directory.path), "directory")
        self._again = float("inf") if good else self._monotonic() + _REFUSED_SECONDS

    async def look_into_database(self) -> None:
        """Take in what the instance has kept: newer documents, and how long it has run."""
        held = {kind: self.snapshot.sequence(kind) for kind in ORDER}
        try:
            async with self._pool.connection() as connection:
                kept = await get_config(connection, self._customer_id, "clock")
                rows = await load_documents(connection, self._customer_id, held)
        except DATABASE_ERRORS as error:
            _log.warning("stored documents cannot be read", error=str(error))
            return
        if kept is not None:
            self._merge_clock(ClockState.read(kept))
        await self._take_in({row.kind: row.document for row in rows}, "postgres")

    def _merge_clock(self, kept: ClockState) -> None:
        clock, since = self._clock
        ours = clock.ran(int(self._monotonic() - since))
        if (kept.signed_time, kept.running_seconds) > (ours.signed_time, ours.running_seconds):
            self._clock = (kept, self._monotonic())

    async def _take_in(self, documents: Documents, source: str) -> bool:
        """Verify documents and put what is newer into force; tell whether none was refused."""
        if not documents:
            return True
        async with self._lock:
            # A seat list of ten thousand takes tens of milliseconds: not in the event loop.
            taken = await asyncio.to_thread(
                self._verifier().take_in, self.snapshot, documents, now=self.now()
            )
            self.snapshot = taken.snapshot
            clock, signed = self._clock[0], taken.snapshot.newest_signed_time
            if signed > clock.signed_time:
                self._clock = (clock.taken_in(signed), self._monotonic())
        for kind in taken.accepted:
            number = self.snapshot.sequence(kind)
            _log.info("document taken in", kind=kind.value, sequence=number, source=source)
        for refusal in taken.refused:
            # Met again at every look: told once.
            if refusal not in self._refused.get(source, ()):
                _log.warning(
                    "document refused; the last good one stays in force",
                    kind=refusal.kind.value,
                    reason=refusal.reason,
                    source=source,
                )
        self._refused[source] = taken.refused
        return not taken.refused
