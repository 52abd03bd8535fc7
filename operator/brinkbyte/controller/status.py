"""Status as a function of what is wanted and what is seen. Pure.

Ready means that the object does its job. License, metering and online state never take it away: a
lost line must not turn a site red. What is new or changed while the billing API cannot be asked is
``Unknown``, because nobody can know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from brinkbyte.controller.documents import RENEWAL_SECONDS, Documents
from brinkbyte.kit.errors import BrinkByteError, PermanentError, TemporaryError
from brinkbyte.license.modes import LicenseMode, ModeDecision, decide_mode
from brinkbyte.license.wire import CloneAlarm, Use
from brinkbyte.resources.common import UsedOfLimit
from brinkbyte.resources.conditions import (
    Condition,
    ConditionType,
    Reason,
    condition,
    find,
    headline,
    merge_conditions,
)
from brinkbyte.resources.defaults import ResolvedTenant
from brinkbyte.resources.names import INSTANCE_PORT, INSTANCE_SUFFIX
from brinkbyte.resources.state import InstanceState
from brinkbyte.resources.tenant import (
    Endpoints,
    LicenseStatus,
    MeteringStatus,
    Tenant,
    TenantStatus,
    TenantUsage,
)

METERING_SECONDS: Final = 3600
"""How often the figures of metering are written when nothing else is."""
BACKLOG_SECONDS: Final = 900
"""An event that waits longer than this for its receipt is worth a condition."""


@dataclass(frozen=True)
class Seen:
    """What is seen of one component. ``ready`` None: it is on its way."""

    ready: bool | None
    reason: str
    message: str


@dataclass(frozen=True)
class TenantView:
    """Everything that a Tenant's status is made of.

    Attributes:
        tenant: with the status that it has now.
        components: what is seen, by condition type, of the four that Ready needs.
        enrolled: whether the instance has an identity.
        error: why enrollment or the newest inventory failed.
        drift: a signed document in the license Secret that somebody replaced.
        undelivered: why the license Secret cannot be written.
        reporter: why the usage reporter is not as it should be.
        asked: whether the instance was asked since the operator started.
        state: what it said.
        state_error: why it says nothing.
        clone_alarm: what the billing API answered an inventory, while that tells more than the
            instance does.
    """

    tenant: Tenant
    resolved: ResolvedTenant
    components: Mapping[ConditionType, Seen]
    now: datetime
    enrolled: bool = False
    instance_id: str = ""
    error: BrinkByteError | None = None
    drift: BrinkByteError | None = None
    undelivered: BrinkByteError | None = None
    reporter: Seen | None = None
    documents: Documents = field(default_factory=Documents)
    development_root: bool = False
    device_use: Use | None = None
    camera_use: Use | None = None
    asked: bool = False
    state: InstanceState | None = None
    state_error: str = ""
    clone_alarm: CloneAlarm | None = None


def moment(seconds: int) -> datetime:
    """Return Unix seconds as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)


def of_error(error: BrinkByteError) -> tuple[bool | None, str, str]:
    """Return (status, reason, message) for something that could not be done.

    Temporary: nobody can know (Unknown). Permanent: no (False).
    """
    if isinstance(error, TemporaryError):
        return None, Reason.BILLING_UNREACHABLE, error.message
    return False, error.reason, error.message


