"""Desired against live, over the fields we own; pure.

Kubernetes fills in defaults, writes quantities its own way and lets others add fields, so equality
is no use. A live object is as desired when

- every field of the desired object is there with the same meaning;
- lists of objects that the API merges are matched by their key, so that an order or a sidecar of
  somebody else is no difference;
- values that the API treats as one (atomic lists, selectors) are equal as a whole, known defaults
  aside: nobody may add an argument, a policy rule or a selector label;
- we own no field that is no longer desired (read from ``managedFields``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.resources.names import FIELD_MANAGER
from brinkbyte.resources.quantity import parse_quantity

# Lists that the API merges, and the keys of their items.
_LIST_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
# "ports" of a container and of a Service are merged, those of a NetworkPolicy are atomic.
_PORT_KEYS: Final = ("containerPort", "port")
# Maps that the API replaces as a whole.
_ATOMIC_MAPS: Final = frozenset(
    {
        "selector",
        "podSelector",
        "namespaceSelector",
        "labelSelector",
        "nodeSelector",
        "secretKeyRef",
        "configMapKeyRef",
        "fieldRef",
        "resourceFieldRef",
        "scaleTargetRef",
    }
)
# Where an empty object means everything, and none at all means nothing.
_EVERYTHING: Final = frozenset({"podSelector", "namespaceSelector"})
# Sets: order means nothing, others may add.
_SETS: Final = frozenset({"finalizers"})
# What the API fills in inside values that it otherwise replaces as a whole.
_DEFAULTS: Final[Mapping[str, object]] = {
    "protocol": "TCP",
    "volumeMode": "Filesystem",
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "operator": "Equal",
    "defaultMode": 420,
    "optional": False,
}
_IGNORED_IN_ATOMIC: Final = frozenset({"status", "creationTimestamp"})
_QUANTITY_PARENTS: Final = frozenset({"limits", "requests", "capacity", "hard"})
_QUANTITY_FIELDS: Final = frozenset({"sizeLimit", "averageValue"})


def differences(desired: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """Return the paths where a live object is not as desired; empty: nothing to send."""
    found = list(_map_differences(desired, live, ""))
    if not found:
        found = [f"{path} (no longer wanted)" for path in left_over(desired, live)]
    return found


def _empty(name: str, value: object) -> bool:
    if value == {} and name in _EVERYTHING:
        return False
    return value is None or value in ({}, [], "")


def _differences(name: str, desired: object, live: object, path: str) -> Iterator[str]:
    if _empty(name, desired):
        # The API drops empty values; what somebody filled in where we want nothing is a difference
        # only where the value is replaced as a whole.
        if (isinstance(desired, list) or name in _ATOMIC_MAPS) and not _empty(name, live):
            yield path
        return
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            yield path
        elif name in _ATOMIC_MAPS:
            if not _same(name, desired, live):
                yield path
        else:
            yield from _map_differences(desired, live, path)
    elif isinstance(desired, list):
        yield from _list_differences(name, desired, live, path)
    elif not _same_scalar(name, path, desired, live):
        yield path


def _map_differences(
    desired: Mapping[str, Any], live: Mapping[str, Any], path: str
) -> Iterator[str]:
    for name, value in desired.items():
        yield from _differences(name, value, live.get(name), f"{path}.{name}" if path else name)


def _list_differences(name: str, desired: Sequence[Any], live: object, path: str) -> Iterator[str]:
    if not isinstance(live, list):
        yield path
        return
    keys = list_keys(name, desired)
    if keys is None:
        if name in _SETS:
            if any(item not in live for item in desired):
                yield path
        elif not _same(name, desired, live):
            yield path
        return
    for item in desired:
        label = f"{path}[{','.join(str(item.get(key)) for key in keys if key in item)}]"
        match = next((other for other in live if same_item(item, other, keys)), None)
        if match is None:
            yield label
        else:
            yield from _map_differences(item, match, label)


def list_keys(name: str, items: Sequence[Any]) -> tuple[str, ...] | None:
    """Return the merge keys of a list of objects, or None when the API replaces it as a whole."""
    if not all(isinstance(item, Mapping) for item in items):
        return None
    if name == "ports":
        # A NetworkPolicy's port has no name and no targetPort; container ports always have a name.
        if items and all("name" in item for item in items):
            for key in _PORT_KEYS:
                if all(key in item for item in items):
                    return (key, "protocol")
        return None
    return _LIST_KEYS.get(name)


def same_item(item: Mapping[str, Any], other: object, keys: tuple[str, ...]) -> bool:
    """Tell whether the API takes two items of a merged list for the same one."""
    return isinstance(other, Mapping) and all(
        other.get(key, _DEFAULTS.get(key)) == item.get(key, _DEFAULTS.get(key)) for key in keys
    )


def _same(name: str, desired: object, live: object, path: str = "") -> bool:
    """Compare values that the API replaces as a whole, known defaults aside."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        for key, value in desired.items():
            if _empty(key, value) and _empty(key, live.get(key)):
                continue
            if not _same(key, value, live.get(key), f"{path}.{name}"):
                return False
        return all(
            key in desired
            or key in _IGNORED_IN_ATOMIC
            or _empty(key, value)
            or (key in _DEFAULTS and _DEFAULTS[key] == value)
            for key, value in live.items()
        )
    if isinstance(desired, list) and isinstance(live, list):
        return len(desired) == len(live) and all(
            _same(name, one, other, path) for one, other in zip(desired, live, strict=True)
        )
    if _empty(name, desired) and _empty(name, live):
        return True
    return _same_scalar(name, path, desired, live)


