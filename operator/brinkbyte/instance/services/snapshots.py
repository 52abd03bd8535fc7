"""Once a UTC day: how much of every gauge the site holds, as one usage event each.

Whichever replica comes first takes it; the database keeps which days are taken, so no restart and
no second replica records a day twice. A day on which no instance ran has none, and is billed as the
last one that was.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.store.counters import held_gauges
from brinkbyte.store.levels import held_here, take_snapshot
from brinkbyte.store.policy import Policy

SNAPSHOT_SECONDS: Final = 60.0
_FAMILY: Final = "vision"
_FLEET: Final = "fleet"
_STORAGE: Final = "storage_gb"
_log = get_logger(__name__)


class Snapshots:
    """Takes the snapshot of one site.

    Args:
        pool: the instance's database.
        license_service: whether use is metered, what plan and seats there are.
        catalog: the meters there are.
        customer_id: whose site it is.
        clock: the time of the day that it is.
    """

    def __init__(
        self,
        pool: Pool,
        license_service: LicenseService,
        catalog: Catalog,
        *,
        customer_id: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._license = license_service
        self._catalog = catalog
        self._customer_id = customer_id
        self._clock = clock
        self._taken: date | None = None

    async def take(self) -> int:
        """Take this UTC day's snapshot unless it is taken; return how many events that made."""
        now = self._clock()
        policy = self._license.policy()
        if self._taken == now.date() or not policy.flags.usage_tracking:
            return 0
        families = [_FAMILY, *([_FLEET] if _has_fleet(policy) else [])]
        async with self._pool.connection() as connection:
            cameras, devices = await held_here(connection, self._customer_id)
            levels: dict[str, Decimal | int] = {
                name: level
                for name, level in (await held_gauges(connection, self._customer_id)).items()
                if name in self._catalog.meters
                and self._catalog.meter(name).family in families
                and self._catalog.meter(name).measures != _STORAGE
            }
            levels |= {f"{_FAMILY}.cameras": cameras, f"{_FAMILY}.edge_devices": devices}
            if _FLEET in families:
                levels[f"{_FLEET}.fleet_devices"] = devices
            if policy.snapshot.seats is not None:
                levels[f"{_FAMILY}.camera_seats"] = _seats(policy)
            events = await take_snapshot(
                connection,
                self._customer_id,
                now=now,
                storage_meters=tuple(f"{family}.{_STORAGE}" for family in families),
                levels=levels,
            )
            failpoint("snapshot.before_commit")
        failpoint("snapshot.committed")
        self._taken = now.date()
        if events:
            _log.info("the day's snapshot is taken", meters=[event.meter for event in events])
        return len(events)


def _has_fleet(policy: Policy) -> bool:
    plans = policy.catalog.family(_FLEET).plans.values()
    return policy.decision.full and policy.plan in {plan.plan_claim for plan in plans}


def _seats(policy: Policy) -> int:
    """Return how many seats are taken and have not ended."""
    held = policy.snapshot.seats
    seats = () if held is None else held.seats.values()
    return sum(seat.until is None or seat.until > policy.now for seat in seats)
