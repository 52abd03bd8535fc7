"""``Tenant``: one customer's instance."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from brinkbyte.license.modes import LicenseMode
from brinkbyte.resources.cel import rules
from brinkbyte.resources.common import (
    Image,
    LabelValue,
    ObjectName,
    Quantity,
    Resource,
    ResourceModel,
    ResourceRequirements,
    SecretReference,
    Storage,
    Timestamp,
    Uid,
    UsedOfLimit,
)
from brinkbyte.resources.conditions import MAX_CONDITIONS, Condition, Headline

EXTERNAL_POSTGRES_KEY: Final = "dsn"
"""Key of the Secret behind ``postgres.external.secretRef``: a libpq URI."""
EXTERNAL_REDIS_KEY: Final = "url"
"""Key of the Secret behind ``redis.external.secretRef``: a redis:// or rediss:// URL."""


class DeletionPolicy(StrEnum):
    """What becomes of the data when the Tenant goes."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Billing(ResourceModel):
    """How the operator reaches the vendor's billing API."""

    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=512,
            json_schema_extra=rules(
                (
                    "self.matches('^https?://[^/?#@ ]+(/[^?#@ ]*)?$') && isURL(self)",
                    "spec.billing.url must be a URL without user, query or fragment, such as "
                    "https://billing.example.com",
                ),
                (
                    # Not by url(self).getHostname(): its length has no bound, so matching on it is
                    # beyond the cost that the API server allows.
                    "self.startsWith('https://') || self.matches('^http://(localhost|"
                    "127([.][0-9]{1,3}){3}|[[]::1[]])(:[0-9]{1,5})?(/.*)?$')",
                    "spec.billing.url must begin with https:// (http:// is for loopback only): "
                    "give the API a certificate and name its CA in spec.billing.caSecretRef",
                ),
            ),
        ),
    ] = Field(description="Base URL of the billing API; https, but for a loopback host.")
    enrollment_secret_ref: SecretReference = Field(
        description=(
            "Secret of type vision.brinkbyte.io/enrollment with the one-time token under the key "
            "token. Needed until the instance is enrolled."
        )
    )
    ca_secret_ref: SecretReference | None = Field(
        None,
        description="Secret with the key ca.crt: the CA of the billing API's certificate, PEM.",
    )


class License(ResourceModel):
    """Licenses that come by hand."""

    bundle_secret_ref: SecretReference = Field(
        description="Secret that `brinkbyte license import` wrote from the vendor's bundle."
    )


class External(ResourceModel):
    """A server that the customer runs."""

    secret_ref: SecretReference = Field(
        description="Secret with its address and password: key dsn (PostgreSQL) or url (Redis)."
    )


class Backup(ResourceModel):
    """Regular dumps of the database onto a volume of their own."""

    schedule: Annotated[str, Field(min_length=9, max_length=64, pattern=r"^[0-9*/, A-Za-z-]+$")] = (
        Field(description="When, as five cron fields, UTC.")
    )
    keep: Annotated[int, Field(ge=1, le=365)] = Field(7, description="How many dumps are kept.")
    storage: Storage | None = Field(None, description="Volume of the dumps.")


_EXTERNAL_EXCLUDES: Final = (
    "!has(self.external) || !({fields})",
    "spec.{name}.external names a server that you run: remove {words} beside it",
)


def _external_excludes(name: str, *fields: str) -> dict[str, Any]:
    rule, message = _EXTERNAL_EXCLUDES
    return rules(
        (
            rule.format(fields=" || ".join(f"has(self.{field})" for field in fields)),
            message.format(name=name, words=", ".join(fields)),
            ".external",
        )
    )


class Postgres(ResourceModel):
    """The instance's PostgreSQL."""

    model_config = ConfigDict(
        json_schema_extra=_external_excludes(
            "postgres", "image", "storage", "resources", "backup", "runAsUser"
        )
    )

    image: Image | None = Field(
        None, description="Image; its major version cannot change once there is data."
    )
    storage: Storage | None = Field(None, description="Volume of the database; 10Gi by default.")
    resources: ResourceRequirements | None = Field(None, description="Requests and limits.")
    run_as_user: Uid | None = Field(None, description="User id in the image; 999 by default.")
    backup: Backup | None = Field(None, description="Regular dumps; none by default.")
    external: External | None = Field(None, description="Use this server instead of our own.")


