"""The kinds of the Kubernetes API that the operator talks about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from brinkbyte.resources.names import API_VERSION


@dataclass(frozen=True)
class Kind:
    """A kind of the Kubernetes API."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """Return the URL path of a collection, an object or its subresource."""
        parts = ["api" if "/" not in self.api_version else "apis", self.api_version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace)]
        parts.append(self.plural)
        parts += [quote(part) for part in (name, sub) if part]
        return "/" + "/".join(parts)


KINDS: Final[Mapping[str, Kind]] = {
    kind.kind: kind
    for kind in (
        Kind("v1", "Namespace", "namespaces"),
        Kind("v1", "Secret", "secrets"),
        Kind("v1", "Service", "services"),
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        Kind("v1", "Pod", "pods"),
        Kind("apps/v1", "StatefulSet", "statefulsets"),
        Kind("apps/v1", "Deployment", "deployments"),
        Kind("batch/v1", "CronJob", "cronjobs"),
        Kind("batch/v1", "Job", "jobs"),
        Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        Kind("networking.k8s.io/v1", "Ingress", "ingresses"),
        Kind("events.k8s.io/v1", "Event", "events"),
        Kind(API_VERSION, "Tenant", "tenants"),
        Kind(API_VERSION, "EdgeDevice", "edgedevices"),
        Kind(API_VERSION, "CameraLicense", "cameralicenses"),
    )
}
