"""What goes on by itself: watching directories, refreshing licenses, loading models, clean-up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from brinkbyte import __version__
from brinkbyte.instance.container import Instance
from brinkbyte.instance.licensing.audit import FLUSH_SECONDS
from brinkbyte.instance.licensing.service import CLOCK_SAVE_SECONDS
from brinkbyte.instance.services.reports import REFRESH_SECONDS
from brinkbyte.instance.services.snapshots import SNAPSHOT_SECONDS
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.wire import Heartbeat
from brinkbyte.store import metering_state
from brinkbyte.store.dashboards import partition_states
from brinkbyte.store.devices import device_changes
from brinkbyte.store.idempotency import purge_idempotency_keys
from brinkbyte.store.licenses import purge_validations
from brinkbyte.store.state import quarantined_events

MAINTENANCE_SECONDS: Final = 3600.0
DATABASE_LOOK_SECONDS: Final = 30.0
_JITTER: Final = 0.1
_log = get_logger(__name__)
Job = Callable[[], Awaitable[object]]


class Background:
    """The jobs of one application."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._devices_synced: int | None = None
        self._refresh_failures = 0
        self._stopping = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run every job until the block ends, then keep the audit and the offline clock."""
        settings = self._instance.settings
        service = self._instance.license
        jobs = [
            self._every("watch", settings.watch_seconds, self.watch),
            self._every("database", DATABASE_LOOK_SECONDS, self.look_into_database),
            self._every(
                "triton",
                settings.triton_seconds,
                self._instance.loader.run_once,
                wake=service.changed,
            ),
            self._every("heartbeat", settings.heartbeat_seconds, self.heartbeat),
            self._every("clock", CLOCK_SAVE_SECONDS, service.save_clock),
            self._every("audit", FLUSH_SECONDS, service.audit.flush),
            self._every("maintenance", MAINTENANCE_SECONDS, self.maintain),
            self._every("snapshot", SNAPSHOT_SECONDS, self.take_snapshot),
            self._every("views", REFRESH_SECONDS, self._instance.reports.refresh),
            self._refresh_again_and_again(),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            yield
        finally:
            await self._end(tasks)
            await service.audit.flush(everything=True)
            await service.save_clock()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        """Cancel until every task has ended: a library may swallow a cancellation on its way."""
        self._stopping = True
        left = set(tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1.0)

    async def watch(self) -> None:
        """Follow the mounted directories."""
        instance = self._instance
        instance.credentials.reload()
        await instance.license.look_into_directory()
        instance.license.note_mode()
        # What needs the database comes last: without one the rest is still followed.
        await instance.license.save_if_needed()
        revision = instance.credentials.revision
        if self._devices_synced != revision:
            await instance.sync_devices()
            self._devices_synced = revision
        await instance.reports.sync_entitlements()

    async def look_into_database(self) -> None:
        """Follow what other replicas have taken in, and what the reporter was told."""
        instance = self._instance
        await instance.license.look_into_database()
        async with instance.pool.connection() as connection:
            for reason, count in (await quarantined_events(connection)).items():
                instance.metrics.quarantined.labels(reason).set(count)
            for state in await partition_states(connection):
                instance.metrics.days_ahead.labels(state.table).set(state.days_ahead)
                instance.metrics.table_bytes.labels(state.table).set(state.bytes)

    async def heartbeat(self) -> None:
        """Tell the billing API that this instance lives; ask for tokens if it has newer ones."""
        instance, tenant = self._instance, self._instance.settings.customer_id
        if instance.billing.air_gapped:
            return
        async with instance.pool.connection() as connection:
            online = (await device_changes(connection, tenant, since=0)).online
            metering = await metering_state(connection)
        snapshot = instance.license.snapshot
        answer = await instance.billing.heartbeat(
            Heartbeat(
                version=__version__,
                cluster_fingerprint=instance.billing.cluster_fingerprint(),
                devices_online=online,
                backlog=metering.backlog,
                key_set_number=snapshot.sequence(TokenKind.KEY_SET),
                license_sequence=snapshot.sequence(TokenKind.LICENSE),
            )
        )
        if answer.refresh:
            await instance.license.refresh()

    async def take_snapshot(self) -> None:
        """Record the site's gauges, once a day; not before its devices and license are known."""
        if self._devices_synced is not None:
            await self._instance.snapshots.take()

    async def maintain(self) -> None:
        """Make partitions, drop what is past its retention, forget old keys and audit rows."""
        instance = self._instance
        dropped = await instance.telemetry.maintain()
        if dropped:
            _log.info("telemetry past its retention dropped", partitions=dropped)
        async with instance.pool.connection() as connection:
            await purge_idempotency_keys(connection)
        more = True
        while more:
            async with instance.pool.connection() as connection:
                more = await purge_validations(connection, instance.settings.customer_id)

    async def _refresh_again_and_again(self) -> None:
        service = self._instance.license
        # Spread over a few seconds: replicas and customers start together after an outage.
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311 - spreads load, guards nothing
        while not self._stopping:
            answered = False

            async def refresh() -> None:
                nonlocal answered
                answered = await service.refresh()

            await self._once("refresh", refresh)
            self._refresh_failures = 0 if answered else self._refresh_failures + 1
            await asyncio.sleep(service.next_refresh_in(self._refresh_failures))

    async def _every(
        self, name: str, seconds: float, job: Job, *, wake: asyncio.Event | None = None
    ) -> None:
        while not self._stopping:
            if wake is not None:
                wake.clear()
            await self._once(name, job)
            pause = seconds * random.uniform(1 - _JITTER, 1)  # noqa: S311 - spreads load only
            if wake is None:
                await asyncio.sleep(pause)
                continue
            try:
                await asyncio.wait_for(wake.wait(), pause)
            except TimeoutError:
                continue

    async def _once(self, name: str, job: Job) -> None:
        try:
            await job()
        except (BrinkByteError, psycopg.Error, PoolTimeout, OSError) as error:
            self._instance.metrics.job_failures.labels(name).inc()
            _log.info("job failed, it is tried again", job=name, error=str(error))
        except Exception:  # noqa: BLE001 - one surprise must not end a job for good
            self._instance.metrics.job_failures.labels(name).inc()
            _log.exception("job failed unexpectedly, it is tried again", job=name)
