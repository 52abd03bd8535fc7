"""An inventory says from which cluster it comes, so that a copied Tenant shows at the vendor."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from brinkbyte.controller import enrollment, inventory, member_licenses
from brinkbyte.controller.context import Context
from brinkbyte.controller.identity import Identity
from brinkbyte.license.wire import InventoryRequest


async def test_an_inventory_names_the_cluster_that_sends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[InventoryRequest] = []

    async def send(client: Any, request: InventoryRequest) -> None:
        sent.append(request)

    async def fingerprint() -> str:
        return "uid-of-kube-system"

    monkeypatch.setattr(inventory, "send", send)
    monkeypatch.setattr(enrollment, "billing_client", lambda ctx, identity: None)
    ctx = cast("Context", SimpleNamespace(cluster_fingerprint=fingerprint))
    request, wanted = InventoryRequest(), inventory.Wanted({}, {})
    back, answered, answer = await member_licenses._talk(
        ctx, cast("Identity", None), request, wanted, register=False
    )
    assert [each.cluster_fingerprint for each in sent] == ["uid-of-kube-system"]
    # What is compared and remembered is what was planned.
    assert (back, answered, answer) == (request, wanted, None)
