"""The license service: takes documents in from four tiers, keeps them, and answers by them.

Memory answers; Redis, PostgreSQL and the billing API are only asked when memory lacks something or
the license asks for a refresh. Without any of them everything goes on with what is held.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.instance.licensing.audit import DATABASE_ERRORS, Audit, RefusedDocument
from brinkbyte.instance.licensing.billing import BillingTier
from brinkbyte.instance.licensing.cache import DocumentCache
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.clock import ClockState
from brinkbyte.license.documents import (
    ORDER,
    Documents,
    Snapshot,
    Verifier,
)
from brinkbyte.license.modes import LicenseMode
from brinkbyte.store.directories import WatchedDirectory, read_documents
from brinkbyte.store.licenses import (
    ValidationRecord,
    advance_clock,
    get_config,
    load_documents,
    store_document,
)
from brinkbyte.store.policy import CameraDecision, Policy

REFRESH_SECONDS: Final = 3600
"""Asked again after this long when no license says otherwise; also the memory tier's TTL."""
CLOCK_SAVE_SECONDS: Final = 3600
_REFUSED_SECONDS: Final = 60.0
_UNKNOWN_CAMERA_SECONDS: Final = 30.0
_BILLING_PAUSE_SECONDS: Final = 10.0
_BILLING_PATIENCE_SECONDS: Final = 3.0
_UNKNOWN_REMEMBERED: Final = 10_000
_log = get_logger(__name__)


