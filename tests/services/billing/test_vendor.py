"""The vendor's endpoints, probes, TLS and the command line."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from brinkbyte.license.claims import LicenseClaims
from brinkbyte.license.tokens import verify
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, reason
from support.billing import (
    CUSTOMER,
    DEFAULT_TERMS,
    new_billing_api,
    remove_billing_api,
)
from support.postgres import PostgresServer


async def test_customer_and_subscription_are_made_over_http(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    body = {"customerId": CUSTOMER, "name": "Acme", "flags": {"offlineMode": False}}
    for _ in range(2):
        answer = await vendor.post("/api/customers", json=body)
        assert (answer.status_code, answer.json()["name"]) == (201, "Acme")
    answer = await vendor.post("/api/customers", json={**body, "name": "Other"})
    assert reason(answer) == (409, "CustomerExists")
    terms = {"customerId": CUSTOMER, "terms": DEFAULT_TERMS}
    answer = await vendor.post("/api/subscriptions", json=terms)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["plan"], answer.json()["status"]) == ("professional", "active")
    site = await billing.site()
    await site.inventory([device(1)], [camera(1)])
    found = (await vendor.get(f"/api/license/{CUSTOMER}")).json()
    claims = verify(found["license"], LicenseClaims, billing.keys, now=billing.clock.now)
    assert (claims.customer_name, claims.flags.offline_mode) == ("Acme", False)
    await site.report([site.event(quantity="600000")], billing.keys)
    portal = (await vendor.get(f"/api/portal/{CUSTOMER}")).json()
    assert portal["devices"] == {"used": 1, "limit": 50}
    assert portal["cameras"] == {"used": 1, "limit": 10}
    assert portal["usage"]["vision.api_calls"] == {"used": "600000", "included": 500_000}
    assert portal["total"] == "1184.00"
    assert portal["instanceId"] == site.instance_id


async def test_a_customers_email_is_told_until_it_chooses(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    def told() -> list[str]:
        rows = billing.query("SELECT address FROM notification_targets ORDER BY address")
        return [row["address"] for row in rows]

    async def create(email: str | None) -> httpx.Response:
        body = {"customerId": CUSTOMER, "name": "acme Ltd"}
        more = {} if email is None else {"email": email}
        return await vendor.post("/api/customers", json={**body, **more})

    for wrong in ("nonsense", "a@b.example\nBcc: x@y.example", "a b@c.example", "@c.example", ""):
        assert reason(await create(wrong))[0] == 422
    assert billing.query("SELECT 1 FROM billing_customers") == []
    answer = await create("typo@acme.example")
    assert (answer.status_code, answer.json()["email"]) == (201, "typo@acme.example")
    assert told() == ["typo@acme.example"]
    # Corrected: what concerns the customer goes to a stranger no more.
    assert (await create("pay@acme.example")).json()["email"] == "pay@acme.example"
    assert told() == ["pay@acme.example"]
    [row] = billing.query("SELECT billing_email FROM billing_customers")
    assert row["billing_email"] == "pay@acme.example"
    # A target that the customer has taken away does not come back by a repeat.
    billing.query("DELETE FROM notification_targets")
    for email in ("pay@acme.example", None):
        assert (await create(email)).json()["email"] == "pay@acme.example"
    assert told() == []
    rows = billing.query("SELECT 1 FROM audit_log WHERE action = 'customer.billing_email'")
    assert len(rows) == 2


async def test_refusals_name_what_is_missing(vendor: httpx.AsyncClient, billing: Billing) -> None:
    for path in ("license", "portal"):
        assert reason(await vendor.get(f"/api/{path}/nobody")) == (404, "UnknownCustomer")
    await billing.customer()
    assert reason(await vendor.get(f"/api/license/{CUSTOMER}")) == (404, "NotEnrolled")
    portal = (await vendor.get(f"/api/portal/{CUSTOMER}")).json()
    assert (portal["plan"], portal["status"], portal["total"]) == ("unlicensed", "none", "0.00")
    site = Site(billing.http, CUSTOMER, billing.clock)
    await site.enroll(await billing.token())
    assert reason(await vendor.get(f"/api/license/{CUSTOMER}")) == (404, "NoLicense")


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ({"plans": {"fleet": "starter"}}, "contact sales"),
        ({"plans": {"fleet": "gold"}}, "gold"),
        ({"quantities": {"vision.base_seats": 1}}, "vision.base_seat"),
        ({"quantities": {"vision.base_seat": "many"}}, "quantities"),
        ({"plan": {}}, "plan"),
        ({"quantities": {"vision.base_seat": 10**9, "vision.trial_seat": 2}}, "seats"),
        (
            {
                "plans": {"fleet": "professional"},
                "overrides": {
                    "fleet.plan.professional.price": "1",
                    "fleet.plan.professional.maxUsers": 10**10,
                },
            },
            "maxUsers",
        ),
    ],
)
async def test_terms_that_cannot_be_bought_are_refused(
    vendor: httpx.AsyncClient, billing: Billing, terms: dict[str, Any], named: str
) -> None:
    await billing.customer()
    body = {"customerId": CUSTOMER, "terms": terms}
    answer = await vendor.post("/api/subscriptions", json=body)
    assert reason(answer) == (422, "InvalidTerms")
    assert named in answer.json()["detail"]
    assert billing.query("SELECT 1 FROM subscriptions") == []


async def test_subscription_of_an_unknown_customer_is_refused(vendor: httpx.AsyncClient) -> None:
    answer = await vendor.post("/api/subscriptions", json={"customerId": "x", "terms": {}})
    assert reason(answer) == (404, "UnknownCustomer")
    trial = {"customerId": "x", "terms": {}, "status": "trialing"}
    assert (await vendor.post("/api/subscriptions", json=trial)).status_code == 404


async def test_trial_without_a_length_is_refused(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    await billing.customer()
    body = {"customerId": CUSTOMER, "terms": DEFAULT_TERMS, "status": "trialing"}
    assert reason(await vendor.post("/api/subscriptions", json=body)) == (422, "InvalidTerms")


async def test_every_change_is_in_the_audit_log(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1)])
    await acme.call("POST", "/api/v1/instance/credential")
    async with billing.admin() as admin:
        await admin.revoke(CUSTOMER, reason="x")
    await acme.call("DELETE", "/api/v1/instance")
    rows = billing.query("SELECT action, actor FROM audit_log ORDER BY id")
    assert [row["action"] for row in rows] == [
        "customer.created",
        "subscription.set",
        "enrollment.created",
        "instance.enrolled",
        "inventory.changed",
        "credential.rotated",
        "revocation.added",
        "instance.ended",
    ]
    assert rows[4]["actor"] == f"instance:{acme.instance_id}"


async def test_probes(acme: Site, billing: Billing) -> None:
    await acme.report([acme.event()], billing.keys)
    assert (await billing.http.get("/health")).json() == {"status": "ok"}
    stats = (await billing.http.get("/stats")).json()
    assert stats["events"]["inserted"] == 1
    assert stats["keySetNumber"] == 1
    metrics = (await billing.http.get("/metrics")).text
    assert 'brinkbyte_billing_batches_total{outcome="accepted"} 1.0' in metrics
    assert "brinkbyte_billing_ledger_partitions_end_seconds" in metrics
    assert "brinkbyte_billing_key_set_expires_seconds" in metrics
    document = (await billing.http.get("/openapi.json")).json()
    assert "/api/v1/usage/batch" in document["paths"]
    assert document["paths"]["/api/v1/inventory"]["put"]["requestBody"]["required"]
    referred = set(re.findall(r"#/components/schemas/([A-Za-z0-9_-]+)", json.dumps(document)))
    assert referred <= set(document["components"]["schemas"])
    assert 'path="/api/v1/usage/batch"' in metrics


async def test_unknown_paths_and_methods_are_problems(billing: Billing) -> None:
    assert reason(await billing.http.get("/nothing")) == (404, "NotFound")
    assert reason(await billing.http.get("/api/v1/inventory")) == (405, "MethodNotAllowed")


async def test_server_serves_https(postgres_server: PostgresServer) -> None:
    api = new_billing_api(postgres_server, tls=True)
    try:
        api.start()
        trust = ssl.create_default_context(cafile=str(api.directory / "tls.crt"))
        async with httpx.AsyncClient(verify=trust) as http:
            answer = await http.get(f"{api.url}/api/v1/keys")
            assert answer.status_code == 200
            with pytest.raises(httpx.TransportError):
                await http.get(api.url.replace("https", "http"))
    finally:
        remove_billing_api(api)


async def test_revoked_operator_credential_opens_nothing(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    async with billing.admin() as admin:
        (own,) = await admin.list_operators()
        await admin.revoke_operator(own["credential_id"])
    answer = await vendor.post("/api/customers", json={"customerId": CUSTOMER, "name": "Acme"})
    assert reason(answer) == (401, "CredentialRevoked")
    rows = billing.query("SELECT action, subject FROM own_audit_log ORDER BY id")
    assert [(r["action"], r["subject"]) for r in rows] == [
        ("operator.created", str(own["credential_id"])),
        ("operator.revoked", str(own["credential_id"])),
    ]


# The command line.

CREATE = ("admin", "customer", "create", "--id", "acme", "--name", "Acme")


def test_customer_from_nothing_to_cost(run: Any, tmp_path: Path) -> None:
    assert "nothing to apply" in run("migrate")
    run(
        "admin",
        "customer",
        "create",
        "--id",
        "acme",
        "--name",
        "Acme",
        "--flag",
        "offline_mode=false",
    )
    out = run(
        "admin",
        "subscription",
        "set",
        "--customer",
        "acme",
        "--plan",
        "fleet=professional",
        "--quantity",
        "vision.base_seat=5",
        "--override",
        "fleet.plan.professional.price=199",
        "--override",
        "fleet.plan.professional.maxUsers=20",
    )
    assert out == "acme: active, plan professional\n"
    terms = tmp_path / "terms.yaml"
    terms.write_text("plans: {fleet: trial}\n")
    out = run(
        *("admin", "subscription", "set", "--customer", "acme", "--terms", str(terms), "--at-once"),
        *("-o", "json"),
    )
    assert json.loads(out)["status"] == "trialing"
    out = run("admin", "enrollment", "create", "--customer", "acme", "-o", "json")
    assert json.loads(out)["token"].startswith("bbe_")
    assert run("admin", "enrollment", "create", "--customer", "acme").startswith("bbe_")
    assert run("admin", "operator", "create", "--name", "me", "--family", "fleet").startswith(
        "bbv_"
    )
    assert json.loads(run("admin", "cost", "--customer", "acme", "-o", "json"))["total"] == "0.00"
    assert "total" in run("admin", "cost", "--customer", "acme")
    assert json.loads(run("admin", "ledger", "--customer", "acme", "--json"))["events"] == []
    assert "0 events" in run("admin", "ledger", "--customer", "acme")
    tokens = json.loads(run("admin", "enrollment", "list", "--customer", "acme", "-o", "json"))
    assert len(tokens) == 2
    assert "CREATED" in run("admin", "enrollment", "list", "--customer", "acme")
    gone = tokens[0]["credential_id"]
    assert "revoked" in run("admin", "enrollment", "revoke", "--customer", "acme", gone)
    (own,) = json.loads(run("admin", "operator", "list", "-o", "json"))
    assert (own["name"], own["families"]) == ("me", ["fleet"])
    assert "fleet" in run("admin", "operator", "list")
    assert "revoked" in run("admin", "operator", "revoke", own["credential_id"])
    assert "revoked already" in run("admin", "operator", "revoke", own["credential_id"], fails=True)
    assert json.loads(run("admin", "instances", "list", "-o", "json")) == []
    assert "CUSTOMER" in run("admin", "instances", "list")
    assert "revoked" in run("admin", "revoke", "--customer", "acme", "--reason", "x")
    assert "in force again" in run("admin", "revoke", "--customer", "acme", "--undo")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["admin", "enrollment", "create", "--customer", "nobody"], "UnknownCustomer"),
        (["admin", "instances", "free", "inst-x"], "UnknownInstance"),
        (["admin", "instances", "revoke-credentials", "inst-x"], "UnknownInstance"),
        (["admin", "operator", "create", "--name", "x", "--family", "x"], "UnknownFamily"),
        ([*CREATE, "--flag", "ofline_mode=false"], "offline_mode"),
        ([*CREATE, "--flag", "offline_mode=no"], "true or"),
        (["admin", "customer", "create", "--id", "a b", "--name", "x"], "customer_id"),
        (["admin", "subscription", "set", "--customer", "x", "--quantity", "a=b"], "quantity"),
        (["admin", "subscription", "set", "--customer", "x", "--terms", "/nothing"], "/nothing"),
        (["admin", "revoke", "--customer", "nobody"], "UnknownCustomer"),
    ],
)
def test_command_that_cannot_work_says_why(run: Any, arguments: list[str], named: str) -> None:
    assert named in run(*arguments, fails=True)


def test_terms_file_must_be_a_mapping(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    for text in ("- 1", "{"):
        path.write_text(text)
        out = run(
            "admin", "subscription", "set", "--customer", "x", "--terms", str(path), fails=True
        )
        assert "terms.yaml" in out.replace("\n", "")


def test_missing_settings_are_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRINKBYTE_ADMIN_DATABASE_URL")
    assert "BRINKBYTE_ADMIN_DATABASE_URL" in run("admin", "instances", "list", fails=True)
    assert "BRINKBYTE_DATABASE_URL" in run("serve", fails=True)


def test_unreachable_database_is_one_sentence(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRINKBYTE_MIGRATION_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    assert "DatabaseUnavailable" in run("migrate", fails=True)


def test_secrets_need_the_pepper(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run("admin", "customer", "create", "--id", "acme", "--name", "Acme")
    monkeypatch.delenv("BRINKBYTE_PEPPER_FILE")
    assert "BRINKBYTE_PEPPER" in run(
        "admin", "enrollment", "create", "--customer", "acme", fails=True
    )
    monkeypatch.setenv("BRINKBYTE_PEPPER_FILE", "/nothing")
    assert "/nothing" in run("admin", "instances", "list", fails=True)


def test_serve_wants_both_halves_of_tls_and_its_keys(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BRINKBYTE_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    monkeypatch.setenv("BRINKBYTE_SIGNING_KEYS_DIR", str(tmp_path))
    assert "--tls-key" in run("serve", "--tls-cert", "x.pem", fails=True)
    assert "billing keys signing" in run("serve", fails=True).replace("\n", " ")
