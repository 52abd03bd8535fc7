"""A Tenant goes: its data is kept for its customer, or removed once everything is reported."""

from __future__ import annotations

import pytest

from brinkbyte.resources import names
from support.cluster import eventually

from .conftest import Site
from .test_bad_input import bare, customer, poke, records
from .test_workloads import infers, instance

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


def test_delete_removes_the_data_once_everything_has_its_receipt(bare: Site, customer: str) -> None:
    bare.enroll(bare.billing.enrollment_token(customer, replace=True))
    bare.tenant(customer=customer, deletionPolicy="Delete")
    bare.device("gate")
    bare.camera("entry", "gate")
    bare.wait_ready("tenant", "small", seconds=120)
    bare.wait_ready("cameralicense", "entry")
    uid = bare.cluster.get("tenant", "small", namespace=bare.namespace)["metadata"]["uid"]
    with instance(bare) as forward:

        def inferred() -> str | None:
            got = infers(bare, forward)
            return got.request.headers["Idempotency-Key"] if got and got.is_success else None

        key = eventually("an event to report", inferred, seconds=60)
    bare.cluster.kubectl(
        "delete", "tenant", "small", "--namespace", bare.namespace, "--timeout=280s", timeout=300
    )

    def gone() -> bool:
        claims = bare.cluster.get("pvc", namespace=bare.namespace) or {"items": []}
        return not claims["items"] and not text(bare, "small-btn-postgres")

    eventually("volumes and credentials are gone", gone, seconds=60)
    assert "DataKept" not in bare.cluster.events(bare.namespace, "small")
    reported = [event["key"] for event in bare.billing.ledger(customer)["events"]]
    assert reported.count(key) == 1
    eventually("the instance is ended", lambda: f"btn-{uid}" not in records(bare), seconds=30)
    bare.wait("cameralicense", "entry", "Ready", "False", "TenantNotFound")
    assert names.CAMERA_TOKEN_KEY in text(bare, "entry-bcl-license"), "it stays with its owner"
