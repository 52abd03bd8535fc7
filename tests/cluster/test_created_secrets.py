"""Secrets that the operator creates: never another's, and nothing of them stays unwanted."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from brinkbyte.controller.cluster import Cluster
from brinkbyte.controller.connection import load_connection
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.ownership import NameConflictError
from brinkbyte.resources import names
from support.cluster import KubernetesCluster

pytestmark = pytest.mark.cluster
NAMESPACE = "created"


@pytest.fixture(scope="module")
def namespace(cluster: KubernetesCluster) -> Iterator[str]:
    cluster.namespace(NAMESPACE)
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
async def client(cluster: KubernetesCluster, namespace: str) -> AsyncIterator[Cluster]:
    made = Cluster(await load_connection(cluster.kubeconfig), Metrics())
    yield made
    await made.close()


def secret(name: str, **data: str) -> dict[str, Any]:
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_OWNER_KIND: "Tenant"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "type": "Opaque",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


async def test_a_field_that_is_no_longer_wanted_goes_and_others_stay(
    client: Cluster, cluster: KubernetesCluster
) -> None:
    created = await client.apply_new(secret("license", token="a", old="b"))
    assert created["data"].keys() == {"token", "old"}
    assert await client.apply(secret("license", token="a", old="b"), live=created) == created
    cluster.patch("secret", NAMESPACE, "license", {"data": {"theirs": "Yw=="}})
    live = await client.get("Secret", NAMESPACE, "license")
    written = await client.apply(secret("license", token="a"), live=live)
    assert written["data"].keys() == {"token", "theirs"}
    entries = written["metadata"]["managedFields"]
    ours = [each for each in entries if each["manager"] == names.FIELD_MANAGER]
    assert [each["operation"] for each in ours] == ["Apply"]
    assert await client.apply(secret("license", token="a"), live=written) == written


async def test_a_secret_that_was_made_a_moment_ago_is_not_taken_over(
    client: Cluster, cluster: KubernetesCluster
) -> None:
    theirs = secret("foreign", password="theirs")
    del theirs["metadata"]["labels"]
    cluster.apply(theirs)
    with pytest.raises(NameConflictError, match="not the operator's"):
        await client.apply_new(secret("foreign", token="ours"))
    live = await client.get("Secret", NAMESPACE, "foreign")
    assert live is not None
    assert live["data"] == theirs["data"]


async def test_a_secret_of_ours_that_is_there_is_put_right(client: Cluster) -> None:
    first = await client.apply_new(secret("ours", token="a"))
    second = await client.apply_new(secret("ours", token="b"))
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert base64.b64decode(second["data"]["token"]) == b"b"