def tenant_status(view: TenantView) -> TenantStatus:
    """Return the status of a Tenant."""
    tenant, now = view.tenant, view.now
    generation = tenant.metadata.generation
    mode = decide_mode(
        view.documents.license,
        # A clock that was turned back gains nothing here either.
        now=max(int(now.timestamp()), view.documents.newest_signed_time),
        revocations=view.documents.revocations.entries if view.documents.revocations else (),
    )

    def build(kind: ConditionType, seen: Seen) -> Condition:
        return condition(
            kind, seen.ready, seen.reason, seen.message, now=now, generation=generation
        )

    seen: dict[ConditionType, Seen] = {
        ConditionType.LICENSE_VALID: _license_valid(view, mode),
        ConditionType.POSTGRES_READY: view.components[ConditionType.POSTGRES_READY],
        ConditionType.REDIS_READY: view.components[ConditionType.REDIS_READY],
        ConditionType.TRITON_READY: _triton_ready(view),
        ConditionType.INSTANCE_READY: view.components[ConditionType.INSTANCE_READY],
        ConditionType.METERING_HEALTHY: _metering_healthy(view),
    }
    seen[ConditionType.READY] = _ready(view, seen)
    conditions = merge_conditions(
        tenant.status.conditions, [build(kind, each) for kind, each in seen.items()]
    )
    return TenantStatus(
        observed_generation=generation,
        conditions=conditions,
        headline=headline(conditions),
        instance_id=view.instance_id or tenant.status.instance_id,
        license=_license(view, mode) or tenant.status.license,
        usage=_usage(view) or tenant.status.usage,
        metering=_metering(view) or tenant.status.metering,
        endpoints=_endpoints(tenant),
        resolved=view.resolved.to_status(retention_days=_retention(view)),
    )


def _license_valid(view: TenantView, mode: ModeDecision) -> Seen:
    if view.drift is not None:
        return Seen(False, view.drift.reason, view.drift.message)
    if isinstance(view.undelivered, PermanentError):
        return Seen(False, view.undelivered.reason, view.undelivered.message)
    if not view.enrolled:
        if view.error is None:
            return Seen(None, Reason.ENROLLING, "Enrolling this instance with the billing API")
        return Seen(*of_error(view.error))
    if view.documents.license is None:
        if view.error is not None:
            return Seen(*of_error(view.error))
        return Seen(None, Reason.PENDING, "Waiting for the first license from the billing API")
    if not mode.full:
        return Seen(False, mode.reason, mode.message)
    until = moment(view.documents.license.exp).strftime("%Y-%m-%d")
    if view.error is not None:
        _, reason, message = of_error(view.error)
        if mode.mode is LicenseMode.GRACE:
            # It has ended: that matters more than why none is fetched.
            return Seen(True, mode.reason, f"{mode.message}. {message}")
        return Seen(True, reason, f"The license is valid until {until}. {message}")
    alarm = (view.state.clone_alarm if view.state is not None else None) or view.clone_alarm
    if alarm is not None:
        # Shown, and never more than that: the license goes on.
        return Seen(
            True, Reason.CLONE_SUSPECTED, f"The license is valid until {until}. {alarm.message}"
        )
    left = view.documents.license.exp - view.now.timestamp()
    if view.tenant.spec.billing is None and left < RENEWAL_SECONDS:
        return Seen(
            True,
            Reason.BUNDLE_ENDS_SOON,
            f"The license ends on {until}. Send the vendor a request (`brinkbyte license "
            "request`) and import a new bundle before",
        )
    if mode.mode is LicenseMode.ACTIVE and view.development_root:
        return Seen(
            True,
            Reason.DEVELOPMENT_TRUST_ROOT,
            f"Valid until {until}, under a development root of trust: not for production",
        )
    return Seen(True, mode.reason, mode.message)


def _triton_ready(view: TenantView) -> Seen:
    pods = view.components[ConditionType.TRITON_READY]
    if pods.ready is not True:
        return pods
    if view.state is not None:
        triton = view.state.triton
        if triton.ready:
            return Seen(True, Reason.AVAILABLE, "Every licensed model is ready on every pod")
        return Seen(False, Reason.MODELS_MISSING, triton.message or "Licensed models are missing")
    return _as_before(view, ConditionType.TRITON_READY, "Waiting for the instance to load models")


