"""Conditions as Kubernetes has them: their types, our reasons, and how a set of them changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from brinkbyte.resources.common import ResourceModel, Timestamp

MAX_CONDITIONS: Final = 16
MAX_MESSAGE_LENGTH: Final = 1024
_REASON_PATTERN: Final = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"

ConditionStatus = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """Types of conditions of the three kinds."""

    READY = "Ready"
    """The object does its job."""
    # Tenant
    LICENSE_VALID = "LicenseValid"
    POSTGRES_READY = "PostgresReady"
    REDIS_READY = "RedisReady"
    TRITON_READY = "TritonReady"
    INSTANCE_READY = "InstanceReady"
    METERING_HEALTHY = "MeteringHealthy"
    # EdgeDevice
    REGISTERED = "Registered"
    ONLINE = "Online"
    # CameraLicense
    ISSUED = "Issued"


TENANT_CONDITIONS: Final = (
    ConditionType.LICENSE_VALID,
    ConditionType.POSTGRES_READY,
    ConditionType.REDIS_READY,
    ConditionType.TRITON_READY,
    ConditionType.INSTANCE_READY,
    ConditionType.METERING_HEALTHY,
    ConditionType.READY,
)
TENANT_READY_NEEDS: Final = (
    ConditionType.POSTGRES_READY,
    ConditionType.REDIS_READY,
    ConditionType.TRITON_READY,
    ConditionType.INSTANCE_READY,
)
"""License and metering never gate Ready: a lost line must not turn a site red."""
EDGE_DEVICE_CONDITIONS: Final = (
    ConditionType.REGISTERED,
    ConditionType.ONLINE,
    ConditionType.READY,
)
CAMERA_LICENSE_CONDITIONS: Final = (ConditionType.ISSUED, ConditionType.READY)


class Reason(StrEnum):
    """Reasons that the operator itself gives.

    Reasons of the billing API (``QuotaExceeded``, ``EnrollmentExpired`` …) and of token checks
    pass through as they come, so a condition's reason is open text of the same form.
    """

    # Everything is as it should be.
    AVAILABLE = "Available"
    LICENSE_VALID = "LicenseValid"
    REPORTING = "Reporting"
    REGISTERED = "Registered"
    ISSUED = "Issued"
    HEARTBEAT = "HeartbeatReceived"
    # On the way; heals by itself.
    PROVISIONING = "Provisioning"
    ENROLLING = "Enrolling"
    PENDING = "Pending"
    BILLING_UNREACHABLE = "BillingUnreachable"
    INSTANCE_UNREACHABLE = "InstanceUnreachable"
    BACKLOG_WAITING = "BacklogWaiting"
    DELETING = "Deleting"
    DATA_KEPT = "DataKept"
    CREDENTIAL_ROTATED = "CredentialRotated"
    NEW_EPOCH = "NewEpoch"
    NEVER_REPORTED = "NeverReported"
    NEVER_SEEN = "NeverSeen"
    HEARTBEAT_MISSING = "HeartbeatMissing"
    PAUSED = "Paused"
    DEVELOPMENT_TRUST_ROOT = "DevelopmentTrustRoot"
    AIR_GAPPED = "AirGapped"
    BUNDLE_ENDS_SOON = "BundleEndsSoon"
    # Somebody has to do something.
    INVALID_SPEC = "InvalidSpec"
    NOT_SUPPORTED = "NotSupported"
    TENANT_NOT_FOUND = "TenantNotFound"
    TENANT_NOT_ENROLLED = "TenantNotEnrolled"
    DEVICE_NOT_FOUND = "DeviceNotFound"
    DEVICE_OF_OTHER_TENANT = "DeviceOfOtherTenant"
    DEVICE_NOT_REGISTERED = "DeviceNotRegistered"
    DEVICE_CONFLICT = "DeviceConflict"
    CAMERA_CONFLICT = "CameraConflict"
    UNKNOWN_PACK = "UnknownPack"
    QUOTA_EXCEEDED = "QuotaExceeded"
    TRIAL_ENDED = "TrialEnded"
    SUBSCRIPTION_INACTIVE = "SubscriptionInactive"
    NOT_IN_BUNDLE = "NotInBundle"
    CLONE_SUSPECTED = "CloneSuspected"
    BUNDLE_MISSING = "BundleMissing"
    INSTANCE_EXISTS = "InstanceExists"
    CUSTOMER_MISMATCH = "CustomerMismatch"
    ENROLLMENT_SECRET_MISSING = "EnrollmentSecretMissing"  # noqa: S105 - a reason
    ENROLLMENT_SECRET_WRONG_TYPE = "EnrollmentSecretWrongType"  # noqa: S105 - a reason
    ENROLLMENT_SECRET_EMPTY = "EnrollmentSecretEmpty"  # noqa: S105 - a reason
    ENROLLMENT_INVALID = "EnrollmentInvalid"
    ENROLLMENT_EXPIRED = "EnrollmentExpired"
    ENROLLMENT_USED = "EnrollmentUsed"
    CA_SECRET_MISSING = "CaSecretMissing"  # noqa: S105 - a reason
    CREDENTIAL_REFUSED = "CredentialRefused"
    TOKEN_REFUSED = "TokenRefused"  # noqa: S105 - a reason
    KEY_SET_REFUSED = "KeySetRefused"
    NAME_CONFLICT = "NameConflict"
    SECRET_NAME_TAKEN = "SecretNameTaken"  # noqa: S105 - a reason
    RETAINED_DATA_CONFLICT = "RetainedDataConflict"
    STORAGE_CANNOT_GROW = "StorageCannotGrow"
    STORAGE_CANNOT_SHRINK = "StorageCannotShrink"
    STORAGE_CLASS_CHANGED = "StorageClassChanged"
    POSTGRES_MAJOR_CHANGE = "PostgresMajorChange"
    IMAGE_NOT_PULLED = "ImageNotPulled"
    NOT_SCHEDULED = "NotScheduled"
    CRASHING = "Crashing"
    CHILD_REFUSED = "ChildRefused"
    REPORT_FAILING = "ReportFailing"
    MODELS_MISSING = "ModelsMissing"


WAITING_REASONS: Final = frozenset(
    {
        Reason.PROVISIONING,
        Reason.ENROLLING,
        Reason.PENDING,
        Reason.BILLING_UNREACHABLE,
        Reason.INSTANCE_UNREACHABLE,
        Reason.TENANT_NOT_ENROLLED,
        Reason.DEVICE_NOT_REGISTERED,
        Reason.MODELS_MISSING,
        Reason.DELETING,
    }
)
"""Reasons that go away by themselves: GitOps tools wait for them instead of failing a sync."""


FINE_REASONS: Final = frozenset(
    {
        Reason.AVAILABLE,
        Reason.LICENSE_VALID,
        Reason.REPORTING,
        Reason.REGISTERED,
        Reason.ISSUED,
        Reason.HEARTBEAT,
        Reason.PAUSED,
        Reason.DEVELOPMENT_TRUST_ROOT,
        Reason.AIR_GAPPED,
        "TrialActive",
    }
)
"""Reasons of conditions that hold and about which there is nothing to do."""


class Condition(ResourceModel):
    """One condition, as ``metav1.Condition``."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="What it is about, such as Ready."
    )
    status: ConditionStatus = Field(description="Whether it holds.")
    observed_generation: int = Field(
        0, ge=0, description="metadata.generation that the condition was computed for."
    )
    last_transition_time: Timestamp = Field(description="When status last changed.")
    reason: Annotated[str, Field(min_length=1, max_length=64, pattern=_REASON_PATTERN)] = Field(
        description="One CamelCase word for programs."
    )
    message: Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)] = Field(
        "", description="What happened and what to do next."
    )

    @property
    def true(self) -> bool:
        """Whether the condition holds."""
        return self.status == "True"


