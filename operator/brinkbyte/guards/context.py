"""The guards of a running service: opened at start-up, closed at clean-up, found by every check."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from brinkbyte.catalog import Catalog, load_catalog
from brinkbyte.guards.answers import PAYMENT_REQUIRED, Answer, BillingProviderError
from brinkbyte.guards.enforcer import EntitlementEnforcer
from brinkbyte.guards.license import FollowedLicense
from brinkbyte.guards.settings import GuardSettings
from brinkbyte.guards.standing import unknown_feature
from brinkbyte.guards.tracker import UsageTracker
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.keys import PublicJwk
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.store.database import open_database
from brinkbyte.store.directories import WatchedDirectory
from brinkbyte.store.following import verifier_of
from brinkbyte.store.identity import Identity
from brinkbyte.trust import trusted_roots

T = TypeVar("T")
_JITTER = 0.1
_log = get_logger(__name__)


@dataclass(frozen=True)
class Guards:
    """What the checks of a service stand on.

    Attributes:
        tracker: the service's own, as its settings say.
        new_tracker: makes another one, ``async with guards.new_tracker(buffered=True) as tracker``.
        loop: the event loop that connections belong to.
        waived: what would have been refused, had the vendor not switched validation off, by
            feature; of meters the counters say it.
    """

    license: FollowedLicense
    enforcer: EntitlementEnforcer
    catalog: Catalog
    loop: asyncio.AbstractEventLoop
    tracker: UsageTracker
    new_tracker: Callable[..., UsageTracker]
    waived: Counter[str] = field(default_factory=Counter)

    def subscription(self) -> Answer:
        """Return whether a license is in force: active, trial or grace."""
        return self.license.standing.subscription

    def feature(self, name: str) -> Answer:
        """Return whether the license has a feature.

        Raises:
            InvalidInputError: there is no such feature; reason ``UnknownFeature``.
        """
        try:
            answer = self.license.standing.features[name]
        except KeyError:
            raise unknown_feature(name, self.catalog) from None
        return self._noted(answer) if answer.warning else answer

    def _noted(self, answer: Answer) -> Answer:
        """Count what switched-off validation let pass, and log the first of each."""
        if answer.warning:
            self.waived[answer.entitlement] += 1
            if self.waived[answer.entitlement] == 1:
                _log.warning(answer.message, entitlement=answer.entitlement, reason=answer.reason)
        return answer

    async def device_limit(self) -> Answer:
        """Return whether one more device may be added to those registered here.

        Raises:
            BillingProviderError: the database does not answer.
        """
        policy = self.license.standing.policy
        used, limit = await self.enforcer.devices(), policy.max_devices
        decision = policy.decision
        allowed = limit is None or used < limit
        message = decision.message
        if not allowed:
            message = f"{used} of {limit} devices are registered. Add devices at {UPGRADE_URL}"
            message += "" if decision.full else f". {decision.message}"
        answer = Answer(
            allowed,
            "maxDevices",
            decision.mode,
            decision.reason if allowed else "DeviceLimitReached",
            message,
            used=used,
            limit=limit,
            remaining=None if limit is None else max(0, limit - used),
            status=PAYMENT_REQUIRED,
        )
        return answer if policy.flags.license_validation else self._noted(answer.waived())

    async def await_here(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what uses connections, in whatever loop the caller runs."""
        if asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Block a thread until what uses connections is done.

        Raises:
            RuntimeError: this is the loop's own thread, which would wait for itself for ever.
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self.loop:
            work.close()
            raise RuntimeError(
                "a guarded sync function was called in the event loop; call it in a thread "
                "(asyncio.to_thread), or make it async"
            )
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


_open: list[Guards] = []


def current_guards() -> Guards:
    """Return the guards that were opened last in this process.

    Raises:
        BillingProviderError: none are open: nothing passes.
    """
    if not _open:
        raise BillingProviderError(
            "the guards are not open; enter open_guards() in the service's lifespan",
            reason="GuardsNotOpen",
        )
    return _open[-1]


@asynccontextmanager
async def open_guards(
    settings: GuardSettings, *, roots: Mapping[str, PublicJwk] | None = None
) -> AsyncIterator[Guards]:
    """Follow the license and guard this process until the block ends.

    Args:
        settings: of the service.
        roots: root public keys; the release's own by default.
    """
    trusted = trusted_roots() if roots is None else roots
    catalog, identity = load_catalog(), Identity(settings.identity_dir)
    name = f"brinkbyte-{settings.service_name}"
    async with open_database(settings, name=name) as pool:
        followed = FollowedLicense(
            verifier=verifier_of(identity, trusted, settings.customer_id),
            customer_id=settings.customer_id,
            pool=pool,
            directory=WatchedDirectory(settings.license_dir),
            catalog=catalog,
        )
        await followed.start()
        enforcer = EntitlementEnforcer(
            pool,
            followed,
            catalog,
            customer_id=settings.customer_id,
            family=settings.meter_family,
            service=settings.service_name,
        )
        new_tracker = partial(
            UsageTracker,
            pool,
            catalog,
            customer_id=settings.customer_id,
            family=settings.meter_family,
            tracking=lambda: followed.standing.policy.flags.usage_tracking,
        )
        tracker = new_tracker(
            buffered=settings.tracker_buffered,
            batch_size=settings.tracker_batch_size,
            flush_seconds=settings.tracker_flush_seconds,
            max_events=settings.tracker_max_events,
        )
        loop = asyncio.get_running_loop()
        guards = Guards(followed, enforcer, catalog, loop, tracker, new_tracker)
        jobs = (
            (settings.watch_seconds, followed.look_into_directory),
            (settings.database_seconds, followed.look_into_database),
        )
        tasks = [asyncio.create_task(_every(seconds, job)) for seconds, job in jobs]
        _open.append(guards)
        try:
            # Its events go into the database before the pool closes.
            async with tracker:
                yield guards
        finally:
            _open.remove(guards)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def guards_in_thread(
    settings: GuardSettings, *, roots: Mapping[str, PublicJwk] | None = None
) -> Iterator[Guards]:
    """Guard a program that has no event loop: :func:`open_guards` in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_guards(settings, roots=roots)) as guards,
    ):
        yield guards


async def _every(seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds * random.uniform(1 - _JITTER, 1))  # noqa: S311 - spreads load
        try:
            await job()
        except Exception:  # noqa: BLE001 - one surprise must not end the watch for good
            _log.exception("the license could not be looked at, it is tried again")
