"""Telemetry: events in, sums out, days dropped when their time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from brinkbyte.instance.credentials import Principal
from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.instance.schemas import (
    Aggregates,
    AggregateView,
    RetentionView,
    TelemetryAnswer,
    TelemetryBatch,
)
from brinkbyte.instance.services.metered import (
    MeteredAnswer,
    MeteredCall,
    Work,
    metered,
    waived_attribute,
)
from brinkbyte.instance.services.refusals import camera_refused
from brinkbyte.instance.services.retention import (
    RetentionState,
    allowed_days,
    decide_retention,
    oldest_kept,
)
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.license.modes import UNLICENSED_RETENTION_DAYS, UPGRADE_URL
from brinkbyte.store import telemetry as store
from brinkbyte.store.cameras import camera_device
from brinkbyte.store.database import Connection
from brinkbyte.store.licenses import get_config, set_config
from brinkbyte.store.policy import CameraDecision, Policy
from brinkbyte.store.telemetry import TelemetryEvent

AHEAD: Final = timedelta(minutes=5)
"""A device's clock may be ahead of ours by this much."""
MAX_ROWS: Final = 5000
_MAX_AGE: Final = timedelta(days=400)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RETENTION_KEY: Final = "retention"
_log = get_logger(__name__)


class TelemetryService:
    """Rules of the telemetry endpoints.

    Args:
        pool: the instance's database.
        license_service: what each camera may do.
        wanted_days: days the operator of the site wants kept, None: as the license says.
    """

    def __init__(
        self, pool: Pool, license_service: LicenseService, *, wanted_days: int | None
    ) -> None:
        self._pool = pool
        self._license = license_service
        self._wanted_days = wanted_days

    @property
    def _tenant(self) -> str:
        return self._license.customer_id

    async def take(self, call: MeteredCall, batch: TelemetryBatch) -> MeteredAnswer:
        """Keep a batch of a device's camera, and meter the call, in one transaction.

        Raises:
            ProblemError: the camera is not the device's or not licensed.
            InvalidInputError: an event is too old or in the future.
        """

        async def work(connection: Connection, event_id: str | None) -> Work:
            decision = await device_camera(
                self._license, connection, call.principal, batch.camera_id
            )
            waived = [decision.waived] if decision.waived else []
            self._license.waive(decision, waived)
            await self.check_time(
                connection,
                [
                    (f"events.{at}.occurredAt", item.occurred_at)
                    for at, item in enumerate(batch.events)
                ],
            )
            events = self._events(batch, decision)
            await store.ensure_days(connection, (event.occurred_at for event in events))
            await store.insert_events(connection, self._tenant, events)
            return Work(
                TelemetryAnswer(accepted=len(events), camera_id=batch.camera_id, event_id=event_id),
                batch.camera_id,
                {"events": str(len(events)), **waived_attribute(waived)},
            )

        await self._license.look_up(batch.camera_id)
        return await metered(
            self._pool, call, name="telemetry", status=201, work=work, tracked=self._license.tracked
        )

    async def check_time(
        self, connection: Connection, times: Sequence[tuple[str, datetime]]
    ) -> None:
        """Refuse what is older than it would be kept, or in the future.

        Args:
            connection: of the caller's transaction.
            times: each with the name of its field.

        Raises:
            InvalidInputError: ``EventTimeOutOfRange``.
        """
        kept_days = await self._retention(connection)
        now = datetime.now(UTC)
        age = timedelta(days=kept_days) if kept_days is not None else _MAX_AGE
        oldest, newest = now - min(age, _MAX_AGE), now + AHEAD
        for name, at in times:
            if not oldest <= at <= newest:
                raise InvalidInputError(
                    f"{name}: {at.isoformat()} is not between "
                    f"{oldest:%Y-%m-%dT%H:%M:%SZ} (retention) and five minutes from now; correct "
                    "the device's clock, or leave the event out",
                    reason="EventTimeOutOfRange",
                )

    @staticmethod
    def _events(batch: TelemetryBatch, decision: CameraDecision) -> list[TelemetryEvent]:
        return [
            TelemetryEvent(
                id=uuid7(),
                camera_id=batch.camera_id,
                hardware_id=decision.hardware_id or "",
                occurred_at=item.occurred_at,
                kind=item.kind,
                label=item.label,
                track_id=item.track_id,
                zone=item.zone,
                score=item.score,
                attributes=item.attributes,
            )
            for item in batch.events
        ]

    async def aggregates(
        self,
        *,
        bucket: Literal["hour", "day"],
        since: datetime | None,
        until: datetime | None,
        camera_id: str | None,
        kind: str | None,
    ) -> Aggregates:
        """Return sums of ``[since, until)``; by default of the last day.

        Raises:
            InvalidInputError: an empty or reversed span.
            ProblemError: 403 when the span begins before what the license lets read.
        """
        end = until or datetime.now(UTC)
        start = since or max(end, _FIRST) - timedelta(days=1)
        if start >= end:
            raise InvalidInputError("since must be before until", reason="InvalidSpan")
        check_readable(self._license.policy(), start)
        async with self._pool.connection() as connection:
            found = await store.sums(
                connection,
                self._tenant,
                unit=bucket,
                since=start,
                until=end,
                camera_id=camera_id,
                kind=kind,
                limit=MAX_ROWS + 1,
            )
        return Aggregates(
            bucket=bucket,
            since=start,
            until=end,
            rows=tuple(
                AggregateView(
                    bucket=row.bucket,
                    camera_id=row.camera_id,
                    kind=row.kind,
                    label=row.label,
                    events=row.events,
                    mean_score=row.mean_score,
                )
                for row in found[:MAX_ROWS]
            ),
            truncated=len(found) > MAX_ROWS,
        )

    async def maintain(self, *, at: datetime | None = None) -> list[str]:
        """Make the next days' partitions, decide retention, and drop what is past it.

        Args:
            at: the time to judge by, of both clocks; by default what they say.

        Returns:
            Names of the partitions that were dropped.
        """
        policy = self._license.policy()
        now = datetime.now(UTC)
        if at is not None:
            policy, now = replace(policy, now=int(at.timestamp())), at
        async with self._pool.connection() as connection:
            await store.ensure_days_ahead(connection, now)
            before = await self._kept(connection)
            after = decide_retention(
                before,
                full=policy.decision.full,
                allowed=allowed_days(policy.features.data_retention_days, self._wanted_days),
                now=policy.now,
            )
            if after is not None and after != before:
                await set_config(
                    connection, self._tenant, _RETENTION_KEY, after.model_dump(mode="json")
                )
                _log.info("retention", **after.model_dump(exclude_none=True))
        if after is None:
            oldest: datetime | None = now - timedelta(days=UNLICENSED_RETENTION_DAYS)
        elif policy.decision.full:
            oldest = oldest_kept(after, now)
        else:
            # Frozen: nothing that the last good license kept is dropped.
            oldest = None
        async with self._pool.connection() as connection:
            await connection.set_autocommit(True)
            try:
                return await store.drop_days_before(connection, self._tenant, oldest, now=now)
            finally:
                await connection.set_autocommit(False)

    async def retention(self) -> RetentionView:
        """Return how long data is kept, and what was announced."""
        async with self._pool.connection() as connection:
            kept = await self._kept(connection)
        policy = self._license.policy()
        if kept is None:
            return RetentionView(days=UNLICENSED_RETENTION_DAYS, frozen=False)
        oldest = oldest_kept(kept, datetime.now(UTC)) if policy.decision.full else None
        return RetentionView(
            days=kept.days,
            frozen=not policy.decision.full,
            announced_days=kept.announced_days,
            announced_at=kept.announced_at,
            cut_at=kept.cut_at,
            oldest_kept=oldest,
            readable_days=policy.readable_days,
        )

    async def _kept(self, connection: Connection) -> RetentionState | None:
        kept = await get_config(connection, self._tenant, _RETENTION_KEY)
        return None if kept is None else RetentionState.model_validate(kept)

    async def _retention(self, connection: Connection) -> int | None:
        kept = await self._kept(connection)
        if kept is None:
            policy = self._license.policy()
            if not policy.decision.full:
                return UNLICENSED_RETENTION_DAYS
            return allowed_days(policy.features.data_retention_days, self._wanted_days)
        return kept.days


