"""Tenant status as a function of what is wanted and what is seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brinkbyte.controller.documents import Documents
from brinkbyte.controller.events import transitions
from brinkbyte.controller.status import (
    Seen,
    TenantView,
    tenant_status,
    workload_seen,
    worth_writing,
)
from brinkbyte.kit.errors import BrinkByteError, PermanentError, TemporaryError
from brinkbyte.license.wire import CloneAlarm, Use
from brinkbyte.resources.conditions import TENANT_CONDITIONS, ConditionType
from brinkbyte.resources.defaults import resolve
from brinkbyte.resources.state import InstanceState
from brinkbyte.resources.tenant import Tenant
from support.licensing import DAY, NOW, license_claims, seats_claims
from support.plans import IMAGES, tenant

AT = datetime.fromtimestamp(NOW, UTC)
OK = Seen(True, "Available", "fine")
NEEDED = (
    ConditionType.POSTGRES_READY,
    ConditionType.REDIS_READY,
    ConditionType.TRITON_READY,
    ConditionType.INSTANCE_READY,
)
LICENSED = Documents(license=license_claims())
UNREACHABLE = TemporaryError("no route", reason="BillingUnreachable")


def state(*, triton: bool = True, **metering: Any) -> InstanceState:
    return InstanceState.model_validate(
        {
            "revision": 1,
            "license": {"mode": "active", "reason": "LicenseValid", "message": ""},
            "deviceUse": {"used": 1, "limit": 50},
            "cameraUse": {"used": 2, "limit": 10},
            "metering": {"backlog": 0, "lastReportedAt": NOW - 60, **metering},
            "triton": {"ready": triton, "message": "" if triton else "person is missing"},
        }
    )


def view(of: Tenant | None = None, **parts: Any) -> TenantView:
    owner = of or tenant()
    components = dict.fromkeys(NEEDED, OK) | parts.pop("components", {})
    return TenantView(
        **{
            "tenant": owner,
            "resolved": resolve(owner.spec, IMAGES),
            "components": components,
            "now": AT,
            "enrolled": True,
            "instance_id": "inst-1",
            "documents": LICENSED,
            "asked": True,
            "state": state(),
            **parts,
        }
    )


def words(of: TenantView) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in tenant_status(of).conditions}


def test_all_is_well() -> None:
    status = tenant_status(
        view(device_use=Use(used=1, limit=50), camera_use=Use(used=2, limit=None))
    )
    assert [each.type for each in status.conditions] == list(TENANT_CONDITIONS)
    assert {each.status for each in status.conditions} == {"True"}
    assert status.headline is not None
    assert status.headline.reason == "Available"
    assert status.license is not None
    assert (status.license.mode, status.license.plan) == ("active", "professional")
    assert status.usage is not None
    assert status.usage.devices is not None
    assert status.usage.devices.summary == "1/50"
    assert status.usage.cameras is not None
    assert status.usage.cameras.summary == "2/unlimited"
    assert status.resolved is not None
    assert status.resolved.retention_days == 365


@pytest.mark.parametrize("broken", NEEDED)
@pytest.mark.parametrize(("ready", "word"), [(False, "False"), (None, "Unknown")])
def test_ready_needs_every_component(broken: ConditionType, ready: bool | None, word: str) -> None:
    found = words(view(components={broken: Seen(ready, "Crashing", "look")}))
    assert found[broken] == (word, "Crashing")
    assert found["Ready"] == (word, "Crashing")


ERRORS: list[tuple[BrinkByteError, tuple[str, str]]] = [
    (UNREACHABLE, ("Unknown", "BillingUnreachable")),
    (PermanentError("x", reason="EnrollmentExpired"), ("False", "EnrollmentExpired")),
    (PermanentError("x", reason="InstanceExists"), ("False", "InstanceExists")),
    (PermanentError("x", reason="UntrustedKeySet"), ("False", "UntrustedKeySet")),
]


@pytest.mark.parametrize(("error", "shown"), ERRORS)
def test_before_enrollment_ready_is_unknown_and_says_why(
    error: BrinkByteError, shown: tuple[str, str]
) -> None:
    found = words(view(enrolled=False, documents=Documents(), error=error))
    assert found["LicenseValid"] == shown
    assert found["Ready"] == ("Unknown", shown[1])


def test_a_lost_line_takes_neither_license_nor_ready_away() -> None:
    found = words(view(error=UNREACHABLE))
    assert found["LicenseValid"] == ("True", "BillingUnreachable")
    assert found["Ready"] == ("True", "Available")


def test_grace_is_shown_though_the_line_that_would_end_it_is_dead() -> None:
    now = AT + timedelta(days=46)
    status = tenant_status(view(error=UNREACHABLE, now=now))
    found = next(each for each in status.conditions if each.type == "LicenseValid")
    assert (found.status, found.reason) == ("True", "InGrace")
    assert UNREACHABLE.message in found.message


def test_a_clock_that_was_turned_back_gains_nothing() -> None:
    over = license_claims(exp=NOW + 10, graceSeconds=0)
    newer = seats_claims([], iat=NOW + 20, nbf=NOW + 20, exp=NOW + 45 * DAY)
    shown = words(view(documents=Documents(license=over, seats=newer)))
    assert shown["LicenseValid"] == ("False", "LicenseExpired")


@pytest.mark.parametrize(
    ("claims", "later", "shown"),
    [
        ({}, 0, ("True", "LicenseValid")),
        ({"trial": {"isActive": True, "endsAt": NOW + DAY}}, 0, ("True", "TrialActive")),
        ({}, 46 * DAY, ("True", "InGrace")),
        ({}, 60 * DAY, ("False", "LicenseExpired")),
        (
            {"subscription": {"status": "suspended", "currentPeriodEnd": None}},
            0,
            ("False", "SubscriptionSuspended"),
        ),
    ],
)
def test_license_valid_follows_the_mode_and_never_gates_ready(
    claims: dict[str, Any], later: int, shown: tuple[str, str]
) -> None:
    found = words(
        view(
            documents=Documents(license=license_claims(**claims)),
            now=AT + timedelta(seconds=later),
        )
    )
    assert found["LicenseValid"] == shown
    assert found["Ready"][0] == "True"


def test_a_development_root_is_shown() -> None:
    assert words(view(development_root=True))["LicenseValid"] == ("True", "DevelopmentTrustRoot")


def test_a_replaced_document_is_shown() -> None:
    drift = PermanentError("edited", reason="UntrustedKeySet")
    assert words(view(drift=drift))["LicenseValid"] == ("False", "UntrustedKeySet")


@pytest.mark.parametrize(
    ("metering", "shown"),
    [
        ({}, ("True", "Reporting")),
        ({"lastReportedAt": None}, ("Unknown", "NeverReported")),
        ({"lastErrorReason": "BillingUnreachable"}, ("False", "BillingUnreachable")),
        ({"backlog": 5, "oldestUnacknowledgedAt": NOW - 100}, ("True", "Reporting")),
        ({"backlog": 5, "oldestUnacknowledgedAt": NOW - 1000}, ("False", "BacklogWaiting")),
    ],
)
def test_metering_never_gates_ready(metering: dict[str, Any], shown: tuple[str, str]) -> None:
    found = words(view(state=state(**metering)))
    assert found["MeteringHealthy"] == shown
    assert found["Ready"][0] == "True"


def test_missing_models_are_shown() -> None:
    found = words(view(state=state(triton=False)))
    assert found["TritonReady"] == ("False", "ModelsMissing")
    assert found["Ready"] == ("False", "ModelsMissing")


def with_status(of: TenantView) -> Tenant:
    status = tenant_status(of)
    return of.tenant.model_copy(update={"status": status})


def test_a_restart_keeps_what_the_instance_said() -> None:
    before = with_status(view())
    restarted = view(before, asked=False, state=None)
    assert words(restarted) == words(view(before))


SILENT: dict[str, Any] = {"asked": True, "state": None, "state_error": "no answer"}


def test_of_a_silent_instance_nobody_knows_and_ready_stays_as_it_was() -> None:
    well = with_status(view())
    silent = with_status(view(well, **SILENT))
    found = words(view(well, **SILENT))
    for kind in (ConditionType.TRITON_READY, ConditionType.METERING_HEALTHY):
        assert found[kind] == ("Unknown", "InstanceUnreachable")
    assert found["Ready"] == ("True", "Available")
    # It stays so while it is silent, also after a restart of the operator; then all is well again.
    assert words(view(silent, **SILENT)) == found
    assert words(view(silent, asked=False, state=None)) == found
    assert words(view(silent)) == words(view(well))


def test_a_silent_instance_that_was_never_well_is_not_ready() -> None:
    found = words(view(**SILENT))
    assert found["TritonReady"] == ("Unknown", "InstanceUnreachable")
    assert found["Ready"] == ("Unknown", "InstanceUnreachable")


def test_pods_of_triton_count_for_ready_also_while_the_instance_is_silent() -> None:
    gone = Seen(False, "Crashing", "look")
    components = {ConditionType.TRITON_READY: gone}
    found = words(view(with_status(view()), components=components, **SILENT))
    assert found["Ready"] == found["TritonReady"] == ("False", "Crashing")


def test_what_is_in_the_reporters_way_is_shown_and_forgotten_once_it_is_gone() -> None:
    conflict = Seen(False, "NameConflict", "CronJob acme-btn-reporter is somebody else's")
    held = view(reporter=conflict)
    assert words(held)["MeteringHealthy"] == ("False", "NameConflict")
    free = view(with_status(held), asked=False, state=None)
    assert words(free)["MeteringHealthy"] == ("Unknown", "Provisioning")


def test_a_license_that_cannot_be_written_is_not_valid_here() -> None:
    error = PermanentError("Secret acme-btn-license is somebody else's", reason="NameConflict")
    assert words(view(undelivered=error))["LicenseValid"] == ("False", "NameConflict")


def test_the_headline_names_what_is_wrong_although_all_runs() -> None:
    bad = view(error=UNREACHABLE)
    assert words(bad)["Ready"] == ("True", "Available")
    for of, shown in ((bad, "BillingUnreachable"), (view(), "Available")):
        headline = tenant_status(of).headline
        assert headline is not None
        assert headline.reason == shown


def test_a_paused_tenant_says_so_while_it_runs() -> None:
    assert words(view(tenant(paused=True)))["Ready"] == ("True", "Paused")


def test_what_could_not_be_done_is_said_without_taking_ready_away() -> None:
    note = Seen(True, "StorageCannotShrink", "no")
    found = words(view(components={ConditionType.POSTGRES_READY: note}))
    assert found["Ready"] == ("True", "StorageCannotShrink")


def test_the_time_of_transition_moves_only_with_the_status() -> None:
    before = with_status(view())
    later = AT + timedelta(hours=1)
    same = tenant_status(view(before, now=later, error=UNREACHABLE))
    assert {each.last_transition_time for each in same.conditions} == {AT}
    broken = tenant_status(
        view(before, now=later, components={ConditionType.REDIS_READY: Seen(False, "X", "")})
    )
    moved = {each.type for each in broken.conditions if each.last_transition_time == later}
    assert moved == {"RedisReady", "Ready"}


def test_a_status_is_written_for_a_person_or_once_an_hour() -> None:
    old = tenant_status(view()).to_wire()
    assert not worth_writing(old, tenant_status(view()).to_wire(), AT)
    busy = tenant_status(view(state=state(backlog=9, lastReportedAt=NOW))).to_wire()
    assert not worth_writing(old, busy, AT)
    assert worth_writing(old, busy, AT + timedelta(hours=2))
    broken = tenant_status(view(state=state(triton=False))).to_wire()
    assert worth_writing(old, broken, AT)
    assert worth_writing({}, old, AT)


def pod(**status: Any) -> dict[str, Any]:
    return {"status": status}


@pytest.mark.parametrize(
    ("pods", "ready", "reason", "says"),
    [
        ([], None, "Provisioning", "starting"),
        (
            [pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "no cpu"}])],
            False,
            "NotScheduled",
            "no cpu",
        ),
        (
            [
                pod(
                    initContainerStatuses=[
                        {"image": "x:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
                    ]
                )
            ],
            False,
            "ImageNotPulled",
            "x:1",
        ),
        (
            [
                pod(
                    containerStatuses=[
                        {
                            "name": "init",
                            "restartCount": 3,
                            "ready": False,
                            "state": {},
                            "lastState": {"terminated": {"message": "a\nthe data is of 16"}},
                        }
                    ]
                )
            ],
            False,
            "Crashing",
            "the data is of 16",
        ),
    ],
)
def test_a_pod_that_does_not_start_says_why(
    pods: list[dict[str, Any]], ready: bool | None, reason: str, says: str
) -> None:
    seen = workload_seen("PostgreSQL", {"spec": {"replicas": 1}, "status": {}}, pods)
    assert (seen.ready, seen.reason) == (ready, reason)
    assert says in seen.message


def test_a_running_workload_is_ready_whatever_its_old_pods_say() -> None:
    live = {"spec": {"replicas": 2}, "status": {"readyReplicas": 1}}
    assert workload_seen("x", live, []).ready is True
    assert workload_seen("x", None, []).ready is None


ALARM = {
    "reason": "TwoClusters",
    "message": "in use in two clusters, a and b",
    "since": NOW,
    "firstParty": "a",
    "secondParty": "b",
}


def test_a_suspected_clone_is_shown_while_the_license_goes_on() -> None:
    alarm = CloneAlarm.model_validate(ALARM)
    told = state().model_copy(update={"clone_alarm": alarm})
    for parts in (
        {"state": told},
        {"state": None, "clone_alarm": alarm},
        # Our own inventory was told, the instance's next heartbeat will be.
        {"state": state(), "clone_alarm": alarm},
    ):
        status = tenant_status(view(**parts))
        found = {each.type: each for each in status.conditions}["LicenseValid"]
        assert (found.status, found.reason) == ("True", "CloneSuspected")
        assert "two clusters, a and b" in found.message
    assert words(view(state=told))["Ready"] == ("True", "Available")
    # It is what `kubectl get` says, and a Warning.
    status = tenant_status(view(state=told))
    assert status.headline is not None
    assert status.headline.reason == "CloneSuspected"
    (event,) = transitions(tenant_status(view()).conditions, status.conditions)
    assert event[:3] == ("Warning", "LicenseValid", "CloneSuspected")


def test_a_license_that_has_ended_says_so_before_anything_about_a_clone() -> None:
    alarm = CloneAlarm.model_validate(ALARM)
    ended = Documents(license=license_claims(iat=NOW - 99 * DAY, exp=NOW - 20 * DAY))
    told = state().model_copy(update={"clone_alarm": alarm})
    assert words(view(state=told, documents=ended))["LicenseValid"][1] == "LicenseExpired"
