"""CustomResourceDefinitions, generated from the pydantic models of the three kinds.

``python -m brinkbyte.resources.crd`` writes ``crds/`` and the templates of the operator's chart;
``--check`` writes nothing and exits 1 when they are not what the models say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.cel import rules
from brinkbyte.resources.common import Resource
from brinkbyte.resources.edge_device import EdgeDevice
from brinkbyte.resources.names import GROUP, MAX_NAME_LENGTH, VERSION
from brinkbyte.resources.tenant import Tenant

CATEGORY: Final = "brinkbyte"
_HEADER: Final = (
    "# Generated from operator/brinkbyte/resources: change the models there, then run\n"
    "# python -m brinkbyte.resources.crd\n"
)
_MAX_OBJECT_NAME_LENGTH: Final = 253
_KEPT: Final = (
    "type",
    "format",
    "description",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
)
_NAME_RULE: Final = (
    f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
    f"metadata.name must have at most {MAX_NAME_LENGTH} characters: the names of its children are "
    "longer, choose a shorter one",
    ".metadata.name",
)
_LABEL_RULE: Final = (
    "self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')",
    "metadata.name must begin with a letter and hold lower-case letters, digits and - only: "
    "Services are named after it",
    ".metadata.name",
)


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; those of priority 1 only with ``-o wide``."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True)
class Definition:
    """What a kind's definition has beside its schema."""

    model: type[Resource]
    short_name: str
    columns: tuple[Column, ...]
    name_rules: tuple[tuple[str, str, str], ...] = (_NAME_RULE,)


def _status_of(condition: str) -> str:
    return f'.status.conditions[?(@.type=="{condition}")].status'


_READY: Final = Column("Ready", _status_of("Ready"))
_REASON: Final = Column("Reason", ".status.headline.reason")
_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
_MESSAGE: Final = Column("Message", ".status.headline.message", priority=1)

DEFINITIONS: Final = (
    Definition(
        Tenant,
        "btn",
        (
            _READY,
            Column("Mode", ".status.license.mode"),
            Column("Plan", ".status.license.plan"),
            Column("Devices", ".status.usage.devices.summary"),
            Column("Cameras", ".status.usage.cameras.summary"),
            _REASON,
            _AGE,
            Column("Customer", ".spec.customerId", priority=1),
            Column("Metering", _status_of("MeteringHealthy"), priority=1),
            _MESSAGE,
        ),
        (_NAME_RULE, _LABEL_RULE),
    ),
    Definition(
        EdgeDevice,
        "bed",
        (
            _READY,
            Column("Online", _status_of("Online")),
            Column("Tenant", ".spec.tenantRef.name"),
            Column("Tier", ".spec.managementTier"),
            Column("Used", ".status.usage.summary"),
            _REASON,
            _AGE,
            Column("Hardware", ".spec.hardwareId", priority=1),
            Column("Site", ".spec.site", priority=1),
            _MESSAGE,
        ),
    ),
    Definition(
        CameraLicense,
        "bcl",
        (
            _READY,
            Column("Camera", ".spec.cameraId"),
            Column("Device", ".spec.deviceRef.name"),
            Column("Mode", ".spec.mode"),
            Column("Used", ".status.usage.summary"),
            Column("Valid-Until", ".status.validUntil"),
            _REASON,
            _AGE,
            Column("Packs", ".spec.growthPacks", priority=1),
            Column("Secret", ".status.secretRef.name", priority=1),
            _MESSAGE,
        ),
    ),
)


class SchemaError(Exception):
    """A model says something that a structural schema cannot, or leaves something unbounded."""


def structural(schema: Mapping[str, Any], *, defaults: bool = True) -> dict[str, Any]:
    """Turn a pydantic JSON schema into a structural one.

    References are put in place, "or null" becomes "may be left out", titles go, every list gets a
    list type, and an object whose members have defaults gets ``default: {}``, without which the
    API server would not fill them in.

    Args:
        schema: of a model, with its ``$defs``.
        defaults: whether defaults are kept; a status has none.

    Raises:
        SchemaError: names the path of what cannot be expressed.
    """
    return _node(schema, schema.get("$defs", {}), path="", defaults=defaults)


def _node(
    given: Mapping[str, Any], defs: Mapping[str, Any], *, path: str, defaults: bool
) -> dict[str, Any]:
    node = _inlined(given, defs, path)
    result = {key: node[key] for key in _KEPT if node.get(key) is not None}
    result |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    if not defaults:
        result.pop("default", None)
    if result.get("x-kubernetes-int-or-string"):
        # Kubernetes' own form of a number or text; "type" must not stand beside it.
        result.pop("type")
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        return result
    match result.get("type"):
        case "object":
            _object(node, defs, result, path=path, defaults=defaults)
        case "array":
            if isinstance(result.get("default"), list) and not result["default"]:
                del result["default"]
            result.setdefault("x-kubernetes-list-type", "atomic")
            # A default inside a list item shows as a difference in GitOps tools for ever.
            items = _node(node["items"], defs, path=f"{path}[]", defaults=defaults)
            if any("default" in part for _, part in walk(items)):
                raise SchemaError(f"{path}: a default inside a list item")
            result["items"] = items
        case "string" | "integer" | "boolean" | "number":
            pass
        case other:
            raise SchemaError(f"{path}: type {other!r} has no structural form")
    _check_bounds(result, path)
    return result


