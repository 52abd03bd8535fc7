"""``EdgeDevice``: a box with cameras, registered with the billing API."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from brinkbyte.resources.cel import immutable
from brinkbyte.resources.common import (
    Id,
    Resource,
    ResourceModel,
    ResourceReference,
    SecretReference,
    Timestamp,
    UsedOfLimit,
)
from brinkbyte.resources.conditions import MAX_CONDITIONS, Condition, Headline


class ManagementTier(StrEnum):
    """Who looks after the device."""

    BASIC = "basic"
    MANAGED = "managed"


class EdgeDeviceSpec(ResourceModel):
    """The device that is to be registered."""

    tenant_ref: Annotated[
        ResourceReference,
        Field(json_schema_extra=immutable("spec.tenantRef", "delete this EdgeDevice")),
    ] = Field(description="Tenant in the same namespace. Immutable.")
    hardware_id: Annotated[
        Id, Field(json_schema_extra=immutable("spec.hardwareId", "delete this EdgeDevice"))
    ] = Field(description="Identity from the hardware, unique for the customer. Immutable.")
    management_tier: ManagementTier = Field(
        ManagementTier.BASIC, description="basic: you look after it; managed: the vendor does."
    )
    site: Annotated[str, Field(max_length=200)] = Field("", description="Where it stands.")


class EdgeDeviceStatus(ResourceModel):
    """What the operator sees."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(
        0, description="metadata.generation that this status was computed for."
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        max_length=MAX_CONDITIONS,
        description="Registered Online Ready.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    headline: Headline | None = Field(None, description="What matters most now.")
    registered_at: Timestamp | None = Field(None, description="When it was registered.")
    last_seen: Timestamp | None = Field(
        None, description="Last heartbeat before the newest change between online and offline."
    )
    usage: UsedOfLimit | None = Field(
        None, description="Edge devices of the customer; set when this one is refused."
    )
    token_secret_ref: SecretReference | None = Field(
        None, description="Secret with the credential that every call of the device carries."
    )


class EdgeDevice(Resource):
    """A box with cameras."""

    KIND: ClassVar[str] = "EdgeDevice"
    PLURAL: ClassVar[str] = "edgedevices"

    kind: Literal["EdgeDevice"] = "EdgeDevice"
    spec: EdgeDeviceSpec
    status: EdgeDeviceStatus = Field(default_factory=EdgeDeviceStatus)
