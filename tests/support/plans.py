"""Tenants, devices and cameras as a reconcile sees them, for tests of the controller's rules."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from brinkbyte.controller.children.common import Plan
from brinkbyte.controller.member_pass import Device, Pass
from brinkbyte.controller.roster import Member, Roster
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.defaults import DefaultImages, resolve
from brinkbyte.resources.edge_device import EdgeDevice
from brinkbyte.resources.tenant import Tenant
from support.manifests import CAMERA_LICENSE, EDGE_DEVICE, TENANT

IMAGES = DefaultImages(instance="brinkbyte/brinkbyte:test")
CREATED = "2026-11-20T08:00:00Z"


def _body(template: dict[str, Any], metadata: dict[str, Any], **over: Any) -> dict[str, Any]:
    body = copy.deepcopy(template)
    body["metadata"] |= {
        "uid": f"uid-{body['metadata']['name']}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": CREATED,
        **metadata,
    }
    body["spec"] |= over
    return body


def tenant_body(metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return _body(TENANT, metadata or {}, **spec)


def tenant(metadata: dict[str, Any] | None = None, **spec: Any) -> Tenant:
    return Tenant.parse(tenant_body(metadata, **spec))


def device_body(metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return _body(EDGE_DEVICE, metadata or {}, **spec)


def device(metadata: dict[str, Any] | None = None, **spec: Any) -> EdgeDevice:
    return EdgeDevice.parse(device_body(metadata, **spec))


def camera(metadata: dict[str, Any] | None = None, **spec: Any) -> CameraLicense:
    return CameraLicense.parse(_body(CAMERA_LICENSE, metadata or {}, **spec))


def camera_body(metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return _body(CAMERA_LICENSE, metadata or {}, **spec)


def member(metadata: dict[str, Any] | None = None, **spec: Any) -> Member:
    roster, body = Roster(), camera_body(metadata, **spec)
    roster.take(None, body, matters=True)
    crew = roster.crew(body["metadata"]["namespace"], body["spec"]["tenantRef"]["name"])
    return crew.members[body["metadata"]["name"]]


def a_pass(
    at: datetime,
    devices: Iterable[Device] = (),
    cameras: Iterable[dict[str, Any]] = (),
    secrets: Iterable[dict[str, Any]] = (),
) -> Pass:
    """Return a pass over a Tenant ``acme`` of the namespace of that name."""
    roster = Roster()
    for live in (*cameras, *secrets):
        roster.take(None, live, matters=True)
    return Pass("acme", "acme", at, [*devices], roster.crew("acme", "acme"), roster, {})


def plan(of: Tenant | None = None, **parts: Any) -> Plan:
    owner = of or tenant()
    return Plan(
        tenant=owner,
        resolved=parts.pop("resolved", None) or resolve(owner.spec, IMAGES),
        operator_namespace="brinkbyte-system",
        operator_pod_name="brinkbyte-operator",
        **parts,
    )
