"""Telemetry: events in, sums out, days dropped when their time is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from brinkbyte.instance.credentials import Principal
from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.instance.schemas import (
    Aggregates,
    AggregateView,
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
)
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.license.modes import UNLICENSED_RETENTION_DAYS, UPGRADE_URL
from brinkbyte.store import telemetry as store
from brinkbyte.store.cameras import camera_device
from brinkbyte.store.database import Connection
from brinkbyte.store.licenses import get_config, set_config
from brinkbyte.store.policy import CameraDecision
from brinkbyte.store.telemetry import TelemetryEvent

AHEAD: Final = timedelta(minutes=5)
"""A device's clock may be ahead of ours by this much."""
MAX_ROWS: Final = 5000
_MAX_AGE: Final = timedelta(days=400)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RETENTION_KEY: Final = "retention"


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
            kept = await self._retention(connection)
            events = self._events(batch, decision, kept)
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

    def _events(
        self, batch: TelemetryBatch, decision: CameraDecision, kept_days: int | None
    ) -> list[TelemetryEvent]:
        now = datetime.now(UTC)
        age = timedelta(days=kept_days) if kept_days is not None else _MAX_AGE
        oldest, newest = now - min(age, _MAX_AGE), now + AHEAD
        events = []
        for index, item in enumerate(batch.events):
            if not oldest <= item.occurred_at <= newest:
                raise InvalidInputError(
                    f"events.{index}.occurredAt: {item.occurred_at.isoformat()} is not between "
                    f"{oldest:%Y-%m-%dT%H:%M:%SZ} (retention) and five minutes from now; correct "
                    "the device's clock, or leave the event out",
                    reason="EventTimeOutOfRange",
                )
            events.append(
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
            )
        return events

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
        policy = self._license.policy()
        if policy.readable_days is not None:
            first = datetime.now(UTC) - timedelta(days=policy.readable_days, minutes=1)
            if start < first:
                raise ProblemError(
                    403,
                    f"only the last {policy.readable_days} days can be read: "
                    f"{policy.decision.message}",
                    reason="HistoryNotLicensed",
                    mode=policy.decision.mode.value,
                    licenseReason=policy.decision.reason,
                    upgradeUrl=UPGRADE_URL,
                )
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

    async def maintain(self) -> list[str]:
        """Make the next days' partitions, decide retention, and drop what is past it.

        Returns:
            Names of the partitions that were dropped.
        """
        now = datetime.now(UTC)
        policy = self._license.policy()
        async with self._pool.connection() as connection:
            await store.ensure_days_ahead(connection, now)
            kept = await get_config(connection, self._tenant, _RETENTION_KEY)
            before = None if kept is None else RetentionState.model_validate(kept)
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
        if after is None:
            days: int | None = UNLICENSED_RETENTION_DAYS
        elif policy.decision.full:
            days = after.days
        else:
            # Frozen: nothing that the last good license kept is dropped.
            return []
        if days is None:
            return []
        async with self._pool.connection() as connection:
            await connection.set_autocommit(True)
            try:
                return await store.drop_days_before(
                    connection, self._tenant, now - timedelta(days=days)
                )
            finally:
                await connection.set_autocommit(False)

    async def _retention(self, connection: Connection) -> int | None:
        kept = await get_config(connection, self._tenant, _RETENTION_KEY)
        if kept is None:
            policy = self._license.policy()
            if not policy.decision.full:
                return UNLICENSED_RETENTION_DAYS
            return allowed_days(policy.features.data_retention_days, self._wanted_days)
        return RetentionState.model_validate(kept).days


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
