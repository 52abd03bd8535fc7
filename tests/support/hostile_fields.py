"""Every field of our resources and every key of our Secrets, with values a customer would try.

Fields come from the schemas of the live definitions, keys from the live Secrets: what is added to
either is tried without anybody thinking of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from brinkbyte.catalog import load_catalog
from brinkbyte.resources.names import API_VERSION, LABEL_MANAGED_BY, MANAGED_BY
from stack.cluster import Cluster
from support.cluster import OTHER

KINDS: Final = {
    "tenant": "tenants.vision.brinkbyte.io",
    "edgedevice": "edgedevices.vision.brinkbyte.io",
    "cameralicense": "cameralicenses.vision.brinkbyte.io",
}
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
# Whoever runs other images or models than ours decides what they do: outside the threat model.
_OUTSIDE: Final = ("image", "modelRepository")
# These restart databases or move data, which takes minutes to come back from: one by one in soak.
_RESTARTS: Final = frozenset(
    {
        "storage", "storageClassName", "resources", "runAsUser", "external", "replicas", "gpus",
        "imagePullSecrets", "ingress", "backup", "maxMemory",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One field of a resource.

    Attributes:
        part: ``spec`` or ``status``.
        schema: of its value.
    """

    kind: str
    part: str
    path: tuple[str, ...]
    schema: Mapping[str, Any]

    def __str__(self) -> str:
        return ".".join([self.kind, self.part, *self.path])

    @property
    def restarts(self) -> bool:
        """Whether a change of it restarts workloads."""
        return self.part == "spec" and not _RESTARTS.isdisjoint(self.path)

    def patch(self, value: Any) -> dict[str, Any]:
        """A merge patch that sets it."""
        body: Any = value
        for name in reversed([self.part, *self.path]):
            body = [body] if name == "[]" else {name: body}
        return dict(body)

    def values(self) -> list[Any]:
        """What a customer would try, best first."""
        return _values(self.path[-1], self.schema)


def _values(name: str, schema: Mapping[str, Any]) -> list[Any]:
    if "enum" in schema:
        return list(schema["enum"])
    kind = schema.get("type")
    if kind == "boolean":
        return [True, False]
    if kind == "integer":
        return [schema.get("maximum", 2**31 - 1), schema.get("minimum", 0)]
    if kind == "array":
        if name == "growthPacks":
            return [sorted(ref.name for ref in load_catalog().pack_refs() if ref.per == "camera")]
        return [[value] for value in _values(name, schema.get("items", {}))]
    if kind == "object":
        return [{"cpu": "1m"}]
    if schema.get("format") == "date-time":
        return ["2099-12-31T00:00:00Z"]
    if name == "url":
        return ["https://127.0.0.1:9"]
    if name == "mode":
        return ["active"]
    return ["hostile", "1Mi"] if kind == "string" else ["1Mi"]


def fields(cluster: Cluster, kind: str) -> list[Field]:
    """Return every field of a kind's spec and status, images and model repositories excepted."""
    found = cluster.get("customresourcedefinition", KINDS[kind])
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return [
        Field(kind, part, path, leaf)
        for part in ("spec", "status")
        for path, leaf in _leaves(schema[part])
        if not any(name in _OUTSIDE for name in path)
    ]


def _leaves(
    schema: Mapping[str, Any], at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if schema.get("properties"):
        for name, below in schema["properties"].items():
            yield from _leaves(below, (*at, name))
    elif schema.get("items", {}).get("properties"):
        yield from _leaves(schema["items"], (*at, "[]"))
    else:
        yield at, schema


class Admin:
    """Cluster-admin by ``kubectl proxy``: hundreds of edits, each in milliseconds."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._proxy = cluster.popen("proxy", "--port=0")
        assert self._proxy.stdout is not None
        port = self._proxy.stdout.readline().strip().rpartition(":")[2]
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self._namespace = namespace

    def close(self) -> None:
        self._http.close()
        self._proxy.terminate()
        self._proxy.communicate(timeout=20)

    def edit(self, kind: str, name: str, patch: Any, *, part: str = "spec") -> bool:
        """Patch an object; tell whether the API server let it through."""
        group = "api/v1" if kind == "secret" else f"apis/{API_VERSION}"
        sub = "/status" if part == "status" else ""
        answer = self._http.patch(
            f"/{group}/namespaces/{self._namespace}/{kind}s/{name}{sub}",
            params={"fieldManager": OTHER},
            headers={"Content-Type": _JSON_PATCH if isinstance(patch, list) else _MERGE_PATCH},
            content=json.dumps(patch),
        )
        return answer.is_success

    def secrets(self, namespace: str | None = None) -> dict[str, dict[str, bytes]]:
        """Return the data of every Secret that we write, by name."""
        answer = self._http.get(
            f"/api/v1/namespaces/{namespace or self._namespace}/secrets",
            params={"labelSelector": f"{LABEL_MANAGED_BY}={MANAGED_BY}"},
        )
        return {
            each["metadata"]["name"]: {
                key: base64.b64decode(value) for key, value in each.get("data", {}).items()
            }
            for each in answer.raise_for_status().json()["items"]
        }


def mutations(
    data: Mapping[str, bytes], others: Mapping[str, bytes]
) -> dict[str, dict[str, bytes | None]]:
    """Return ways of changing a Secret: for each its keys with their new values, None: removed.

    Args:
        data: what it holds.
        others: what the same Secret of another customer holds.
    """
    return {
        "emptied": dict.fromkeys(data, b""),
        "removed": dict.fromkeys(data),
        "garbage": dict.fromkeys(data, b"\x00\xff hostile"),
        "another customer's": {key: others[key] for key in data if key in others},
        "swapped among themselves": dict(zip(data, reversed(data.values()), strict=True)),
    }


def secret_patch(values: Mapping[str, bytes | None]) -> dict[str, Any]:
    """A merge patch of a Secret's data."""
    return {
        "data": {
            key: None if value is None else base64.b64encode(value).decode()
            for key, value in values.items()
        }
    }
