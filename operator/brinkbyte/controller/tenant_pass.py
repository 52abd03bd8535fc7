"""What one reconcile of a Tenant works on, and how it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from brinkbyte.controller.children import common
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context
from brinkbyte.controller.status import Seen
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.resources import names
from brinkbyte.resources.tenant import Tenant

CHILD_KINDS: Final = (
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
    "Deployment",
    "CronJob",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "Ingress",
    "PersistentVolumeClaim",
)


@dataclass
class TenantPass:
    """What one reconcile works on: children by (kind, name), errors by component.

    Attributes:
        unwritten: components whose generated values could not be written into their Secret.
    """

    tenant: Tenant
    live: Object
    children: dict[tuple[str, str], Object] = field(default_factory=dict)
    errors: dict[str, BrinkByteError] = field(default_factory=dict)
    notes: Mapping[str, Seen] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)

    def child(self, kind: str, component: str) -> Object | None:
        """Return a live child."""
        return self.children.get((kind, f"{self.tenant.name}{common.SUFFIXES[component]}"))


async def read_children(ctx: Context, tenant: Tenant) -> dict[tuple[str, str], Object]:
    """Return a Tenant's children by kind and name, from one fresh list of each kind."""
    # The Secrets of devices and cameras are not its own; there may be ten thousand.
    selector = (
        f"{names.LABEL_TENANT}={tenant.name},"
        f"{names.LABEL_OWNER_KIND} notin (EdgeDevice,CameraLicense)"
    )
    lists = await asyncio.gather(
        *(ctx.cluster.list(kind, tenant.namespace, labels=selector) for kind in CHILD_KINDS)
    )
    return {
        (kind, each["metadata"]["name"]): each
        for kind, items in zip(CHILD_KINDS, lists, strict=True)
        for each in items
    }


def billing_address(url: str) -> tuple[int, str]:
    """Return port of a billing URL, and its namespace when it is a Service of this cluster."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    labels = (parts.hostname or "").split(".")
    namespace = labels[1] if len(labels) >= 3 and labels[2] == "svc" else ""
    return port, namespace


def autoscaled(live: Mapping[str, Any] | None) -> bool:
    """Tell whether an autoscaler (not a person) has set a workload's replicas."""
    return any(
        entry.get("subresource") == "scale" and entry.get("manager") == "kube-controller-manager"
        for entry in (live or {}).get("metadata", {}).get("managedFields", ())
    )
