"""The operator's chart: least rights, restricted pods, CRDs that stay, values that are checked."""

from __future__ import annotations

import json

import pytest

from brinkbyte.controller.app import CHILD_KINDS
from brinkbyte.controller.kinds import KINDS as OPERATOR_KINDS
from brinkbyte.resources.defaults import POSTGRES_IMAGE, REDIS_IMAGE, TRITON_IMAGE
from support.helm import HelmError, Object, lint, of_kind, pods, render
from support.pod_security import violations

pytestmark = pytest.mark.services

CHART = "brinkbyte-operator"
FULL = {"networkPolicy.enabled": "true"}
GROUP = "vision.brinkbyte.io"
KINDS = ("tenants", "edgedevices", "cameralicenses")
APPLIED = {"get", "list", "watch", "create", "patch", "delete"}

# What the operator needs, and why. A rule that is not here has no business in the chart.
NEEDED: dict[tuple[str, str], tuple[set[str], str]] = {
    (GROUP, "tenants"): ({"get", "list", "watch", "patch"}, "served; the finalizer"),
    (GROUP, "edgedevices"): ({"list", "watch"}, "served"),
    (GROUP, "cameralicenses"): ({"list", "watch"}, "served"),
    **{(GROUP, f"{kind}/status"): ({"patch"}, "status, server-side apply") for kind in KINDS},
    **{(GROUP, f"{kind}/finalizers"): ({"update"}, "blockOwnerDeletion") for kind in KINDS},
    ("apiextensions.k8s.io", "customresourcedefinitions"): (
        {"list", "watch"},
        "kopf: when a kind is upgraded",
    ),
    ("", "secrets"): (APPLIED, "licenses, keys, credentials; the user's enrollment"),
    ("", "services"): (APPLIED, "child"),
    ("", "serviceaccounts"): (APPLIED, "child, without a token"),
    ("apps", "statefulsets"): (APPLIED, "PostgreSQL, Redis"),
    ("apps", "deployments"): (APPLIED, "Triton, instance"),
    ("batch", "cronjobs"): (APPLIED, "usage reporter"),
    ("policy", "poddisruptionbudgets"): (APPLIED, "child"),
    ("networking.k8s.io", "networkpolicies"): (APPLIED, "child"),
    ("networking.k8s.io", "ingresses"): (APPLIED, "child"),
    ("batch", "jobs"): (APPLIED - {"watch"}, "last report of a Tenant that goes"),
    ("", "persistentvolumeclaims"): ({"list", "patch", "delete"}, "grow; deletionPolicy Delete"),
    ("", "pods"): ({"list"}, "why a child is not ready"),
    ("", "namespaces"): ({"get"}, "cluster fingerprint: uid of kube-system, that one only"),
    ("events.k8s.io", "events"): ({"create"}, "Events"),
}


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render(CHART, FULL)


def granted(role: Object) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def test_lint() -> None:
    assert "0 chart(s) failed" in lint(CHART)


def test_the_operator_may_do_what_it_needs_and_nothing_else(objects: list[Object]) -> None:
    role = of_kind(objects, "ClusterRole")[CHART]
    assert granted(role) == {key: verbs for key, (verbs, _) in NEEDED.items()}
    namespaces = [rule for rule in role["rules"] if "namespaces" in rule["resources"]]
    assert [rule["resourceNames"] for rule in namespaces] == [["kube-system"]]


def test_every_kind_that_the_operator_writes_is_granted(objects: list[Object]) -> None:
    role = of_kind(objects, "ClusterRole")[CHART]
    served = {resource.split("/")[0] for _, resource in granted(role)}
    assert {kind.plural for kind in OPERATOR_KINDS.values()} <= served
    for group, _version, plural in CHILD_KINDS:
        assert granted(role)[group, plural] >= {"list", "watch"}


def test_no_role_has_a_wildcard_or_can_widen_itself(objects: list[Object]) -> None:
    roles = [body for body in objects if body["kind"] in {"Role", "ClusterRole"}]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not words & {"*", "escalate", "bind", "impersonate"}, role["metadata"]["name"]
            assert "pods/exec" not in words


def test_the_uninstall_hook_may_stop_the_operator_and_free_tenants_only(
    objects: list[Object],
) -> None:
    name = f"{CHART}-uninstall"
    assert granted(of_kind(objects, "ClusterRole")[name]) == {
        (GROUP, "tenants"): {"get", "list", "patch"}
    }
    role = of_kind(objects, "Role")[name]
    assert granted(role) == {("apps", "deployments"): {"get", "patch"}, ("", "pods"): {"list"}}
    assert role["rules"][0]["resourceNames"] == [CHART]
    hooks = [body for body in objects if body["metadata"]["name"] == name]
    assert {body["kind"] for body in hooks} == {
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Job",
    }
    weights = {}
    for body in hooks:
        annotations = body["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-delete"
        assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]
        weights[body["kind"]] = int(annotations["helm.sh/hook-weight"])
    assert weights.pop("Job") > max(weights.values())


def test_the_uninstall_hook_runs_the_operators_image(objects: list[Object]) -> None:
    templates = pods(objects)
    job = templates[f"Job/{CHART}-uninstall"]["spec"]
    operator = templates[f"Deployment/{CHART}"]["spec"]
    assert job["containers"][0]["image"] == operator["containers"][0]["image"]
    assert job["containers"][0]["args"] == ["operator", "release-finalizers"]
    assert job["serviceAccountName"] != operator["serviceAccountName"]
    # The operator's own selector must not match the hook: it waits for those pods to end.
    labels = templates[f"Job/{CHART}-uninstall"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] != CHART


