"""A site gets a line, and loses it again: one key pair, and nothing speaks that should not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from brinkbyte.controller import air_gap, enrollment
from brinkbyte.controller.asking import Asking
from brinkbyte.controller.context import BillingClients, TenantMemory
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.metrics import Metrics
from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.keys import PublicJwk, load_roots
from brinkbyte.resources.names import ENROLLMENT_SECRET_TYPE
from support.billing import CUSTOMER, BillingApi
from support.memory_cluster import MemoryCluster
from support.plans import tenant

pytestmark = pytest.mark.services


@pytest.fixture
def roots(billing_api: BillingApi) -> dict[str, PublicJwk]:
    return load_roots(billing_api.roots.read_bytes())


@pytest.fixture
async def ctx(roots: dict[str, PublicJwk]) -> AsyncIterator[Any]:
    async def fingerprint() -> str:
        return "cluster-1"

    clients = BillingClients()
    yield SimpleNamespace(
        cluster=MemoryCluster(),
        settings=SimpleNamespace(operator_namespace="brinkbyte-system"),
        roots=SimpleNamespace(keys=roots),
        billing=clients,
        metrics=Metrics(),
        now=int(time.time()),
        cluster_fingerprint=fingerprint,
    )
    await clients.close()


async def test_a_line_comes_and_goes(ctx: Any, billing_api: BillingApi) -> None:
    line = tenant(
        {"name": "acme", "namespace": "acme", "uid": "uid-acme"},
        customerId=CUSTOMER,
        billing={"url": billing_api.url, "enrollmentSecretRef": {"name": "enrollment"}},
        license={"bundleSecretRef": {"name": "bundle"}},
    )
    none = line.model_copy(update={"spec": line.spec.model_copy(update={"billing": None})})
    memory = TenantMemory(Asking(time.monotonic), Asking(time.monotonic))

    async def without() -> Identity:
        with pytest.raises(PermanentError, match=r"license request|Import the newest bundle"):
            await air_gap.ensure_identity(ctx, none, memory)
        assert memory.identity is not None
        return memory.identity

    first = await without()
    assert (first.air_gap, first.enrolled) == (True, False)
    secret = ctx.cluster.secret("acme", "enrollment", token=billing_api.enrollment_token())
    secret["type"] = ENROLLMENT_SECRET_TYPE
    await enrollment.ensure_identity(ctx, line, memory, lambda: None)
    enrolled = memory.identity
    assert enrolled is not None
    assert (enrolled.air_gap, enrolled.enrolled) == (False, True)
    assert enrolled.private_key == first.private_key
    assert await enrollment.load_identity(ctx, "uid-acme") == enrolled
    headers = {"Authorization": f"Bearer {enrolled.credential}"}
    url = f"{billing_api.url}/api/v1/instance/tokens"
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(url, headers=headers)).status_code == 200
    last = await without()
    assert (last.instance_id, last.credential) == (enrolled.instance_id, "")
    # The same line again: a new token, as its credential is gone.
    secret = ctx.cluster.secret("acme", "enrollment", token=billing_api.enrollment_token())
    secret["type"] = ENROLLMENT_SECRET_TYPE
    await enrollment.ensure_identity(ctx, line, memory, lambda: None)
    assert memory.identity is not None
    assert memory.identity.enrolled
    assert memory.identity.private_key == first.private_key
