"""``CameraLicense``: one seat for one camera, with growth packs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, JsonValue

from brinkbyte.license.claims import CameraMode
from brinkbyte.resources.cel import immutable
from brinkbyte.resources.common import (
    Id,
    ObjectName,
    PackName,
    Resource,
    ResourceModel,
    ResourceReference,
    SecretReference,
    Timestamp,
    UsedOfLimit,
)
from brinkbyte.resources.conditions import MAX_CONDITIONS, Condition, Headline
from brinkbyte.resources.names import CAMERA_LICENSE_SUFFIX

_NAMES: Final[dict[str, JsonValue]] = {"x-kubernetes-list-type": "set"}
_OURS_WHOLE: Final[dict[str, JsonValue]] = {"x-kubernetes-list-type": "atomic"}
"""A list that only the operator writes: the API server keeps one owner, not one for each item."""


class CameraLicenseSpec(ResourceModel):
    """The seat that a camera is to have."""

    tenant_ref: Annotated[
        ResourceReference,
        Field(json_schema_extra=immutable("spec.tenantRef", "delete this CameraLicense")),
    ] = Field(description="Tenant in the same namespace. Immutable.")
    camera_id: Annotated[
        Id, Field(json_schema_extra=immutable("spec.cameraId", "delete this CameraLicense"))
    ] = Field(description="Id of the camera, unique for the customer. Immutable.")
    device_ref: ResourceReference = Field(
        description="EdgeDevice that the camera is on. Change it to move camera and seat."
    )
    mode: CameraMode = Field(
        CameraMode.BASE, description="base: a bought seat; trial: a seat of the camera trial."
    )
    growth_packs: tuple[PackName, ...] = Field(
        (),
        max_length=32,
        description="Growth packs of this camera, such as retail or advanced_analytics.",
        json_schema_extra=_NAMES,
    )
    secret_name: ObjectName | None = Field(
        None,
        description="Secret to write the license into; <name>-bcl-license by default. One that "
        "exists and is not the operator's is refused.",
    )


class CameraFeatures(ResourceModel):
    """What the license allows."""

    models: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        (), max_length=256, description="Models.", json_schema_extra=_OURS_WHOLE
    )
    analytics: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        (), max_length=128, description="Analytics.", json_schema_extra=_OURS_WHOLE
    )
    outputs: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        (), max_length=64, description="Outputs.", json_schema_extra=_OURS_WHOLE
    )


class CameraLicenseStatus(ResourceModel):
    """What the operator sees."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(
        0, description="metadata.generation that this status was computed for."
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        max_length=MAX_CONDITIONS,
        description="Issued Ready.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    headline: Headline | None = Field(None, description="What matters most now.")
    seat: Annotated[str, Field(max_length=128)] | None = Field(None, description="Id of the seat.")
    sequence: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Sequence number of the token in the Secret."
    )
    hardware_id: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Device that the token is good on."
    )
    valid_until: Timestamp | None = Field(None, description="When the token ends.")
    renewal_time: Timestamp | None = Field(None, description="When it is asked for anew.")
    features: CameraFeatures | None = Field(None, description="What the license allows.")
    secret_ref: SecretReference | None = Field(None, description="Secret that holds the token.")
    usage: UsedOfLimit | None = Field(
        None, description="Seats of the customer; set when this one is refused."
    )


class CameraLicense(Resource):
    """A camera's seat."""

    KIND: ClassVar[str] = "CameraLicense"
    PLURAL: ClassVar[str] = "cameralicenses"

    kind: Literal["CameraLicense"] = "CameraLicense"
    spec: CameraLicenseSpec
    status: CameraLicenseStatus = Field(default_factory=CameraLicenseStatus)

    @property
    def secret_name(self) -> str:
        """Name of the Secret that holds the token."""
        return self.spec.secret_name or f"{self.name}{CAMERA_LICENSE_SUFFIX}"
