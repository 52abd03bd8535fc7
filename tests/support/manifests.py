"""Manifests that the tests of models, schemas and API server share."""

from __future__ import annotations

import copy
from typing import Any

from brinkbyte.resources.names import API_VERSION

TENANT: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "Tenant",
    "metadata": {"name": "acme", "namespace": "customer"},
    "spec": {
        "customerId": "acme-pty",
        "billing": {
            "url": "https://billing.example.com",
            "enrollmentSecretRef": {"name": "enrollment"},
        },
    },
}
EDGE_DEVICE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "EdgeDevice",
    "metadata": {"name": "gate-1", "namespace": "customer"},
    "spec": {"tenantRef": {"name": "acme"}, "hardwareId": "SN-0001"},
}
CAMERA_LICENSE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "CameraLicense",
    "metadata": {"name": "cam-1", "namespace": "customer"},
    "spec": {
        "tenantRef": {"name": "acme"},
        "cameraId": "cam-0001",
        "deviceRef": {"name": "gate-1"},
        "growthPacks": ["retail"],
    },
}
BY_KIND = {body["kind"]: body for body in (TENANT, EDGE_DEVICE, CAMERA_LICENSE)}


def changed(kind: str, path: str, value: Any) -> dict[str, Any]:
    """Return a valid manifest with one field set (or removed, with ``...``)."""
    body = copy.deepcopy(BY_KIND[kind])
    node = body
    *parents, last = path.split(".")
    for part in parents:
        node = node.setdefault(part, {})
    if value is ...:
        node.pop(last, None)
    else:
        node[last] = value
    return body


EXTERNAL = {"secretRef": {"name": "dsn"}}

# What the schema alone refuses: (kind, path, value, words of the API server's message).
REFUSED_BY_SCHEMA: list[tuple[str, str, Any, str]] = [
    ("Tenant", "spec", ..., "spec: Required"),
    ("Tenant", "spec.customerId", ..., "spec.customerId: Required"),
    ("Tenant", "spec.customerId", "no spaces", "spec.customerId"),
    ("Tenant", "spec.customerId", "x" * 64, "spec.customerId: Too long"),
    ("Tenant", "spec.billing.enrollmentSecretRef", ..., "spec.billing.enrollmentSecretRef"),
    ("Tenant", "spec.billing.caSecretRef", {"name": "Not_A_Name"}, "spec.billing.caSecretRef.name"),
    ("Tenant", "spec.usageReporter.periodMinutes", 0, "spec.usageReporter.periodMinutes"),
    ("Tenant", "spec.usageReporter.periodMinutes", 5, "spec.usageReporter.periodMinutes"),
    ("Tenant", "spec.deletionPolicy", "Keep", "spec.deletionPolicy: Unsupported value"),
    ("Tenant", "spec.retentionDays", 0, "spec.retentionDays"),
    ("Tenant", "spec.paused", "yes please", "spec.paused"),
    ("Tenant", "spec.postgres.storage.size", "ten gigabytes", "spec.postgres.storage.size"),
    ("Tenant", "spec.postgres.resources.limits.memory", "-1Gi", "limits.memory"),
    ("Tenant", "spec.postgres.runAsUser", 0, "spec.postgres.runAsUser"),
    ("Tenant", "spec.postgres.external", {}, "spec.postgres.external.secretRef: Required"),
    ("Tenant", "spec.redis.maxMemory", "much", "spec.redis.maxMemory"),
    ("Tenant", "spec.triton.gpus", -1, "spec.triton.gpus"),
    ("Tenant", "spec.triton.modelRepository", {}, "spec.triton.modelRepository.claimName"),
    ("Tenant", "spec.instance.replicas", 0, "spec.instance.replicas"),
    ("Tenant", "spec.instance.ingress.host", "https://x", "spec.instance.ingress.host"),
    ("Tenant", "spec.instance.image", "bad image", "spec.instance.image"),
    ("Tenant", "spec.imagePullSecrets", [{"name": str(n)} for n in range(9)], "imagePullSecrets"),
    ("EdgeDevice", "spec.tenantRef", ..., "spec.tenantRef: Required"),
    ("EdgeDevice", "spec.tenantRef.name", "a" * 33, "spec.tenantRef.name: Too long"),
    ("EdgeDevice", "spec.hardwareId", ..., "spec.hardwareId: Required"),
    ("EdgeDevice", "spec.hardwareId", "", "spec.hardwareId"),
    ("EdgeDevice", "spec.managementTier", "gold", "spec.managementTier: Unsupported value"),
    ("EdgeDevice", "spec.site", "x" * 201, "spec.site: Too long"),
    ("CameraLicense", "spec.tenantRef", ..., "spec.tenantRef: Required"),
    ("CameraLicense", "spec.cameraId", ..., "spec.cameraId: Required"),
    ("CameraLicense", "spec.cameraId", "/dev/video0", "spec.cameraId"),
    ("CameraLicense", "spec.deviceRef", ..., "spec.deviceRef: Required"),
    ("CameraLicense", "spec.mode", "free", "spec.mode: Unsupported value"),
    ("CameraLicense", "spec.growthPacks", ["Retail!"], "spec.growthPacks[0]"),
    ("CameraLicense", "spec.growthPacks", [f"pack_{n}" for n in range(33)], "spec.growthPacks"),
    ("CameraLicense", "spec.secretName", "Upper", "spec.secretName"),
]

