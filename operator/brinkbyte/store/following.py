"""Signed documents in force in one process, followed while it runs: mounted directory, PostgreSQL.

Instance and guards alike: what comes is verified, the higher sequence wins, and a bad document
never displaces a good one. Nothing is written here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import psycopg
from psycopg_pool import PoolTimeout

from brinkbyte.kit.errors import BrinkByteError, TemporaryError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.clock import ClockState
from brinkbyte.license.documents import ORDER, Documents, Snapshot, TakenIn, Verifier
from brinkbyte.license.keys import PublicJwk
from brinkbyte.store.directories import WatchedDirectory, read_documents
from brinkbyte.store.identity import Identity
from brinkbyte.store.licenses import get_config, load_documents

DATABASE_ERRORS: Final = (psycopg.Error, PoolTimeout, BrinkByteError, OSError)
"""What a database that is away, or not there yet, is met with."""
REFUSED_SECONDS: Final = 60.0
"""What was refused is looked at again after this long."""
Heard: TypeAlias = Callable[[TakenIn, str], Awaitable[None]]
_log = get_logger(__name__)


class RunningClock:
    """The offline clock of a process: what was kept, and how long the process has run since.

    Attributes:
        wall: the machine's clock, Unix seconds.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall = wall
        self.monotonic = monotonic
        # The state, and our monotonic time when it was right: one value, as threads read it.
        self._held = (ClockState(), monotonic())

    @property
    def state(self) -> ClockState:
        """What would be kept now."""
        state, since = self._held
        return state.ran(int(self.monotonic() - since))

    def now(self) -> int:
        """Return the time to judge licenses by, Unix seconds."""
        # What ``self.state.now(wall)`` says, without making a state: guards ask at every call.
        state, since = self._held
        ran = state.running_seconds + max(0, int(self.monotonic() - since))
        return max(int(self.wall()), state.signed_time + ran)

    def signed(self, at: int) -> None:
        """Go on from a verified document's signing time, if none newer is held."""
        state = self._held[0].taken_in(at)
        if state is not self._held[0]:
            self._held = (state, self.monotonic())

    def merge(self, kept: ClockState) -> None:
        """Go on from a state that was kept, if it is ahead of ours."""
        ours = self.state
        if (kept.signed_time, kept.running_seconds) > (ours.signed_time, ours.running_seconds):
            self._held = (kept, self.monotonic())


def verifier_of(
    identity: Identity, roots: Mapping[str, PublicJwk], customer_id: str
) -> Callable[[], Verifier]:
    """Return what makes the verifier of now: the instance id may come, or change, later.

    Args:
        identity: the identity directory.
        roots: root public keys by key id.
        customer_id: whose documents are good here.
    """

    def verifier() -> Verifier:
        try:
            instance_id: str | None = identity.instance_id()
        except TemporaryError:
            instance_id = None
        return Verifier(roots, instance_id, customer_id)

    return verifier


class FollowedDocuments:
    """The documents of one instance.

    Args:
        verifier: returns what documents are verified with now.
        customer_id: whose they are.
        pool: the instance's database.
        directory: the mounted documents.
        clock: judges what is not valid yet, and goes on with each newer signing time.
        heard: told what became of documents, and where they came from; not called for none.

    Attributes:
        snapshot: the newest verified documents.
    """

    def __init__(
        self,
        *,
        verifier: Callable[[], Verifier],
        customer_id: str,
        pool: Pool,
        directory: WatchedDirectory,
        clock: RunningClock,
        heard: Heard,
    ) -> None:
        self._verifier = verifier
        self._customer_id = customer_id
        self._pool = pool
        self._directory = directory
        self._clock = clock
        self._heard = heard
        self._lock = asyncio.Lock()
        self._instance_id = verifier().instance_id
        self._again = float("inf")
        self.snapshot = Snapshot()

    @property
    def sequences(self) -> dict[TokenKind, int]:
        """The number held of each kind, 0 without."""
        return {kind: self.snapshot.sequence(kind) for kind in ORDER}

    async def look_into_directory(self) -> None:
        """Take in what the mounted directory holds, if it changed since the last look.

        What was refused is tried again: at once under another instance id, else now and then, as
        a document may only have come before its time, or before what it goes with.
        """
        instance_id = self._verifier().instance_id
        enrolled_anew = instance_id not in {None, self._instance_id}
        self._instance_id = instance_id
        if enrolled_anew:
            await self.look_into_database()
        if enrolled_anew or self._clock.monotonic() >= self._again:
            self._directory.forget()
        if not self._directory.changed():
            return
        taken = await self.take_in(read_documents(self._directory.path), "directory")
        wait = REFUSED_SECONDS if taken.refused else float("inf")
        self._again = self._clock.monotonic() + wait

    async def look_into_database(self) -> TakenIn:
        """Take in what the instance, or another replica of it, has kept; also how long it ran."""
        try:
            async with self._pool.connection() as connection:
                kept = await get_config(connection, self._customer_id, "clock")
                rows = await load_documents(connection, self._customer_id, self.sequences)
        except DATABASE_ERRORS as error:
            _log.warning("stored documents cannot be read", error=str(error))
            return TakenIn(self.snapshot, (), ())
        if kept is not None:
            self._clock.merge(ClockState.read(kept))
        return await self.take_in({row.kind: row.document for row in rows}, "postgres")

    async def take_in(self, documents: Documents, source: str) -> TakenIn:
        """Verify documents, put what is newer into force, and return what became of them.

        Args:
            documents: as they came.
            source: where they came from.
        """
        if not documents:
            return TakenIn(self.snapshot, (), ())
        async with self._lock:
            # A seat list of ten thousand takes tens of milliseconds: not in the event loop.
            taken = await asyncio.to_thread(
                self._verifier().take_in, self.snapshot, documents, now=self._clock.now()
            )
            self.snapshot = taken.snapshot
            self._clock.signed(taken.snapshot.newest_signed_time)
        for kind in taken.accepted:
            number = taken.snapshot.sequence(kind)
            _log.info("document taken in", kind=kind.value, sequence=number, source=source)
        await self._heard(taken, source)
        return taken
