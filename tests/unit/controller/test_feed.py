"""From watch events to keys."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from brinkbyte.controller.children import build, secrets
from brinkbyte.controller.feed import COALESCE_SECONDS, Feed, fingerprint, keys_of
from brinkbyte.controller.identity import RECORD
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.queue import Key
from brinkbyte.controller.roster import Roster
from brinkbyte.resources import names
from support.manifests import BY_KIND
from support.plans import camera, device, plan, tenant

TENANT = Key("Tenant", "customer", "acme")
MEMBERS = Key("Members", "customer", "acme")


def test_our_kinds_wake_their_reconciles() -> None:
    assert list(keys_of(BY_KIND["Tenant"])) == [TENANT, MEMBERS]
    assert list(keys_of(BY_KIND["EdgeDevice"])) == [MEMBERS]
    assert list(keys_of(BY_KIND["CameraLicense"])) == [MEMBERS]


@pytest.mark.parametrize("child", build(plan()), ids=lambda each: each["kind"])
@pytest.mark.parametrize("lost", ["nothing", "labels", "owner", "name of the tenant"])
def test_every_child_wakes_its_tenant_whatever_was_taken_from_it(
    child: dict[str, Any], lost: str
) -> None:
    live = copy.deepcopy(child)
    if lost == "labels":
        live["metadata"]["labels"] = None
    elif lost == "owner":
        live["metadata"]["ownerReferences"] = None
    elif lost == "name of the tenant":
        live["metadata"]["labels"][names.LABEL_TENANT] = "other"
    assert TENANT in list(keys_of(live))


def test_secrets_wake_whoever_writes_them() -> None:
    owner = tenant()
    license_secret = secrets.tenant_secret(owner, secrets.LICENSE, names.LICENSE_SUFFIX, {})
    assert MEMBERS in list(keys_of(license_secret))
    kept = secrets.tenant_secret(owner, "postgres", names.POSTGRES_SUFFIX, {})
    assert list(keys_of(kept)) == [TENANT]
    token = secrets.member_secret(device(), secrets.DEVICE_TOKEN, "gate-1-bed-token", {})
    assert list(keys_of(token)) == [MEMBERS]
    mine = secrets.member_secret(camera(), secrets.CAMERA_LICENSE, "chosen", {})
    assert list(keys_of(mine)) == [MEMBERS]
    del mine["metadata"]["labels"]
    assert list(keys_of(mine)) == [Key("CameraLicense", "customer", "cam-1")]
    record = secrets.record_secret("sys", "btn-u", {names.LABEL_COMPONENT: RECORD}, {})
    assert list(keys_of(record)) == [Key("Identity", "sys", "btn-u")]


def live_deployment(**status: Any) -> dict[str, Any]:
    child = next(each for each in build(plan()) if each["kind"] == "Deployment")
    child["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": []}
    child["status"] = status
    return child


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        (lambda o: o["metadata"].update(resourceVersion="2"), False),
        (lambda o: o["metadata"].update(managedFields=[{"manager": "x"}]), False),
        (lambda o: o["status"].update(observedGeneration=3), False),
        (lambda o: o["status"].update(readyReplicas=1), True),
        (lambda o: o["spec"].update(replicas=9), True),
        (lambda o: o["metadata"]["labels"].clear(), True),
        (lambda o: o["metadata"].update(deletionTimestamp="now"), True),
    ],
)
def test_only_what_matters_changes_the_fingerprint(change: Any, matters: bool) -> None:
    before, after = live_deployment(), live_deployment()
    change(after)
    assert (fingerprint(before) != fingerprint(after)) is matters


def test_a_cron_jobs_status_does_not_matter() -> None:
    child = next(each for each in build(plan()) if each["kind"] == "CronJob")
    before = fingerprint(child)
    child["status"] = {"lastScheduleTime": "now"}
    assert fingerprint(child) == before


def test_an_event_that_changes_nothing_adds_nothing() -> None:
    added: list[tuple[Key, float]] = []
    feed = Feed(lambda key, delay: added.append((key, delay)), Metrics(), "sys", Roster())
    body = copy.deepcopy(BY_KIND["EdgeDevice"])
    body["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    feed.take(None, body)
    feed.take("MODIFIED", {**body, "status": {"x": 1}})
    assert added == [(MEMBERS, COALESCE_SECONDS)]
    feed.take("DELETED", body)
    feed.take("ADDED", body)
    assert len(added) == 3


def test_records_of_another_namespace_are_nobodys() -> None:
    added: list[Key] = []
    feed = Feed(lambda key, _delay: added.append(key), Metrics(), "sys", Roster())
    record = secrets.record_secret("elsewhere", "btn-u", {names.LABEL_COMPONENT: RECORD}, {})
    record["metadata"]["uid"] = "u"
    feed.take("ADDED", record)
    assert added == []
