"""A cluster that is a dictionary, for rules that read and write a handful of objects."""

from __future__ import annotations

import base64
import copy
from typing import Any

from brinkbyte.controller.cluster import ClusterRefusedError
from brinkbyte.controller.ownership import check_owner

Object = dict[str, Any]


class MemoryCluster:
    """What of ``Cluster`` those rules use.

    Attributes:
        objects: by kind, namespace and name.
        written: names of what was written, in order.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str | None, str], Object] = {}
        self.written: list[str] = []
        self._version = 0

    def put(self, live: Object) -> Object:
        """Store an object as its owner would."""
        meta = live["metadata"]
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        meta.setdefault("uid", f"uid-{meta['name']}")
        self.objects[live["kind"], meta.get("namespace"), meta["name"]] = live
        return live

    def secret(self, namespace: str, name: str, **data: str) -> Object:
        """Store a Secret as a user would; underscores stand for dots."""
        return self.put(
            {
                "kind": "Secret",
                "metadata": {"namespace": namespace, "name": name},
                "data": {
                    key.replace("_", "."): base64.b64encode(value.encode()).decode()
                    for key, value in data.items()
                },
            }
        )

    def data(self, namespace: str, name: str) -> dict[str, str]:
        """Return the values of a Secret."""
        live = self.objects.get(("Secret", namespace, name), {})
        return {key: base64.b64decode(value).decode() for key, value in live["data"].items()}

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def list(self, kind: str, namespace: str | None, *, labels: str = "") -> list[Object]:
        return [
            copy.deepcopy(live)
            for (its, where, _), live in self.objects.items()
            if its == kind and where == namespace and not labels
        ]

    async def apply(self, desired: Object, *, live: Object | None) -> Object:
        if live is not None:
            check_owner(desired, live)
            if live.get("data") == desired.get("data"):
                return live
        self.written.append(desired["metadata"]["name"])
        return self.put(copy.deepcopy(desired))

    async def apply_new(self, desired: Object) -> Object:
        return await self.ensure(desired)

    async def ensure(self, desired: Object) -> Object:
        meta = desired["metadata"]
        live = await self.get(desired["kind"], meta.get("namespace"), meta["name"])
        return await self.apply(desired, live=live)

    async def create(self, body: Object) -> Object:
        self.written.append(body["metadata"]["name"])
        return self.put(copy.deepcopy(body))

    async def patch(
        self, kind: str, namespace: str, name: str, body: Object, *, missing_ok: bool = True
    ) -> Object | None:
        live = self.objects[kind, namespace, name]
        version = body["metadata"]["resourceVersion"]
        if version != live["metadata"]["resourceVersion"]:
            raise ClusterRefusedError("it was changed meanwhile", reason="KubernetesRefused")
        merged = {**live.get("data", {}), **body["data"]}
        live["data"] = {key: value for key, value in merged.items() if value is not None}
        self.written.append(name)
        return self.put(live)

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str = "") -> None:
        self.objects.pop((kind, namespace, name), None)