class Redis(ResourceModel):
    """The instance's Redis: a cache; losing it costs speed only."""

    model_config = ConfigDict(
        json_schema_extra=_external_excludes(
            "redis", "image", "storage", "resources", "maxMemory", "runAsUser"
        )
    )

    image: Image | None = Field(None, description="Image.")
    storage: Storage | None = Field(
        None, description="Volume of its append-only file; 1Gi by default."
    )
    resources: ResourceRequirements | None = Field(None, description="Requests and limits.")
    run_as_user: Uid | None = Field(None, description="User id in the image; 999 by default.")
    max_memory: Quantity | None = Field(
        None, description="Memory for data, 256Mi by default; the least used keys make room."
    )
    external: External | None = Field(None, description="Use this server instead of our own.")


class ModelRepository(ResourceModel):
    """Where Triton's models lie."""

    claim_name: ObjectName = Field(
        description="PersistentVolumeClaim in the same namespace, mounted read-only."
    )


class Triton(ResourceModel):
    """The instance's Triton Inference Server."""

    image: Image | None = Field(None, description="Image with the python backend.")
    model_repository: ModelRepository | None = Field(
        None, description="Models on a volume of yours; by default those of the instance image."
    )
    gpus: Annotated[int, Field(ge=0, le=16)] = Field(
        0, description="nvidia.com/gpu of each pod; 0: on CPU."
    )
    replicas: Annotated[int, Field(ge=1, le=8)] = Field(1, description="Number of pods.")
    resources: ResourceRequirements | None = Field(None, description="Requests and limits.")
    run_as_user: Uid | None = Field(None, description="User id in the image; 1000 by default.")


class Ingress(ResourceModel):
    """How the instance is reached from outside the cluster."""

    host: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        ),
    ] = Field(description="DNS name.")
    class_name: ObjectName | None = Field(
        None, description="IngressClass; by default the cluster's."
    )
    tls_secret_ref: SecretReference | None = Field(
        None, description="Secret of type kubernetes.io/tls for the host."
    )


class Instance(ResourceModel):
    """The customer-instance API."""

    image: Image | None = Field(None, description="Image; by default the operator's own.")
    replicas: Annotated[int, Field(ge=1, le=10)] = Field(1, description="Number of pods.")
    resources: ResourceRequirements | None = Field(None, description="Requests and limits.")
    run_as_user: Uid | None = Field(None, description="User id in the image; 1000 by default.")
    ingress: Ingress | None = Field(None, description="Ingress; none by default.")


class UsageReporter(ResourceModel):
    """The CronJob that carries metering to the billing API."""

    period_minutes: Annotated[int, Field(ge=1, le=4)] = Field(
        2, description="Minutes between two reports, 1 to 4."
    )
    resources: ResourceRequirements | None = Field(None, description="Requests and limits.")


