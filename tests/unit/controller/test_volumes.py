"""What cannot change in place, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from brinkbyte.controller.children import build
from brinkbyte.controller.tenant_pass import autoscaled, billing_address
from brinkbyte.controller.volumes import Adjusted, adjust, major_of
from brinkbyte.resources.defaults import resolve
from support.plans import IMAGES, plan, tenant


def live(of: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    """The StatefulSets of a Tenant as they stand."""
    sets = [each for each in build(plan(tenant(**of))) if each["kind"] == "StatefulSet"]
    found = {each["metadata"]["name"].rsplit("-", 1)[1]: each for each in sets}
    return {"postgres": found.get("postgres"), "redis": found.get("redis")}


def change(before: dict[str, Any], after: dict[str, Any]) -> Adjusted:
    return adjust(resolve(tenant(**after).spec, IMAGES), live(before))


def storage(size: str, **more: str) -> dict[str, Any]:
    return {"storage": {"size": size, **more}}


def test_the_same_spec_asks_for_nothing() -> None:
    spec = {"postgres": storage("1Gi", storageClassName="fast"), "redis": storage("1Gi")}
    found = change(spec, spec)
    assert found.notes == {}
    assert found.grow == {}
    assert found.resolved == resolve(tenant(**spec).spec, IMAGES)


def test_the_same_amount_in_other_words_is_no_change() -> None:
    found = change({"postgres": storage("1Gi")}, {"postgres": storage("1024Mi")})
    assert found.notes == {}
    assert found.grow == {}
    postgres = found.resolved.postgres
    assert postgres is not None
    assert postgres.volume is not None
    assert postgres.volume.size == "1Gi", "the template stays as it stands"


def test_growing_is_asked_for() -> None:
    found = change({"postgres": storage("1Gi")}, {"postgres": storage("2Gi")})
    assert found.grow == {"postgres": "2Gi"}
    assert found.notes == {}


@pytest.mark.parametrize(
    ("before", "after", "component", "reason"),
    [
        (
            {"postgres": storage("2Gi")},
            {"postgres": storage("1Gi")},
            "postgres",
            "StorageCannotShrink",
        ),
        ({"redis": storage("2Gi")}, {"redis": storage("1Gi")}, "redis", "StorageCannotShrink"),
        (
            {"postgres": storage("2Gi", storageClassName="fast")},
            {"postgres": storage("2Gi", storageClassName="slow")},
            "postgres",
            "StorageClassChanged",
        ),
        (
            {"postgres": {"image": "postgres:17"}},
            {"postgres": {"image": "registry:5000/x/postgres:18.1"}},
            "postgres",
            "PostgresMajorChange",
        ),
    ],
)
def test_what_cannot_be_done_changes_nothing_and_is_said(
    before: dict[str, Any], after: dict[str, Any], component: str, reason: str
) -> None:
    found = change(before, after)
    assert {name: seen.reason for name, seen in found.notes.items()} == {component: reason}
    assert all(seen.ready for seen in found.notes.values())
    as_before = resolve(tenant(**before).spec, IMAGES)
    assert getattr(found.resolved, component).volume == getattr(as_before, component).volume
    if reason == "PostgresMajorChange":
        assert found.resolved.postgres is not None
        assert found.resolved.postgres.image == "postgres:17"


def test_a_minor_version_may_change() -> None:
    found = change({"postgres": {"image": "postgres:17.1"}}, {"postgres": {"image": "x:17.9-a"}})
    assert found.notes == {}
    assert found.resolved.postgres is not None
    assert found.resolved.postgres.image == "x:17.9-a"


@pytest.mark.parametrize(
    ("image", "major"),
    [
        ("postgres:17", 17),
        ("postgres:17.2-bookworm", 17),
        ("registry:5000/postgres", None),
        ("postgres:latest", None),
        ("postgres:v16", 16),
        (f"postgres:17@sha256:{'0' * 64}", 17),
    ],
)
def test_the_major_version_is_read_from_the_tag(image: str, major: int | None) -> None:
    assert major_of(image) == major


@pytest.mark.parametrize(
    ("url", "port", "namespace"),
    [
        ("https://billing.example.com", 443, ""),
        ("https://billing.example.com:9443/base", 9443, ""),
        ("http://127.0.0.1:8000", 8000, ""),
        ("https://brinkbyte-billing.vendor.svc", 443, "vendor"),
        ("https://brinkbyte-billing.vendor.svc.cluster.local:8443", 8443, "vendor"),
    ],
)
def test_a_billing_api_in_the_cluster_is_found_by_its_name(
    url: str, port: int, namespace: str
) -> None:
    assert billing_address(url) == (port, namespace)


def test_only_an_autoscaler_owns_the_replicas() -> None:
    def scaled_by(manager: str) -> dict[str, Any]:
        entry = {"manager": manager, "subresource": "scale", "operation": "Update"}
        return {"metadata": {"managedFields": [entry]}}

    assert autoscaled(scaled_by("kube-controller-manager"))
    assert not autoscaled(scaled_by("kubectl"))
    assert not autoscaled(None)


def test_an_image_that_somebody_else_put_in_is_no_major_of_ours() -> None:
    spec = {"postgres": {"image": "postgres:17"}}
    changed = live({"postgres": {"image": "postgres:99"}})
    found = adjust(resolve(tenant(**spec).spec, IMAGES), changed, running="postgres:17")
    assert found.notes == {}
    assert found.resolved.postgres is not None
    assert found.resolved.postgres.image == "postgres:17"