def check_readable(policy: Policy, start: datetime) -> None:
    """Refuse to read from before what the license lets read.

    Raises:
        ProblemError: 403 ``HistoryNotLicensed``.
    """
    if policy.readable_days is None:
        return
    if start < datetime.now(UTC) - timedelta(days=policy.readable_days, minutes=1):
        raise ProblemError(
            403,
            f"only the last {policy.readable_days} days can be read: {policy.decision.message}",
            reason="HistoryNotLicensed",
            mode=policy.decision.mode.value,
            licenseReason=policy.decision.reason,
            upgradeUrl=UPGRADE_URL,
        )


async def device_camera(
    license_service: LicenseService, connection: Connection, principal: Principal, camera_id: str
) -> CameraDecision:
    """Return what a camera of the calling device may do, by what is in memory.

    Raises:
        ProblemError: 403 when the camera is on another device or nowhere; 402 or 403 when it is
            not licensed.
    """
    configured = await camera_device(connection, license_service.customer_id, camera_id)
    policy = license_service.policy()
    decision = policy.camera(camera_id, configured)
    own = principal.device.hardware_id if principal.device else None
    device = policy.device_of(camera_id, configured)
    if device is not None and device != own:
        raise ProblemError(
            403,
            f"camera {camera_id} is not on this device; send with the credential of the device "
            "it is on, or move its license",
            reason="CameraNotOnDevice",
            cameraId=camera_id,
        )
    if not decision.allowed:
        raise camera_refused(decision)
    # Without a seat, which switched-off validation lets pass, it is on the device that sends.
    return decision if decision.hardware_id else replace(decision, hardware_id=own)