def test_without_the_hook_nothing_of_it_is_left() -> None:
    names = [
        body["metadata"]["name"] for body in render(CHART, {"uninstall.releaseFinalizers": "false"})
    ]
    assert not [name for name in names if name.endswith("-uninstall")]


def test_pods_are_restricted_and_read_only(objects: list[Object]) -> None:
    templates = pods(objects)
    assert len(templates) == 2
    for name, template in templates.items():
        assert violations(template["spec"], token_allowed=True) == [], name


def test_one_operator_at_a_time(objects: list[Object]) -> None:
    spec = of_kind(objects, "Deployment")[CHART]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_probes_and_ports(objects: list[Object]) -> None:
    container = pods(objects)[f"Deployment/{CHART}"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"probes": 8081, "metrics": 8082}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "probes"}
    service = of_kind(objects, "Service")[f"{CHART}-metrics"]
    assert service["spec"]["ports"][0]["targetPort"] == "metrics"


def environment(objects: list[Object]) -> dict[str, str | None]:
    container = pods(objects)[f"Deployment/{CHART}"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_default_images_are_those_of_the_models(objects: list[Object]) -> None:
    env = environment(objects)
    assert env["BRINKBYTE_DEFAULT_POSTGRES_IMAGE"] == POSTGRES_IMAGE
    assert env["BRINKBYTE_DEFAULT_REDIS_IMAGE"] == REDIS_IMAGE
    assert env["BRINKBYTE_DEFAULT_TRITON_IMAGE"] == TRITON_IMAGE
    container = pods(objects)[f"Deployment/{CHART}"]["spec"]["containers"][0]
    assert env["BRINKBYTE_INSTANCE_IMAGE"] == container["image"] == "brinkbyte/brinkbyte:0.1.0"
    assert "BRINKBYTE_OPERATOR_NAMESPACE" in env


def test_images_from_a_mirror() -> None:
    digest = "sha256:" + "a" * 64
    values = {
        "image.repository": '"mirror:5000/brinkbyte"',
        "image.tag": json.dumps(digest),
        "defaults.images.instance": '"mirror:5000/instance:2"',
        "defaults.images.redis": '"mirror:5000/redis:8"',
    }
    rendered = render(CHART, values)
    container = pods(rendered)[f"Deployment/{CHART}"]["spec"]["containers"][0]
    assert container["image"] == f"mirror:5000/brinkbyte@{digest}"
    assert environment(rendered)["BRINKBYTE_INSTANCE_IMAGE"] == "mirror:5000/instance:2"
    assert environment(rendered)["BRINKBYTE_DEFAULT_REDIS_IMAGE"] == "mirror:5000/redis:8"


def test_definitions_stay_on_uninstall(objects: list[Object]) -> None:
    definitions = of_kind(objects, "CustomResourceDefinition")
    assert set(definitions) == {f"{kind}.{GROUP}" for kind in KINDS}
    for body in definitions.values():
        assert body["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    without = render(CHART, {"crds.enabled": "false"})
    assert not of_kind(without, "CustomResourceDefinition")


def test_nothing_carries_trust_roots_in(objects: list[Object]) -> None:
    # Roots of trust are in the image only.
    assert not of_kind(objects, "ConfigMap")
    for name, template in pods(objects).items():
        for volume in template["spec"]["volumes"]:
            assert set(volume) == {"name", "emptyDir"}, name


def test_network_policy_covers_the_operator(objects: list[Object]) -> None:
    policy = of_kind(objects, "NetworkPolicy")[CHART]["spec"]
    assert policy["ingress"] == [{"ports": [{"port": "metrics"}]}]
    labels = pods(objects)[f"Deployment/{CHART}"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert not of_kind(render(CHART), "NetworkPolicy")


def test_selectors_match_their_pods(objects: list[Object]) -> None:
    labels = pods(objects)[f"Deployment/{CHART}"]["metadata"]["labels"]
    deployment = of_kind(objects, "Deployment")[CHART]["spec"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    service = of_kind(objects, "Service")[f"{CHART}-metrics"]["spec"]
    assert service["selector"].items() <= labels.items()


def test_two_releases_do_not_share_names() -> None:
    def names(release: str) -> set[tuple[str, str]]:
        return {
            (body["kind"], body["metadata"]["name"])
            for body in render(CHART, {"crds.enabled": "false"}, release=release)
        }

    assert not names("blue") & names("green")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"imagee": '"x"'}, "imagee"),
        ({"image.pullPolicy": '"Sometimes"'}, "pullPolicy"),
        ({"image.repository": '"has space"'}, "repository"),
        ({"image.tag": "17"}, "tag"),
        ({"defaults.images.postgres": '""'}, "postgres"),
        ({"logLevel": '"loud"'}, "logLevel"),
        ({"crds.enabled": '"yes"'}, "crds"),
        ({"networkPolicy.egressPorts": "[0]"}, "egressPorts"),
        ({"runAsUser": "0"}, "runAsUser"),
        ({"replicas": "2"}, "replicas"),
        ({"trustRoots": '"mine"'}, "trustRoots"),
        ({"imagePullSecrets": '["registry"]'}, "imagePullSecrets"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, str], words: str) -> None:
    with pytest.raises(HelmError, match=words):
        render(CHART, values)