def _metering_healthy(view: TenantView) -> Seen:
    if view.reporter is not None:
        return view.reporter
    if view.state is None:
        return _as_before(
            view, ConditionType.METERING_HEALTHY, "Waiting for the instance to answer"
        )
    if view.tenant.spec.billing is None:
        return Seen(
            True,
            Reason.AIR_GAPPED,
            "This site has no line: usage is counted and kept, none of it is lost. "
            "status.metering.backlog says how many events wait for their receipt",
        )
    metering = view.state.metering
    if metering.last_error_reason:
        return Seen(
            False,
            metering.last_error_reason,
            f"The last usage report failed, nothing is lost: {metering.last_error_message or ''}",
        )
    oldest = metering.oldest_unacknowledged_at
    if oldest is not None and view.now.timestamp() - oldest > BACKLOG_SECONDS:
        return Seen(
            False,
            Reason.BACKLOG_WAITING,
            f"{metering.backlog} usage events wait for a receipt, the oldest since "
            f"{moment(oldest):%Y-%m-%dT%H:%M:%SZ}. Look at the Jobs of the usage reporter",
        )
    if metering.last_reported_at is None:
        return Seen(None, Reason.NEVER_REPORTED, "The usage reporter has not run yet")
    return Seen(True, Reason.REPORTING, "Usage is reported")


_OF_CHILDREN: Final = frozenset(
    {
        Reason.NAME_CONFLICT,
        Reason.CHILD_REFUSED,
        Reason.RETAINED_DATA_CONFLICT,
        Reason.PENDING,
    }
)


def _as_before(view: TenantView, kind: ConditionType, message: str) -> Seen:
    """Return what is known while the instance has not answered.

    Nothing, once it has been silent for a while. Before that what was; a restart changes nothing.
    """
    before = find(view.tenant.status.conditions, kind)
    if before is not None and before.reason in _OF_CHILDREN:
        before = None  # what stood in the way is gone: it says nothing about what is now
    if view.asked and view.state_error:
        return Seen(None, Reason.INSTANCE_UNREACHABLE, view.state_error)
    if before is not None and view.tenant.status.observed_generation:
        words: dict[str, bool | None] = {"True": True, "False": False}
        return Seen(words.get(before.status), before.reason, before.message)
    return Seen(None, Reason.PROVISIONING, message)


def _triton_for_ready(view: TenantView, triton: Seen) -> Seen:
    """Return what of Triton counts for Ready.

    A line between operator and instance that was lost never takes Ready away: the pods count then,
    as models that were loaded stay loaded.
    """
    before = find(view.tenant.status.conditions, ConditionType.READY)
    if triton.reason == Reason.INSTANCE_UNREACHABLE and before is not None and before.true:
        return view.components[ConditionType.TRITON_READY]
    return triton


def _ready(view: TenantView, seen: Mapping[ConditionType, Seen]) -> Seen:
    needs = [
        seen[ConditionType.POSTGRES_READY],
        seen[ConditionType.REDIS_READY],
        _triton_for_ready(view, seen[ConditionType.TRITON_READY]),
        seen[ConditionType.INSTANCE_READY],
    ]
    for wanted in (False, None):
        bad = next((each for each in needs if each.ready is wanted), None)
        if bad is not None:
            return Seen(wanted, bad.reason, bad.message)
    if not view.enrolled:
        # New, and nobody can say yet what it may do.
        valid = seen[ConditionType.LICENSE_VALID]
        return Seen(None, valid.reason, valid.message)
    noted = next((each for each in needs if each.reason != Reason.AVAILABLE), None)
    if noted is not None:
        # Running, but something that was asked for was not done.
        return noted
    if view.tenant.spec.paused:
        return Seen(True, Reason.PAUSED, "Running; provisioning is paused by spec.paused")
    return Seen(True, Reason.AVAILABLE, "PostgreSQL, Redis, Triton and the instance are ready")


def _license(view: TenantView, mode: ModeDecision) -> LicenseStatus | None:
    claims = view.documents.license
    if claims is None:
        return None
    return LicenseStatus(
        mode=mode.mode,
        plan=claims.plan,
        expires_at=moment(claims.exp),
        renewal_time=moment(max(claims.iat, claims.exp - RENEWAL_SECONDS)),
        sequence=claims.license_sequence,
    )


