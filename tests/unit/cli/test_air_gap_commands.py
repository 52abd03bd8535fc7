"""``brinkbyte license request|import``: exit codes, reasons, what is written and what is not."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from brinkbyte.cli import air_gap, site
from brinkbyte.cli.main import build_app
from brinkbyte.controller.kubeconfig import current_namespace
from brinkbyte.resources import bundles, names
from support.bundles import bundle_text, content, request_text
from support.licensing import CUSTOMER, NOW, vendor
from support.memory_cluster import MemoryCluster
from support.plans import tenant

pytestmark = pytest.mark.unit
BUNDLE = bundle_text()
runner = CliRunner()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    """A namespace with one Tenant without a line, its request, and a clock that stands at NOW."""
    made = MemoryCluster()

    @asynccontextmanager
    async def opened(_kubeconfig: Path | None) -> AsyncIterator[MemoryCluster]:
        yield made

    monkeypatch.setattr(site, "open_cluster", opened)
    monkeypatch.setattr(air_gap, "load_release_roots", lambda: SimpleNamespace(keys=vendor().roots))
    monkeypatch.setattr(time, "time", lambda: float(NOW))
    add_tenant(made, "acme")
    made.secret("site", "acme-btn-request", request_json=request_text())
    return made


def add_tenant(cluster: MemoryCluster, name: str, **spec: Any) -> None:
    body = tenant({"name": name, "namespace": "site"}).model_dump(mode="json", exclude_none=True)
    body["spec"] = {
        "customerId": CUSTOMER,
        "license": {"bundleSecretRef": {"name": "license"}},
        **spec,
    }
    cluster.put(body)


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
    words = ["license", *arguments, "-n", "site"]
    result = runner.invoke(build_app(words), words, input=stdin)
    return result.exit_code, result.output


def held(cluster: MemoryCluster) -> dict[str, str]:
    return cluster.data("site", "license")


def test_a_request_is_copied_out_as_it_is(cluster: MemoryCluster, tmp_path: Path) -> None:
    out = tmp_path / "request.json"
    code, output = run("request", "acme", "-o", str(out))
    assert code == 0
    assert "1 devices and 1 cameras" in output
    assert out.read_text() == request_text()
    assert request_text() in run("request", "acme")[1]
    assert cluster.written == []


def test_what_is_in_the_way_of_a_request_is_said(cluster: MemoryCluster, tmp_path: Path) -> None:
    code, output = run("request", "nobody")
    assert code == 1
    assert "NoRequest" in output
    cluster.secret("site", "acme-btn-request", request_json=request_text()[:-40])
    code, output = run("request", "acme")
    assert code == 1
    assert "Malformed" in output
    cluster.secret("site", "acme-btn-request", request_json=request_text())
    assert run("request", "acme", "-o", str(tmp_path / "no" / "where"))[0] == 2


def test_a_bundle_goes_into_the_secret_that_the_tenant_names(
    cluster: MemoryCluster, tmp_path: Path
) -> None:
    file = tmp_path / "bundle.json"
    file.write_text(BUNDLE)
    code, output = run("import", str(file), "--dry-run")
    assert code == 0
    assert "would be written" in output
    assert cluster.written == []
    code, output = run("import", str(file), "--output", "json")
    assert code == 0
    found = json.loads(output)
    assert (found["tenant"], found["secret"], found["cameras"]) == ("acme", "license", 1)
    live = cluster.objects["Secret", "site", "license"]
    assert live["type"] == names.BUNDLE_SECRET_TYPE
    assert "labels" not in live["metadata"]
    assert held(cluster) == {names.BUNDLE_KEY: BUNDLE}
    code, output = run("import", "-", stdin=BUNDLE)
    assert code == 0
    assert "holds this bundle already" in output
    assert cluster.written == ["license"]


def test_refusals_of_the_vendor_are_shown(cluster: MemoryCluster) -> None:
    refused = {"status": "refused", "reason": "QuotaExceeded", "message": "10 of 10 are used"}
    text = bundle_text(
        content(
            cameras=[{"camera_id": "cam-1", **refused}],
            devices=[{"hardware_id": "hw-1", **refused}],
        )
    )
    code, output = run("import", "-", stdin=text)
    assert code == 0
    assert "device hw-1: QuotaExceeded: 10 of 10 are used" in output
    assert "camera cam-1: QuotaExceeded" in output


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BUNDLE[:-300], "Malformed"),
        ("é", "Malformed"),
        (bundle_text(customerId="other"), "CustomerMismatch"),
        (bundle_text(cnf={"jkt": "k" * 43}), "WrongKey"),
        (bundle_text(bundleSequence=4), "BundleOutdated"),
        (bundle_text(exp=NOW), "Expired"),
        (
            bundle_text(content(cameras=[{"cameraId": "c", "status": "issued", "token": "x"}])),
            "Malf",
        ),
    ],
)
def test_a_bad_bundle_is_refused_and_changes_nothing(
    cluster: MemoryCluster, text: str, reason: str
) -> None:
    run("import", "-", stdin=BUNDLE)
    before = held(cluster)
    code, output = run("import", "-", "--tenant", "acme", stdin=text)
    assert code == 1
    assert f"not valid: {reason}" in output
    assert held(cluster) == before
    assert cluster.written == ["license"]


def test_a_secret_of_something_else_is_left_alone(cluster: MemoryCluster) -> None:
    cluster.secret("site", "license", password="x")
    code, output = run("import", "-", stdin=BUNDLE)
    assert code == 1
    assert "SecretNameTaken" in output
    assert held(cluster) == {"password": "x"}
    # One that is there and empty was put there for it.
    cluster.secret("site", "license")
    assert run("import", "-", stdin=BUNDLE)[0] == 0


def test_the_tenant_is_found_or_asked_for(cluster: MemoryCluster) -> None:
    assert "TenantNotFound" in run("import", "-", "--tenant", "nobody", stdin=BUNDLE)[1]
    add_tenant(cluster, "second")
    assert "TenantNotClear" in run("import", "-", stdin=BUNDLE)[1]
    assert run("import", "-", "--tenant", "acme", stdin=BUNDLE)[0] == 0
    add_tenant(cluster, "acme", customerId="other")
    add_tenant(cluster, "second", customerId="other")
    assert "TenantNotFound" in run("import", "-", stdin=BUNDLE)[1]
    line = {"url": "https://billing", "enrollmentSecretRef": {"name": "e"}}
    add_tenant(cluster, "acme", billing=line)
    assert "NotAirGapped" in run("import", "-", "--tenant", "acme", stdin=BUNDLE)[1]


def test_a_large_bundle_goes_into_parts_and_the_former_parts_go(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = bundles.to_secrets
    monkeypatch.setattr(site, "to_secrets", lambda name, text: spread(name, text, part_bytes=3000))
    newer = bundle_text(bundleSequence=6)
    for text in (BUNDLE, newer):
        assert run("import", "-", stdin=text)[0] == 0
        assert cluster.written[-1] == "license"  # in force when everything else is there
        listed = bundles.part_names("license", held(cluster))
        parts = {name: cluster.data("site", name) for name in listed}
        assert bundles.from_secrets("license", held(cluster), parts) == text
        of_bundle = {name for _, _, name in cluster.objects if name.startswith("license-")}
        assert of_bundle == set(listed)
    # A broken part is written anew by the same bundle.
    cluster.objects["Secret", "site", listed[0]]["data"] = {
        names.BUNDLE_KEY: base64.b64encode(b"x").decode()
    }
    assert run("import", "-", stdin=newer)[0] == 0
    assert cluster.data("site", listed[0])[names.BUNDLE_KEY] != "x"


def test_a_file_that_is_not_there_is_a_matter_of_usage(cluster: MemoryCluster) -> None:
    assert run("import", "nowhere.json")[0] == 2
    assert cluster.written == []


def test_the_namespace_is_the_contexts(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [
                    {"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "shop"}}
                ],
                "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1"}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    assert current_namespace(config) == "shop"
    assert current_namespace(tmp_path / "none") == "default"
