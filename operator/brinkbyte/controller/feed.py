"""From a watch event to keys: whose object is it, and did anything change that matters?

Pure but for its memory of fingerprints, without which a restart only reconciles once too often.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, Final

from brinkbyte.controller import roster
from brinkbyte.controller.children import secrets
from brinkbyte.controller.identity import NAME_KEY, NAMESPACE_KEY, RECORD
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.queue import Key
from brinkbyte.controller.roster import Roster
from brinkbyte.resources import names

COALESCE_SECONDS: Final = 0.1
"""What comes together is one pass."""
_MEMBER_KINDS: Final = frozenset({"EdgeDevice", "CameraLicense"})
_WORKLOAD_STATUS: Final = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
_IGNORED_META: Final = frozenset({"managedFields", "resourceVersion", "generation"})
_TENANT_SUFFIXES: Final = (
    names.LICENSE_SUFFIX,
    names.IDENTITY_SUFFIX,
    names.ACCESS_SUFFIX,
    names.DEVICES_SUFFIX,
    names.REQUEST_SUFFIX,
    names.POSTGRES_SUFFIX,
    names.REDIS_SUFFIX,
    names.TRITON_SUFFIX,
    names.INSTANCE_SUFFIX,
    names.REPORTER_SUFFIX,
)
# Secrets of a Tenant that the reconcile of its devices and cameras writes.
_MEMBER_SECRETS: Final = (names.LICENSE_SUFFIX, names.DEVICES_SUFFIX, names.REQUEST_SUFFIX)


def fingerprint(live: Mapping[str, Any]) -> bytes:
    """Return a hash of everything of an object that a reconcile looks at."""
    meta = {
        key: value for key, value in live.get("metadata", {}).items() if key not in _IGNORED_META
    }
    content = {
        key: value
        for key, value in live.items()
        if key not in {"metadata", "status", "apiVersion", "kind"}
    }
    status = live.get("status", {})
    content["metadata"] = meta
    if live.get("kind") in {"Deployment", "StatefulSet"}:
        content["status"] = {key: status.get(key) for key in _WORKLOAD_STATUS}
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def keys_of(live: Mapping[str, Any]) -> Iterator[Key]:
    """Return what to reconcile for an object: by its kind, owner, labels and name.

    Labels can be changed by anybody, so an owner reference or a name of ours is enough.
    """
    kind, meta = live.get("kind"), live["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    labels = meta.get("labels") or {}
    if kind == "Tenant":
        yield Key("Tenant", namespace, name)
        yield Key("Members", namespace, name)
        return
    if kind in _MEMBER_KINDS:
        yield Key("Members", namespace, live["spec"]["tenantRef"]["name"])
        return
    if labels.get(names.LABEL_COMPONENT) == RECORD:
        yield Key("Identity", namespace, name)
        record = secrets.decode(live)
        if record.get(NAMESPACE_KEY) and record.get(NAME_KEY):
            # A record that somebody deleted is rebuilt by its Tenant's reconcile.
            yield Key("Tenant", record[NAMESPACE_KEY], record[NAME_KEY])
        return
    owners = [
        each
        for each in meta.get("ownerReferences") or ()
        if each.get("apiVersion", "").startswith(f"{names.GROUP}/")
    ]
    tenants = {each["name"] for each in owners if each["kind"] == "Tenant"}
    suffix = next((each for each in _TENANT_SUFFIXES if name.endswith(each)), "")
    if suffix:
        tenants.add(name.removesuffix(suffix))
    tenant = labels.get(names.LABEL_TENANT)
    member = any(each["kind"] in _MEMBER_KINDS for each in owners)
    member = member or labels.get(names.LABEL_OWNER_KIND) in _MEMBER_KINDS
    if tenant and (member or not tenants):
        yield Key("Members", namespace, tenant)
    elif member:
        # The label that names its Tenant was taken away.
        yield from (
            Key(each["kind"], namespace, each["name"])
            for each in owners
            if each["kind"] in _MEMBER_KINDS
        )
    for each in sorted(tenants):
        if suffix in _MEMBER_SECRETS:
            yield Key("Members", namespace, each)
        yield Key("Tenant", namespace, each)


class Feed:
    """Puts keys on the queue.

    Args:
        add: puts a key on the queue, in so many seconds.
        metrics: forgets what is gone.
        operator_namespace: where enrollment records are.
        roster: keeps camera licenses and Secrets.
    """

    def __init__(
        self,
        add: Callable[[Key, float], None],
        metrics: Metrics,
        operator_namespace: str,
        roster: Roster,
    ) -> None:
        self._add = add
        self._metrics = metrics
        self._operator_namespace = operator_namespace
        self._roster = roster
        self._seen: dict[str, bytes] = {}

    def take(self, kind: str | None, live: Mapping[str, Any]) -> None:
        """Take a watch event.

        Args:
            kind: ADDED, MODIFIED, DELETED, or None for what was there before.
            live: the object.
        """
        meta = live["metadata"]
        uid = meta["uid"]
        kept = live.get("kind") in roster.KINDS
        if kept and kind != "DELETED" and self._roster.known(live):
            return  # the echo of a write of ours
        now = None if kind == "DELETED" else fingerprint(live)
        matters = now is None or self._seen.get(uid) != now
        if now is None:
            self._seen.pop(uid, None)
            if live.get("kind") in {*_MEMBER_KINDS, "Tenant"}:
                self._metrics.forget(live["kind"], meta["namespace"], meta["name"])
        else:
            self._seen[uid] = now
        if kept:
            matters = self._roster.take(kind, live, matters=matters)
        if not matters:
            return
        labels = meta.get("labels") or {}
        record = labels.get(names.LABEL_COMPONENT) == RECORD
        if record and meta["namespace"] != self._operator_namespace:
            return
        for key in keys_of(live):
            self._add(key, COALESCE_SECONDS)

    def listed(self, kind: str, namespace: str | None, uids: Set[str]) -> None:
        """Take what a complete list does not hold for deleted."""
        for live in self._roster.lost(kind, namespace, uids):
            self.take("DELETED", live)
        self._roster.listed(kind, namespace)
