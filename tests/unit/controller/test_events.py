"""Which changes of conditions are worth an Event, and who owns an object."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from brinkbyte.controller.children import build, common, secrets
from brinkbyte.controller.events import transitions
from brinkbyte.controller.ownership import NameConflictError, check_owner
from brinkbyte.kit.errors import TemporaryError
from brinkbyte.resources import names
from brinkbyte.resources.conditions import Condition, ConditionType, condition
from brinkbyte.resources.names import FIELD_MANAGER
from support.plans import camera, plan, tenant

AT = datetime(2026, 11, 20, tzinfo=UTC)


def at(kind: ConditionType, status: bool | None, reason: str) -> Condition:
    return condition(kind, status, reason, "message", now=AT, generation=1)


ISSUED, READY = ConditionType.ISSUED, ConditionType.READY
PENDING = [at(ISSUED, None, "Pending"), at(READY, None, "Pending")]
DONE = [at(ISSUED, True, "Issued"), at(READY, True, "Issued")]
REFUSED = [at(ISSUED, False, "QuotaExceeded"), at(READY, False, "QuotaExceeded")]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ([], PENDING, []),
        ([], DONE, [("Normal", "Issued")]),
        (PENDING, DONE, [("Normal", "Issued")]),
        (DONE, DONE, []),
        (DONE, REFUSED, [("Warning", "QuotaExceeded")]),
        ([], REFUSED, [("Warning", "QuotaExceeded")]),
        (REFUSED, DONE, [("Normal", "Issued")]),
        (DONE, [DONE[0], at(READY, True, "Paused")], [("Normal", "Paused")]),
        (DONE, [at(ISSUED, True, "UntrustedKeySet"), DONE[1]], [("Warning", "UntrustedKeySet")]),
    ],
)
def test_a_transition_is_told_once(
    old: list[Condition], new: list[Condition], told: list[tuple[str, str]]
) -> None:
    assert [(kind, reason) for kind, _, reason, _ in transitions(old, new)] == told


DESIRED = build(plan())[0]


def live(**meta: Any) -> dict[str, Any]:
    return {"kind": DESIRED["kind"], "metadata": {"name": DESIRED["metadata"]["name"], **meta}}


OURS = DESIRED["metadata"]["ownerReferences"][0]
SOMEBODY = {"kind": "Other", "name": "x", "uid": "9", "controller": True}


def test_what_is_ours_may_be_touched() -> None:
    check_owner(DESIRED, live(ownerReferences=[OURS]))
    check_owner(DESIRED, live(labels=DESIRED["metadata"]["labels"]))
    entry = {"manager": FIELD_MANAGER, "operation": "Apply"}
    check_owner(DESIRED, live(managedFields=[entry]))
    created = {"manager": FIELD_MANAGER, "operation": "Update", "fieldsV1": {"f:type": {}}}
    check_owner(DESIRED, live(managedFields=[created]))


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"labels": {"app": "theirs"}},
        {"ownerReferences": [SOMEBODY]},
        {"ownerReferences": [SOMEBODY], "labels": DESIRED["metadata"]["labels"]},
        {
            "managedFields": [
                {"manager": FIELD_MANAGER, "operation": "Update", "fieldsV1": {"f:data": {}}}
            ]
        },
    ],
)
def test_what_is_somebody_elses_is_refused(meta: dict[str, Any]) -> None:
    with pytest.raises(NameConflictError) as caught:
        check_owner(DESIRED, live(**meta))
    assert caught.value.reason == "NameConflict"
    assert DESIRED["metadata"]["name"] in caught.value.message


def test_what_a_former_owner_left_is_waited_for() -> None:
    with pytest.raises(TemporaryError):
        check_owner(DESIRED, live(ownerReferences=[{**OURS, "uid": "former"}]))


KEPT = secrets.tenant_secret(tenant(), common.POSTGRES, names.POSTGRES_SUFFIX, {"password": "x"})


def test_a_kept_credential_is_its_tenants_alone() -> None:
    """No camera gets it by naming it as the Secret of its license."""
    taking = camera({"name": "thief"}, secretName=KEPT["metadata"]["name"])
    wanted = secrets.member_secret(
        taking, secrets.CAMERA_LICENSE, taking.secret_name, {names.CAMERA_TOKEN_KEY: "token"}
    )
    with pytest.raises(NameConflictError, match=KEPT["metadata"]["name"]):
        check_owner(wanted, KEPT)
    stripped = {**KEPT, "metadata": {**KEPT["metadata"], "labels": {}}}
    entry = {"manager": FIELD_MANAGER, "operation": "Apply"}
    stripped["metadata"]["managedFields"] = [entry]
    with pytest.raises(NameConflictError):
        check_owner(wanted, stripped)
    check_owner(KEPT, KEPT)
    check_owner(KEPT, stripped)
    orphan = {**wanted, "metadata": {**wanted["metadata"], "ownerReferences": []}}
    check_owner(wanted, orphan)
    own = secrets.member_secret(camera(), secrets.CAMERA_LICENSE, camera().secret_name, {"k": "v"})
    check_owner(own, {**own, "metadata": {**stripped["metadata"], "name": camera().secret_name}})
