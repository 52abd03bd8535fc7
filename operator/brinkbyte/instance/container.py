"""Everything an application is made of, opened at start-up and closed at clean-up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from brinkbyte.catalog import Catalog, load_catalog
from brinkbyte.client.retry import RetryPolicy
from brinkbyte.instance.credentials import Credentials
from brinkbyte.instance.licensing.billing import BillingTier
from brinkbyte.instance.licensing.cache import DocumentCache
from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.instance.metrics import Metrics, StateCollector
from brinkbyte.instance.services.cameras import CameraService
from brinkbyte.instance.services.frames import FrameService
from brinkbyte.instance.services.inference import InferenceService
from brinkbyte.instance.services.reports import Reports
from brinkbyte.instance.services.snapshots import Snapshots
from brinkbyte.instance.services.telemetry import TelemetryService
from brinkbyte.instance.services.views import Views
from brinkbyte.instance.settings import InstanceSettings
from brinkbyte.instance.triton.client import TritonClient
from brinkbyte.instance.triton.loader import ModelLoader
from brinkbyte.kit.pools import Pool
from brinkbyte.license.keys import PublicJwk
from brinkbyte.license.modes import UNLICENSED_DEVICES
from brinkbyte.resources.names import TRITON_CONTROL_KEY
from brinkbyte.store import open_database
from brinkbyte.store.cameras import camera_device
from brinkbyte.store.devices import longest_registered, sync_devices
from brinkbyte.store.directories import WatchedDirectory, read_text
from brinkbyte.store.following import verifier_of
from brinkbyte.store.identity import Identity


@dataclass(frozen=True)
class Instance:
    """The parts of a running application."""

    settings: InstanceSettings
    pool: Pool
    catalog: Catalog
    credentials: Credentials
    cache: DocumentCache
    billing: BillingTier
    license: LicenseService
    loader: ModelLoader
    cameras: CameraService
    telemetry: TelemetryService
    frames: FrameService
    inference: InferenceService
    views: Views
    reports: Reports
    snapshots: Snapshots
    metrics: Metrics

    async def sync_devices(self) -> None:
        """Bring the devices of ``devices.json`` into the database, once it could be read."""
        tenant = self.settings.customer_id
        async with self.pool.connection() as connection:
            if self.credentials.revision:
                await sync_devices(connection, tenant, self.credentials.devices)
            first = await longest_registered(connection, tenant, UNLICENSED_DEVICES)
        self.license.first_devices = first

    async def configured_device(self, camera_id: str) -> str | None:
        """Return the device that a camera is configured on; not asked where seats decide."""
        policy = self.license.policy()
        seats_decide = policy.decision.full and policy.flags.license_validation
        if seats_decide or policy.knows(camera_id):
            return None
        async with self.pool.connection() as connection:
            return await camera_device(connection, self.settings.customer_id, camera_id)


@asynccontextmanager
async def open_instance(
    settings: InstanceSettings, roots: Mapping[str, PublicJwk], metrics: Metrics
) -> AsyncIterator[Instance]:
    """Open pool and clients, and put the parts together.

    Args:
        settings: of the program.
        roots: the release's root keys.
        metrics: of the application.
    """
    catalog = load_catalog()
    identity = Identity(settings.identity_dir)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_database(settings, name="brinkbyte-instance"))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        cache = DocumentCache(settings.redis, prefix=f"brinkbyte:{settings.customer_id}")
        stack.push_async_callback(cache.aclose)
        billing = BillingTier(identity, retry=RetryPolicy())
        stack.push_async_callback(billing.aclose)
        credentials = Credentials(settings.access_dir, settings.devices_dir)

        license_service = LicenseService(
            verifier=verifier_of(identity, roots, settings.customer_id),
            customer_id=settings.customer_id,
            pool=pool,
            cache=cache,
            billing=billing,
            directory=WatchedDirectory(settings.license_dir),
            catalog=catalog,
        )
        triton = TritonClient(http, lambda: read_text(settings.triton_dir / TRITON_CONTROL_KEY))
        loader = ModelLoader(
            triton,
            host=settings.triton_host,
            port=settings.triton_port,
            licensed=lambda: license_service.policy().licensed_models,
        )
        stack.push_async_callback(loader.aclose)
        telemetry = TelemetryService(pool, license_service, wanted_days=settings.retention_days)
        instance = Instance(
            settings=settings,
            pool=pool,
            catalog=catalog,
            credentials=credentials,
            cache=cache,
            billing=billing,
            license=license_service,
            loader=loader,
            cameras=CameraService(pool, license_service, catalog),
            telemetry=telemetry,
            frames=FrameService(pool, license_service, telemetry),
            inference=InferenceService(
                pool,
                license_service,
                catalog,
                loader,
                triton,
                places=settings.database_pool_size // 2,
            ),
            views=Views(
                pool,
                license_service,
                credentials,
                loader,
                catalog,
                clone_alarm=lambda: billing.clone_alarm,
            ),
            reports=Reports(pool, license_service),
            snapshots=Snapshots(pool, license_service, catalog, customer_id=settings.customer_id),
            metrics=metrics,
        )
        metrics.registry.register(StateCollector(instance))
        yield instance
