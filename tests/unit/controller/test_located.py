"""What an inventory says of where it comes from, and which of two claims of a camera it carries."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from brinkbyte.controller import enrollment, instance_poll, inventory, member_licenses
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.member_pass import Device
from brinkbyte.license.wire import CloneAlarm, InventoryRequest
from support.licensing import NOW
from support.plans import a_pass, camera_body, device


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


@pytest.mark.parametrize(
    ("age", "instance_answers", "told"),
    [(0, True, True), (599, True, True), (600, True, False), (3000, False, True)],
)
def test_an_alarm_of_an_inventory_counts_until_the_instance_knows_better(
    age: int, instance_answers: bool, told: bool
) -> None:
    alarm = CloneAlarm(reason="TwoClusters", message="", since=1, first_party="a", second_party="b")
    answer = SimpleNamespace(clone_alarm=alarm, server_time=NOW - age)
    memory = SimpleNamespace(
        inventory=SimpleNamespace(answer=answer), state=object() if instance_answers else None
    )
    found = instance_poll.clone_alarm(cast("TenantMemory", memory), NOW)
    assert found == (alarm if told else None)


def test_of_two_licenses_for_one_camera_the_older_has_it_and_the_other_names_it() -> None:
    gate = Device({}, device({"name": "gate"}, hardwareId="hw-1"))
    yard = Device({}, device({"name": "yard"}, hardwareId="hw-2"))
    found = [
        camera_body(
            {"name": name, "namespace": "acme", "uid": name, "creationTimestamp": created},
            cameraId="id-1",
            tenantRef={"name": "acme"},
            deviceRef={"name": where},
        )
        for name, where, created in (
            ("second", "yard", "2026-11-20T08:00:01Z"), ("first", "gate", "2026-11-20T08:00:00Z")
        )
    ]  # fmt: skip
    run = a_pass(datetime.now(UTC), [gate, yard], found)
    older, later = (run.judge(run.crew.members[name]) for name in ("first", "second"))
    assert older.blocked is None
    assert later.blocked is not None
    assert (later.blocked.ready, later.blocked.reason) == (False, "CameraConflict")
    assert "CameraLicense first's, on EdgeDevice gate" in later.blocked.message
