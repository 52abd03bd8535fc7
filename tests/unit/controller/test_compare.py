"""Desired against live over the fields we own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.controller.children import build
from brinkbyte.controller.compare import applied_fields, differences, left_over
from brinkbyte.resources.names import FIELD_MANAGER
from support.plans import plan, tenant

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x", "labels": {"a": "1"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"a": "1"}},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "command": ["run", "it"],
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}}],
            }
        },
    },
}
POLICY: dict[str, Any] = {
    "kind": "NetworkPolicy",
    "metadata": {"name": "p"},
    "spec": {
        "podSelector": {"matchLabels": {"a": "1"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": {"b": "2"}}}],
                "ports": [{"port": 80, "protocol": "TCP"}],
            }
        ],
        "egress": [],
    },
}


def as_stored(desired: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of it: defaults filled in, quantities its own way, other fields."""
    live = copy.deepcopy(desired)
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "annotations": {"theirs": "x"}}
    live["status"] = {"readyReplicas": 1}
    spec = live["spec"]
    if live["kind"] == "Deployment":
        spec |= {"progressDeadlineSeconds": 600, "revisionHistoryLimit": 10}
        pod = spec["template"]["spec"]
        pod |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        container = pod["containers"][0]
        container["terminationMessagePath"] = "/dev/termination-log"
        container["resources"]["requests"] = {"cpu": "0.5", "memory": "1024Mi"}
        container["env"].reverse()
        pod["volumes"][0]["emptyDir"]["sizeLimit"] = "1Gi"
        pod["containers"].insert(0, {"name": "sidecar", "image": "mesh"})
    else:
        del spec["egress"]
    return live


@pytest.mark.parametrize("desired", [DEPLOYMENT, POLICY])
def test_what_the_api_server_adds_is_no_difference(desired: dict[str, Any]) -> None:
    assert differences(desired, as_stored(desired)) == []