def _usage(view: TenantView) -> TenantUsage | None:
    if view.device_use is None or view.camera_use is None:
        return None
    return TenantUsage(
        devices=UsedOfLimit.of(view.device_use), cameras=UsedOfLimit.of(view.camera_use)
    )


def _metering(view: TenantView) -> MeteringStatus | None:
    if view.state is None:
        return None
    metering = view.state.metering
    return MeteringStatus(
        last_reported_at=moment(metering.last_reported_at) if metering.last_reported_at else None,
        backlog=metering.backlog,
        last_receipt=metering.last_receipt,
    )


def _endpoints(tenant: Tenant) -> Endpoints:
    ingress = tenant.spec.instance.ingress
    scheme = "https" if ingress and ingress.tls_secret_ref else "http"
    return Endpoints(
        instance=f"http://{tenant.name}{INSTANCE_SUFFIX}.{tenant.namespace}.svc:{INSTANCE_PORT}",
        ingress=f"{scheme}://{ingress.host}" if ingress else None,
    )


def _retention(view: TenantView) -> int | None:
    license_days = (
        view.documents.license.features.data_retention_days if view.documents.license else None
    )
    days = [each for each in (view.tenant.spec.retention_days, license_days) if each is not None]
    return min(days) if days else None


def worth_writing(old: Mapping[str, Any], new: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether a status changed in anything that a person would care about.

    The figures of metering travel with another change, or once an hour.
    """

    def person(status: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in status.items() if key not in {"metering", "lastSeen"}}

    if person(old) != person(new):
        return True
    before, after = old.get("metering") or {}, new.get("metering") or {}
    if before == after:
        return False
    text = before.get("lastReportedAt")
    if text is None:
        return after.get("lastReportedAt") is not None
    last = datetime.fromisoformat(str(text))
    return (now - last).total_seconds() >= METERING_SECONDS


def workload_seen(
    name: str, workload: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]
) -> Seen:
    """Return what is seen of a Deployment or StatefulSet.

    Args:
        name: of the component, for messages.
        workload: live object, None when it does not exist yet.
        pods: its pods; only looked at while it is not ready.
    """
    if workload is None:
        return Seen(None, Reason.PROVISIONING, f"{name} is being created")
    wanted = workload.get("spec", {}).get("replicas", 1)
    ready = workload.get("status", {}).get("readyReplicas", 0)
    if ready >= 1:
        return Seen(True, Reason.AVAILABLE, f"{name}: {min(ready, wanted)} of {wanted} pods ready")
    for pod in pods:
        found = _pod_problem(name, pod)
        if found is not None:
            return found
    return Seen(None, Reason.PROVISIONING, f"{name} is starting: 0 of {wanted} pods ready")


_IMAGE_REASONS: Final = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"}
)
_CRASHES: Final = 2


def _pod_problem(name: str, pod: Mapping[str, Any]) -> Seen | None:
    status = pod.get("status", {})
    for each in status.get("conditions", ()):
        if each.get("type") == "PodScheduled" and each.get("status") == "False":
            return Seen(
                False,
                Reason.NOT_SCHEDULED,
                f"{name}: no node takes the pod ({each.get('message', '')}). Free resources, or "
                "lower its requests",
            )
    statuses = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for each in statuses:
        waiting = each.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _IMAGE_REASONS:
            return Seen(
                False,
                Reason.IMAGE_NOT_PULLED,
                f"{name}: image {each.get('image')} cannot be pulled. Correct the image or "
                "spec.imagePullSecrets",
            )
        if waiting.get("reason") == "CreateContainerConfigError":
            return Seen(False, Reason.CRASHING, f"{name}: {waiting.get('message', '')}")
        if each.get("restartCount", 0) >= _CRASHES and not each.get("ready"):
            ended = each.get("lastState", {}).get("terminated", {})
            said = str(ended.get("message") or ended.get("reason") or "").strip().splitlines()
            last = " ".join(line.strip() for line in said[-3:])[-300:] or "see its log"
            return Seen(
                False,
                Reason.CRASHING,
                f"{name}: container {each.get('name')} keeps failing: {last}",
            )
    return None