class TenantSpec(ResourceModel):
    """What a customer wants of its instance."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.billing) || has(self.license)",
                "spec.billing is missing: name the billing API (url, enrollmentSecretRef), or "
                "for a site without a line the bundle in spec.license.bundleSecretRef",
            )
        )
    )

    customer_id: Annotated[
        LabelValue,
        Field(
            json_schema_extra=rules(
                (
                    "self == oldSelf",
                    "spec.customerId is immutable: create another Tenant for another customer",
                )
            )
        ),
    ] = Field(description="Who pays: the id that the vendor gave. Immutable.")
    billing: Billing | None = Field(None, description="The vendor's billing API.")
    license: License | None = Field(None, description="Licenses by hand, for air-gapped sites.")
    postgres: Postgres = Field(default_factory=Postgres, description="PostgreSQL.")
    redis: Redis = Field(default_factory=Redis, description="Redis.")
    triton: Triton = Field(default_factory=Triton, description="Triton Inference Server.")
    instance: Instance = Field(default_factory=Instance, description="Customer-instance API.")
    usage_reporter: UsageReporter = Field(
        default_factory=UsageReporter, description="Usage reporter."
    )
    retention_days: Annotated[int, Field(ge=1, le=3650)] | None = Field(
        None, description="Days that data is kept; at most what the license allows."
    )
    storage_class_name: ObjectName | None = Field(
        None, description="StorageClass of every volume that names none; else the cluster's."
    )
    image_pull_secrets: tuple[SecretReference, ...] = Field(
        (),
        max_length=8,
        description="Secrets for the registries of the images.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    paused: bool = Field(
        False,
        description="Stops provisioning; enforcement, renewal and metering go on.",
    )
    deletion_policy: DeletionPolicy = Field(
        DeletionPolicy.RETAIN,
        description=(
            "Retain keeps volumes, credentials and unreported usage for a Tenant of the same name "
            "and customer; Delete removes them once every usage event has its receipt."
        ),
    )


class LicenseStatus(ResourceModel):
    """The newest verified license."""

    mode: LicenseMode = Field(description="Mode in force.")
    plan: Annotated[str, Field(max_length=64)] | None = Field(None, description="Plan.")
    expires_at: Timestamp | None = Field(None, description="When the license ends.")
    renewal_time: Timestamp | None = Field(None, description="When it is asked for anew.")
    sequence: Annotated[int, Field(ge=0)] | None = Field(None, description="Sequence number.")


class TenantUsage(ResourceModel):
    """Used of the limits."""

    devices: UsedOfLimit | None = Field(None, description="Edge devices.")
    cameras: UsedOfLimit | None = Field(None, description="Camera seats.")


class MeteringStatus(ResourceModel):
    """How reporting stands; written with other changes or once an hour, live in the metrics."""

    last_reported_at: Timestamp | None = Field(None, description="Time of the last report.")
    backlog: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Events that have no receipt yet."
    )
    last_receipt: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Newest receipt, epoch/batchNo."
    )


class Endpoints(ResourceModel):
    """Where the instance answers."""

    instance: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="URL inside the cluster."
    )
    ingress: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="URL from outside the cluster."
    )


class ResolvedStatus(ResourceModel):
    """What the operator took where the spec says nothing."""

    postgres_image: Annotated[str, Field(max_length=512)] | None = Field(None, description="Image.")
    redis_image: Annotated[str, Field(max_length=512)] | None = Field(None, description="Image.")
    triton_image: Annotated[str, Field(max_length=512)] | None = Field(None, description="Image.")
    instance_image: Annotated[str, Field(max_length=512)] | None = Field(None, description="Image.")
    postgres_storage: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Size of the database's volume."
    )
    retention_days: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Days in force: the least of spec and license."
    )
    period_minutes: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Minutes between two usage reports."
    )


class TenantStatus(ResourceModel):
    """What the operator sees."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(
        0, description="metadata.generation that this status was computed for."
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        max_length=MAX_CONDITIONS,
        description="LicenseValid PostgresReady RedisReady TritonReady InstanceReady "
        "MeteringHealthy Ready.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    headline: Headline | None = Field(None, description="What matters most now.")
    instance_id: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Id of this instance, made at enrollment."
    )
    license: LicenseStatus | None = Field(None, description="The newest verified license.")
    usage: TenantUsage | None = Field(None, description="Used of the limits.")
    metering: MeteringStatus | None = Field(None, description="How reporting stands.")
    endpoints: Endpoints | None = Field(None, description="Where the instance answers.")
    resolved: ResolvedStatus | None = Field(None, description="Defaults that were taken.")


class Tenant(Resource):
    """One customer's instance: PostgreSQL, Redis, Triton, the instance API, the usage reporter."""

    KIND: ClassVar[str] = "Tenant"
    PLURAL: ClassVar[str] = "tenants"

    kind: Literal["Tenant"] = "Tenant"
    spec: TenantSpec
    status: TenantStatus = Field(default_factory=TenantStatus)
