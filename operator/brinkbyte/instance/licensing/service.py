"""The license service: takes documents in from four tiers, keeps them, and answers by them.

Memory answers; Redis, PostgreSQL and the billing API are only asked when memory lacks something or
the license asks for a refresh. Without any of them everything goes on with what is held.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.instance.licensing.audit import Audit, RefusedDocument
from brinkbyte.instance.licensing.billing import BillingTier
from brinkbyte.instance.licensing.cache import DocumentCache
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.documents import ORDER, Snapshot, TakenIn, Verifier
from brinkbyte.license.modes import LicenseMode
from brinkbyte.store.directories import WatchedDirectory
from brinkbyte.store.following import DATABASE_ERRORS, FollowedDocuments, RunningClock
from brinkbyte.store.licenses import ValidationRecord, advance_clock, store_document
from brinkbyte.store.policy import CameraDecision, Policy

REFRESH_SECONDS: Final = 3600
"""Asked again after this long when no license says otherwise; also the memory tier's TTL."""
CLOCK_SAVE_SECONDS: Final = 3600
_UNKNOWN_CAMERA_SECONDS: Final = 30.0
_LOOK_PAUSE_SECONDS: Final = 1.0
_BILLING_PAUSE_SECONDS: Final = 10.0
_BILLING_PATIENCE_SECONDS: Final = 3.0
_UNKNOWN_REMEMBERED: Final = 10_000
_log = get_logger(__name__)


