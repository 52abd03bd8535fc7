"""One Tenant with devices and cameras, from manifests to Ready, and back from every drift."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from brinkbyte.license.claims import CameraClaims, LicenseClaims, SeatsClaims
from brinkbyte.license.keys import load_roots, verify_key_set
from brinkbyte.license.tokens import verify
from brinkbyte.resources import names
from support.cluster import eventually

from .conftest import SYSTEM, Site

pytestmark = pytest.mark.cluster

CHILDREN = [
    ("statefulset", "acme-btn-postgres"),
    ("statefulset", "acme-btn-redis"),
    ("deployment", "acme-btn-triton"),
    ("deployment", "acme-btn-instance"),
    ("cronjob", "acme-btn-reporter"),
    ("service", "acme-btn-postgres"),
    ("service", "acme-btn-triton"),
    ("serviceaccount", "acme-btn-instance"),
    ("networkpolicy", "acme-btn-postgres"),
    ("networkpolicy", "acme-btn-instance"),
    ("networkpolicy", "acme-btn-reporter"),
]
WITHIN = 5.0


def text(site: Site, name: str) -> dict[str, str]:
    return {key: value.decode() for key, value in site.cluster.secret(site.namespace, name).items()}


def live(site: Site, kind: str, name: str) -> Any:
    return site.cluster.get(kind, name, namespace=site.namespace)


def quiet(site: Site, seconds: float) -> dict[tuple[str, str], int]:
    """Return the writes of some seconds."""
    before = site.operator.writes()
    time.sleep(seconds)
    after = site.operator.writes()
    return {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key)}


def settle(site: Site) -> None:
    eventually("the operator comes to rest", lambda: not quiet(site, 3.0), seconds=60)


def test_everything_becomes_ready(site: Site) -> None:
    for name in ("gate", "dock"):
        site.wait_ready("edgedevice", name)
    for name in ("entry", "exit", "ramp"):
        site.wait_ready("cameralicense", name)
    eventually(
        "every condition holds, usage is reported",
        lambda: all(
            each["status"] == "True"
            for each in site.cluster.conditions("tenant", site.namespace, "acme").values()
        ),
        seconds=240,
        every=2.0,
    )
    table = site.cluster.kubectl("get", "btn,bed,bcl", "--namespace", site.namespace)
    assert table.count("True") == 6


def test_every_token_in_a_secret_is_the_vendors(site: Site) -> None:
    roots = load_roots(site.billing.roots.read_bytes())
    held = text(site, "acme-btn-license")
    now = int(time.time())
    keys = verify_key_set(held[names.KEY_SET_KEY], roots, now=now).keys
    instance = live(site, "tenant", "acme")["status"]["instanceId"]
    claims = verify(held[names.LICENSE_KEY], LicenseClaims, keys, now=now, audience=instance)
    assert claims.customer_id == "acme"
    seats = verify(held[names.SEATS_KEY], SeatsClaims, keys, now=now, audience=instance)
    assert seats.count == 3
    for name in ("entry", "exit", "ramp"):
        token = text(site, f"{name}-bcl-license")[names.CAMERA_TOKEN_KEY]
        camera = verify(token, CameraClaims, keys, now=now, audience=instance)
        assert camera.camera_id == f"id-{name}"
        status = live(site, "cameralicense", name)["status"]
        assert status["seat"] == camera.seat
        assert status["sequence"] == camera.camera_sequence


def test_nothing_of_ours_is_annotated_or_held_by_kopf(site: Site) -> None:
    for kind in ("tenant", "edgedevice", "cameralicense"):
        for item in live(site, kind, "")["items"]:
            meta = item["metadata"]
            assert "kopf" not in json.dumps({**meta, "managedFields": None})
            assert meta.get("finalizers", []) == ([names.FINALIZER] if kind == "tenant" else [])


def test_a_second_reconcile_sends_nothing_and_rest_is_silent(site: Site) -> None:
    settle(site)
    before = site.operator.requests()
    site.cluster.kubectl(
        "annotate", "tenant", "acme", "--namespace", site.namespace, "example.com/touched=1"
    )
    eventually(
        "the touched Tenant was looked at",
        lambda: site.operator.requests()["get", "Tenant"] > before["get", "Tenant"],
        seconds=5,
    )
    assert quiet(site, 2.0) == {}
    before = site.operator.requests()
    assert quiet(site, 15.0) == {}
    after = site.operator.requests()
    assert sum(after.values()) - sum(before.values()) < 15


def test_a_restart_with_everything_in_place_writes_nothing(site: Site) -> None:
    settle(site)
    site.operator.stop()
    site.operator.start()
    eventually(
        "both reconciles ran",
        lambda: (
            {("list", "EdgeDevice"), ("list", "StatefulSet")} <= site.operator.requests().keys()
        ),
        seconds=20,
    )
    time.sleep(6)
    assert site.operator.writes() == {}


@pytest.mark.parametrize(("kind", "name"), CHILDREN)
def test_a_deleted_child_comes_back(site: Site, kind: str, name: str) -> None:
    uid = live(site, kind, name)["metadata"]["uid"]
    site.cluster.delete_object(kind, site.namespace, name)

    def back() -> bool:
        found = live(site, kind, name)
        return bool(found) and found["metadata"]["uid"] != uid

    eventually(f"{kind} {name} is back", back, seconds=WITHIN)


# kind, name, patch, how, what must hold again
POSTGRES_RULE = [{"op": "remove", "path": "/spec/ingress"}]
WIDER = [{"op": "add", "path": "/spec/ingress/-", "value": {}}]
NARROWER = [
    {
        "op": "add",
        "path": "/spec/ingress/0/from/0/namespaceSelector",
        "value": {"matchLabels": {"a": "b"}},
    }
]
EGRESS = [{"op": "add", "path": "/spec/egress", "value": [{}]}]


def pod(found: Any) -> Any:
    return found["spec"]["template"]["spec"]


DRIFT: list[tuple[str, str, Any, str, Callable[[Any], bool]]] = [
    (
        "statefulset",
        "acme-btn-postgres",
        {"spec": {"replicas": 0}},
        "merge",
        lambda o: o["spec"]["replicas"] == 1,
    ),
    (
        "deployment",
        "acme-btn-instance",
        [{"op": "remove", "path": "/spec/template/spec/containers/0/readinessProbe"}],
        "json",
        lambda o: "readinessProbe" in pod(o)["containers"][0],
    ),
    (
        "deployment",
        "acme-btn-triton",
        [{"op": "add", "path": "/spec/template/spec/containers/0/command/-", "value": "x"}],
        "json",
        lambda o: len(pod(o)["containers"][0]["command"]) == 3,
    ),
    (
        "statefulset",
        "acme-btn-redis",
        [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x:1"}],
        "json",
        lambda o: pod(o)["containers"][0]["image"] != "x:1",
    ),
    (
        "statefulset",
        "acme-btn-postgres",
        [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x:99"}],
        "json",
        lambda o: pod(o)["containers"][0]["image"] != "x:99",
    ),
    (
        "cronjob",
        "acme-btn-reporter",
        {"spec": {"suspend": True}},
        "merge",
        lambda o: not o["spec"].get("suspend"),
    ),
    (
        "service",
        "acme-btn-instance",
        {"spec": {"selector": {"more": "x"}}},
        "merge",
        lambda o: "more" not in o["spec"]["selector"],
    ),
    (
        "serviceaccount",
        "acme-btn-instance",
        {"automountServiceAccountToken": True},
        "merge",
        lambda o: o["automountServiceAccountToken"] is False,
    ),
    (
        "networkpolicy",
        "acme-btn-postgres",
        POSTGRES_RULE,
        "json",
        lambda o: len(o["spec"].get("ingress", [])) == 1,
    ),
    (
        "networkpolicy",
        "acme-btn-redis",
        WIDER,
        "json",
        lambda o: len(o["spec"].get("ingress", [])) == 1,
    ),
    (
        "networkpolicy",
        "acme-btn-triton",
        NARROWER,
        "json",
        lambda o: "namespaceSelector" not in o["spec"]["ingress"][0]["from"][0],
    ),
    (
        "networkpolicy",
        "acme-btn-postgres",
        EGRESS,
        "json",
        lambda o: not o["spec"].get("egress"),
    ),
    (
        "service",
        "acme-btn-postgres",
        [{"op": "replace", "path": "/spec/ports/0/port", "value": 5433}],
        "json",
        lambda o: [each["port"] for each in o["spec"]["ports"]] == [names.POSTGRES_PORT],
    ),
    (
        "deployment",
        "acme-btn-triton",
        [{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "mine"}],
        "json",
        lambda o: [each["name"] for each in pod(o)["containers"]] == ["triton"],
    ),
    (
        "statefulset",
        "acme-btn-redis",
        [{"op": "remove", "path": "/spec/template/spec/containers/0/livenessProbe"}],
        "json",
        lambda o: "livenessProbe" in pod(o)["containers"][0],
    ),
    (
        "cronjob",
        "acme-btn-reporter",
        [{"op": "remove", "path": "/spec/concurrencyPolicy"}],
        "json",
        lambda o: o["spec"]["concurrencyPolicy"] == "Forbid",
    ),
    (
        "serviceaccount",
        "acme-btn-redis",
        [{"op": "remove", "path": "/automountServiceAccountToken"}],
        "json",
        lambda o: o.get("automountServiceAccountToken") is False,
    ),
    (
        "secret",
        "acme-btn-license",
        {"metadata": {"ownerReferences": None}},
        "merge",
        lambda o: len(o["metadata"].get("ownerReferences", [])) == 1,
    ),
    (
        "secret",
        "entry-bcl-license",
        {"metadata": {"ownerReferences": None, "labels": None}},
        "merge",
        lambda o: (
            len(o["metadata"].get("ownerReferences", [])) == 1
            and o["metadata"]["labels"][names.LABEL_TENANT] == "acme"
        ),
    ),
    (
        "secret",
        "acme-btn-identity",
        {"data": {names.INSTANCE_ID_KEY: None}},
        "merge",
        lambda o: names.INSTANCE_ID_KEY in o["data"],
    ),
    (
        "secret",
        "acme-btn-devices",
        {"data": {names.DEVICES_KEY: base64.b64encode(b"[]").decode()}},
        "merge",
        lambda o: b"hw-gate" in base64.b64decode(o["data"][names.DEVICES_KEY]),
    ),
    (
        "service",
        "acme-btn-redis",
        {"metadata": {"labels": {names.LABEL_MANAGED_BY: None, names.LABEL_TENANT: "other"}}},
        "merge",
        lambda o: (
            o["metadata"]["labels"][names.LABEL_TENANT] == "acme"
            and o["metadata"]["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY
        ),
    ),
]


@pytest.mark.parametrize(("kind", "name", "patch", "how", "right"), DRIFT)
def test_a_changed_field_is_put_right_and_a_foreign_annotation_stays(
    site: Site, kind: str, name: str, patch: Any, how: str, right: Callable[[Any], bool]
) -> None:
    site.cluster.patch(
        kind, site.namespace, name, {"metadata": {"annotations": {"example.com/mine": "yes"}}}
    )
    site.cluster.patch(kind, site.namespace, name, patch, how=how)
    eventually(
        f"{kind} {name} is right again", lambda: right(live(site, kind, name)), seconds=WITHIN
    )
    assert live(site, kind, name)["metadata"]["annotations"]["example.com/mine"] == "yes"


def test_what_only_some_tenants_have_is_put_right_too(site: Site) -> None:
    optional = {"replicas": 2, "ingress": {"host": "acme.example.com"}}
    site.cluster.patch("tenant", site.namespace, "acme", {"spec": {"instance": optional}})
    name = "acme-btn-instance"
    for kind, patch, right in (
        (
            "poddisruptionbudget",
            [{"op": "replace", "path": "/spec/minAvailable", "value": 0}],
            lambda o: o["spec"]["minAvailable"] == 1,
        ),
        (
            "ingress",
            [{"op": "remove", "path": "/spec/rules/0/host"}],
            lambda o: o["spec"]["rules"][0].get("host") == "acme.example.com",
        ),
    ):
        made = eventually(f"a {kind}", lambda kind=kind: live(site, kind, name), seconds=10)
        site.cluster.delete_object(kind, site.namespace, name)
        uid = made["metadata"]["uid"]
        eventually(
            f"{kind} is back",
            lambda kind=kind, uid=uid: (
                (found := live(site, kind, name)) and found["metadata"]["uid"] != uid
            ),
            seconds=WITHIN,
        )
        site.cluster.patch(kind, site.namespace, name, patch, how="json")
        eventually(
            f"{kind} is right again",
            lambda kind=kind, right=right: right(live(site, kind, name)),
            seconds=WITHIN,
        )
    none = {"replicas": None, "ingress": None}
    site.cluster.patch("tenant", site.namespace, "acme", {"spec": {"instance": none}})
    for kind in ("poddisruptionbudget", "ingress"):
        eventually(f"no {kind}", lambda kind=kind: not live(site, kind, name), seconds=10)


def test_paused_stops_provisioning_and_nothing_else(site: Site) -> None:
    account = ("serviceaccount", "acme-btn-redis")

    def moved(device: str) -> None:
        site.camera("exit", device)
        eventually(
            f"the license is good on {device}",
            lambda: live(site, "cameralicense", "exit")["status"]["hardwareId"] == f"hw-{device}",
            seconds=30,
        )

    site.cluster.patch("tenant", site.namespace, "acme", {"spec": {"paused": True}})
    try:
        # What the tests before changed may still be starting.
        site.wait("tenant", "acme", "Ready", "True", "Paused", seconds=120)
        site.cluster.delete_object("cronjob", site.namespace, "acme-btn-reporter")
        eventually(
            "metering goes on",
            lambda: live(site, "cronjob", "acme-btn-reporter"),
            seconds=WITHIN,
        )
        moved("dock")
        site.cluster.delete_object(account[0], site.namespace, account[1])
        time.sleep(3)
        assert not live(site, *account)
    finally:
        site.cluster.patch("tenant", site.namespace, "acme", {"spec": {"paused": None}})
    eventually("all is back", lambda: live(site, *account), seconds=WITHIN)
    moved("gate")
    site.wait("tenant", "acme", "Ready", "True", "Available")


@pytest.mark.parametrize("how", ["edited", "deleted"])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("acme-btn-postgres", names.POSTGRES_PASSWORD_KEY),
        ("acme-btn-redis", names.REDIS_URL_KEY),
        ("acme-btn-triton", names.TRITON_CONTROL_KEY),
        ("acme-btn-access", names.SERVICE_TOKEN_KEY),
        ("gate-bed-token", names.DEVICE_TOKEN_KEY),
    ],
)
def test_a_credential_is_made_anew(site: Site, name: str, key: str, how: str) -> None:
    before = text(site, name)
    if how == "deleted":
        site.cluster.delete_object("secret", site.namespace, name)
    else:
        edited = base64.b64encode(b"chosen-by-somebody-else-000000000000").decode()
        site.cluster.patch("secret", site.namespace, name, {"data": {key: edited}})

    def anew() -> bool:
        now = text(site, name)
        return now.get(key, "") not in {before[key], "", "chosen-by-somebody-else-000000000000"}

    eventually(f"{name} is made anew", anew, seconds=WITHIN)
    if name == "gate-bed-token":
        site.wait("edgedevice", "gate", "Online", "Unknown", "CredentialRotated")


def test_a_deleted_enrollment_record_is_rebuilt(site: Site) -> None:
    uid = live(site, "tenant", "acme")["metadata"]["uid"]
    name = f"btn-{uid}"
    before = site.cluster.secret(SYSTEM, name)
    site.cluster.delete_object("secret", SYSTEM, name)
    eventually("it is rebuilt", lambda: site.cluster.secret(SYSTEM, name), seconds=WITHIN)
    after = site.cluster.secret(SYSTEM, name)
    for key in (names.INSTANCE_ID_KEY, names.PRIVATE_KEY_KEY):
        assert after[key] == before[key]
    # Nobody knows how long the credential was good for: it is exchanged for another.
    eventually(
        "the instance has the new credential",
        lambda: (
            site.cluster.secret(SYSTEM, name).get(names.CREDENTIAL_KEY)
            == site.cluster.secret(site.namespace, "acme-btn-identity").get(names.CREDENTIAL_KEY)
            != before[names.CREDENTIAL_KEY]
        ),
        seconds=10,
    )


def test_the_database_takes_a_new_password(site: Site) -> None:
    dsn = text(site, "acme-btn-postgres")[names.POSTGRES_DSN_KEY]

    def accepted() -> bool:
        answer = site.cluster.kubectl(
            "exec", "--namespace", site.namespace, "acme-btn-postgres-0", "--container",
            "postgres", "--", "sh", "-c", f"psql '{dsn}' -Atc 'select 1' 2>&1 || true",
        )  # fmt: skip
        return answer.strip() == "1"

    def ready() -> bool:
        try:
            return accepted()
        except Exception:  # noqa: BLE001 - the pod is being replaced
            return False

    eventually("the role has the new password", ready, seconds=60, every=1.0)


def test_a_deleted_license_secret_returns(site: Site) -> None:
    site.wait_ready("tenant", "acme", seconds=60)
    for name in ("acme-btn-license", "entry-bcl-license", "acme-btn-identity", "acme-btn-devices"):
        before = text(site, name)
        site.cluster.delete_object("secret", site.namespace, name)
        eventually(
            f"{name} is back",
            lambda name=name, before=before: text(site, name) == before,
            seconds=WITHIN,
        )


def test_a_replaced_key_set_is_shown_and_put_right(site: Site) -> None:
    before = text(site, "acme-btn-license")
    document = json.loads(before[names.KEY_SET_KEY])
    document["keys"][0]["n"] = document["keys"][1]["n"]
    edited = base64.b64encode(json.dumps(document).encode()).decode()
    site.cluster.patch(
        "secret", site.namespace, "acme-btn-license", {"data": {names.KEY_SET_KEY: edited}}
    )
    message = site.wait(
        "tenant", "acme", "LicenseValid", "False", "UntrustedKeySet", seconds=WITHIN
    )
    assert "edited" in message
    eventually("put right", lambda: text(site, "acme-btn-license") == before, seconds=WITHIN)
    eventually(
        "valid again",
        lambda: site.condition("tenant", "acme", "LicenseValid")[0] == "True",
        seconds=30,
    )
    assert "UntrustedKeySet" in site.cluster.events(site.namespace, "acme")


def postgres_reason(site: Site) -> tuple[str, str]:
    return site.condition("tenant", "acme", "PostgresReady")[:2]


def resize(site: Site, size: str | None) -> None:
    storage = None if size is None else {"storage": {"size": size}}
    site.cluster.patch("tenant", site.namespace, "acme", {"spec": {"postgres": storage}})


def test_storage_that_cannot_change_is_said_and_changes_nothing(site: Site) -> None:
    before = live(site, "statefulset", "acme-btn-postgres")["metadata"]
    resize(site, "1Gi")
    site.wait("tenant", "acme", "PostgresReady", "True", "StorageCannotShrink", seconds=60)
    resize(site, "11Gi")
    message = site.wait("tenant", "acme", "PostgresReady", "True", "StorageCannotGrow")
    assert "10Gi" in message
    site.wait_ready("tenant", "acme")
    after = live(site, "statefulset", "acme-btn-postgres")["metadata"]
    assert (after["uid"], after["generation"]) == (before["uid"], before["generation"])
    resize(site, None)
    site.wait("tenant", "acme", "PostgresReady", "True", "Available")


def test_storage_grows_around_the_running_pod(site: Site) -> None:
    def let_grow(allowed: bool) -> None:
        site.cluster.kubectl(
            "patch", "storageclass", "standard", "--patch",
            json.dumps({"allowVolumeExpansion": allowed}),
        )  # fmt: skip

    pod_before = live(site, "pod", "acme-btn-postgres-0")["metadata"]["uid"]
    let_grow(allowed=True)
    try:
        resize(site, "11Gi")

        def grown() -> bool:
            claim = live(site, "pvc", "data-acme-btn-postgres-0")
            found = live(site, "statefulset", "acme-btn-postgres") or {}
            templates = found.get("spec", {}).get("volumeClaimTemplates", [])
            return claim["spec"]["resources"]["requests"]["storage"] == "11Gi" and any(
                each["spec"]["resources"]["requests"]["storage"] == "11Gi" for each in templates
            )

        eventually("claim and template have grown", grown, seconds=20)
    finally:
        let_grow(allowed=False)
    assert live(site, "pod", "acme-btn-postgres-0")["metadata"]["uid"] == pod_before
    site.wait("tenant", "acme", "PostgresReady", "True", "Available")


def test_another_major_of_postgres_is_said_and_not_taken(site: Site) -> None:
    image = {"spec": {"postgres": {"image": "example.com/postgres:99"}}}
    site.cluster.patch("tenant", site.namespace, "acme", image)
    message = site.wait("tenant", "acme", "PostgresReady", "True", "PostgresMajorChange")
    assert "99" in message
    found = live(site, "statefulset", "acme-btn-postgres")
    assert "99" not in pod(found)["containers"][0]["image"]
    site.cluster.patch("tenant", site.namespace, "acme", {"spec": {"postgres": {"image": None}}})
    site.wait("tenant", "acme", "PostgresReady", "True", "Available")