def _inlined(given: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> dict[str, Any]:
    node = dict(given)
    while "$ref" in node or "anyOf" in node:
        if "anyOf" in node:
            options = [option for option in node.pop("anyOf") if option != {"type": "null"}]
            if len(options) != 1:
                raise SchemaError(f"{path}: a union has no structural form")
            inner = options[0]
        else:
            inner = defs[node.pop("$ref").rsplit("/", 1)[-1]]
        extra = [*inner.get(_RULES, ()), *node.get(_RULES, ())]
        node = {**inner, **node}
        if extra:
            node[_RULES] = extra
    return node


_RULES: Final = "x-kubernetes-validations"


def _object(
    node: Mapping[str, Any],
    defs: Mapping[str, Any],
    result: dict[str, Any],
    *,
    path: str,
    defaults: bool,
) -> None:
    result.pop("default", None)
    if "properties" not in node:
        values = node.get("additionalProperties")
        if not isinstance(values, Mapping):
            raise SchemaError(f"{path}: an object without properties")
        result["additionalProperties"] = _node(values, defs, path=f"{path}{{}}", defaults=defaults)
        return
    required = list(node.get("required", ()))
    if required:
        result["required"] = required
    properties = {}
    for name, given in node["properties"].items():
        part = _node(given, defs, path=f"{path}.{name}", defaults=defaults)
        nullable = "anyOf" in given
        if (
            part.get("type") == "object"
            and name not in required
            and not nullable
            and any("default" in inner for inner in part.get("properties", {}).values())
        ):
            part["default"] = {}
        properties[name] = part
    result["properties"] = properties


def _check_bounds(node: Mapping[str, Any], path: str) -> None:
    kind = node.get("type")
    unbounded = (
        (
            kind == "string"
            and "maxLength" not in node
            and "enum" not in node
            and node.get("format") != "date-time"
        )
        or (kind == "array" and "maxItems" not in node)
        or ("additionalProperties" in node and "maxProperties" not in node)
    )
    if unbounded:
        raise SchemaError(f"{path}: a {kind} without a bound: CEL rules would cost too much")


def walk(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every schema inside a structural schema with its path."""
    yield path, node
    for name, part in node.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from walk(node["additionalProperties"], f"{path}{{}}")


def build(definition: Definition) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    model = definition.model
    schema = {
        "type": "object",
        "description": " ".join((model.__doc__ or "").split()),
        "required": ["spec"],
        **rules(*definition.name_rules),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": _MAX_OBJECT_NAME_LENGTH}},
            },
            "spec": structural(_schema_of(model, "spec")),
            "status": structural(_schema_of(model, "status"), defaults=False),
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{model.PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": model.KIND,
                "listKind": f"{model.KIND}List",
                "plural": model.PLURAL,
                "singular": model.KIND.lower(),
                "shortNames": [definition.short_name],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(item) for item in definition.columns],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _schema_of(model: type[Resource], field: str) -> dict[str, Any]:
    part = model.model_fields[field].annotation
    if part is None or not hasattr(part, "model_json_schema"):
        raise SchemaError(f"{model.KIND}.{field} is not a model")
    schema: dict[str, Any] = part.model_json_schema(by_alias=True)
    return schema


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        entry["priority"] = column.priority
    return entry


def _dump(crd: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(crd), sort_keys=False, width=100, allow_unicode=True)
    return text


def render() -> dict[str, str]:
    """Return the generated files: path below the root of the project → content."""
    files = {}
    for definition in DEFINITIONS:
        crd = build(definition)
        plural = definition.model.PLURAL
        files[f"crds/{GROUP}_{plural}.yaml"] = _HEADER + _dump(crd)
        # Kept on uninstall: without its definition every Tenant of the cluster would be deleted.
        crd["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        files[f"charts/brinkbyte-operator/templates/crds/{plural}.yaml"] = (
            _HEADER + "{{- if .Values.crds.enabled }}\n" + _dump(crd) + "{{- end }}\n"
        )
    return files


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` name those that are stale; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m brinkbyte.resources.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).resolve().parents[3],
        help="root of the project; by default the checkout that this module lies in",
    )
    options = parser.parse_args(arguments)
    stale = []
    for name, content in render().items():
        path = options.root / name
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(name)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    for name in stale:
        sys.stdout.write(f"{'stale' if options.check else 'wrote'}: {name}\n")
    if stale and options.check:
        sys.stderr.write("Run python -m brinkbyte.resources.crd and commit what it writes.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