class LicenseService:
    """The license in force inside this instance.

    Args:
        verifier: returns what documents are verified with now; the instance id may come later.
        customer_id: the customer whose instance this is.
        pool: the instance's database.
        cache: the Redis tier.
        billing: the fourth tier.
        directory: the mounted license documents.
        catalog: what holds without a license.
        wall: the machine's clock, Unix seconds.
        monotonic: seconds that never go back.

    Attributes:
        audit: what was decided.
        clock: the offline clock.
        hits: validations by the tier that knew.
        waived: refusals that switched-off validation kept back, by reason.
        changed: set when what is allowed may have changed.
    """

    def __init__(
        self,
        *,
        verifier: Callable[[], Verifier],
        customer_id: str,
        pool: Pool,
        cache: DocumentCache,
        billing: BillingTier,
        directory: WatchedDirectory,
        catalog: Catalog,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.customer_id = customer_id
        self._pool = pool
        self._cache = cache
        self._billing = billing
        self._catalog = catalog
        self._monotonic = monotonic
        self.clock = RunningClock(wall=wall, monotonic=monotonic)
        self.documents = FollowedDocuments(
            verifier=verifier,
            customer_id=customer_id,
            pool=pool,
            directory=directory,
            clock=self.clock,
            heard=self._heard,
        )
        self.first_devices: tuple[str, ...] = ()
        self.hits: Counter[str] = Counter()
        self.waived: Counter[str] = Counter()
        self.audit = Audit(pool, customer_id, wall=wall, monotonic=monotonic)
        self.confirmed_at: int | None = None
        self.last_refresh_error: BrinkByteError | None = None
        self._confirmed = float("-inf")
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asked_billing = float("-inf")
        self._refreshing: asyncio.Task[bool] | None = None
        self._looking: asyncio.Task[str] | None = None
        self._found_nothing = float("-inf")
        self._unsaved = False
        self._sources: dict[TokenKind, str] = {}
        self._mode: LicenseMode | None = None
        self._policy = Policy(self.snapshot, self.now(), catalog)
        self.changed = asyncio.Event()

    # What holds now.

    @property
    def snapshot(self) -> Snapshot:
        """The newest verified documents."""
        return self.documents.snapshot

    def now(self) -> int:
        """Return the time to judge licenses by, Unix seconds."""
        return self.clock.now()

    def policy(self) -> Policy:
        """Return what is allowed now."""
        snapshot, now, held = self.documents.snapshot, self.clock.now(), self._policy
        if (
            held.snapshot is snapshot
            and held.now == now
            and held.first_devices is self.first_devices
        ):
            return held
        self._policy = Policy(snapshot, now, self._catalog, self.first_devices)
        return self._policy

    def tracked(self) -> bool:
        """Tell whether use is metered now; the vendor alone may switch that off."""
        return self.policy().flags.usage_tracking

    @property
    def refused(self) -> Sequence[RefusedDocument]:
        """The documents that were refused lately, each once."""
        return tuple(self.audit.refused)

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
        await self.look_into_database()
        await self._look_into_cache()
        await self.look_into_directory()
        self.note_mode()

    async def look_into_directory(self) -> None:
        """Take in what the mounted directory holds, if it changed since the last look."""
        await self.documents.look_into_directory()

    async def look_into_database(self) -> bool:
        """Take in what another replica has kept; tell whether anything was newer."""
        return bool((await self.documents.look_into_database()).accepted)

    async def _look_into_cache(self) -> bool:
        newer = await self._cache.newer(self.documents.sequences)
        return bool((await self.documents.take_in(newer, "redis")).accepted)

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
        await self.documents.take_in(documents, "billing")
        self._confirmed = self._monotonic()
        self.confirmed_at = int(self.clock.wall())
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

    async def _heard(self, taken: TakenIn, source: str) -> None:
        self._unknown.clear()
        self._sources |= dict.fromkeys(taken.accepted, source)
        mode = self.policy().decision.mode
        for kind in taken.accepted:
            number = taken.snapshot.sequence(kind)
            self.audit.note(
                ValidationRecord(
                    "document",
                    kind.value,
                    True,
                    mode.value,
                    "TakenIn",
                    f"sequence {number}",
                    source,
                )
            )
        self.audit.refusals(taken.refused, source=source, mode=mode, at=int(self.clock.wall()))
        if taken.accepted:
            self._unsaved = True
            self.changed.set()
            await self._save()
            await self._cache.store(
                {
                    kind: (self.snapshot.sequence(kind), text)
                    for kind, text in self.snapshot.raw.items()
                }
            )
        self.note_mode()

    # Validation of one camera.

    async def look_up(self, camera_id: str) -> None:
        """Bring what any tier knows of a camera into memory, where :meth:`policy` finds it."""
        await self._look_up(camera_id)

    async def validate(
        self, camera_id: str, configured: str | None = None
    ) -> tuple[CameraDecision, str]:
        """Return what a camera may do and which tier knew it; counted, and noted in the audit.

        Args:
            camera_id: the camera.
            configured: the device it is configured on here.
        """
        tier = await self._look_up(camera_id)
        decision = self.policy().camera(camera_id, configured)
        self.hits[tier] += 1
        if decision.waived:
            self.waive(decision, [decision.waived])
        else:
            self.audit.note(
                ValidationRecord(
                    "camera",
                    camera_id,
                    decision.allowed,
                    decision.mode.value,
                    decision.reason,
                    decision.message,
                    tier,
                )
            )
        return decision, tier

    def waive(self, decision: CameraDecision, reasons: Iterable[str]) -> None:
        """Count, log and note refusals that did not happen: the vendor switched validation off.

        Args:
            decision: of the camera.
            reasons: why it would have been refused.
        """
        for reason in reasons:
            self.waived[reason] += 1
            new = self.audit.note(
                ValidationRecord(
                    "camera",
                    decision.camera_id,
                    True,
                    decision.mode.value,
                    reason,
                    "not refused: validation is switched off by the vendor",
                    "memory",
                )
            )
            if new:
                _log.warning(
                    "not refused: validation is switched off by the vendor",
                    camera=decision.camera_id,
                    reason=reason,
                )

    async def _look_up(self, camera_id: str) -> str:
        """Return the tier that knew about a camera: memory, redis, postgres, billing or none."""
        if self.policy().knows(camera_id) or self._known_unknown(camera_id):
            return "memory"
        if self._monotonic() - self._found_nothing < _LOOK_PAUSE_SECONDS:
            # Every tier has whole documents: who looked a moment ago looked for this camera, too.
            return "none"
        joined = self._looking is not None and not self._looking.done()
        if not joined:
            self._looking = asyncio.create_task(self._look_around(camera_id), name="license-look")
        looking = self._looking
        tier = await asyncio.shield(looking) if looking is not None else "none"
        if self.policy().knows(camera_id):
            return tier
        if joined and tier != "none":
            # Somebody's look, which ended as soon as their camera was found: ours comes now.
            return await self._look_up(camera_id)
        self._unknown[camera_id] = self._monotonic()
        while len(self._unknown) > _UNKNOWN_REMEMBERED:
            self._unknown.popitem(last=False)
        return tier

    async def _look_around(self, camera_id: str) -> str:
        """Ask tier after tier for newer documents, until one brings the camera."""
        tier = "none"
        if await self._look_into_cache():
            tier = "redis"
        if not self.policy().knows(camera_id) and await self.look_into_database():
            tier = "postgres"
        if not self.policy().knows(camera_id) and await self._ask_billing_briefly():
            tier = "billing"
        if not self.policy().knows(camera_id):
            self._found_nothing = self._monotonic()
        return tier

    def _known_unknown(self, camera_id: str) -> bool:
        asked = self._unknown.get(camera_id)
        return asked is not None and self._monotonic() - asked < _UNKNOWN_CAMERA_SECONDS

    async def _ask_billing_briefly(self) -> bool:
        """Ask the fourth tier, but let no caller wait for a line that hangs."""
        asking = self._refreshing is not None and not self._refreshing.done()
        # The pause spares the billing API; an answer under way (the heartbeat's) costs it nothing.
        if not asking and self._monotonic() - self._asked_billing < _BILLING_PAUSE_SECONDS:
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
        snapshot, clock = self.snapshot, self.clock.state
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

    def note_mode(self) -> None:
        """Note and announce a change of mode, also one that came with time alone."""
        decision = self.policy().decision
        if decision.mode is self._mode:
            return
        self._mode = decision.mode
        self.changed.set()
        _log.info("license mode", mode=decision.mode.value, reason=decision.reason)
        self.audit.note(
            ValidationRecord(
                "mode",
                decision.mode.value,
                decision.full,
                decision.mode.value,
                decision.reason,
                decision.message,
                "memory",
            )
        )
