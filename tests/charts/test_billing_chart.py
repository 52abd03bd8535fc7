"""The billing API's chart: HTTPS, one database role a container, restricted pods."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from brinkbyte.billing.invoices.settings import InvoiceSettings
from brinkbyte.billing.notifications.settings import NotificationSettings
from brinkbyte.billing.settings import (
    BundleSettings,
    MigrationSettings,
    ProviderSettings,
    SecretSettings,
    ServerSettings,
    WorkerSettings,
)
from support.helm import HelmError, Object, lint, of_kind, pods, render
from support.pod_security import violations

pytestmark = pytest.mark.services

CHART = "brinkbyte-billing"
BUNDLED = {"postgres.bundled": "true", "signingKeys.existingSecret": '"signing-keys"'}
EXTERNAL = {
    "database.existingSecret": '"database"',
    "signingKeys.existingSecret": '"signing-keys"',
    "tls.existingSecret": '"certificate"',
    "pepper.existingSecret": '"pepper"',
    "admin.enabled": "false",
    "worker.enabled": "false",
}


@pytest.fixture(scope="module")
def bundled() -> list[Object]:
    return render(CHART, BUNDLED, release="billing")


@pytest.fixture(scope="module")
def external() -> list[Object]:
    return render(CHART, EXTERNAL, release="billing")


def data(objects: list[Object], name: str) -> dict[str, bytes]:
    secret = of_kind(objects, "Secret")[name]
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


def test_lint() -> None:
    assert "0 chart(s) failed" in lint(CHART)
    assert "0 chart(s) failed" in lint(CHART, BUNDLED)


def test_pods_are_restricted_and_read_only(bundled: list[Object], external: list[Object]) -> None:
    assert len(pods(bundled)) == 4
    assert len(pods(external)) == 1
    for name, template in (pods(bundled) | pods(external)).items():
        assert violations(template["spec"]) == [], name


ROLES = ("API", "WORKER", "ADMIN")


def mounted(template: Object, container: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return (Secret, key or *) of everything that a container can read."""
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    found = set()
    for mount in container.get("volumeMounts", ()):
        volume = volumes.get(mount["name"], {})
        for source in [volume, *volume.get("projected", {}).get("sources", ())]:
            if secret := source.get("secret"):
                keys = [item["key"] for item in secret.get("items", [{"key": "*"}])]
                name = secret.get("secretName") or secret["name"]
                found |= {(name, key) for key in keys}
    return found


def test_each_container_holds_the_database_role_it_works_as(bundled: list[Object]) -> None:
    api = pods(bundled)["Deployment/billing"]
    admin = pods(bundled)["Deployment/billing-admin"]
    worker = pods(bundled)["Deployment/billing-worker"]
    postgres = pods(bundled)["StatefulSet/billing-postgres"]
    reads = {
        container["name"]: mounted(template, container)
        for template in (api, admin, worker, postgres)
        for container in [
            *template["spec"].get("initContainers", ()),
            *template["spec"]["containers"],
        ]
    }
    keys = ("migration-url", "api-password", "worker-password", "admin-password")
    assert reads == {
        "wait-for-postgres": set(),
        "migrate": {("billing-database", key) for key in keys},
        "api": {
            ("billing-database", "api-url"),
            ("billing-pepper", "*"),
            ("signing-keys", "*"),
            ("billing-tls", "tls.crt"),
            ("billing-tls", "tls.key"),
        },
        "admin": {
            ("billing-database", "admin-url"),
            ("billing-pepper", "*"),
            ("signing-keys", "*"),
        },
        "worker": {("billing-database", "worker-url"), ("billing-pepper", "*")},
        "init": {("billing-database", "superuser-password")},
        "postgres": set(),
    }


def test_the_administration_is_served_only_where_it_is_asked_for(bundled: list[Object]) -> None:
    def api_of(objects: list[Object]) -> tuple[set[tuple[str, str]], dict[str, str]]:
        template = pods(objects)["Deployment/billing"]
        (container,) = template["spec"]["containers"]
        return mounted(template, container), settings_of(container)

    role = ("billing-database", "admin-url")
    reads, variables = api_of(bundled)
    assert role not in reads
    assert "BRINKBYTE_ADMIN_DATABASE_URL_FILE" not in variables
    asked = render(CHART, {**BUNDLED, "admin.api": "true"}, release="billing")
    reads, variables = api_of(asked)
    assert role in reads
    assert Path(variables["BRINKBYTE_ADMIN_DATABASE_URL_FILE"]).name == "admin-url"