def _same_scalar(name: str, path: str, desired: object, live: object) -> bool:
    if desired == live:
        return type(desired) is type(live) or not isinstance(desired, bool)
    parents = path.replace("[", ".").split(".")
    if name in _QUANTITY_FIELDS or _QUANTITY_PARENTS.intersection(parents):
        try:
            return parse_quantity(str(desired)) == parse_quantity(str(live))
        except InvalidInputError:
            return False
    return False


def left_over(desired: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """Return the fields that we own (by ``managedFields``) and no longer want.

    A live object without our entry has none: then nothing of it was ever ours.
    """
    found: list[str] = []
    for entry in _ours(live):
        found.extend(_owned_extra(entry.get("fieldsV1", {}), desired, ""))
    return found


def applied_fields(live: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield what makes fields that we created ones that we applied: JSON pointer and value.

    An apply never takes away a field that was created, as if somebody else wanted it.
    """
    ours = _ours(live)
    if any(entry["operation"] == "Update" for entry in ours):
        entries = live["metadata"]["managedFields"]
        yield (
            "/metadata/managedFields",
            [{**each, "operation": "Apply"} if each in ours else each for each in entries],
        )


def _ours(live: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of ``managedFields`` that say what we applied, or else created."""
    entries = [
        entry
        for entry in live.get("metadata", {}).get("managedFields", ())
        if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource")
    ]
    return [each for each in entries if each.get("operation") == "Apply"] or entries


def _owned_extra(fields: Mapping[str, Any], desired: object, path: str) -> Iterator[str]:
    for label, below in fields.items():
        kind, _, rest = label.partition(":")
        if kind == "f":
            where = f"{path}.{rest}" if path else rest
            if not isinstance(desired, Mapping) or rest not in desired:
                yield where
            elif below:
                yield from _owned_extra(below, desired[rest], where)
        elif kind == "k":
            key = json.loads(rest)
            where = f"{path}[{rest}]"
            items = desired if isinstance(desired, list) else []
            match = next((item for item in items if _has_key(item, key)), None)
            if match is None:
                yield where
            elif below:
                yield from _owned_extra(below, match, where)
        elif kind == "v" and (not isinstance(desired, list) or json.loads(rest) not in desired):
            yield f"{path}[{rest}]"


def _has_key(item: object, key: Mapping[str, Any]) -> bool:
    return isinstance(item, Mapping) and all(
        name not in item or item[name] == value for name, value in key.items()
    )
