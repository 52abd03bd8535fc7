"""The examples: manifests that the schemas take, packs that are sold, Argo CD's health checks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from brinkbyte.catalog.loader import load_catalog
from brinkbyte.resources import crd
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.conditions import WAITING_REASONS, Reason
from brinkbyte.resources.edge_device import EdgeDevice
from brinkbyte.resources.names import GROUP, REQUEST_SUFFIX
from brinkbyte.resources.tenant import Tenant
from support.helm import ROOT

pytestmark = pytest.mark.services

EXAMPLES = ROOT / "examples"
WAVE = "argocd.argoproj.io/sync-wave"
KINDS = ("Tenant", "EdgeDevice", "CameraLicense")


def manifests(folder: Path) -> list[dict[str, Any]]:
    return [
        body
        for path in sorted(folder.glob("*.yaml"))
        for body in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


CUSTOMER = manifests(EXAMPLES / "customer")
ARGOCD = manifests(EXAMPLES / "argocd" / "customer")
AIR_GAP = manifests(EXAMPLES / "air-gap")
SCHEMAS = {
    definition.model.KIND: crd.build(definition)["spec"]["versions"][0]["schema"]
    for definition in crd.DEFINITIONS
}


@pytest.mark.parametrize(
    ("folder", "members"), [("customer", (2, 5)), ("argocd/customer", (2, 5)), ("air-gap", (1, 2))]
)
def test_manifests_fit_the_schemas(folder: str, members: tuple[int, int]) -> None:
    counts = dict.fromkeys(("Namespace", *KINDS, "Role"), 0)
    for body in manifests(EXAMPLES / folder):
        counts[body["kind"]] += 1
        if body["kind"] in SCHEMAS:
            schema = json.loads(json.dumps(SCHEMAS[body["kind"]]["openAPIV3Schema"]))
            # The API server would prune a misspelt field without a word; an example must have none.
            for _, node in list(crd.walk(schema)):
                if "properties" in node and node is not schema["properties"]["metadata"]:
                    node["additionalProperties"] = False  # type: ignore[index] # built above
            Draft202012Validator(schema).validate(body)
    assert [counts[kind] for kind in ("Namespace", *KINDS)] == [1, 1, *members]
    assert counts["Role"] == (folder == "air-gap")


def test_references_and_packs_exist() -> None:
    tenants = {body["metadata"]["name"] for body in CUSTOMER if body["kind"] == "Tenant"}
    devices = [EdgeDevice.parse(body) for body in CUSTOMER if body["kind"] == "EdgeDevice"]
    cameras = [CameraLicense.parse(body) for body in CUSTOMER if body["kind"] == "CameraLicense"]
    sold = set(load_catalog().packs)
    used = set()
    for device in devices:
        assert device.spec.tenant_ref.name in tenants
    for camera in cameras:
        assert camera.spec.tenant_ref.name in tenants
        assert camera.spec.device_ref.name in {device.name for device in devices}
        used |= set(camera.spec.growth_packs)
    assert {"retail", "advanced_analytics"} <= used <= sold
    assert len({camera.spec.camera_id for camera in cameras}) == len(cameras)
    assert len({device.spec.hardware_id for device in devices}) == len(devices)


def test_the_site_without_a_line_names_its_own_objects() -> None:
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for body in AIR_GAP:
        by_kind.setdefault(body["kind"], []).append(body)
    tenant = Tenant.parse(by_kind["Tenant"][0])
    assert tenant.spec.billing is None
    assert tenant.spec.license is not None
    sold = set(load_catalog().packs)
    devices = {body["metadata"]["name"] for body in by_kind["EdgeDevice"]}
    for camera in map(CameraLicense.parse, by_kind["CameraLicense"]):
        assert camera.spec.tenant_ref.name == tenant.name
        assert camera.spec.device_ref.name in devices
        assert set(camera.spec.growth_packs) <= sold
    named = [name for rule in by_kind["Role"][0]["rules"] for name in rule.get("resourceNames", ())]
    assert named == [f"{tenant.name}{REQUEST_SUFFIX}", tenant.spec.license.bundle_secret_ref.name]


def test_the_namespace_of_the_examples_is_restricted() -> None:
    namespace = next(body for body in CUSTOMER if body["kind"] == "Namespace")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {body["metadata"]["namespace"] for body in CUSTOMER if body["kind"] != "Namespace"} == {
        namespace["metadata"]["name"]
    }


def test_argo_cds_manifests_are_the_same_with_waves() -> None:
    waves: dict[str, set[int]] = {}
    bare = json.loads(json.dumps(ARGOCD))
    for body in bare:
        annotations = body["metadata"].pop("annotations")
        waves.setdefault(body["kind"], set()).add(int(annotations.pop(WAVE)))
        assert not annotations
    assert bare == CUSTOMER
    order = [waves[kind] for kind in ("Namespace", *KINDS)]
    assert [len(wave) for wave in order] == [1, 1, 1, 1]
    assert sorted(max(wave) for wave in order) == [max(wave) for wave in order]


def test_the_application_points_at_the_manifests() -> None:
    path = EXAMPLES / "argocd" / "application.yaml"
    application = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (ROOT / application["spec"]["source"]["path"]).is_dir()
    assert application["spec"]["destination"]["namespace"] == "acme"


def health_checks() -> dict[str, str]:
    path = EXAMPLES / "argocd" / "argocd-cm.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    prefix = f"resource.customizations.health.{GROUP}_"
    return {key.removeprefix(prefix): script for key, script in data.items()}


def test_all_three_kinds_have_the_same_health_check() -> None:
    checks = health_checks()
    assert set(checks) == set(KINDS)
    assert len(set(checks.values())) == 1


def test_health_checks_wait_for_the_reasons_that_go_away() -> None:
    listed = re.search(r"waiting = \{(.*?)\}", health_checks()["Tenant"], re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"(\w+) = true", listed[1])) == {
        reason.value for reason in WAITING_REASONS
    }


def lua(value: Any) -> str:
    """Write a JSON value as a Lua constant."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{lua(key)}] = {lua(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(lua, value)) + "}"
    return json.dumps(value)


