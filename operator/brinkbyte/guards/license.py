"""The license in force, followed while the service runs: mounted directory, then PostgreSQL.

Nothing is written: the instance keeps documents and the offline clock. Checks read memory only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from brinkbyte.catalog import Catalog
from brinkbyte.guards.standing import Standing, stand
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.license.documents import Refusal, Snapshot, TakenIn, Verifier
from brinkbyte.store.directories import WatchedDirectory
from brinkbyte.store.following import FollowedDocuments, RunningClock

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
        self._catalog = catalog
        self._clock = RunningClock(wall=wall, monotonic=monotonic)
        self.documents = FollowedDocuments(
            verifier=verifier,
            customer_id=customer_id,
            pool=pool,
            directory=directory,
            clock=self._clock,
            heard=self._heard,
        )
        self._refused: dict[str, tuple[Refusal, ...]] = {}
        self._standing = self._stand(self.now())

    @property
    def snapshot(self) -> Snapshot:
        """The newest verified documents."""
        return self.documents.snapshot

    def now(self) -> int:
        """Return the time to judge licenses by, Unix seconds."""
        return self._clock.now()

    @property
    def standing(self) -> Standing:
        """What holds now."""
        now, held = self._clock.now(), self._standing
        if held.policy.snapshot is self.documents.snapshot and held.since <= now < held.until:
            return held
        self._standing = self._stand(now)
        return self._standing

    def _stand(self, now: int) -> Standing:
        return stand(self.documents.snapshot, now, self._catalog)

    async def start(self) -> None:
        """Take in what database and directory have; without either, nothing is licensed yet."""
        await self.documents.look_into_database()
        await self.documents.look_into_directory()

    async def look_into_directory(self) -> None:
        """Take in what the mounted directory holds, if it changed since the last look."""
        await self.documents.look_into_directory()

    async def look_into_database(self) -> None:
        """Take in what the instance has kept: newer documents, and how long it has run."""
        await self.documents.look_into_database()

    async def _heard(self, taken: TakenIn, source: str) -> None:
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
