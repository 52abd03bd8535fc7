"""A Tenant goes: its data is kept for its customer, or removed once everything is reported."""

from __future__ import annotations

import pytest

from brinkbyte.resources import names
from support.cluster import eventually

from .conftest import Site
from .test_bad_input import bare, customer, poke, records

__all__ = ["bare", "customer"]
pytestmark = pytest.mark.cluster


def text(site: Site, name: str) -> dict[str, bytes]:
    return site.cluster.secret(site.namespace, name)


def test_retained_data_is_for_its_customer_only(bare: Site, customer: str) -> None:
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    bare.tenant(customer=customer, paused=True)
    eventually("the Tenant is enrolled", lambda: text(bare, "small-btn-identity"), seconds=30)
    password = text(bare, "small-btn-postgres")
    bare.cluster.delete_object("tenant", bare.namespace, "small", wait=True)
    eventually("what is owned goes", lambda: not text(bare, "small-btn-redis"), seconds=30)
    assert text(bare, "small-btn-postgres") == password
    # Nobody else may have it.
    bare.tenant(customer="initech", paused=True)
    message = bare.wait("tenant", "small", "PostgresReady", "False", "RetainedDataConflict")
    assert customer in message
    assert text(bare, "small-btn-postgres") == password
    bare.cluster.delete_object("tenant", bare.namespace, "small", wait=True)
    # Its customer gets it back.
    bare.enroll(bare.billing.enrollment_token(customer))
    bare.tenant(customer=customer, paused=True)
    eventually("it is enrolled again", lambda: text(bare, "small-btn-identity"), seconds=30)
    assert text(bare, "small-btn-postgres") == password
    poke(bare)


def test_delete_removes_the_data_once_everything_has_its_receipt(site: Site) -> None:
    uid = site.cluster.get("tenant", "acme", namespace=site.namespace)["metadata"]["uid"]
    site.cluster.patch("tenant", site.namespace, "acme", {"spec": {"deletionPolicy": "Delete"}})
    site.wait_ready("tenant", "acme", seconds=60)
    site.cluster.kubectl(
        "delete", "tenant", "acme", "--namespace", site.namespace, "--timeout=280s", timeout=300
    )

    def gone() -> bool:
        claims = site.cluster.get("pvc", namespace=site.namespace) or {"items": []}
        return not claims["items"] and not text(site, "acme-btn-postgres")

    eventually("volumes and credentials are gone", gone, seconds=60)
    assert "DataKept" not in site.cluster.events(site.namespace, "acme")
    eventually("the instance is ended", lambda: f"btn-{uid}" not in records(site), seconds=30)
    site.wait("cameralicense", "entry", "Ready", "False", "TenantNotFound")
    assert names.CAMERA_TOKEN_KEY in text(site, "entry-bcl-license"), "it stays with its owner"
