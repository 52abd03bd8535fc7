"""Every child as the builders make it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brinkbyte.controller.children import build, common
from brinkbyte.resources import names
from brinkbyte.resources.defaults import resolve
from support.plans import IMAGES, plan, tenant

FULL = plan(
    tenant(
        instance={
            "replicas": 2,
            "ingress": {
                "host": "a.example.com",
                "className": "nginx",
                "tlsSecretRef": {"name": "tls"},
            },
        },
        triton={"gpus": 1, "replicas": 2},
        redis={"storage": {"size": "1Gi"}, "maxMemory": "64Mi"},
        usageReporter={"periodMinutes": 3},
        retentionDays=30,
        imagePullSecrets=[{"name": "registry"}],
        storageClassName="fast",
    ),
    credential_hashes={"postgres": "p", "redis": "r", "triton": "t"},
)
PLANS = [plan(), FULL]


def pod_of(child: dict[str, Any]) -> dict[str, Any] | None:
    spec = child.get("spec", {})
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"]["spec"]
    found: dict[str, Any] | None = spec.get("template", {}).get("spec")
    return found


def pods(of: common.Plan) -> list[dict[str, Any]]:
    return [pod for child in build(of) if (pod := pod_of(child)) is not None]


def one(of: common.Plan, kind: str, component: str) -> dict[str, Any]:
    return next(
        child
        for child in build(of)
        if child["kind"] == kind and child["metadata"]["labels"][names.LABEL_COMPONENT] == component
    )


@pytest.mark.parametrize("of", PLANS)
def test_every_pod_meets_the_restricted_standard(of: common.Plan) -> None:
    assert len(pods(of)) == 5
    for pod in pods(of):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
            assert field not in pod
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"secret", "emptyDir", "persistentVolumeClaim"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["runAsNonRoot"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in security
            assert not [port for port in container.get("ports", []) if "hostPort" in port]


@pytest.mark.parametrize("of", PLANS)
def test_no_pod_gets_a_token_or_a_secret_in_its_environment(of: common.Plan) -> None:
    for pod in pods(of):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert "envFrom" not in container
            assert all(set(each) == {"name", "value"} for each in container.get("env", []))
            for mount in container["volumeMounts"]:
                assert "subPath" not in mount
    for child in build(of):
        if child["kind"] == "ServiceAccount":
            assert child["automountServiceAccountToken"] is False


@pytest.mark.parametrize("of", PLANS)
def test_secrets_are_whole_optional_directories_mounted_read_only(of: common.Plan) -> None:
    for pod in pods(of):
        secret_volumes = {
            each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each
        }
        assert all(set(each) == {"secretName", "optional"} for each in secret_volumes.values())
        assert all(each["optional"] for each in secret_volumes.values())
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            for mount in container["volumeMounts"]:
                if mount["name"] in secret_volumes:
                    assert mount["readOnly"] is True


@pytest.mark.parametrize("of", PLANS)
def test_every_mount_has_a_volume_and_tmp_is_writable_everywhere(of: common.Plan) -> None:
    for child in build(of):
        pod = pod_of(child)
        if pod is None:
            continue
        claims = child["spec"].get("volumeClaimTemplates", [])
        volumes = {each["name"] for each in pod["volumes"]}
        volumes |= {each["metadata"]["name"] for each in claims}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            mounted = {each["mountPath"]: each for each in container["volumeMounts"]}
            assert {each["name"] for each in mounted.values()} <= volumes
            assert "readOnly" not in mounted["/tmp"]


@pytest.mark.parametrize("of", PLANS)
def test_every_long_running_container_has_probes_and_resources(of: common.Plan) -> None:
    for child in build(of):
        pod = pod_of(child)
        if pod is None:
            continue
        for container in pod["containers"]:
            assert container["resources"]["requests"]["cpu"]
            assert container["resources"]["limits"]["memory"]
            if child["kind"] != "CronJob":
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    assert probe in container


@pytest.mark.parametrize("of", PLANS)
def test_children_have_our_labels_and_their_owner_and_nothing_of_the_tenants(
    of: common.Plan,
) -> None:
    for child in build(of):
        meta = child["metadata"]
        assert meta["labels"] == common.labels(of.tenant, meta["labels"][names.LABEL_COMPONENT])
        assert meta["ownerReferences"] == [of.tenant.owner_reference()]
        assert len(meta["name"]) <= 52
        assert "annotations" not in meta


def test_selectors_match_the_pods_and_never_change_with_the_customer() -> None:
    for child in build(FULL):
        selector = child.get("spec", {}).get("selector")
        if selector is None or child["kind"] == "PodDisruptionBudget":
            continue
        chosen = selector.get("matchLabels", selector)
        component = child["metadata"]["labels"][names.LABEL_COMPONENT]
        assert chosen == {names.LABEL_TENANT: "acme", names.LABEL_COMPONENT: component}


def test_a_disruption_budget_stands_only_where_there_are_several_pods() -> None:
    kinds = [child["kind"] for child in build(plan())]
    assert "PodDisruptionBudget" not in kinds
    budgets = [child for child in build(FULL) if child["kind"] == "PodDisruptionBudget"]
    assert [each["spec"]["minAvailable"] for each in budgets] == [1, 1]


def test_credential_hashes_stand_on_the_templates_that_need_a_restart() -> None:
    def hashes(kind: str, component: str) -> str | None:
        template = one(FULL, kind, component)["spec"]["template"]
        found: str | None = (
            template["metadata"].get("annotations", {}).get(names.ANNOTATION_CREDENTIALS)
        )
        return found

    assert hashes("StatefulSet", common.POSTGRES) == "p"
    assert hashes("StatefulSet", common.REDIS) == "r"
    assert hashes("Deployment", common.TRITON) == "t"
    assert hashes("Deployment", common.INSTANCE) == "p.r.t"


def test_postgres_keeps_its_data_in_a_directory_of_its_own_and_stops_fast() -> None:
    stateful_set = one(FULL, "StatefulSet", common.POSTGRES)
    claim = stateful_set["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["storageClassName"] == "fast"
    assert "ownerReferences" not in claim["metadata"]
    pod = pod_of(stateful_set)
    assert pod is not None
    container = pod["containers"][0]
    assert container["command"][:3] == ["postgres", "-D", "/var/lib/brinkbyte/data/pgdata"]
    assert "--mode=fast" in container["lifecycle"]["preStop"]["exec"]["command"]
    assert names.POSTGRES_PASSWORD_KEY in pod["initContainers"][0]["command"][2]
    retention = stateful_set["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert set(retention.values()) == {"Retain"}


def test_redis_is_bounded_and_keeps_an_append_only_file() -> None:
    pod = pod_of(one(FULL, "StatefulSet", common.REDIS))
    assert pod is not None
    script = pod["containers"][0]["command"][2]
    assert f"maxmemory {64 * 1024**2}" in script
    for words in ("maxmemory-policy allkeys-lru", "appendonly yes", "requirepass"):
        assert words in script


def test_triton_loads_nothing_by_itself_and_guards_its_model_control() -> None:
    deployment = one(FULL, "Deployment", common.TRITON)
    pod = pod_of(deployment)
    assert pod is not None
    script = pod["containers"][0]["command"][2]
    assert "--model-control-mode=explicit" in script
    assert f'--http-restricted-api="model-repository:{names.TRITON_CONTROL_HEADER}=$key"' in script
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    shm = next(each for each in pod["volumes"] if each["name"] == "shm")
    assert shm["emptyDir"]["medium"] == "Memory"
    service = one(FULL, "Service", common.TRITON)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_an_autoscaler_keeps_the_number_of_instances() -> None:
    scaled = plan(tenant(instance={"replicas": 3}), instance_replicas=False)
    assert "replicas" not in one(scaled, "Deployment", common.INSTANCE)["spec"]
    assert one(FULL, "Deployment", common.INSTANCE)["spec"]["replicas"] == 2


def test_the_ingress_has_host_class_and_certificate() -> None:
    assert not [child for child in build(plan()) if child["kind"] == "Ingress"]
    spec = one(FULL, "Ingress", common.INSTANCE)["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["a.example.com"], "secretName": "tls"}]
    assert spec["rules"][0]["host"] == "a.example.com"


@pytest.mark.parametrize("minutes", [1, 2, 3, 4])
def test_reports_never_overlap_and_end_before_the_next(minutes: int) -> None:
    owner = tenant(usageReporter={"periodMinutes": minutes})
    spec = one(plan(owner), "CronJob", common.REPORTER)["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["schedule"] == ("* * * * *" if minutes == 1 else f"*/{minutes} * * * *")
    assert job["activeDeadlineSeconds"] < minutes * 60
    env = {each["name"]: each["value"] for each in job["template"]["spec"]["containers"][0]["env"]}
    assert float(env["BRINKBYTE_REPORT_DEADLINE_SECONDS"]) < job["activeDeadlineSeconds"]
    assert env["BRINKBYTE_REPORT_DELAY_SEED"] == owner.metadata.uid


def test_external_databases_have_no_children() -> None:
    external = {"external": {"secretRef": {"name": "dsn"}}}
    owner = tenant(postgres=external, redis=external)
    kinds = {
        child["metadata"]["labels"][names.LABEL_COMPONENT]
        for child in build(plan(owner, resolved=resolve(owner.spec, IMAGES)))
    }
    assert kinds == {common.TRITON, common.INSTANCE, common.REPORTER}


@settings(max_examples=50)
@given(
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True),
    replicas=st.integers(1, 10),
    minutes=st.integers(1, 4),
)
def test_objects_are_plain_data_with_names_that_fit(name: str, replicas: int, minutes: int) -> None:
    owner = tenant(
        {"name": name},
        instance={"replicas": replicas},
        usageReporter={"periodMinutes": minutes},
    )
    built = build(plan(owner))
    assert json.loads(json.dumps(built)) == built
    for child in built:
        limit = 52 if child["kind"] in {"CronJob", "StatefulSet"} else 63
        assert len(child["metadata"]["name"]) <= limit
    assert len({(child["kind"], child["metadata"]["name"]) for child in built}) == len(built)