class LicenseService:
    """The license in force inside this instance.

    Args:
        verifier: returns what documents are verified with now; the instance id may come later.
        pool: the instance's database.
        cache: the Redis tier.
        billing: the fourth tier.
        directory: the mounted license documents.
        catalog: what holds without a license.
        wall: the machine's clock, Unix seconds.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        *,
        verifier: Callable[[], Verifier],
        pool: Pool,
        cache: DocumentCache,
        billing: BillingTier,
        directory: WatchedDirectory,
        catalog: Catalog,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verifier = verifier
        self._pool = pool
        self._cache = cache
        self._billing = billing
        self._directory = directory
        self._catalog = catalog
        self._wall = wall
        self._monotonic = monotonic
        self.snapshot = Snapshot()
        self.first_devices: tuple[str, ...] = ()
        self.hits: Counter[str] = Counter()
        self._audit = Audit(pool, monotonic=monotonic)
        self.confirmed_at: int | None = None
        self.last_refresh_error: BrinkByteError | None = None
        self._clock = ClockState()
        self._clock_from = monotonic()
        self._confirmed = float("-inf")
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asked_billing = float("-inf")
        self._refreshing: asyncio.Task[bool] | None = None
        self._lock = asyncio.Lock()
        self._unsaved = False
        self._sources: dict[TokenKind, str] = {}
        self._mode: LicenseMode | None = None
        self._instance_id: str | None = None
        self._refused: dict[str, bool] = {}
        self._directory_again = float("inf")
        self.changed = asyncio.Event()

    # What holds now.

    def now(self) -> int:
        """Return the time to judge licenses by, Unix seconds."""
        return self._ticked().now(int(self._wall()))

    def policy(self) -> Policy:
        """Return what is allowed now."""
        return Policy(self.snapshot, self.now(), self._catalog, self.first_devices)

    @property
    def customer_id(self) -> str:
        """The customer whose instance this is."""
        return self._verifier().customer_id

    @property
    def refused(self) -> Sequence[RefusedDocument]:
        """The documents that were refused lately, each once."""
        return tuple(self._audit.refused)

    @property
    def refresh_after(self) -> int:
        """Seconds after which newer documents are asked for."""
        claims = self.snapshot.license
        return claims.refresh_after if claims else REFRESH_SECONDS

    @property
    def stale(self) -> bool:
        """Whether the billing API has not confirmed what is held for longer than asked for."""
        if self._billing.air_gapped:
            return False  # nobody is there who could confirm it
        return self._monotonic() - self._confirmed > self.refresh_after

    # Taking documents in.

    async def start(self) -> None:
        """Load clock and documents: PostgreSQL, then Redis, then the directory."""
        self._instance_id = self._verifier().instance_id
        await self.look_into_database()
        await self._take_in(await self._cache.newer(self._sequences()), "redis")
        await self.look_into_directory()
        await self._note_mode()

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
        if enrolled_anew or self._monotonic() >= self._directory_again:
            self._directory.forget()
        if not self._directory.changed():
            return
        await self._take_in(read_documents(self._directory.path), "directory")
        wait = _REFUSED_SECONDS if self._refused["directory"] else float("inf")
        self._directory_again = self._monotonic() + wait

    async def look_into_database(self) -> bool:
        """Take in what another replica has kept; tell whether anything was newer."""
        try:
            async with self._pool.connection() as connection:
                kept = await get_config(connection, self.customer_id, "clock")
                rows = await load_documents(connection, self.customer_id, self._sequences())
        except DATABASE_ERRORS as error:
            _log.warning("stored documents cannot be read", error=str(error))
            return False
        if kept is not None:
            # A later release may have written more members.
            self._merge_clock(ClockState.model_validate(kept, extra="ignore"))
        return await self._take_in({row.kind: row.document for row in rows}, "postgres")

    def _merge_clock(self, kept: ClockState) -> None:
        ours = self._ticked()
        if (kept.signed_time, kept.running_seconds) > (ours.signed_time, ours.running_seconds):
            self._clock, self._clock_from = kept, self._monotonic()

    async def refresh(self) -> bool:
        """Ask the billing API for newer documents; calls at the same time share one request.

        Returns:
            Whether the billing API answered; why not is in ``last_refresh_error``.
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="license-refresh")
        return await asyncio.shield(self._refreshing)

    async def _refresh(self) -> bool:
        self._asked_billing = self._monotonic()
        if self._billing.air_gapped:
            self.last_refresh_error = None
            return False
        try:
            documents = await self._billing.newer(self.snapshot.held)
        except BrinkByteError as error:
            self.last_refresh_error = error
            _log.info("the billing API gave no newer license", reason=error.reason)
            return False
        await self._take_in(documents, "billing")
        self._confirmed = self._monotonic()
        self.confirmed_at = int(self._wall())
        self.last_refresh_error = None
        return True

    def next_refresh_in(self, failures: int) -> float:
        """Return seconds until the next background refresh, with jitter.

        Args:
            failures: refreshes in a row that failed.
        """
        if failures:
            wait = min(30.0 * 2.0 ** min(failures - 1, 5), 900.0, float(self.refresh_after))
        else:
            wait = float(self.refresh_after)
        return wait * random.uniform(0.85, 1.0)  # noqa: S311 - spreads load, guards nothing

    async def _take_in(self, documents: Documents, source: str) -> bool:
        if not documents:
            self._refused[source] = False
            return False
        async with self._lock:
            held = self.snapshot
            # A seat list of ten thousand takes tens of milliseconds: not in the event loop.
            taken = await asyncio.to_thread(
                self._verifier().take_in, held, documents, now=self.now()
            )
            self.snapshot = taken.snapshot
            self._unknown.clear()
            clock = self._ticked().taken_in(taken.snapshot.newest_signed_time)
            self._clock, self._clock_from = clock, self._monotonic()
            self._sources |= dict.fromkeys(taken.accepted, source)
        self._refused[source] = bool(taken.refused)
        records = [self._accepted(kind, source) for kind in taken.accepted]
        records += self._audit.refusals(
            taken.refused,
            source=source,
            mode=self.policy().decision.mode,
            at=int(self._wall()),
        )
        changed = taken.snapshot is not held
        if changed:
            self._unsaved = True
            self.changed.set()
            await self._save()
            await self._cache.store(
                {
                    kind: (self.snapshot.sequence(kind), text)
                    for kind, text in self.snapshot.raw.items()
                }
            )
        await self._audit.write(self.customer_id, records)
        await self._note_mode()
        return changed

    def _accepted(self, kind: TokenKind, source: str) -> ValidationRecord:
        number = self.snapshot.sequence(kind)
        _log.info("document taken in", kind=kind.value, sequence=number, source=source)
        return ValidationRecord(
            "document",
            kind.value,
            True,
            self.policy().decision.mode.value,
            "TakenIn",
            f"sequence {number}",
            source,
        )

    # Validation of one camera.

    async def look_up(self, camera_id: str) -> None:
        """Bring what any tier knows of a camera into memory, where :meth:`policy` finds it."""
        await self._decide(camera_id, None)

    async def validate(
        self, camera_id: str, configured: str | None = None
    ) -> tuple[CameraDecision, str]:
        """Return what a camera may do and which tier knew it; counted, written into the audit.

        Args:
            camera_id: the camera.
            configured: the device it is configured on here.
        """
        decision, tier = await self._decide(camera_id, configured)
        self.hits[tier] += 1
        await self._audit.write(
            self.customer_id,
            [
                ValidationRecord(
                    "camera",
                    camera_id,
                    decision.allowed,
                    decision.mode.value,
                    decision.reason,
                    decision.message,
                    tier,
                )
            ],
        )
        return decision, tier

    async def _decide(self, camera_id: str, configured: str | None) -> tuple[CameraDecision, str]:
        policy = self.policy()
        if policy.knows(camera_id) or self._known_unknown(camera_id):
            return policy.camera(camera_id, configured), "memory"
        tier = "none"
        if await self._take_in(await self._cache.newer(self._sequences()), "redis"):
            tier = "redis"
        if not self.policy().knows(camera_id) and await self.look_into_database():
            tier = "postgres"
        if not self.policy().knows(camera_id) and await self._ask_billing_briefly():
            tier = "billing"
        policy = self.policy()
        if not policy.knows(camera_id):
            self._unknown[camera_id] = self._monotonic()
            while len(self._unknown) > _UNKNOWN_REMEMBERED:
                self._unknown.popitem(last=False)
        return policy.camera(camera_id, configured), tier

    def _known_unknown(self, camera_id: str) -> bool:
        asked = self._unknown.get(camera_id)
        return asked is not None and self._monotonic() - asked < _UNKNOWN_CAMERA_SECONDS

    async def _ask_billing_briefly(self) -> bool:
        """Ask the fourth tier, but let no caller wait for a line that hangs."""
        if self._monotonic() - self._asked_billing < _BILLING_PAUSE_SECONDS:
            return False
        try:
            return await asyncio.wait_for(self.refresh(), _BILLING_PATIENCE_SECONDS)
        except TimeoutError:
            return False

    # What is kept.

    async def save_clock(self) -> None:
        """Keep the offline clock; called every hour and at the end."""
        await self._save(documents=False)

    async def save_if_needed(self) -> None:
        """Keep documents that could not be kept when they came."""
        if self._unsaved:
            await self._save()

    async def _save(self, *, documents: bool = True) -> None:
        snapshot, clock = self.snapshot, self._ticked()
        try:
            async with self._pool.connection() as connection:
                await advance_clock(
                    connection, self.customer_id, clock.model_dump(mode="json", by_alias=True)
                )
                for kind in ORDER if documents else ():
                    text = snapshot.raw.get(kind)
                    if text is not None:
                        await store_document(
                            connection,
                            self.customer_id,
                            kind,
                            sequence=snapshot.sequence(kind),
                            document=text,
                            source=self._sources.get(kind, "memory"),
                        )
        except DATABASE_ERRORS as error:
            _log.warning("license state cannot be kept yet", error=str(error))
            return
        if documents and snapshot is self.snapshot:
            self._unsaved = False

    async def _note_mode(self) -> None:
        decision = self.policy().decision
        if decision.mode is self._mode:
            return
        self._mode = decision.mode
        self.changed.set()
        _log.info("license mode", mode=decision.mode.value, reason=decision.reason)
        await self._audit.write(
            self.customer_id,
            [
                ValidationRecord(
                    "mode",
                    decision.mode.value,
                    decision.full,
                    decision.mode.value,
                    decision.reason,
                    decision.message,
                    "memory",
                )
            ],
        )

    async def note_mode(self) -> None:
        """Record and announce a change of mode that came with time alone."""
        await self._note_mode()

    def _ticked(self) -> ClockState:
        return self._clock.ran(int(self._monotonic() - self._clock_from))

    def _sequences(self) -> dict[TokenKind, int]:
        return {kind: self.snapshot.sequence(kind) for kind in ORDER}
