"""What the operator takes where a Tenant's spec says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from brinkbyte.resources.common import ResourceRequirements, Storage
from brinkbyte.resources.tenant import ResolvedStatus, TenantSpec

POSTGRES_IMAGE: Final = "postgres:17"
REDIS_IMAGE: Final = "redis:8"
TRITON_IMAGE: Final = "nvcr.io/nvidia/tritonserver:24.10-py3"
"""Triton 2.51 with the python backend: the release that everything is tested with."""
POSTGRES_USER_ID: Final = 999
REDIS_USER_ID: Final = 999
TRITON_USER_ID: Final = 1000
INSTANCE_USER_ID: Final = 1000
POSTGRES_STORAGE: Final = "10Gi"
REDIS_STORAGE: Final = "1Gi"
BACKUP_STORAGE: Final = "20Gi"
REDIS_MAX_MEMORY: Final = "256Mi"


def _requirements(cpu: str, memory: str, memory_limit: str) -> ResourceRequirements:
    # No CPU limit: throttling costs latency and protects nobody that the requests do not.
    return ResourceRequirements(
        requests={"cpu": cpu, "memory": memory}, limits={"memory": memory_limit}
    )


POSTGRES_RESOURCES: Final = _requirements("100m", "256Mi", "1Gi")
REDIS_RESOURCES: Final = _requirements("50m", "64Mi", "512Mi")
TRITON_RESOURCES: Final = _requirements("100m", "256Mi", "4Gi")
INSTANCE_RESOURCES: Final = _requirements("100m", "192Mi", "768Mi")
REPORTER_RESOURCES: Final = _requirements("50m", "96Mi", "384Mi")


@dataclass(frozen=True)
class DefaultImages:
    """Images that the operator was started with; the instance's is the operator's own."""

    instance: str
    postgres: str = POSTGRES_IMAGE
    redis: str = REDIS_IMAGE
    triton: str = TRITON_IMAGE


@dataclass(frozen=True)
class Volume:
    """A volume: its size, and its StorageClass or None for the cluster's default."""

    size: str
    storage_class_name: str | None


@dataclass(frozen=True)
class Component:
    """How one of a Tenant's programs runs.

    Attributes:
        volume: persistent volume, or None where the data may go with the pod.
    """

    image: str
    run_as_user: int
    resources: ResourceRequirements
    replicas: int = 1
    volume: Volume | None = None


@dataclass(frozen=True)
class ResolvedTenant:
    """A Tenant's spec with every default filled in.

    Attributes:
        postgres: None when the customer runs it (``external``).
        redis: None when the customer runs it (``external``).
        redis_max_memory: Kubernetes quantity.
        reporter: of the instance's image and user.
    """

    postgres: Component | None
    redis: Component | None
    redis_max_memory: str
    triton: Component
    instance: Component
    reporter: Component
    period_minutes: int

    def to_status(self, *, retention_days: int | None = None) -> ResolvedStatus:
        """Return the part of the status that shows what was taken."""
        volume = self.postgres.volume if self.postgres else None
        return ResolvedStatus(
            postgres_image=self.postgres.image if self.postgres else None,
            redis_image=self.redis.image if self.redis else None,
            triton_image=self.triton.image,
            instance_image=self.instance.image,
            postgres_storage=volume.size if volume else None,
            retention_days=retention_days,
            period_minutes=self.period_minutes,
        )


def resolve(spec: TenantSpec, images: DefaultImages) -> ResolvedTenant:
    """Fill in what the spec leaves open."""

    def volume(storage: Storage | None, size: str) -> Volume:
        given = storage or Storage()
        return Volume(given.size or size, given.storage_class_name or spec.storage_class_name)

    instance = Component(
        image=spec.instance.image or images.instance,
        run_as_user=spec.instance.run_as_user or INSTANCE_USER_ID,
        resources=spec.instance.resources or INSTANCE_RESOURCES,
        replicas=spec.instance.replicas,
    )
    return ResolvedTenant(
        postgres=None
        if spec.postgres.external
        else Component(
            image=spec.postgres.image or images.postgres,
            run_as_user=spec.postgres.run_as_user or POSTGRES_USER_ID,
            resources=spec.postgres.resources or POSTGRES_RESOURCES,
            volume=volume(spec.postgres.storage, POSTGRES_STORAGE),
        ),
        redis=None
        if spec.redis.external
        else Component(
            image=spec.redis.image or images.redis,
            run_as_user=spec.redis.run_as_user or REDIS_USER_ID,
            resources=spec.redis.resources or REDIS_RESOURCES,
            volume=volume(spec.redis.storage, REDIS_STORAGE),
        ),
        redis_max_memory=spec.redis.max_memory or REDIS_MAX_MEMORY,
        triton=Component(
            image=spec.triton.image or images.triton,
            run_as_user=spec.triton.run_as_user or TRITON_USER_ID,
            resources=spec.triton.resources or TRITON_RESOURCES,
            replicas=spec.triton.replicas,
        ),
        instance=instance,
        reporter=Component(
            image=instance.image,
            run_as_user=instance.run_as_user,
            resources=spec.usage_reporter.resources or REPORTER_RESOURCES,
        ),
        period_minutes=spec.usage_reporter.period_minutes,
    )