def test_an_external_database_is_named_and_nothing_is_made(external: list[Object]) -> None:
    assert not of_kind(external, "Secret")
    assert not of_kind(external, "StatefulSet")
    template = pods(external)["Deployment/billing"]
    containers = {
        item["name"]: item
        for item in [*template["spec"]["initContainers"], *template["spec"]["containers"]]
    }
    passwords = {f"{role}-password" for role in ("api", "worker", "admin")}
    assert mounted(template, containers["migrate"]) == {
        ("database", key) for key in {"migration-url", *passwords}
    }
    variables = settings_of(containers["migrate"])
    assert {Path(variables[f"BRINKBYTE_{role}_PASSWORD_FILE"]).name for role in ROLES} == passwords
    volume = next(v for v in template["spec"]["volumes"] if v["name"] == "migration")
    optional = {
        source["secret"]["items"][0]["key"]
        for source in volume["projected"]["sources"]
        if source["secret"].get("optional")
    }
    assert optional == passwords
    assert mounted(template, containers["api"]) == {
        ("database", "api-url"),
        ("pepper", "*"),
        ("signing-keys", "*"),
        ("certificate", "tls.crt"),
        ("certificate", "tls.key"),
    }


def test_urls_of_the_bundled_database_fit_its_passwords(bundled: list[Object]) -> None:
    secret = data(bundled, "billing-database")
    roles = {
        "api": "brinkbyte_api",
        "worker": "brinkbyte_worker",
        "admin": "brinkbyte_admin",
        "migration": "postgres",
    }
    for name, role in roles.items():
        password = secret[f"{'superuser' if name == 'migration' else name}-password"].decode()
        assert len(password) == 40
        expected = f"postgresql://{role}:{password}@billing-postgres.vendor.svc:5432/billing"
        assert secret[f"{name}-url"].decode() == expected
    assert len({secret[key] for key in secret if key.endswith("password")}) == 4
    service = of_kind(bundled, "Service")["billing-postgres"]
    labels = pods(bundled)["StatefulSet/billing-postgres"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_generated_certificate_is_of_the_generated_ca() -> None:
    values = {**BUNDLED, "tls.hosts": '["billing.example.com"]'}
    objects = render(CHART, values, release="billing")
    secret = data(objects, "billing-tls")
    ca = x509.load_pem_x509_certificate(secret["ca.crt"])
    leaf = x509.load_pem_x509_certificate(secret["tls.crt"])
    public = ca.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert leaf.signature_hash_algorithm is not None
    public.verify(
        leaf.signature,
        leaf.tbs_certificate_bytes,
        padding.PKCS1v15(),
        leaf.signature_hash_algorithm,
    )
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "billing",
        "billing.vendor",
        "billing.vendor.svc",
        "billing.vendor.svc.cluster.local",
        "localhost",
        "billing.example.com",
    }
    assert leaf.not_valid_after_utc > datetime.now(UTC) + timedelta(days=365)
    # Neither the CA's private key nor the CA itself is where a pod could read it.
    assert data(objects, "billing-ca")["tls.crt"] == secret["ca.crt"]
    assert data(objects, "billing-ca")["tls.key"] not in secret.values()