def container(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["spec"]["template"]["spec"]["containers"][-1]
    return found


@pytest.mark.parametrize(
    ("desired", "change"),
    [
        (DEPLOYMENT, lambda live: live["spec"].update(replicas=0)),
        (DEPLOYMENT, lambda live: live["metadata"]["labels"].clear()),
        (DEPLOYMENT, lambda live: container(live)["command"].append("--more")),
        (DEPLOYMENT, lambda live: container(live)["command"].pop()),
        (DEPLOYMENT, lambda live: container(live)["env"].pop()),
        (DEPLOYMENT, lambda live: container(live)["env"][0].update(value="9")),
        (DEPLOYMENT, lambda live: container(live)["ports"][0].update(containerPort=81)),
        (DEPLOYMENT, lambda live: container(live)["resources"]["requests"].update(cpu="501m")),
        (DEPLOYMENT, lambda live: live["spec"]["template"]["spec"]["containers"].pop()),
        (DEPLOYMENT, lambda live: live["spec"]["selector"]["matchLabels"].update(b="2")),
        (POLICY, lambda live: live["spec"]["ingress"].append({})),
        (POLICY, lambda live: live["spec"]["ingress"].clear()),
        (POLICY, lambda live: live["spec"]["ingress"][0]["from"].append({"podSelector": {}})),
        (POLICY, lambda live: live["spec"]["ingress"][0]["from"][0].update(namespaceSelector={})),
        (POLICY, lambda live: live["spec"]["ingress"][0]["ports"][0].update(endPort=90)),
        (POLICY, lambda live: live["spec"]["podSelector"]["matchLabels"].update(c="3")),
        (POLICY, lambda live: live["spec"]["podSelector"].clear()),
        (POLICY, lambda live: live["spec"].update(egress=[{}])),
        (POLICY, lambda live: live["spec"]["policyTypes"].pop()),
    ],
)
def test_every_change_of_what_is_ours_is_seen(desired: dict[str, Any], change: Any) -> None:
    live = as_stored(desired)
    change(live)
    if live == as_stored(desired):
        # A peer with an empty namespace selector means every namespace: it is not nothing.
        pytest.fail("the change changes nothing")
    assert differences(desired, live) != []


def test_a_service_selector_is_one_value() -> None:
    desired = {"kind": "Service", "metadata": {}, "spec": {"selector": {"a": "1"}}}
    live = {"kind": "Service", "metadata": {}, "spec": {"selector": {"a": "1", "b": "2"}}}
    assert differences(desired, live) == ["spec.selector"]


def test_fields_that_we_own_and_no_longer_want_are_seen() -> None:
    live = as_stored(DEPLOYMENT)
    owned = {
        "f:metadata": {"f:labels": {"f:a": {}, "f:former": {}}},
        "f:spec": {
            "f:template": {
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"main"}': {
                            ".": {},
                            "f:name": {},
                            "f:env": {'k:{"name":"A"}': {}, 'k:{"name":"GONE"}': {".": {}}},
                            "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}}},
                        }
                    }
                }
            }
        },
    }
    live["metadata"]["managedFields"] = [
        {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": owned},
        {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
        {
            "manager": FIELD_MANAGER,
            "operation": "Apply",
            "subresource": "status",
            "fieldsV1": {"f:status": {}},
        },
    ]
    assert left_over(DEPLOYMENT, live) == [
        "metadata.labels.former",
        'spec.template.spec.containers[{"name":"main"}].env[{"name":"GONE"}]',
    ]


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [each for key, item in value.items() for each in _leaves(item, (*path, key))]
    if isinstance(value, list) and value:
        return [each for i, item in enumerate(value) for each in _leaves(item, (*path, i))]
    return [path]


CHILDREN = build(
    plan(
        tenant(
            instance={"replicas": 2, "ingress": {"host": "a.example.com"}},
            triton={"replicas": 2},
            redis={"storage": {"size": "1Gi"}},
        ),
        credential_hashes={"postgres": "a", "redis": "b", "triton": "c"},
    )
)


def test_fields_that_we_created_and_no_longer_want_are_seen() -> None:
    created = {
        "manager": FIELD_MANAGER,
        "operation": "Update",
        "fieldsV1": {"f:data": {"f:token": {}, "f:old": {}}},
    }
    live = {"data": {"token": "a", "old": "b"}, "metadata": {"managedFields": [created]}}
    assert left_over({"data": {"token": "a"}}, live) == ["data.old"]
    applied = {**created, "operation": "Apply", "fieldsV1": {"f:data": {"f:token": {}}}}
    # Beside what we apply, an update of ours was only ever to put something right.
    live["metadata"]["managedFields"].append(applied)
    assert left_over({"data": {"token": "a"}}, live) == []
    assert list(applied_fields(live)) == []


@given(st.data())
def test_removing_or_changing_any_leaf_of_any_child_is_a_difference(data: st.DataObject) -> None:
    desired = data.draw(st.sampled_from(CHILDREN))
    live = copy.deepcopy(desired)
    assert differences(desired, live) == []
    path = data.draw(st.sampled_from(_leaves(desired)))
    *parents, last = path
    node: Any = live
    for part in parents:
        node = node[part]
    before = node[last]
    if before in ({}, []):
        return  # nothing can be taken from it
    if data.draw(st.booleans()):
        del node[last]
        removed_default = last == "protocol" or (last == "apiVersion" and len(path) == 1)
        if removed_default or path[-2:] == ("emptyDir", last):
            return
    else:
        node[last] = f"{before}x" if isinstance(before, str) else 987_654
        if isinstance(before, bool):
            node[last] = not before
    assert differences(desired, live) != [], path


@given(st.data())
def test_foreign_additions_to_metadata_are_no_difference(data: st.DataObject) -> None:
    desired = data.draw(st.sampled_from(CHILDREN))
    live = copy.deepcopy(desired)
    words = st.text("abcdefghij", min_size=1, max_size=8)
    extra = data.draw(st.dictionaries(words.map(lambda w: f"example.com/{w}"), words))
    live["metadata"].setdefault("annotations", {}).update(extra)
    live["metadata"]["labels"].update(extra)
    live["metadata"]["finalizers"] = ["example.com/x"]
    live["status"] = {"anything": 1}
    assert differences(desired, live) == []