class Headline(ResourceModel):
    """The one thing to know about an object now; what ``kubectl get`` prints."""

    reason: Annotated[str, Field(max_length=64)] = Field(description="Reason of that condition.")
    message: Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)] = Field(
        "", description="What happened and what to do next."
    )


def condition(
    kind: ConditionType,
    status: bool | None,
    reason: str,
    message: str,
    *,
    now: datetime,
    generation: int,
) -> Condition:
    """Build a condition.

    Args:
        kind: its type.
        status: True, False, or None for Unknown.
        reason: one CamelCase word.
        message: made one line, and cut to what the schema holds.
        now: time of transition, if there is one (see :func:`merge_conditions`).
        generation: metadata.generation it was computed for.
    """
    words: dict[bool | None, ConditionStatus] = {True: "True", False: "False", None: "Unknown"}
    return Condition(
        type=kind.value,
        status=words[status],
        reason=str(reason),
        message=" ".join(message.split())[:MAX_MESSAGE_LENGTH],
        last_transition_time=now,
        observed_generation=generation,
    )


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """Return the condition of a type, or None."""
    return next((item for item in conditions if item.type == kind.value), None)


def merge_conditions(old: Iterable[Condition], new: Sequence[Condition]) -> tuple[Condition, ...]:
    """Return the new conditions; the time of transition moves only where the status changed."""
    before = {item.type: item for item in old}
    merged = []
    for item in new:
        earlier = before.get(item.type)
        if earlier is not None and earlier.status == item.status:
            merged.append(
                item.model_copy(update={"last_transition_time": earlier.last_transition_time})
            )
        else:
            merged.append(item)
    return tuple(merged)


def headline(conditions: Sequence[Condition]) -> Headline | None:
    """Return what matters most: Ready if it does not hold, else the first that does not.

    Then one that holds although something is wrong: a license under a line that is down, say. All
    well: that of Ready. ``Unknown`` of a condition other than Ready is no problem by itself.
    """
    ready = find(conditions, ConditionType.READY)
    if ready is None:
        return None
    chosen = ready
    if ready.true:
        worst = (item for item in conditions if item.status == "False")
        noted = (item for item in conditions if item.true and item.reason not in FINE_REASONS)
        chosen = next(worst, next(noted, ready))
    return Headline(reason=chosen.reason, message=chosen.message)