def test_what_cannot_be_made_again_is_kept(bundled: list[Object]) -> None:
    kept = {
        name
        for name, body in of_kind(bundled, "Secret").items()
        if body["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {"billing-ca", "billing-pepper", "billing-database"}


def settings_of(container: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container.get("env", ())}


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("BRINKBYTE_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("workload", "name", "settings"),
    [
        ("Deployment/billing", "api", ServerSettings),
        ("Deployment/billing", "migrate", MigrationSettings),
        ("Deployment/billing-admin", "admin", BundleSettings),
        ("Deployment/billing-worker", "worker", WorkerSettings),
    ],
)
def test_the_programs_take_what_the_chart_sets(
    bundled: list[Object],
    no_settings: pytest.MonkeyPatch,
    tmp_path: Path,
    workload: str,
    name: str,
    settings: type[SecretSettings],
) -> None:
    spec = pods(bundled)[workload]["spec"]
    container = next(
        item
        for item in [*spec.get("initContainers", ()), *spec["containers"]]
        if item["name"] == name
    )
    fields = {**InvoiceSettings.model_fields, **settings.model_fields}
    if name == "worker":
        fields |= {**ProviderSettings.model_fields, **NotificationSettings.model_fields}
    known = {f"BRINKBYTE_{field.upper()}" for field in fields}
    for variable, value in settings_of(container).items():
        assert variable.removesuffix("_FILE") in known, variable
        if variable.endswith("_FILE"):
            # A mounted key of a Secret: stands in for one with the file of that name.
            file = tmp_path / Path(value).name
            file.write_text("a value of at least sixteen characters\n")
            no_settings.setenv(variable, str(file))
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert str(Path(value).parent) in mounts
        else:
            no_settings.setenv(variable, value)
    loaded = settings.load()
    if name in ("api", "worker"):
        assert InvoiceSettings.load().seller.name == "BrinkByte Vision"
    if isinstance(loaded, WorkerSettings):
        assert loaded.worker_port == container["ports"][0]["containerPort"]
    if isinstance(loaded, ServerSettings):
        assert loaded.listen_port == container["ports"][0]["containerPort"]
        assert loaded.tls_cert is not None
        assert loaded.tls_key is not None


ROOMS = {
    **BUNDLED,
    "provider": '{"name": "stripe", "stripe": {"existingSecret": "stripe"}}',
    "notifications": '{"smtp": {"host": "mail", "port": 2525, "username": "billing"}, '
    '"sms": {"url": "https://sms.example/send"}, "existingSecret": "outbox"}',
    "redis.existingSecret": '"redis"',
    "rateLimit": "50",
}


@pytest.fixture(scope="module")
def rooms() -> list[Object]:
    """The chart with everything that the worker and the API may have beside the database."""
    return render(CHART, ROOMS, release="billing")


def test_who_holds_the_keys_of_others(rooms: list[Object]) -> None:
    reads = {}
    for workload in ("Deployment/billing", "Deployment/billing-worker"):
        template = pods(rooms)[workload]
        (container,) = template["spec"]["containers"]
        reads[container["name"]] = {
            held
            for held in mounted(template, container)
            if held[0] in ("stripe", "outbox", "redis")
        }
    assert reads == {
        "api": {("stripe", "webhook-secrets"), ("redis", "url")},
        "worker": {
            ("stripe", "api-key"),
            ("outbox", "smtp-password"),
            ("outbox", "sms-token"),
            ("redis", "url"),
        },
    }


@pytest.mark.parametrize(
    ("workload", "settings"),
    [
        ("Deployment/billing", (ServerSettings,)),
        ("Deployment/billing-worker", (WorkerSettings, ProviderSettings, NotificationSettings)),
    ],
)
def test_the_programs_take_what_rooms_need(
    rooms: list[Object],
    no_settings: pytest.MonkeyPatch,
    tmp_path: Path,
    workload: str,
    settings: tuple[type[SecretSettings], ...],
) -> None:
    (container,) = pods(rooms)[workload]["spec"]["containers"]
    for variable, value in settings_of(container).items():
        if variable.endswith("_FILE"):
            file = tmp_path / Path(value).name
            file.write_text(f"{Path(value).name}-of-at-least-sixteen\n")
            no_settings.setenv(variable, str(file))
        else:
            no_settings.setenv(variable, value)
    found: dict[str, Any] = {}
    for kind in settings:
        found |= kind.load().model_dump()
    assert found["redis_url"].get_secret_value() == "url-of-at-least-sixteen"
    if workload == "Deployment/billing":
        assert found["rate_limit"] == 50
        secrets = found["stripe_webhook_secrets"].get_secret_value()
        assert secrets == "webhook-secrets-of-at-least-sixteen"
        return
    assert found["billing_provider"] == "stripe"
    assert found["stripe_api_key"].get_secret_value() == "api-key-of-at-least-sixteen"
    assert (found["smtp_host"], found["smtp_port"], found["smtp_username"]) == (
        "mail",
        2525,
        "billing",
    )
    assert found["smtp_password"].get_secret_value() == "smtp-password-of-at-least-sixteen"
    assert found["sms_url"] == "https://sms.example/send"
    assert found["pepper"].get_secret_value() == "pepper-of-at-least-sixteen"


def test_where_the_worker_may_go(rooms: list[Object]) -> None:
    policies = of_kind(rooms, "NetworkPolicy")
    ports = {
        name: [item["port"] for rule in policies[name]["spec"]["egress"] for item in rule["ports"]]
        for name in ("billing-worker", "billing-api", "billing-admin")
    }
    assert ports["billing-worker"][3:] == [6379, 443, 465, 587, 2525]
    assert ports["billing-api"][3:] == [6379]
    assert ports["billing-admin"][3:] == []


def test_who_sells_stands_on_invoices() -> None:
    values = {
        **BUNDLED,
        "invoices.seller.name": '"Seller Ltd"',
        "invoices.seller.address": '["1 Street", "Town"]',
        "invoices.seller.payment": '["Account 1", "Reference {number}"]',
    }
    (container,) = pods(render(CHART, values, release="billing"))["Deployment/billing"]["spec"][
        "containers"
    ]
    set_ = settings_of(container)
    names = ("SELLER_NAME", "SELLER_ADDRESS", "SELLER_PAYMENT")
    given = {name.lower(): set_[f"BRINKBYTE_{name}"] for name in names}
    seller = InvoiceSettings(**given).seller  # type: ignore[arg-type]  # all of them are texts
    assert (seller.name, seller.address) == ("Seller Ltd", ("1 Street", "Town"))
    assert seller.payment == ("Account 1", "Reference {number}")


def test_https_only(bundled: list[Object]) -> None:
    container = pods(bundled)["Deployment/billing"]["spec"]["containers"][0]
    assert [port["containerPort"] for port in container["ports"]] == [8443]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    service = of_kind(bundled, "Service")["billing"]["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(443, "https")]


def allowed(objects: list[Object], source: Object | None, target: Object, port: int | str) -> bool:
    """Evaluate the ingress side of the chart's policies for one connection in the namespace."""
    verdicts = []
    for policy in of_kind(objects, "NetworkPolicy").values():
        if not matches(policy["spec"]["podSelector"], target["metadata"]["labels"]):
            continue
        verdicts.append(
            any(
                (
                    "from" not in rule
                    or (
                        source is not None
                        and any(
                            matches(peer["podSelector"], source["metadata"]["labels"])
                            for peer in rule["from"]
                        )
                    )
                )
                and port in [item["port"] for item in rule["ports"]]
                for rule in policy["spec"].get("ingress", ())
            )
        )
    return any(verdicts) if verdicts else True


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", ())
    )


def test_who_may_talk_to_whom(bundled: list[Object]) -> None:
    api = pods(bundled)["Deployment/billing"]
    admin = pods(bundled)["Deployment/billing-admin"]
    worker = pods(bundled)["Deployment/billing-worker"]
    postgres = pods(bundled)["StatefulSet/billing-postgres"]
    assert allowed(bundled, None, api, "https")
    assert allowed(bundled, api, postgres, 5432)
    assert allowed(bundled, admin, postgres, 5432)
    assert allowed(bundled, worker, postgres, 5432)
    assert allowed(bundled, None, worker, "metrics")
    assert not allowed(bundled, None, worker, 5432)
    assert not allowed(bundled, None, postgres, 5432)
    assert not allowed(bundled, None, admin, 5432)
    assert not allowed(bundled, api, admin, 8443)
    assert not allowed(bundled, api, postgres, 22)


def test_a_budget_only_where_there_is_more_than_one() -> None:
    assert of_kind(render(CHART, BUNDLED), "PodDisruptionBudget")
    single = render(CHART, {**BUNDLED, "replicas": "1"})
    assert not of_kind(single, "PodDisruptionBudget")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "database.existingSecret is empty"),
        ({"postgres.bundled": "true"}, "signingKeys.existingSecret is empty: make the keys with"),
        ({**BUNDLED, "database.existingSecret": '"mine"'}, "exclude each other"),
        ({**BUNDLED, "postgres.bundled": '"yes"'}, "bundled"),
        ({**BUNDLED, "replicas": "0"}, "replicas"),
        ({**BUNDLED, "tls.hosts": '["https://x"]'}, "hosts"),
        ({**BUNDLED, "service.type": '"ExternalName"'}, "service"),
        ({**BUNDLED, "signingKeys.pem": '"-----BEGIN"'}, "signingKeys"),
        ({**BUNDLED, "postgres.storage.size": '"lots"'}, "size"),
        ({**BUNDLED, "logLevel": '"chatty"'}, "logLevel"),
        ({**BUNDLED, "worker.egressPorts": "[0]"}, "egressPorts"),
        ({**BUNDLED, "provider.name": '"stripe"'}, "provider.stripe.existingSecret is empty"),
        ({**BUNDLED, "provider.name": '"barter"'}, "provider"),
        ({**BUNDLED, "notifications.smtp.security": '"maybe"'}, "security"),
        ({**BUNDLED, "rateLimit": "-1"}, "rateLimit"),
        ({**BUNDLED, "invoices.seller.address": '["a|b"]'}, "address"),
        ({**BUNDLED, "typo": "1"}, "typo"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, str], words: str) -> None:
    with pytest.raises(HelmError, match=words):
        render(CHART, values)
