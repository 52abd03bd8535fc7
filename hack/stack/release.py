"""Both Helm releases, as a vendor and a customer would install them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stack import images
from stack.cluster import Cluster, secret_manifest
from stack.tools import ROOT, StepError, step
from stack.trust import development_trust

BILLING: Final = "brinkbyte-billing"
BILLING_NAMESPACE: Final = "brinkbyte-billing"
BILLING_URL: Final = f"https://{BILLING}.{BILLING_NAMESPACE}.svc"
OPERATOR: Final = "brinkbyte-operator"
OPERATOR_NAMESPACE: Final = "brinkbyte-system"
SIGNING_KEYS: Final = "signing-keys"


def install_billing(cluster: Cluster, *, image: str | None = None) -> None:
    """Install the global billing API with its own small PostgreSQL.

    Args:
        cluster: where.
        image: ours in a registry that the cluster pulls from; PostgreSQL's is then the chart's
            own. None: both are those that were built here.
    """
    local = {} if image else {"postgres.image": images.LOCAL_POSTGRES}
    with step("Helm: the global billing API"):
        cluster.namespace(BILLING_NAMESPACE)
        keys = {path.name: path.read_bytes() for path in development_trust().signing.iterdir()}
        cluster.apply(secret_manifest(BILLING_NAMESPACE, SIGNING_KEYS, keys))
        upgrade(
            cluster,
            BILLING,
            BILLING_NAMESPACE,
            {
                **image_values(image or images.project_image()),
                **local,
                "signingKeys.existingSecret": SIGNING_KEYS,
                "postgres.bundled": "true",
                "replicas": "1",
            },
        )


def install_operator(
    cluster: Cluster, *, image: str | None = None, values: Mapping[str, str] | None = None
) -> None:
    """Install the operator.

    Args:
        cluster: where.
        image: as for :func:`install_billing`; a Tenant's defaults are then the chart's own.
        values: further values of the chart.
    """
    local = {
        "defaults.images.postgres": images.LOCAL_POSTGRES,
        "defaults.images.redis": images.LOCAL_REDIS,
        "defaults.images.triton": images.LOCAL_TRITON,
    }
    with step("Helm: the operator"):
        cluster.namespace(OPERATOR_NAMESPACE)
        upgrade(
            cluster,
            OPERATOR,
            OPERATOR_NAMESPACE,
            {
                **image_values(image or images.project_image()),
                **({} if image else local),
                **(values or {}),
            },
        )


def image_values(image: str) -> dict[str, str]:
    """Return the chart values that name the project's image.

    Raises:
        StepError: it has neither tag nor digest.
    """
    repository, separator, tag = image.partition("@")
    if not separator:
        repository, separator, tag = image.rpartition(":")
    # What follows a registry's port is no tag.
    if not repository or not tag or "/" in tag:
        raise StepError(f"{image!r} does not name an image as repository:tag")
    return {"image.repository": repository, "image.tag": tag}


def upgrade(cluster: Cluster, release: str, namespace: str, values: Mapping[str, str]) -> None:
    """Run ``helm upgrade --install`` and wait until its pods are ready."""
    settings = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    cluster.helm(
        "upgrade", "--install", release, chart(release), "--namespace", namespace,
        "--wait", "--timeout", "5m", *settings,
    )  # fmt: skip


def chart(release: str) -> Path:
    """Return a release's chart."""
    return ROOT / "charts" / release


def admin(cluster: Cluster, *words: str, stdin: str | None = None) -> str:
    """Run ``brinkbyte billing admin`` in the vendor's administration pod."""
    return cluster.kubectl(
        "exec", "--stdin", "--namespace", BILLING_NAMESPACE, f"deploy/{BILLING}-admin", "--",
        "brinkbyte", "billing", "admin", *words, stdin=stdin,
    )  # fmt: skip


def admin_json(cluster: Cluster, *words: str) -> Any:
    """Run an administration command that prints JSON."""
    return json.loads(admin(cluster, *words))
