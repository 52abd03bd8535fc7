"""What is sent to the billing API: everything once, then what changed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.controller.context import InventoryMemory
from brinkbyte.controller.inventory import (
    REFUSED_SECONDS,
    Wanted,
    inventory_camera,
    inventory_device,
    lose,
    plan_request,
    take_in,
)
from brinkbyte.license.wire import (
    CameraResult,
    DeviceResult,
    Held,
    InventoryAnswer,
    InventoryRequest,
    Use,
)
from support.plans import device, member

HELD = Held()


def wanted(devices: dict[str, str], cameras: dict[str, tuple[str, int]]) -> Wanted:
    """Devices: hardware id → site. Cameras: id → (hardware id, sequence held)."""
    return Wanted(
        {
            key: inventory_device(device({"name": f"d-{key}"}, hardwareId=key, site=site))
            for key, site in devices.items()
        },
        {
            key: inventory_camera(member({"name": f"c-{key}"}, cameraId=key), hardware, held)
            for key, (hardware, held) in cameras.items()
        },
    )


def plan(of: Wanted, memory: InventoryMemory, at: float = 0.0, **parts: Any) -> Any:
    return plan_request(of, memory, HELD, monotonic=at, missing=parts.get("missing", ()))


def answer(request: InventoryRequest, revision: int, refused: set[str]) -> InventoryAnswer:
    return InventoryAnswer(
        server_time=0,
        revision=revision,
        devices=tuple(
            DeviceResult(
                hardware_id=each.hardware_id,
                status="refused" if each.hardware_id in refused else "registered",
            )
            for each in request.devices
        ),
        cameras=tuple(
            CameraResult(
                camera_id=each.camera_id,
                status="refused" if each.camera_id in refused else "issued",
            )
            for each in request.cameras
        ),
        device_use=Use(used=0, limit=None),
        camera_use=Use(used=0, limit=None),
    )


def exchange(
    of: Wanted, memory: InventoryMemory, at: float = 0.0, refused: frozenset[str] = frozenset()
) -> InventoryRequest | None:
    request: InventoryRequest | None = plan(of, memory, at)
    if request is not None:
        number = (memory.revision or 0) + 1
        take_in(request, of, answer(request, number, set(refused)), memory, monotonic=at, jitter=0)
    return request


def test_the_first_inventory_is_complete_then_there_is_nothing_to_say() -> None:
    memory = InventoryMemory()
    site = wanted({"d1": ""}, {"c1": ("d1", 0)})
    first = exchange(site, memory)
    assert first is not None
    assert first.base_revision is None
    assert exchange(site, memory) is None
    assert exchange(wanted({"d1": ""}, {"c1": ("d1", 5)}), memory) is None, "a token came: no news"


def test_only_what_changed_is_sent() -> None:
    memory = InventoryMemory()
    exchange(wanted({"d1": "", "d2": ""}, {"c1": ("d1", 0), "c2": ("d1", 0)}), memory)
    moved = exchange(wanted({"d1": "here", "d3": ""}, {"c1": ("d3", 0)}), memory)
    assert moved is not None
    assert moved.base_revision == 1
    assert [each.hardware_id for each in moved.devices] == ["d1", "d3"]
    assert [each.camera_id for each in moved.cameras] == ["c1"]
    assert moved.removed_devices == ("d2",)
    assert moved.removed_cameras == ("c2",)
    assert memory.cameras.keys() == {"c1"}


def test_a_lost_token_is_asked_for_again() -> None:
    memory = InventoryMemory()
    site = wanted({"d1": ""}, {"c1": ("d1", 0), "c2": ("d1", 3)})
    exchange(site, memory)
    request = plan(site, memory, missing=["c1"])
    assert [each.camera_id for each in request.cameras] == ["c1"]
    assert request.devices == ()


def test_what_was_refused_is_asked_for_again_after_a_while() -> None:
    memory = InventoryMemory()
    site = wanted({"d1": "", "d2": ""}, {"c1": ("d1", 0), "c2": ("d1", 0)})
    exchange(site, memory, refused=frozenset({"c2", "d2"}))
    assert plan(site, memory, at=1.0) is None
    request = exchange(site, memory, at=REFUSED_SECONDS)
    assert request is not None
    assert [each.camera_id for each in request.cameras] == ["c2"]
    assert [each.hardware_id for each in request.devices] == ["d2"]
    assert plan(site, memory, at=10 * REFUSED_SECONDS) is None, "granted: nothing is left"


def test_the_complete_set_is_sent_again_before_the_hour_is_over() -> None:
    memory = InventoryMemory()
    site = wanted({"d1": ""}, {})
    exchange(site, memory)
    assert plan(site, memory, at=0.7 * 3600) is None
    request = plan(site, memory, at=0.96 * 3600)
    assert request is not None
    assert request.base_revision is None


ids = st.sampled_from(["a", "b", "c", "d"])
sites = st.builds(
    wanted,
    st.dictionaries(ids, st.sampled_from(["", "x"])),
    st.dictionaries(ids, st.tuples(ids, st.just(0))),
)


@given(st.lists(st.tuples(sites, st.booleans()), max_size=8))
def test_the_server_ends_up_with_what_the_cluster_has(steps: list[tuple[Wanted, bool]]) -> None:
    """A server that applies deltas has the same as the cluster, whichever answers were lost."""
    memory = InventoryMemory()
    devices: dict[str, Any] = {}
    cameras: dict[str, Any] = {}
    revision = 0
    last = Wanted({}, {})
    for number, (site, lost) in enumerate(
        [*steps, *([(steps[-1][0], False)] * 2 if steps else [])]
    ):
        last = site
        request = plan(site, memory, at=float(number))
        if request is None:
            continue
        if request.base_revision is not None and request.base_revision != revision:
            memory.revision = None
            request = plan(site, memory, at=float(number))
        if request.base_revision is None:
            devices, cameras = {}, {}
        devices |= {each.hardware_id: each for each in request.devices}
        cameras |= {each.camera_id: each for each in request.cameras}
        for key in request.removed_devices:
            devices.pop(key, None)
        for key in request.removed_cameras:
            cameras.pop(key, None)
        revision += 1
        if lost:
            lose(memory)
        else:
            take_in(
                request,
                site,
                answer(request, revision, set()),
                memory,
                monotonic=float(number),
                jitter=0.5,
            )
    assert devices == dict(last.devices)
    assert cameras == dict(last.cameras)


def test_an_object_of_another_name_under_the_same_id_makes_the_set_complete() -> None:
    memory = InventoryMemory()
    before = wanted({"d": ""}, {"a": ("d", 1), "b": ("d", 1)})
    request = plan(before, memory)
    take_in(request, before, answer(request, 1, set()), memory, monotonic=0.0, jitter=0.0)
    renamed = inventory_camera(member({"name": "other", "uid": "other"}, cameraId="a"), "d", 0)
    request = plan(Wanted(before.devices, {**before.cameras, "a": renamed}), memory)
    assert request.base_revision is None
    assert {each.name for each in request.cameras} == {"other", "c-b"}
    moved = inventory_camera(member({"name": "c-a"}, cameraId="a"), "elsewhere", 0)
    request = plan(Wanted(before.devices, {**before.cameras, "a": moved}), memory)
    assert request.base_revision == 1
