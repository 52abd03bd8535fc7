"""Building blocks of the three kinds: bounded text, references, quantities, object metadata.

Every string, list and map has a bound: the API server computes the cost of a CEL rule from them.
Patterns are read by three engines (Go, Rust, JSON Schema), so they name their ASCII ranges.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.model import WireModel, first_problem
from brinkbyte.license.wire import Use
from brinkbyte.resources.names import API_VERSION, MAX_NAME_LENGTH

_QUANTITY_PATTERN: Final = (
    r"^\+?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"
)


def _utc_seconds(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a zone: write it as RFC 3339, such as 2026-11-20T08:00:00Z")
    return value.astimezone(UTC).replace(microsecond=0)


def _text_of_number(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


Timestamp = Annotated[datetime, AfterValidator(_utc_seconds)]
"""UTC, whole seconds: the form of Kubernetes' own times."""
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
    ),
]
"""Name of any Kubernetes object: a DNS subdomain."""
ResourceName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
    ),
]
"""Name of an object of one of our kinds."""
Id = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@-]*$")]
"""Id of a camera or a device."""
LabelValue = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"),
]
"""Text that Kubernetes takes as the value of a label."""
Image = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*(@sha256:[a-f0-9]{64})?$",
    ),
]
"""Reference of a container image, with tag or digest."""
Quantity = Annotated[
    str,
    Field(
        min_length=1,
        max_length=32,
        pattern=_QUANTITY_PATTERN,
        json_schema_extra={"x-kubernetes-int-or-string": True},
    ),
    BeforeValidator(_text_of_number),
]
"""Kubernetes quantity: a number or text such as ``500m`` or ``10Gi``; kept as text here."""
Uid = Annotated[int, Field(ge=1, le=2_147_483_647)]
"""User id of a process; never root."""
PackName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
"""Name of a growth pack; whether it exists is judged in code and shown as a condition."""


class ResourceModel(WireModel):
    """Part of a resource: camelCase, frozen; fields of a later release are passed over."""

    model_config = ConfigDict(extra="ignore")

    def to_wire(self) -> dict[str, Any]:
        """Return the members that are set, as the API server stores them."""
        return self.model_dump(mode="json", exclude_none=True)


class SecretReference(ResourceModel):
    """A Secret in the same namespace."""

    name: ObjectName = Field(description="Name of a Secret in the same namespace.")


class ResourceReference(ResourceModel):
    """An object of one of our kinds in the same namespace."""

    name: ResourceName = Field(description="Name of the object in the same namespace.")


class Storage(ResourceModel):
    """A persistent volume. It can grow; shrinking or another class changes nothing."""

    size: Quantity | None = Field(
        None, description="Size of the volume, such as 10Gi. It can grow, never shrink."
    )
    storage_class_name: ObjectName | None = Field(
        None, description="StorageClass; by default spec.storageClassName, then the cluster's."
    )


class ResourceRequirements(ResourceModel):
    """Requests and limits of a container; what is given replaces our default as a whole."""

    requests: dict[str, Quantity] | None = Field(
        None,
        max_length=8,
        description="What the container is sure to get, such as {cpu: 250m, memory: 512Mi}.",
    )
    limits: dict[str, Quantity] | None = Field(
        None, max_length=8, description="What the container may take at most."
    )


class UsedOfLimit(ResourceModel):
    """How much of a limit is used."""

    used: int = Field(ge=0, description="How many are in use.")
    limit: int | None = Field(None, ge=0, description="How many there may be; unset: unlimited.")
    summary: str = Field(
        max_length=64, description="Both in one word for kubectl: 3/10, or 3/unlimited."
    )

    @classmethod
    def of(cls, use: Use) -> Self:
        """Return the status form of an answer's use."""
        limit = "unlimited" if use.limit is None else str(use.limit)
        return cls(used=use.used, limit=use.limit, summary=f"{use.used}/{limit}")


class OwnerReference(ResourceModel):
    """Who owns an object."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(ResourceModel):
    """The metadata that a reconcile reads."""

    name: str
    namespace: str
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class Resource(ResourceModel):
    """Base of the three kinds: ``KIND`` and plural as the API server knows them."""

    KIND: ClassVar[str]
    PLURAL: ClassVar[str]

    api_version: str = API_VERSION
    metadata: ObjectMeta

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read an object as the API server returns it.

        Raises:
            InvalidInputError: reason ``InvalidSpec``, names the field; only an object stored under
                an older, laxer schema can bring this about.
        """
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            if body.get("status"):
                # A status is ours to write anew: it is no reason to give up on the object.
                return cls.parse({**body, "status": {}})
            raise InvalidInputError(
                f"{first_problem(error)}. Correct the field and apply the manifest again",
                reason="InvalidSpec",
            ) from None

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the object."""
        return self.metadata.namespace

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name: the key of a work queue."""
        return self.KIND, self.metadata.namespace, self.metadata.name

    @property
    def deleting(self) -> bool:
        """Whether somebody asked for the object to go."""
        return self.metadata.deletion_timestamp is not None

    def owner_reference(self) -> dict[str, Any]:
        """Return the reference that makes a child ours: it goes when its owner goes."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.KIND,
            "name": self.metadata.name,
            "uid": self.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
