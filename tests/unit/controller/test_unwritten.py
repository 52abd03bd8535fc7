"""A Secret that cannot be written costs nothing that ran before."""

from __future__ import annotations

import json

import pytest

from brinkbyte.controller.children import build, common, secrets
from brinkbyte.controller.reconcile_tenant import _without_credential
from brinkbyte.controller.tenant_pass import TenantPass
from brinkbyte.kit.canonical import sha256_hex
from support.plans import device, plan, tenant


@pytest.mark.parametrize(
    ("unwritten", "held_back"),
    [
        (set(), set()),
        ({common.REDIS}, {"acme-btn-redis", "acme-btn-instance"}),
        ({secrets.ACCESS}, {"acme-btn-instance"}),
    ],
)
def test_only_workloads_that_need_the_credential_are_held_back(
    unwritten: set[str], held_back: set[str]
) -> None:
    run = TenantPass(tenant(), {}, unwritten=unwritten)
    left_out = {
        (each["kind"], each["metadata"]["name"])
        for each in build(plan())
        if _without_credential(run, each)
    }
    assert {name for _, name in left_out} == held_back
    assert {kind for kind, _ in left_out} <= {"StatefulSet", "Deployment"}


def test_a_device_whose_token_is_not_known_keeps_its_entry() -> None:
    first = device({"name": "a"}, hardwareId="hw-a")
    second = device({"name": "b"}, hardwareId="hw-b")
    before = secrets.devices_document([(first, "one"), (second, "two")])
    after = secrets.devices_document(
        [(first, "new")], kept=before, keep=frozenset({"hw-b", "hw-never"})
    )
    hashes = {each["hardwareId"]: each["tokenSha256"] for each in json.loads(after)}
    assert hashes == {"hw-a": sha256_hex(b"new"), "hw-b": sha256_hex(b"two")}
    assert json.loads(secrets.devices_document([(first, "new")], kept=before)) == [
        each for each in json.loads(after) if each["hardwareId"] == "hw-a"
    ]
    broken = secrets.devices_document([], kept="{", keep=frozenset({"hw-b"}))
    assert json.loads(broken) == []
