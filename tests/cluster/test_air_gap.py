"""A site without a line, from nothing to licensed cameras by files alone, and on to its renewal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from brinkbyte.license.claims import CameraClaims
from brinkbyte.license.keys import load_roots, verify_key_set
from brinkbyte.license.tokens import verify
from brinkbyte.resources import names
from stack.customer import run_reporter
from support.billing import DEFAULT_TERMS
from support.cluster import KubernetesCluster, eventually
from support.operator import OperatorProcess
from support.reachable import ReachableBillingApi

from .conftest import Site
from .test_bad_input import poke
from .test_workloads import answer, instance

pytestmark = pytest.mark.cluster
ISLAND = "island"
NAMESPACE = "island"
BUNDLE = "license-bundle"
DAY = 86_400


@pytest.fixture(scope="module")
def island(
    cluster: KubernetesCluster, billing: ReachableBillingApi, operator: OperatorProcess
) -> Iterator[Site]:
    """A Tenant that names no billing API, a device and a camera; its contract ends in 60 days."""
    billing.create_customer(ISLAND)
    billing.set_terms(ISLAND, DEFAULT_TERMS, hard_end=int(time.time()) + 60 * DAY)
    cluster.namespace(NAMESPACE)
    made = Site(cluster, billing, operator, NAMESPACE)
    made.apply(
        "Tenant", made.name, customerId=ISLAND, license={"bundleSecretRef": {"name": BUNDLE}}
    )
    made.device("gate")
    made.camera("entry", "gate", growthPacks=["retail"])
    yield made
    # The operator lets the Tenant's finalizer go while other tests run.
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def license_cli(
    site: Site, *arguments: str, kubeconfig: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``brinkbyte license`` of the release that the site runs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BRINKBYTE_")}
    return subprocess.run(
        [
            sys.executable, "-m", "brinkbyte.cli.main", "license", *arguments,
            f"--kubeconfig={kubeconfig or site.cluster.kubeconfig}",
        ],
        env={**kept, "PYTHONPATH": str(site.operator.source)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def request(site: Site, file: Path, *, cameras: int, kubeconfig: Path | None = None) -> Path:
    """Carry out a request that has so many cameras."""

    def asked() -> bool:
        done = license_cli(
            site, "request", "-n", site.namespace, site.name, "-o", str(file),
            kubeconfig=kubeconfig,
        )  # fmt: skip
        return done.returncode == 0 and f"and {cameras} cameras" in done.stderr

    eventually("the operator has signed a request", asked, seconds=30, every=1.0)
    return file


def bundle(site: Site, asked: Path, file: Path, *arguments: str) -> Path:
    site.billing.run("admin", "bundle", "--request", str(asked), "-o", str(file), *arguments)
    return file


def bring_in(site: Site, file: Path, *arguments: str) -> dict[str, Any]:
    done = license_cli(
        site, "import", str(file), "-n", site.namespace, "--output", "json", *arguments
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def reader(site: Site, directory: Path) -> Path:
    """Return the kubeconfig of somebody who may read one Secret and nothing else."""
    where = ("--namespace", site.namespace)
    kubectl = site.cluster.kubectl
    kubectl("create", "serviceaccount", "carrier", *where)
    kubectl(
        "create", "role", "carrier", "--verb=get", "--resource=secrets",
        f"--resource-name={site.name}{names.REQUEST_SUFFIX}", *where,
    )  # fmt: skip
    kubectl(
        "create", "rolebinding", "carrier", "--role=carrier",
        f"--serviceaccount={site.namespace}:carrier", *where,
    )  # fmt: skip
    token = kubectl("create", "token", "carrier", *where).strip()
    config = yaml.safe_load(site.cluster.kubeconfig.read_text())
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_files_alone_license_a_site_and_renew_it(island: Site, tmp_path: Path) -> None:
    # What to do stands on the Tenant, before anything of it runs.
    message = island.wait("tenant", "acme", "LicenseValid", "False", "BundleMissing", seconds=60)
    assert f"brinkbyte license request -n {NAMESPACE} acme" in message
    assert island.condition("tenant", "acme", "Ready")[0] != "True"

    # Who carries the request needs to read one Secret; the private key stays where it is.
    asked = request(
        island, tmp_path / "request.json", cameras=1, kubeconfig=reader(island, tmp_path)
    )
    secret = island.cluster.secret(NAMESPACE, f"acme{names.IDENTITY_SUFFIX}")
    assert secret[names.PRIVATE_KEY_KEY] not in asked.read_bytes()
    first = bundle(island, asked, tmp_path / "bundle.json")
    planned = bring_in(island, first, "--dry-run")
    assert (planned["cameras"], planned["changed"]) == (1, True)
    assert island.cluster.secret(NAMESPACE, BUNDLE) == {}
    bring_in(island, first)
    labels = island.cluster.get("secret", BUNDLE, namespace=NAMESPACE)["metadata"].get("labels")
    assert not labels
    island.wait_ready("cameralicense", "entry", seconds=60)
    island.wait_ready("edgedevice", "gate")
    eventually(
        "the Tenant says so, too",
        lambda: island.condition("tenant", "acme", "LicenseValid")[0] == "True",
        seconds=30,
    )

    held = island.cluster.secret(NAMESPACE, f"acme{names.LICENSE_SUFFIX}")
    now = int(time.time())
    keys = verify_key_set(
        held[names.KEY_SET_KEY], load_roots(island.billing.roots.read_bytes()), now=now
    ).keys
    token = island.cluster.secret(NAMESPACE, "entry-bcl-license")[names.CAMERA_TOKEN_KEY]
    claims = verify(token, CameraClaims, keys, now=now, audience=planned["instance"])
    assert (claims.camera_id, claims.exp) == ("id-entry", planned["expiresAt"])
    # 59 days: a license over the line would have 45.
    assert claims.exp > now + 59 * DAY

    # The instance says so itself, and its metering is calm.
    access = island.cluster.secret(NAMESPACE, f"acme{names.ACCESS_SUFFIX}")
    headers = {"Authorization": f"Bearer {access[names.SERVICE_TOKEN_KEY].decode()}"}
    eventually(
        "the instance runs",
        lambda: island.condition("tenant", "acme", "InstanceReady")[0] == "True",
        seconds=180,
    )
    with instance(island) as forward:

        def tells(path: str) -> dict[str, Any]:
            got = answer(forward, "GET", f"/api/v1/license{path}", headers)
            return {} if got is None else got.json()

        eventually("it is active", lambda: tells("").get("mode") == "active", seconds=60)
        refresh = eventually("it says how", lambda: tells("/status"), seconds=30)["refresh"]
        assert (refresh["lastError"], refresh["stale"]) == (None, False)
    run_reporter(island.cluster, "calm", namespace=NAMESPACE)
    island.wait("tenant", "acme", "MeteringHealthy", "True", "AirGapped")

    # A camera of later is not in the bundle until the next one.
    island.camera("late", "gate")
    said = island.wait("cameralicense", "late", "Ready", "False", "NotInBundle")
    assert "license request" in said
    assert island.cluster.ready("cameralicense", NAMESPACE, "entry")
    asked = request(island, tmp_path / "second.json", cameras=2)
    island.billing.set_terms(ISLAND, DEFAULT_TERMS, hard_end=int(time.time()) + 300 * DAY)
    second = bundle(island, asked, tmp_path / "renewed.json")
    renewed = bring_in(island, second)
    assert renewed["expiresAt"] > planned["expiresAt"] + 200 * DAY
    poke(island)
    island.wait_ready("cameralicense", "late")
    assert bring_in(island, second)["changed"] is False


def test_a_former_a_broken_and_no_bundle_change_nothing(island: Site, tmp_path: Path) -> None:
    good = island.cluster.secret(NAMESPACE, BUNDLE)
    eventually(
        "the site is licensed",
        lambda: island.cluster.ready("cameralicense", NAMESPACE, "late"),
        seconds=30,
    )
    asked = request(island, tmp_path / "request.json", cameras=2)
    before = island.cluster.get("tenant", "acme", namespace=NAMESPACE)["status"]["license"]
    # The newest is shorter, so the one of before is a former one from now on.
    until = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 30 * DAY))
    newest = bundle(island, asked, tmp_path / "short.json", "--until", until)
    bring_in(island, newest)
    poke(island)

    def status() -> Any:
        return island.cluster.get("tenant", "acme", namespace=NAMESPACE)["status"]["license"]

    eventually("it is in force", lambda: status()["sequence"] > before["sequence"], seconds=30)
    shorter = status()
    island.wait("tenant", "acme", "LicenseValid", "True", "BundleEndsSoon")
    former = tmp_path / "former.json"
    former.write_bytes(good[names.BUNDLE_KEY])
    refused = license_cli(island, "import", str(former), "-n", NAMESPACE)
    assert refused.returncode == 1
    assert "BundleOutdated" in refused.stderr
    for text, reason in (
        (good[names.BUNDLE_KEY], "BundleOutdated"),
        (newest.read_bytes()[:-500], "Malformed"),
    ):
        island.cluster.delete_object("secret", NAMESPACE, BUNDLE)
        island.secret(BUNDLE, {names.BUNDLE_KEY: text})
        poke(island)
        island.wait("tenant", "acme", "LicenseValid", "True", reason)
        assert status() == shorter
    island.cluster.delete_object("secret", NAMESPACE, BUNDLE)
    poke(island)
    island.wait("tenant", "acme", "LicenseValid", "True", "BundleMissing")
    assert status() == shorter
    # What was taken in is put right without the bundle, too.
    for name in (f"acme{names.LICENSE_SUFFIX}", f"acme{names.REQUEST_SUFFIX}"):
        island.cluster.delete_object("secret", NAMESPACE, name)
        eventually(
            f"{name} is back",
            lambda name=name: bool(island.cluster.secret(NAMESPACE, name)),  # type: ignore[misc]
            seconds=10,
        )
    for name in ("entry", "late"):
        assert island.cluster.ready("cameralicense", NAMESPACE, name)
    bring_in(island, newest)
    poke(island)
    island.wait("tenant", "acme", "LicenseValid", "True", "BundleEndsSoon")
