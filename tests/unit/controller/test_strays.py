"""An item of ours whose key somebody changed has to go before ours can come back."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from brinkbyte.controller.children import build
from brinkbyte.controller.strays import strays
from support.plans import plan

CHILDREN = {(each["kind"], each["metadata"]["name"]): each for each in build(plan())}


def of(kind: str, suffix: str) -> dict[str, Any]:
    return next(
        copy.deepcopy(child)
        for (its_kind, name), child in CHILDREN.items()
        if its_kind == kind and name.endswith(suffix)
    )


@pytest.mark.parametrize("child", CHILDREN.values(), ids=lambda each: each["kind"])
def test_what_is_as_it_should_be_has_none(child: dict[str, Any]) -> None:
    assert list(strays(child, copy.deepcopy(child))) == []


def test_a_port_under_another_number_is_replaced_and_foreign_ports_stay() -> None:
    wanted = of("Service", "postgres")
    live = copy.deepcopy(wanted)
    (ours,) = wanted["spec"]["ports"]
    foreign = {"name": "metrics", "port": 9187, "protocol": "TCP"}
    live["spec"]["ports"] = [{**ours, "port": 5433}, foreign]
    assert list(strays(wanted, live)) == [("/spec/ports", [ours, foreign])]


def test_a_renamed_container_goes_and_a_sidecar_stays() -> None:
    wanted = of("Deployment", "triton")
    live = copy.deepcopy(wanted)
    (ours,) = wanted["spec"]["template"]["spec"]["containers"]
    sidecar = {"name": "mesh", "image": "example.com/mesh:1", "command": ["mesh"]}
    live["spec"]["template"]["spec"]["containers"] = [sidecar, {**ours, "name": "renamed"}]
    path = "/spec/template/spec/containers"
    assert list(strays(wanted, live)) == [(path, [ours, sidecar])]


def test_a_container_port_is_found_inside_its_container() -> None:
    wanted = of("StatefulSet", "redis")
    live = copy.deepcopy(wanted)
    (container,) = live["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    container["ports"] = [{**port, "containerPort": 1}]
    where = "/spec/template/spec/containers/0/ports"
    assert list(strays(wanted, live)) == [(where, [port])]
