"""Who is there, as the watches tell: nothing gets lost, echoes of our own writes are no news."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.controller.children import secrets
from brinkbyte.controller.inventory import inventory_camera
from brinkbyte.controller.roster import Crew, Roster, pack, unpack
from brinkbyte.license.wire import InventoryRequest
from brinkbyte.resources import names
from support.plans import camera, camera_body

NAMESPACE = "customer"


def body(name: str, version: int, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return camera_body(meta, **spec)


def secret(of: str, version: int, name: str = "") -> dict[str, Any]:
    owner = camera({"name": of})
    found = secrets.member_secret(
        owner, secrets.CAMERA_LICENSE, name or f"{of}-bcl-license", {"camera.jwt": "x" * version}
    )
    found["metadata"] |= {"uid": f"secret-{of}-{name}", "resourceVersion": str(version)}
    return found


def crew_of(roster: Roster) -> Crew:
    return roster.crew(NAMESPACE, "acme")


@given(st.binary(max_size=300), st.text())
def test_what_is_packed_comes_out_again(dictionary: bytes, text: str) -> None:
    found = unpack(
        pack(f'{{"a":{text.encode().hex() or 0!r}}}'.replace("'", '"').encode(), dictionary)
    )
    assert str(found["a"]) == (text.encode().hex() or "0")


def test_objects_of_a_kind_take_less_with_what_they_have_in_common() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    roster.take(None, body("cam-2", 2), matters=True)
    whole = len(json.dumps(body("cam-2", 2)))
    assert all(len(each.packed[1]) < whole / 5 for each in crew_of(roster).members.values())
    assert roster.camera(crew_of(roster).members["cam-2"])["spec"] == body("cam-2", 2)["spec"]


def test_a_camera_that_came_changed_or_went_is_news() -> None:
    roster = Roster()
    assert roster.take("ADDED", body("cam-1", 1), matters=True)
    crew = crew_of(roster)
    assert crew.news == {"cam-1"}
    crew.news.clear()
    roster.take("MODIFIED", body("cam-1", 2), matters=False)
    assert crew.news == set()
    assert roster.known(body("cam-1", 2))
    assert not roster.known(body("cam-1", 3))
    roster.take("DELETED", body("cam-1", 4), matters=True)
    assert crew.members == {}
    assert crew.gone == {body("cam-1", 1)["spec"]["cameraId"]}


def test_a_status_that_somebody_edits_is_news() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    crew = crew_of(roster)
    crew.news.clear()
    edited = body("cam-1", 2)
    edited["status"] = {"seat": "mine"}
    assert roster.take("MODIFIED", edited, matters=False)
    assert crew.news == {"cam-1"}


def test_a_camera_that_is_going_is_gone() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    going = body("cam-1", 2)
    going["metadata"]["deletionTimestamp"] = "2026-11-20T08:00:00Z"
    assert roster.take("MODIFIED", going, matters=True)
    assert crew_of(roster).members == {}


def test_the_oldest_has_an_id_and_the_next_one_hears_when_it_goes() -> None:
    roster = Roster()
    for name, created in (("new", "2026-11-21T08:00:00Z"), ("old", "2026-11-20T08:00:00Z")):
        late = body(name, 1, cameraId="same")
        late["metadata"]["creationTimestamp"] = created
        roster.take(None, late, matters=True)
    crew = crew_of(roster)
    first = crew.first("same")
    assert first is not None
    assert first.name == "old"
    crew.news.clear()
    roster.take("DELETED", body("old", 2), matters=True)
    assert crew.news == {"new"}
    assert crew.first("other") is None


@pytest.mark.parametrize("lost", ["nothing", "labels", "owner"])
def test_a_changed_secret_is_news_of_its_camera(lost: str) -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    member = crew_of(roster).members["cam-1"]
    crew_of(roster).news.clear()
    member.unread = False
    live = secret("cam-1", 2)
    if lost == "labels":
        live["metadata"]["labels"] = {}
    elif lost == "owner":
        live["metadata"]["ownerReferences"] = []
    assert roster.take("MODIFIED", live, matters=True)
    assert crew_of(roster).news == {"cam-1"}
    assert member.unread


def test_a_chosen_secret_name_finds_its_camera_and_the_former_secret_its_owner() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    roster.take(None, secret("cam-1", 2), matters=True)
    roster.take("MODIFIED", body("cam-1", 3, secretName="chosen"), matters=True)
    member = crew_of(roster).members["cam-1"]
    assert member.unread
    crew_of(roster).news.clear()
    assert roster.lacks_secret(member)
    roster.take("ADDED", secret("cam-1", 4, "chosen"), matters=True)
    assert not roster.lacks_secret(member)
    assert crew_of(roster).news == {"cam-1"}
    assert set(roster.secrets_of(member.uid)) == {"cam-1-bcl-license", "chosen"}
    roster.take("DELETED", secret("cam-1", 5), matters=True)
    assert roster.secrets_of(member.uid) == ("chosen",)
    found = roster.secret(NAMESPACE, "chosen")
    assert found is not None
    assert found["data"] == secret("cam-1", 4)["data"]
    assert roster.secret(NAMESPACE, "cam-1-bcl-license") is None


def test_the_echo_of_an_own_write_is_no_news_whichever_comes_first() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    crew = crew_of(roster)
    member = crew.members["cam-1"]
    crew.news.clear()
    roster.begin(member)
    assert not roster.take("ADDED", secret("cam-1", 2), matters=True), "the event came first"
    roster.put(secret("cam-1", 2))
    roster.put(body("cam-1", 3))
    assert roster.known(body("cam-1", 3)), "the answer came first"
    roster.end(member, secret("cam-1", 2), body("cam-1", 3))
    assert crew.news == set()


def test_what_somebody_else_does_while_we_write_is_news() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    crew = crew_of(roster)
    member = crew.members["cam-1"]
    crew.news.clear()
    for change in (secret("cam-1", 5), body("cam-1", 7)):
        crew.news.clear()
        roster.begin(member)
        roster.put(secret("cam-1", 2))
        assert not roster.take("MODIFIED", change, matters=True)
        roster.end(member, secret("cam-1", 2), None)
        assert crew.news == {"cam-1"}
        assert not crew.members["cam-1"].busy
    roster.take("DELETED", body("cam-1", 6), matters=True)
    roster.news(member)
    assert crew.news == set(), "it is gone"


def test_a_change_that_comes_back_with_an_own_write_is_news() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    crew = crew_of(roster)
    member = crew.members["cam-1"]
    crew.news.clear()
    roster.begin(member)
    # The API server merged our status into what somebody had moved a moment before.
    answer = body("cam-1", 5, deviceRef={"name": "dock"})
    answer["metadata"]["generation"] = 2
    roster.put(answer)
    roster.end(member, answer)
    assert roster.known(body("cam-1", 4)), "the event of that change comes late"
    assert crew.members["cam-1"].device == "dock"
    assert crew.news == {"cam-1"}


def test_a_camera_that_is_going_as_we_write_is_gone() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 1), matters=True)
    answer = body("cam-1", 5)
    answer["metadata"]["deletionTimestamp"] = "2026-11-20T08:00:00Z"
    roster.put(answer)
    assert crew_of(roster).members == {}


def test_what_went_while_an_inventory_was_on_its_way_is_told_next() -> None:
    roster = Roster()
    for number in (1, 2):
        roster.take(None, body(f"cam-{number}", number, cameraId=f"id-{number}"), matters=True)
    crew = crew_of(roster)
    sent = InventoryRequest(
        cameras=tuple(inventory_camera(each, "hw-1", 0) for each in crew.members.values())
    )
    crew.gone.add("id-of-before")
    roster.take("DELETED", body("cam-2", 3, cameraId="id-2"), matters=True)
    crew.told(sent)
    assert crew.gone == {"id-2"}, "the complete set of before still names it"
    crew.told(InventoryRequest(base_revision=1, removed_cameras=("id-2",)))
    assert crew.gone == set()


def test_an_older_answer_does_not_take_back_what_a_watch_has_told() -> None:
    roster = Roster()
    roster.take(None, body("cam-1", 5, deviceRef={"name": "new"}), matters=True)
    roster.put(body("cam-1", 4, deviceRef={"name": "old"}))
    member = crew_of(roster).members["cam-1"]
    assert roster.camera(member)["spec"]["deviceRef"] == {"name": "new"}


async def test_nothing_is_said_before_every_list_has_come() -> None:
    roster = Roster()
    assert await roster.ready(0.01)
    roster.expect("Secret", None)
    roster.expect("CameraLicense", None)
    roster.listed("Secret", None)
    assert not await roster.ready(0.01)
    roster.listed("CameraLicense", None)
    assert await roster.ready(0.01)


def test_what_a_new_list_lacks_is_lost() -> None:
    roster = Roster()
    for number in range(3):
        roster.take(None, body(f"cam-{number}", number + 1), matters=True)
    roster.take(None, secret("cam-0", 9), matters=True)
    lost = roster.lost("CameraLicense", None, {"uid-cam-1"})
    assert {each["metadata"]["name"] for each in lost} == {"cam-0", "cam-2"}
    assert roster.lost("CameraLicense", "elsewhere", set()) == []
    assert [each["kind"] for each in roster.lost("Secret", None, set())] == ["Secret"]


def test_a_camera_of_an_older_schema_is_left_alone() -> None:
    roster = Roster()
    odd = body("cam-1", 1)
    del odd["spec"]["deviceRef"]
    assert not roster.take(None, odd, matters=True)
    assert crew_of(roster).members == {}


def test_a_secret_of_nobody_here_wakes_whoever_looks_after_it() -> None:
    roster = Roster()
    other = secret("cam-1", 1, "acme-btn-redis")
    other["metadata"]["ownerReferences"] = []
    assert roster.take("MODIFIED", other, matters=True)
    assert roster.secret(NAMESPACE, "acme-btn-redis") is not None
    assert not roster.take("MODIFIED", secret("cam-9", 1), matters=True), "its camera is gone"
    assert names.CAMERA_LICENSE_SUFFIX == "-bcl-license"