def health(kind: str, status: dict[str, Any] | None) -> tuple[str, str]:
    program = shutil.which("lua5.4") or shutil.which("lua")
    assert program, "lua is missing: install the Debian package lua5.4"
    obj: dict[str, Any] = {"metadata": {"generation": 2}}
    if status is not None:
        obj["status"] = status
    script = (
        f"obj = {lua(obj)}\n"
        f"local function check()\n{health_checks()[kind]}\nend\n"
        'local answer = check()\nprint(answer.status .. "|" .. answer.message)\n'
    )
    result = subprocess.run(
        [program, "-"], input=script, capture_output=True, text=True, check=True
    )
    found, _, message = result.stdout.strip().partition("|")
    return found, message


def ready(status: str, reason: str, generation: int = 2) -> dict[str, Any]:
    other = {"type": "MeteringHealthy", "status": "False", "reason": "ReportFailing"}
    about = {"type": "Ready", "status": status, "reason": reason, "message": "what to do"}
    return {"observedGeneration": generation, "conditions": [other, about]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, "Progressing"),
        ({"observedGeneration": 2}, "Progressing"),
        ({"observedGeneration": 2, "conditions": []}, "Progressing"),
        (ready("True", Reason.AVAILABLE), "Healthy"),
        (ready("True", Reason.AVAILABLE, generation=1), "Progressing"),
        (ready("Unknown", Reason.BILLING_UNREACHABLE), "Progressing"),
        (ready("False", Reason.PROVISIONING), "Progressing"),
        (ready("False", Reason.QUOTA_EXCEEDED), "Degraded"),
        (ready("False", Reason.ENROLLMENT_EXPIRED), "Degraded"),
    ],
)
def test_health_in_argo_cd(kind: str, status: dict[str, Any] | None, expected: str) -> None:
    found, message = health(kind, status)
    assert found == expected
    if expected == "Degraded":
        assert message.endswith(": what to do")


def test_models_take_the_examples() -> None:
    tenant = Tenant.parse(next(body for body in CUSTOMER if body["kind"] == "Tenant"))
    assert tenant.spec.billing is not None
    assert tenant.spec.billing.url.startswith("https://")
