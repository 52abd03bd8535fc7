"""The definitions on a real API server: what it takes, what it refuses and in which words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_kind.cluster import KindCluster

from brinkbyte.license.modes import LicenseMode
from brinkbyte.license.wire import Use
from brinkbyte.resources.common import UsedOfLimit
from brinkbyte.resources.conditions import (
    TENANT_CONDITIONS,
    ConditionType,
    Reason,
    condition,
    headline,
)
from brinkbyte.resources.defaults import DefaultImages, resolve
from brinkbyte.resources.names import GROUP
from brinkbyte.resources.tenant import (
    Endpoints,
    LicenseStatus,
    MeteringStatus,
    Tenant,
    TenantStatus,
    TenantUsage,
)
from support.cluster import cluster_name
from support.helm import CHARTS, ROOT, tool_path
from support.manifests import (
    ACCEPTED,
    BY_KIND,
    IMMUTABLE,
    REFUSED_BY_RULE,
    REFUSED_BY_SCHEMA,
    changed,
)

pytestmark = pytest.mark.cluster

NAMESPACE = "customer"
NOW = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)


class RefusedError(Exception):
    """kubectl or helm failed; the message is what it said."""


class Server:
    """kubectl and helm against one cluster."""

    def __init__(self, cluster: KindCluster) -> None:
        self._cluster = cluster

    def run(self, *words: str | Path, stdin: str | None = None) -> str:
        result = subprocess.run(
            [str(word) for word in words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KUBECONFIG": str(self._cluster.kubeconfig_path)},
        )
        if result.returncode:
            raise RefusedError(result.stderr)
        return result.stdout

    def kubectl(self, *words: str | Path, body: Any = None) -> str:
        stdin = None if body is None else json.dumps(body)
        return self.run(self._cluster.kubectl_path, *words, stdin=stdin)

    def helm(self, *words: str | Path) -> str:
        return self.run(tool_path("helm"), *words)

    def try_out(self, body: Any) -> None:
        """Send a manifest through admission without storing it."""
        self.kubectl("create", "--dry-run=server", "--filename", "-", body=body)

    def apply(self, body: Any) -> None:
        self.kubectl("apply", "--filename", "-", body=body)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        words = ("get", kind, name, "--namespace", NAMESPACE, "--output", "json")
        found: dict[str, Any] = json.loads(self.kubectl(*words))
        return found

    def table(self, *words: str) -> list[dict[str, str]]:
        """Return the rows of a ``kubectl get``, by column, as a person reads them."""
        header, *rows = self.kubectl("get", *words, "--namespace", NAMESPACE).splitlines()
        names = header.split()
        starts = [header.index(name) for name in names]
        ends = [*starts[1:], None]
        return [
            {
                name: row[start:end].strip()
                for name, start, end in zip(names, starts, ends, strict=True)
            }
            for row in rows
        ]

    def establish(self) -> None:
        """Apply the definitions and wait until they are served."""
        self.kubectl("apply", "--filename", ROOT / "crds")
        self.kubectl(
            "wait", "--for=condition=Established", "--timeout=30s", "--filename", ROOT / "crds"
        )


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KindCluster]:
    # A cluster of its own: other tests' clusters have these definitions from a Helm release.
    kind = request.config.getoption("kind_bin") or subprocess.check_output(
        [ROOT / "hack" / "cluster-tool"], text=True
    )
    kubectl = request.config.getoption("kind_kubectl_bin") or tool_path("kubectl")
    made = KindCluster(
        cluster_name("crds"),
        tmp_path_factory.mktemp("crds") / "kubeconfig",
        kind_path=Path(kind.strip()),
        kubectl_path=Path(kubectl),
    )
    made.delete()
    try:
        made.create()
        yield made
    finally:
        made.delete()


@pytest.fixture(scope="module")
def server(cluster: KindCluster) -> Server:
    made = Server(cluster)
    made.kubectl("create", "namespace", NAMESPACE)
    made.establish()
    return made


@pytest.fixture
def stored(server: Server) -> Iterator[Server]:
    """Store one valid object of each kind."""
    for body in BY_KIND.values():
        server.apply(body)
    yield server
    server.kubectl("delete", "--namespace", NAMESPACE, "btn,bed,bcl", "--all", "--wait")


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_valid_manifest_is_taken(server: Server, kind: str) -> None:
    server.try_out(BY_KIND[kind])


@pytest.mark.parametrize(("kind", "path", "value"), ACCEPTED)
def test_what_is_accepted(server: Server, kind: str, path: str, value: Any) -> None:
    server.try_out(changed(kind, path, value))


@pytest.mark.parametrize(("kind", "path", "value", "words"), [*REFUSED_BY_SCHEMA, *REFUSED_BY_RULE])
def test_what_is_refused_names_its_field(
    server: Server, kind: str, path: str, value: Any, words: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        server.try_out(changed(kind, path, value))
    assert words in str(caught.value)


@pytest.mark.parametrize(("kind", "path", "value", "words"), IMMUTABLE)
def test_what_cannot_change(stored: Server, kind: str, path: str, value: Any, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        stored.apply(changed(kind, path, value))
    assert words in str(caught.value)
    # Taking the field away does not get round it either.
    patch = json.dumps({"spec": {path.split(".")[1]: None}})
    name = BY_KIND[kind]["metadata"]["name"]
    with pytest.raises(RefusedError) as caught:
        stored.kubectl(
            "patch", kind.lower(), name, "--namespace", NAMESPACE, "--type=merge", "--patch", patch
        )
    assert "Required value" in str(caught.value)


def test_a_camera_moves_and_a_tier_changes(stored: Server) -> None:
    stored.apply(changed("CameraLicense", "spec.deviceRef.name", "gate-2"))
    stored.apply(changed("EdgeDevice", "spec.managementTier", "managed"))
    assert stored.get("bcl", "cam-1")["spec"]["deviceRef"]["name"] == "gate-2"
    assert stored.get("bed", "gate-1")["spec"]["managementTier"] == "managed"


def test_defaults_are_filled_in(stored: Server) -> None:
    spec = stored.get("btn", "acme")["spec"]
    assert spec["usageReporter"] == {"periodMinutes": 2}
    assert spec["deletionPolicy"] == "Retain"
    assert spec["paused"] is False
    assert "postgres" not in spec
    assert stored.get("bcl", "cam-1")["spec"]["mode"] == "base"
    assert stored.get("bed", "gate-1")["spec"]["managementTier"] == "basic"


def test_short_names_and_category(stored: Server) -> None:
    found = stored.kubectl("get", "brinkbyte", "--namespace", NAMESPACE, "--output", "name")
    assert set(found.split()) == {
        f"tenant.{GROUP}/acme",
        f"edgedevice.{GROUP}/gate-1",
        f"cameralicense.{GROUP}/cam-1",
    }


def set_status(server: Server, kind: str, name: str, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    server.kubectl(
        "patch", kind, name, "--namespace", NAMESPACE, "--subresource=status", "--type=merge",
        "--patch", patch,
    )  # fmt: skip


def test_a_status_comes_back_as_it_was_written(stored: Server) -> None:
    conditions = tuple(
        condition(kind, True, Reason.AVAILABLE, "fine", now=NOW, generation=1)
        for kind in TENANT_CONDITIONS
    )
    use = UsedOfLimit.of(Use(used=2, limit=10))
    spec = Tenant.parse(BY_KIND["Tenant"]).spec
    status = TenantStatus(
        observed_generation=1,
        conditions=conditions,
        headline=headline(conditions),
        instance_id="instance-1",
        license=LicenseStatus(
            mode=LicenseMode.TRIAL,
            plan="trial",
            expires_at=NOW,
            renewal_time=NOW,
            sequence=1_763_000_000_000_000,
        ),
        usage=TenantUsage(devices=use, cameras=UsedOfLimit.of(Use(used=1, limit=None))),
        metering=MeteringStatus(last_reported_at=NOW, backlog=3, last_receipt="e/1"),
        endpoints=Endpoints(instance="http://acme-btn-instance.customer.svc:8080"),
        resolved=resolve(spec, DefaultImages(instance="x/y:1")).to_status(retention_days=7),
    )
    set_status(stored, "btn", "acme", status.to_wire())
    assert stored.get("btn", "acme")["status"] == status.to_wire()
    # What a user writes beside the spec never reaches the status.
    stored.apply({**BY_KIND["Tenant"], "status": {"instanceId": "forged"}})
    assert stored.get("btn", "acme")["status"]["instanceId"] == "instance-1"


def test_a_malformed_status_is_refused(stored: Server) -> None:
    wrong = condition(ConditionType.READY, True, "Fine", "", now=NOW, generation=1).to_wire()
    wrong["status"] = "Perhaps"
    with pytest.raises(RefusedError) as caught:
        set_status(stored, "bed", "gate-1", {"conditions": [wrong]})
    assert "status.conditions[0].status" in str(caught.value)


def test_get_alone_tells_what_is_wrong_and_what_to_do(stored: Server) -> None:
    full = UsedOfLimit.of(Use(used=10, limit=10)).to_wire()
    for kind, name in (("btn", "acme"), ("bed", "gate-1"), ("bcl", "cam-1")):
        message = f"All of {kind} are taken: buy more"
        ready = condition(
            ConditionType.READY, False, Reason.QUOTA_EXCEEDED, message, now=NOW, generation=1
        )
        line = headline([ready])
        assert line is not None
        usage = {"devices": full, "cameras": full} if kind == "btn" else full
        status: dict[str, Any] = {
            "conditions": [ready.to_wire()],
            "headline": line.to_wire(),
            "usage": usage,
        }
        if kind == "btn":
            status["license"] = {"mode": "active", "plan": "starter"}
        set_status(stored, kind, name, status)
    tenant = stored.table("btn")[0]
    assert tenant.pop("AGE")
    assert tenant == {
        "NAME": "acme",
        "READY": "False",
        "MODE": "active",
        "PLAN": "starter",
        "DEVICES": "10/10",
        "CAMERAS": "10/10",
        "REASON": "QuotaExceeded",
    }
    device = stored.table("bed")[0]
    assert (device["READY"], device["TENANT"], device["TIER"]) == ("False", "acme", "basic")
    assert (device["USED"], device["REASON"]) == ("10/10", "QuotaExceeded")
    camera = stored.table("bcl")[0]
    assert (camera["CAMERA"], camera["DEVICE"], camera["MODE"]) == ("cam-0001", "gate-1", "base")
    assert (camera["USED"], camera["REASON"]) == ("10/10", "QuotaExceeded")
    for kind in ("btn", "bed", "bcl"):
        row = stored.table(kind, "--output", "wide")[0]
        assert row["MESSAGE"] == f"All of {kind} are taken: buy more"


def older_chart(folder: Path) -> Path:
    """Copy the operator's chart as a release was that did not know an EdgeDevice's site yet."""
    chart = folder / "brinkbyte-operator"
    shutil.copytree(CHARTS / "brinkbyte-operator", chart)
    path = chart / "templates" / "crds" / "edgedevices.yaml"
    first, *lines, last = path.read_text(encoding="utf-8").splitlines()[2:]
    body = yaml.safe_load("\n".join(lines))
    version = body["spec"]["versions"][0]
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["site"]
    columns = version["additionalPrinterColumns"]
    version["additionalPrinterColumns"] = [item for item in columns if item["name"] != "Site"]
    path.write_text(f"{first}\n{yaml.safe_dump(body)}{last}\n", encoding="utf-8")
    return chart


def test_helm_upgrades_definitions_and_uninstall_keeps_them(server: Server, tmp_path: Path) -> None:
    # The operator's image is not in this cluster: no pod starts, and no hook could run.
    values = ("--namespace", "brinkbyte-system", "--set", "image.pullPolicy=Never")
    server.kubectl("delete", "--filename", ROOT / "crds", "--wait")
    try:
        server.helm(
            "install", "brinkbyte-operator", older_chart(tmp_path), *values, "--create-namespace"
        )
        server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        device = changed("EdgeDevice", "spec.site", "north gate")
        with pytest.raises(RefusedError, match=r'unknown field "spec\.site"'):
            server.apply(device)
        server.apply(BY_KIND["EdgeDevice"])

        server.helm("upgrade", "brinkbyte-operator", CHARTS / "brinkbyte-operator", *values)
        server.apply(device)
        assert server.get("bed", "gate-1")["spec"]["site"] == "north gate"
        assert server.table("bed", "--output", "wide")[0]["SITE"] == "north gate"

        server.helm("uninstall", "brinkbyte-operator", "--no-hooks", *values[:2], "--wait")
        assert server.get("bed", "gate-1")["spec"]["site"] == "north gate"
        # Installed again, the release takes its definitions over.
        server.helm("install", "brinkbyte-operator", CHARTS / "brinkbyte-operator", *values)
        assert server.get("bed", "gate-1")["spec"]["hardwareId"] == "SN-0001"
        server.helm("uninstall", "brinkbyte-operator", "--no-hooks", *values[:2], "--wait")
    finally:
        server.kubectl("delete", "--filename", ROOT / "crds", "--ignore-not-found", "--wait")
        server.establish()
