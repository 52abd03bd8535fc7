"""Requests to the Kubernetes API on the wire: authenticated, counted, repeated when they may be.

What an API server decides is tested on a real one; here a loopback server says what no real one
says on demand.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from brinkbyte.controller.app import CHILD_KINDS, SELECTOR, configure
from brinkbyte.controller.cluster import Cluster, ClusterRefusedError, ClusterUnreachableError
from brinkbyte.controller.connection import (
    Connection,
    ConnectionConfigError,
    ServiceAccount,
    load_connection,
)
from brinkbyte.controller.kubeconfig import KubeconfigCredentials
from brinkbyte.controller.metrics import Metrics
from brinkbyte.kit.errors import TemporaryError
from support.billing import make_certificate

OBJECT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "x", "namespace": "ns", "uid": "u"},
}


@dataclass
class Wire:
    """A loopback server that answers what it is told, and the client that asks it."""

    cluster: Cluster
    metrics: Metrics
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answers: list[web.Response | None] = field(default_factory=list)
    """None: the line breaks before an answer."""
    waits: list[float] = field(default_factory=list)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    configuration: Any = Configuration()
    configuration.api_key = {"BearerToken": "the-token"}
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    metrics = Metrics()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    made: Wire

    async def handle(request: web.Request) -> web.Response:
        made.bodies.append(await request.read())
        made.seen.append(request)
        answer = made.answers.pop(0) if made.answers else web.json_response(OBJECT)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server:
        url = f"http://127.0.0.1:{server.port}"
        cluster = Cluster(
            Connection(url, ssl.create_default_context(), KubeconfigCredentials(configuration)),
            metrics,
            sleep=sleep,
        )
        made = Wire(cluster, metrics, waits=waits)
        yield made
        await cluster.close()


def refused(status: int, **headers: str) -> web.Response:
    body = {"kind": "Status", "message": "no", "reason": "NotFound" if status == 404 else "Because"}
    return web.json_response(body, status=status, headers=headers)


async def test_every_request_is_authenticated_and_counted(wire: Wire) -> None:
    cluster = wire.cluster
    await cluster.get("Secret", "ns", "x")
    await cluster.list("Secret", "ns", labels="a=b")
    await cluster.apply(OBJECT, live=None)
    await cluster.apply_status({**OBJECT, "kind": "Tenant"}, {"a": 1})
    await cluster.patch("Secret", "ns", "x", {})
    await cluster.delete("Secret", "ns", "x", uid="u", orphan=True)
    await cluster.create({**OBJECT, "kind": "Event"})
    assert {each.headers["Authorization"] for each in wire.seen} == {"Bearer the-token"}
    assert [each.method for each in wire.seen] == [
        "GET", "GET", "PATCH", "PATCH", "PATCH", "DELETE", "POST",
    ]  # fmt: skip
    assert wire.seen[2].headers["Content-Type"] == "application/apply-patch+yaml"
    assert dict(wire.seen[2].query) == {
        "fieldManager": "brinkbyte-operator", "fieldValidation": "Ignore", "force": "true",
    }  # fmt: skip
    assert wire.seen[3].path.endswith("/tenants/x/status")
    count = wire.metrics.registry.get_sample_value(
        "brinkbyte_operator_kubernetes_requests_total", {"verb": "apply", "kind": "Secret"}
    )
    assert count == 1


Call = Callable[[Cluster], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "get": lambda cluster: cluster.get("Secret", "ns", "x"),
    "apply": lambda cluster: cluster.apply(OBJECT, live=None),
    "patch": lambda cluster: cluster.patch("Secret", "ns", "x", {}),
    "delete": lambda cluster: cluster.delete("Secret", "ns", "x"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_what_may_pass_is_tried_again(wire: Wire, call: str, status: int) -> None:
    wire.answers = [refused(status), refused(status)]
    await CALLS[call](wire.cluster)
    assert len(wire.seen) == 3
    assert len(wire.waits) == 2


async def test_retry_after_is_waited_for(wire: Wire) -> None:
    wire.answers = [refused(429, **{"Retry-After": "3"})]
    await wire.cluster.apply(OBJECT, live=None)
    assert wire.waits == [3.0]


async def test_a_server_that_stays_away_is_a_temporary_error(wire: Wire) -> None:
    wire.answers = [refused(503, **{"Retry-After": "7"}) for _ in range(9)]
    with pytest.raises(ClusterUnreachableError) as caught:
        await wire.cluster.apply(OBJECT, live=None)
    assert caught.value.retry_after == 7.0
    assert isinstance(caught.value, TemporaryError)


@pytest.mark.parametrize("status", [400, 403, 409, 422])
async def test_a_refusal_is_told_once_with_its_reason(wire: Wire, status: int) -> None:
    wire.answers = [refused(status)]
    with pytest.raises(ClusterRefusedError) as caught:
        await wire.cluster.apply(OBJECT, live=None)
    assert caught.value.details == {"status": status, "kubernetesReason": "Because"}
    assert "no" in caught.value.message
    assert len(wire.seen) == 1


async def test_what_is_gone_is_no_error(wire: Wire) -> None:
    wire.answers = [refused(404) for _ in range(4)]
    assert await wire.cluster.get("Secret", "ns", "x") is None
    assert await wire.cluster.patch("Secret", "ns", "x", {}) is None
    await wire.cluster.delete("Secret", "ns", "x")
    await wire.cluster.apply_status({**OBJECT, "kind": "Tenant"}, {})


async def test_what_others_put_into_a_status_is_taken_out(wire: Wire) -> None:
    tenant = {**OBJECT, "kind": "Tenant"}
    with_more = {**tenant, "status": {"a": 1, "theirs": 2}}
    with_more["metadata"] = {**OBJECT["metadata"], "resourceVersion": "7"}
    clean = {**with_more, "status": {"a": 1}}
    wire.answers = [web.json_response(with_more), web.json_response(clean)]
    assert await wire.cluster.apply_status(tenant, {"a": 1}) == clean
    assert wire.seen[1].headers["Content-Type"] == "application/json-patch+json"
    wire.answers = [web.json_response(with_more), refused(422)]
    assert await wire.cluster.apply_status(tenant, {"a": 1}) == with_more
    wire.answers = [web.json_response(clean)]
    await wire.cluster.apply_status(tenant, {"a": 1})
    assert len(wire.seen) == 5


async def test_a_404_of_somebody_in_between_does_not_mean_gone(wire: Wire) -> None:
    wire.answers = [web.Response(status=404, text="no such route")]
    with pytest.raises(ClusterRefusedError):
        await wire.cluster.get("Tenant", "ns", "x")


async def test_an_event_is_never_written_twice(wire: Wire) -> None:
    wire.answers = [None]
    with pytest.raises(ClusterUnreachableError):
        await wire.cluster.create({**OBJECT, "kind": "Event"})
    assert len(wire.seen) == 1


TAKEN = {"kind": "Status", "message": "there is one", "reason": "AlreadyExists"}
MANAGED = {"manager": "brinkbyte-operator", "operation": "Update", "fieldsV1": {"f:data": {}}}


def of(uid: str, **more: Any) -> dict[str, Any]:
    """Return a Secret that a CameraLicense of this uid controls."""
    owner = {"kind": "CameraLicense", "name": "x", "uid": uid, "controller": True}
    meta = {**OBJECT["metadata"], "resourceVersion": "7", "ownerReferences": [owner], **more}
    return {**OBJECT, "metadata": meta}


async def test_what_is_new_is_created_at_once(wire: Wire) -> None:
    wire.answers = [None, web.json_response(of("c"), status=201)]
    assert await wire.cluster.apply_new(of("c")) == of("c")
    assert [each.method for each in wire.seen] == ["POST", "POST"]
    assert wire.seen[0].path.endswith("/secrets")


async def test_what_came_there_a_moment_ago_is_not_taken_over(wire: Wire) -> None:
    wire.answers = [web.json_response(TAKEN, status=409), web.json_response(of("another"))]
    with pytest.raises(TemporaryError, match="former CameraLicense"):
        await wire.cluster.apply_new(of("c"))
    assert [each.method for each in wire.seen] == ["POST", "GET"]


async def test_what_is_ours_already_is_brought_to_what_is_desired(wire: Wire) -> None:
    live = of("c", managedFields=[MANAGED, {**MANAGED, "manager": "somebody"}])
    desired = {**of("c"), "data": {"token": "bmV3"}}
    wire.answers = [web.json_response(TAKEN, status=409), web.json_response(live)]
    await wire.cluster.apply_new(desired)
    assert [each.method for each in wire.seen] == ["POST", "GET", "PATCH", "PATCH"]
    # Fields that were created are made fields that were applied: an apply takes them away then.
    patch = json.loads(wire.bodies[2])
    assert patch == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {
            "op": "replace",
            "path": "/metadata/managedFields",
            "value": [{**MANAGED, "operation": "Apply"}, {**MANAGED, "manager": "somebody"}],
        },
    ]
    assert wire.seen[3].headers["Content-Type"] == "application/apply-patch+yaml"


async def test_a_refused_create_is_told(wire: Wire) -> None:
    wire.answers = [refused(403)]
    with pytest.raises(ClusterRefusedError):
        await wire.cluster.apply_new(of("c"))
    assert len(wire.seen) == 1


async def test_a_broken_line_is_tried_again(wire: Wire) -> None:
    wire.answers = [None, None]
    await wire.cluster.apply(OBJECT, live=None)
    assert len(wire.seen) == 3


async def test_a_kubeconfig_is_read_for_us_and_for_kopf(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [
                    {
                        "name": "k",
                        "cluster": {"server": "https://k:1/", "insecure-skip-tls-verify": True},
                    }
                ],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            }
        )
    )
    connection = await load_connection(file)
    assert connection.server == "https://k:1"
    assert await connection.headers() == {"Authorization": "Bearer secret"}
    info = await connection.kopf_info()
    assert (info.server, info.scheme, info.token) == ("https://k:1", "Bearer", "secret")


async def test_without_a_cluster_the_error_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConnectionConfigError) as caught:
        await load_connection(tmp_path / "missing")
    assert "--kubeconfig" in caught.value.message


async def test_a_pod_uses_its_service_account_and_reads_a_rotated_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConnectionConfigError, match="--kubeconfig"):
        await load_connection(account=tmp_path)
    (tmp_path / "token").write_text("first\n")
    with pytest.raises(ConnectionConfigError, match=r"ca\.crt"):
        await load_connection(account=tmp_path)
    make_certificate(tmp_path / "ca.crt", tmp_path / "ca.key")
    connection = await load_connection(account=tmp_path)
    assert connection.server == "https://[fd00::1]:443"
    assert await connection.headers() == {"Authorization": "Bearer first"}
    info = await connection.kopf_info()
    assert (info.scheme, info.token, info.ca_path) == (
        "Bearer", "first", str(tmp_path / "ca.crt"),
    )  # fmt: skip
    now = [0.0]
    account = ServiceAccount(tmp_path, clock=lambda: now[0])
    assert await account.authorization() == "Bearer first"
    (tmp_path / "token").write_text("second")
    assert await account.authorization() == "Bearer first"
    now[0] = 61.0
    assert await account.authorization() == "Bearer second"
    (tmp_path / "token").unlink()
    now[0] = 200.0
    assert await account.authorization() == "Bearer second", "what was read goes on"


def test_kopf_is_told_to_write_nothing_and_to_select_on_the_server() -> None:
    settings = kopf.OperatorSettings()
    configure(settings)
    assert not settings.posting.enabled
    assert not settings.posting.loggers
    assert settings.queueing.worker_limit is None
    assert settings.networking.request_timeout == 30
    assert list(settings.watching.label_selectors.values()) == [SELECTOR] * len(CHILD_KINDS)
    storage: Any = settings.persistence.diffbase_storage
    assert storage.build(body={}, extra_fields=None) == {}
    assert storage.fetch(body={}) is None
    progress: Any = settings.persistence.progress_storage
    essence = {"spec": {}}
    assert progress.clear(essence=essence) is essence
    assert progress.fetch(key="k", body={}) is None
