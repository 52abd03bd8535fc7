"""The models of the three kinds: parsing, defaults, quantities, conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.license.modes import LicenseMode
from brinkbyte.license.wire import Use
from brinkbyte.resources import crd, defaults
from brinkbyte.resources.camera_license import (
    CameraFeatures,
    CameraLicense,
    CameraLicenseStatus,
)
from brinkbyte.resources.common import SecretReference, UsedOfLimit
from brinkbyte.resources.conditions import (
    CAMERA_LICENSE_CONDITIONS,
    EDGE_DEVICE_CONDITIONS,
    MAX_CONDITIONS,
    MAX_MESSAGE_LENGTH,
    TENANT_CONDITIONS,
    TENANT_READY_NEEDS,
    Condition,
    ConditionType,
    Reason,
    condition,
    find,
    headline,
    merge_conditions,
)
from brinkbyte.resources.edge_device import EdgeDevice, EdgeDeviceStatus, ManagementTier
from brinkbyte.resources.quantity import parse_quantity
from brinkbyte.resources.tenant import (
    DeletionPolicy,
    LicenseStatus,
    MeteringStatus,
    Tenant,
    TenantStatus,
    TenantUsage,
)
from support.manifests import (
    BY_KIND,
    CAMERA_LICENSE,
    EDGE_DEVICE,
    TENANT,
    changed,
)

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)
IMAGES = defaults.DefaultImages(instance="brinkbyte/brinkbyte:1")


def tenant(path: str | None = None, value: Any = None) -> Tenant:
    return Tenant.parse(changed("Tenant", path, value) if path else TENANT)


def status_schema(kind: str) -> dict[str, Any]:
    built = next(crd.build(d) for d in crd.DEFINITIONS if kind == d.model.KIND)
    version = built["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    return schema


def test_defaults_of_a_bare_tenant() -> None:
    spec = tenant().spec
    assert spec.usage_reporter.period_minutes == 2
    assert spec.deletion_policy is DeletionPolicy.RETAIN
    assert not spec.paused
    resolved = defaults.resolve(spec, IMAGES)
    assert resolved.postgres is not None
    assert resolved.postgres.image == "postgres:17"
    assert resolved.postgres.run_as_user == 999
    assert resolved.postgres.volume == defaults.Volume("10Gi", None)
    assert resolved.redis is not None
    assert resolved.redis.image == "redis:8"
    assert resolved.redis.volume == defaults.Volume("1Gi", None)
    assert resolved.redis_max_memory == "256Mi"
    assert resolved.triton.image.endswith("/tritonserver:24.10-py3")
    assert resolved.instance.image == resolved.reporter.image == "brinkbyte/brinkbyte:1"
    status = resolved.to_status(retention_days=30).to_wire()
    assert status["postgresStorage"] == "10Gi"
    assert status["retentionDays"] == 30
    assert status["periodMinutes"] == 2


def test_what_the_spec_names_wins() -> None:
    body = changed(
        "Tenant", "spec.postgres", {"image": "mirror/postgres:17", "storage": {"size": "50Gi"}}
    )
    body["spec"] |= {
        "storageClassName": "fast",
        "redis": {"maxMemory": 1000, "storage": {"storageClassName": "slow"}},
        "instance": {"image": "mirror/brinkbyte:2", "replicas": 3, "runAsUser": 4000},
    }
    resolved = defaults.resolve(Tenant.parse(body).spec, IMAGES)
    assert resolved.postgres is not None
    assert resolved.postgres.image == "mirror/postgres:17"
    assert resolved.postgres.volume == defaults.Volume("50Gi", "fast")
    assert resolved.redis is not None
    assert resolved.redis.volume == defaults.Volume("1Gi", "slow")
    assert resolved.redis_max_memory == "1000"
    assert resolved.instance.replicas == 3
    assert resolved.reporter.image == "mirror/brinkbyte:2"
    assert resolved.reporter.run_as_user == 4000
    assert resolved.reporter.replicas == 1


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_an_external_server_is_not_provisioned(name: str) -> None:
    spec = tenant(f"spec.{name}", {"external": {"secretRef": {"name": "mine"}}}).spec
    resolved = defaults.resolve(spec, IMAGES)
    assert getattr(resolved, name) is None
    assert f"{name}Image" not in resolved.to_status().to_wire()


def test_fields_of_a_later_release_are_passed_over() -> None:
    assert tenant("spec.holograms", {"enabled": True}).spec == tenant().spec


def test_a_bad_object_names_its_field() -> None:
    with pytest.raises(InvalidInputError, match=r"spec\.usageReporter\.periodMinutes") as caught:
        tenant("spec.usageReporter.periodMinutes", 9)
    assert caught.value.reason == Reason.INVALID_SPEC


def test_models_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tenant().spec.paused = True  # type: ignore[misc] # that it cannot be set is the test


def test_metadata_and_owner_reference() -> None:
    body = changed("EdgeDevice", "metadata.uid", "u-1")
    body["metadata"]["deletionTimestamp"] = "2026-11-20T08:00:00Z"
    device = EdgeDevice.parse(body)
    assert device.deleting
    assert device.key == ("EdgeDevice", "customer", "gate-1")
    assert device.owner_reference() == {
        "apiVersion": "vision.brinkbyte.io/v1alpha1",
        "kind": "EdgeDevice",
        "name": "gate-1",
        "uid": "u-1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert not EdgeDevice.parse(EDGE_DEVICE).deleting
    assert EdgeDevice.parse(EDGE_DEVICE).spec.management_tier is ManagementTier.BASIC


def test_name_of_a_camera_licenses_secret() -> None:
    assert CameraLicense.parse(CAMERA_LICENSE).secret_name == "cam-1-bcl-license"
    named = CameraLicense.parse(changed("CameraLicense", "spec.secretName", "mine"))
    assert named.secret_name == "mine"


def test_full_statuses_fit_their_schemas() -> None:
    conditions = tuple(
        condition(kind, True, Reason.AVAILABLE, "fine", now=NOW, generation=3)
        for kind in TENANT_CONDITIONS
    )
    use = UsedOfLimit.of(Use(used=2, limit=10))
    statuses = {
        "Tenant": TenantStatus(
            observed_generation=3,
            conditions=conditions,
            headline=headline(conditions),
            instance_id="i-1",
            license=LicenseStatus(
                mode=LicenseMode.ACTIVE, plan="starter", expires_at=NOW, renewal_time=NOW
            ),
            usage=TenantUsage(devices=use, cameras=use),
            metering=MeteringStatus(last_reported_at=NOW, backlog=0, last_receipt="e/1"),
            resolved=defaults.resolve(tenant().spec, IMAGES).to_status(),
        ),
        "EdgeDevice": EdgeDeviceStatus(
            conditions=conditions[:1],
            registered_at=NOW,
            usage=use,
            token_secret_ref=SecretReference(name="gate-1-bed-token"),
        ),
        "CameraLicense": CameraLicenseStatus(
            conditions=conditions[:1],
            seat="seat-1",
            sequence=1_763_000_000_000_000,
            valid_until=NOW,
            features=CameraFeatures(models=("person",), outputs=("webhook",)),
            usage=use,
        ),
    }
    for kind, status in statuses.items():
        wire = status.to_wire()
        Draft202012Validator(status_schema(kind)).validate(wire)
        assert type(status).model_validate(wire) == status


def test_use_reads_as_one_word() -> None:
    assert UsedOfLimit.of(Use(used=3, limit=10)).to_wire() == {
        "used": 3,
        "limit": 10,
        "summary": "3/10",
    }
    assert UsedOfLimit.of(Use(used=3, limit=None)).to_wire() == {
        "used": 3,
        "summary": "3/unlimited",
    }


def test_times_are_utc_seconds() -> None:
    east = timezone(timedelta(hours=10))
    local = datetime(2026, 11, 20, 18, 0, 0, 999_999, tzinfo=east)
    made = condition(ConditionType.READY, True, "Fine", "", now=local, generation=1)
    assert made.to_wire()["lastTransitionTime"] == "2026-11-20T08:00:00Z"
    with pytest.raises(ValueError, match="RFC 3339"):
        condition(
            ConditionType.READY,
            True,
            "Fine",
            "",
            now=datetime(2026, 11, 20),  # noqa: DTZ001 - without a zone on purpose
            generation=1,
        )


def test_transition_time_moves_only_with_the_status() -> None:
    later = NOW + timedelta(hours=1)

    def ready(status: bool | None, reason: str, now: datetime) -> Condition:
        return condition(ConditionType.READY, status, reason, "", now=now, generation=1)

    old = (ready(None, Reason.PROVISIONING, NOW),)
    same = merge_conditions(old, [ready(None, Reason.BILLING_UNREACHABLE, later)])
    assert same[0].last_transition_time == NOW
    assert same[0].reason == Reason.BILLING_UNREACHABLE
    moved = merge_conditions(old, [ready(True, Reason.AVAILABLE, later)])
    assert moved[0].last_transition_time == later
    assert moved[0].true
    # A condition that is no longer computed goes.
    assert merge_conditions(old, []) == ()


def test_headline_is_what_is_wrong() -> None:
    def made(kind: ConditionType, status: bool | None, reason: str) -> Condition:
        return condition(kind, status, reason, f"about {reason}", now=NOW, generation=1)

    ready = made(ConditionType.READY, True, Reason.AVAILABLE)
    metering = made(ConditionType.METERING_HEALTHY, False, Reason.REPORT_FAILING)
    unknown = made(ConditionType.ONLINE, None, Reason.NEVER_SEEN)
    assert headline([]) is None
    assert headline([metering]) is None
    words = headline([ready, unknown])
    assert words is not None
    assert words.reason == Reason.AVAILABLE
    words = headline([metering, ready])
    assert words is not None
    assert words.reason == Reason.REPORT_FAILING
    words = headline([metering, made(ConditionType.READY, None, Reason.BILLING_UNREACHABLE)])
    assert words is not None
    assert (words.reason, words.message) == ("BillingUnreachable", "about BillingUnreachable")
    assert find([metering, ready], ConditionType.READY) == ready
    assert find([metering], ConditionType.READY) is None


def test_a_long_message_is_cut_to_what_the_schema_holds() -> None:
    made = condition(ConditionType.READY, False, "Bad", "x" * 5000, now=NOW, generation=1)
    assert len(made.message) == MAX_MESSAGE_LENGTH
    # One line, or kubectl's table falls apart.
    made = condition(ConditionType.READY, False, "Bad", "one\n  two", now=NOW, generation=1)
    assert made.message == "one two"


def test_condition_types_have_room() -> None:
    for kinds in (TENANT_CONDITIONS, EDGE_DEVICE_CONDITIONS, CAMERA_LICENSE_CONDITIONS):
        assert len(kinds) < MAX_CONDITIONS
        assert kinds[-1] is ConditionType.READY
    # A lost line never takes Ready away.
    assert ConditionType.LICENSE_VALID not in TENANT_READY_NEEDS
    assert ConditionType.METERING_HEALTHY not in TENANT_READY_NEEDS


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_words_that_a_condition_takes(reason: Reason) -> None:
    made = condition(ConditionType.READY, True, reason, "", now=NOW, generation=1)
    assert made.reason == reason.value


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", "1"),
        (2, "2"),
        ("500m", "0.5"),
        ("10Gi", "10737418240"),
        ("10G", "10000000000"),
        ("1e3", "1000"),
        ("1.5Ki", "1536"),
        (".5", "0.5"),
        ("1E", "1000000000000000000"),
        ("1n", "0.000000001"),
    ],
)
def test_quantities(text: str | int, amount: str) -> None:
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "ten", "10GiB", "1 Gi", "0x10", "1e", "Ki", "1KI"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 10**9), st.sampled_from(["m", "", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_quantities_of_the_schema_can_be_read(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    spec = tenant("spec.postgres.storage.size", text).spec
    assert spec.postgres.storage is not None
    assert spec.postgres.storage.size == text
    assert parse_quantity(text) >= 0


def test_every_manifest_survives_a_round_trip() -> None:
    for definition in crd.DEFINITIONS:
        parsed = definition.model.parse(BY_KIND[definition.model.KIND])
        assert definition.model.parse(parsed.to_wire()) == parsed