# What only the API server's rules refuse: (kind, path, value, words of the message).
REFUSED_BY_RULE: list[tuple[str, str, Any, str]] = [
    ("Tenant", "metadata.name", "a" * 33, "metadata.name must have at most 32 characters"),
    ("Tenant", "metadata.name", "1acme", "metadata.name must begin with a letter"),
    ("Tenant", "metadata.name", "acme.site", "metadata.name must begin with a letter"),
    ("Tenant", "spec.billing", ..., "spec.billing is missing"),
    ("Tenant", "spec.billing.url", "billing.example.com", "spec.billing.url must be a URL"),
    ("Tenant", "spec.billing.url", "http://billing.example.com", "spec.billing.url must begin"),
    ("Tenant", "spec.billing.url", "http://localhost@evil.example", "spec.billing.url must be"),
    ("Tenant", "spec.billing.url", "http://localhost.evil.example", "spec.billing.url must begin"),
    ("Tenant", "spec.billing.url", "http://127.0.0.1.evil.example", "spec.billing.url must begin"),
    ("Tenant", "spec.billing.url", "https://x.example?to=y", "spec.billing.url must be a URL"),
    (
        "Tenant",
        "spec.postgres",
        {"external": EXTERNAL, "storage": {"size": "5Gi"}},
        "spec.postgres.external names a server that you run",
    ),
    (
        "Tenant",
        "spec.redis",
        {"external": EXTERNAL, "maxMemory": "1Gi"},
        "spec.redis.external names a server that you run",
    ),
    ("EdgeDevice", "metadata.name", "a" * 33, "metadata.name must have at most 32 characters"),
    ("CameraLicense", "metadata.name", "a" * 33, "metadata.name must have at most 32 characters"),
    ("CameraLicense", "spec.growthPacks", ["retail", "retail"], "spec.growthPacks[1]: Duplicate"),
]

ACCEPTED: list[tuple[str, str, Any]] = [
    ("Tenant", "metadata.name", "a" * 32),
    ("Tenant", "spec.billing.url", "http://localhost:8443"),
    ("Tenant", "spec.billing.url", "http://127.0.0.1:8443/api"),
    ("Tenant", "spec.billing.url", "http://[::1]:8443"),
    ("Tenant", "spec.postgres", {"external": EXTERNAL}),
    ("Tenant", "spec.postgres.resources", {"requests": {"cpu": 1, "memory": "1.5Gi"}}),
    ("Tenant", "spec.postgres.storage.size", "20Gi"),
    ("Tenant", "spec.usageReporter.periodMinutes", 4),
    ("Tenant", "spec.imagePullSecrets", [{"name": "registry"}]),
    ("EdgeDevice", "metadata.name", "1.gate"),
    ("EdgeDevice", "spec.hardwareId", "00:1A:2B:3C:4D:5E"),
    ("CameraLicense", "spec.mode", "trial"),
    ("CameraLicense", "spec.growthPacks", []),
    ("CameraLicense", "spec.secretName", "my-license"),
]

# Fields that keep their first value: (kind, path, another value, words of the message).
IMMUTABLE: list[tuple[str, str, Any, str]] = [
    ("Tenant", "spec.customerId", "other", "spec.customerId is immutable"),
    ("EdgeDevice", "spec.tenantRef.name", "other", "spec.tenantRef is immutable"),
    ("EdgeDevice", "spec.hardwareId", "SN-2", "spec.hardwareId is immutable"),
    ("CameraLicense", "spec.tenantRef.name", "other", "spec.tenantRef is immutable"),
    ("CameraLicense", "spec.cameraId", "cam-2", "spec.cameraId is immutable"),
]
