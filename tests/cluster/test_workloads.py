"""What the pods of an instance do when one of them, or the operator, is gone for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest

from brinkbyte.resources import names
from stack.forward import PortForward
from support.cluster import eventually

from .conftest import Site

pytestmark = pytest.mark.cluster

FRAME = b"P6 8 8 255\n" + bytes([230, 60, 40]) * 8 + bytes([10, 10, 10]) * 56
POSTGRES, REDIS = f"acme{names.POSTGRES_SUFFIX}-0", f"acme{names.REDIS_SUFFIX}-0"
_REDIS_CLI = 'redis-cli --no-auth-warning -a "$(cat /etc/brinkbyte/redis/password)"'


@contextmanager
def instance(site: Site) -> Iterator[PortForward]:
    service = site.name + names.INSTANCE_SUFFIX
    with PortForward(site.cluster, site.namespace, service, names.INSTANCE_PORT) as forward:
        yield forward


def token(site: Site, secret: str, key: str) -> dict[str, str]:
    value = site.cluster.secret(site.namespace, secret)[key].decode()
    return {"Authorization": f"Bearer {value}"}


def answer(
    forward: PortForward, method: str, path: str, headers: dict[str, str], content: bytes = b""
) -> httpx.Response | None:
    """Ask once; None without an answer: pods come and go."""
    try:
        return httpx.request(
            method, forward.url + path, headers=headers, content=content, timeout=10
        )
    except httpx.HTTPError:
        return None


def pod_uid(site: Site, selector: str) -> str:
    found = site.cluster.kubectl(
        "get", "pods", "--namespace", site.namespace, "--selector", selector,
        "--field-selector", "status.phase=Running",
        "--output", "jsonpath={.items[*].metadata.uid}",
    )  # fmt: skip
    return found.strip()


def kill(site: Site, component: str) -> None:
    """Delete a component's pod at once and wait for another that is ready."""
    selector = f"{names.LABEL_COMPONENT}={component},{names.LABEL_TENANT}={site.name}"
    before = pod_uid(site, selector)
    assert before
    site.cluster.kubectl(
        "delete", "pods", "--namespace", site.namespace, "--selector", selector,
        "--grace-period=0", "--force",
    )  # fmt: skip
    eventually(
        f"another {component} pod", lambda: pod_uid(site, selector) not in ("", before), seconds=120
    )
    site.cluster.kubectl(
        "wait", "pods", "--namespace", site.namespace, "--selector", selector,
        "--for=condition=Ready", "--timeout=90s",
    )  # fmt: skip


def infers(site: Site, forward: PortForward) -> httpx.Response | None:
    headers = token(site, f"gate{names.DEVICE_TOKEN_SUFFIX}", names.DEVICE_TOKEN_KEY)
    headers["Idempotency-Key"] = str(uuid4())
    headers["Content-Type"] = "image/x-portable-pixmap"
    return answer(forward, "POST", "/api/v1/cameras/id-entry/infer?model=person", headers, FRAME)


def test_triton_infers_with_a_licensed_model_also_after_its_pod_was_killed(site: Site) -> None:
    def found() -> bool:
        got = infers(site, forward)
        return got is not None and got.status_code == 200 and got.json()["model"] == "person"

    with instance(site) as forward:
        eventually("an inference", found, seconds=60)
        kill(site, "triton")
        eventually("an inference by the new pod", found, seconds=90)


def test_data_survives_a_kill_of_postgres_and_redis(site: Site) -> None:
    headers = token(site, f"{site.name}{names.ACCESS_SUFFIX}", names.SERVICE_TOKEN_KEY)
    body = b'{"cameraId": "id-exit", "name": "kept"}'
    with instance(site) as forward:
        path = "/api/v1/cameras"
        made = answer(forward, "POST", path, {**headers, "Content-Type": "application/json"}, body)
        assert made is not None
        assert made.status_code in (201, 409), made.text
        in_pod = ("exec", "--namespace", site.namespace, REDIS, "--", "sh", "-c")
        site.cluster.kubectl(*in_pod, f"{_REDIS_CLI} set proof kept")
        kill(site, "postgres")
        kill(site, "redis")

        def kept() -> bool:
            got = answer(forward, "GET", f"{path}/id-exit", headers)
            return got is not None and got.status_code == 200 and got.json()["name"] == "kept"

        eventually("the camera is read back", kept, seconds=60)
        assert site.cluster.kubectl(*in_pod, f"{_REDIS_CLI} get proof").strip() == "kept"


def test_losing_the_operator_stops_no_instance(site: Site) -> None:
    headers = token(site, f"{site.name}{names.ACCESS_SUFFIX}", names.SERVICE_TOKEN_KEY)

    def licensed() -> bool:
        got = answer(forward, "GET", "/api/v1/license", headers)
        return got is not None and got.status_code == 200 and got.json()["mode"] == "active"

    site.operator.stop()
    try:
        with instance(site) as forward:
            kill(site, "instance")
            eventually("the instance serves with its license", licensed, seconds=60)
    finally:
        site.operator.start()
    site.wait_ready("tenant", site.name, seconds=60)
