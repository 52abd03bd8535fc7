"""The generated definitions: structural, bounded, in step with the models and with the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from brinkbyte.resources import crd
from brinkbyte.resources.names import GROUP, VERSION
from support.manifests import (
    ACCEPTED,
    BY_KIND,
    IMMUTABLE,
    REFUSED_BY_RULE,
    REFUSED_BY_SCHEMA,
    changed,
)

pytestmark = pytest.mark.unit

CRDS = {definition.model.KIND: crd.build(definition) for definition in crd.DEFINITIONS}
FORBIDDEN = {"$ref", "oneOf", "allOf", "not", "title", "const", "nullable", "definitions", "$defs"}


def version_of(kind: str) -> dict[str, Any]:
    version: dict[str, Any] = CRDS[kind]["spec"]["versions"][0]
    return version


def schema_of(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = version_of(kind)["schema"]["openAPIV3Schema"]
    return schema


def nodes(kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    return list(crd.walk(schema_of(kind)))


@pytest.mark.parametrize("kind", CRDS)
def test_every_node_is_structural(kind: str) -> None:
    for path, node in nodes(kind):
        assert not FORBIDDEN & node.keys(), path
        if node.get("x-kubernetes-int-or-string"):
            assert "type" not in node, path
        else:
            assert node["type"] in {"object", "array", "string", "integer", "boolean"}, path
            assert "anyOf" not in node, path
        assert not ("properties" in node and "additionalProperties" in node), path


@pytest.mark.parametrize("kind", CRDS)
def test_everything_below_spec_and_status_has_a_bound_and_a_description(kind: str) -> None:
    for path, node in nodes(kind):
        if not path.startswith((".spec", ".status")):
            continue
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node or node.get("format"), path
        if node.get("type") == "array":
            assert "maxItems" in node, path
            assert node["x-kubernetes-list-type"] in {"atomic", "set", "map"}, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if not path.endswith(("[]", "{}")):
            assert node.get("description"), path


@pytest.mark.parametrize("kind", CRDS)
def test_no_default_inside_a_list_item_and_none_in_status(kind: str) -> None:
    for path, node in nodes(kind):
        if "[]" in path or path.startswith(".status"):
            assert "default" not in node, path


@pytest.mark.parametrize("kind", CRDS)
def test_conditions_are_a_map_by_type(kind: str) -> None:
    conditions = schema_of(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert set(conditions["items"]["required"]) >= {"type", "status", "reason"}


def test_keys_of_map_lists_are_required_fields() -> None:
    for kind in CRDS:
        for path, node in nodes(kind):
            for key in node.get("x-kubernetes-list-map-keys", ()):
                assert key in node["items"]["required"], path


def test_names_of_the_kinds() -> None:
    names = {kind: body["spec"]["names"] for kind, body in CRDS.items()}
    assert {kind: name["shortNames"] for kind, name in names.items()} == {
        "Tenant": ["btn"],
        "EdgeDevice": ["bed"],
        "CameraLicense": ["bcl"],
    }
    for kind, body in CRDS.items():
        assert body["spec"]["group"] == GROUP
        assert body["spec"]["scope"] == "Namespaced"
        assert version_of(kind)["name"] == VERSION
        assert version_of(kind)["subresources"] == {"status": {}}
        assert names[kind]["categories"] == ["brinkbyte"]
        assert body["metadata"]["name"] == f"{names[kind]['plural']}.{GROUP}"


@pytest.mark.parametrize("kind", CRDS)
def test_columns_read_fields_that_exist(kind: str) -> None:
    known = {path for path, _ in nodes(kind)}
    for column in version_of(kind)["additionalPrinterColumns"]:
        path = column["jsonPath"].split("[?(", 1)[0]
        assert path in known | {".metadata.creationTimestamp"}, column


@pytest.mark.parametrize("kind", CRDS)
def test_a_rule_says_what_to_do_and_names_its_field(kind: str) -> None:
    for path, node in nodes(kind):
        for rule in node.get("x-kubernetes-validations", ()):
            assert rule["message"].startswith(("spec.", "metadata.")), path
            assert len(rule["message"]) <= 2048


def test_transition_rules_stand_on_required_fields_only() -> None:
    # One that may be left out could be taken away and set anew.
    for kind in CRDS:
        spec = schema_of(kind)["properties"]["spec"]
        fixed = {
            name
            for name, node in spec["properties"].items()
            if any("oldSelf" in rule["rule"] for rule in node.get("x-kubernetes-validations", ()))
        }
        assert fixed
        assert fixed <= set(spec["required"])
        assert fixed == {path.split(".")[1] for owner, path, *_ in IMMUTABLE if owner == kind}


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_valid_manifest_fits(kind: str) -> None:
    Draft202012Validator(schema_of(kind)).validate(BY_KIND[kind])


@pytest.mark.parametrize(("kind", "path", "value"), ACCEPTED)
def test_what_is_accepted_fits_schema_and_model(kind: str, path: str, value: Any) -> None:
    body = changed(kind, path, value)
    Draft202012Validator(schema_of(kind)).validate(body)
    model = next(d.model for d in crd.DEFINITIONS if kind == d.model.KIND)
    assert model.parse(body).to_wire()["spec"]


@pytest.mark.parametrize(("kind", "path", "value", "_words"), REFUSED_BY_SCHEMA)
def test_what_the_schema_refuses(kind: str, path: str, value: Any, _words: str) -> None:
    body = changed(kind, path, value)
    errors = list(Draft202012Validator(schema_of(kind)).iter_errors(body))
    assert errors


@pytest.mark.parametrize(("kind", "path", "value", "words"), REFUSED_BY_RULE)
def test_messages_of_rules_are_in_the_schema(kind: str, path: str, value: Any, words: str) -> None:
    assert changed(kind, path, value)
    messages = [
        rule["message"]
        for _, node in nodes(kind)
        for rule in node.get("x-kubernetes-validations", ())
    ]
    assert "Duplicate" in words or any(words in message for message in messages)


def test_defaults_reach_objects_that_the_manifest_leaves_out() -> None:
    spec = schema_of("Tenant")["properties"]["spec"]["properties"]
    assert spec["usageReporter"]["default"] == {}
    assert spec["usageReporter"]["properties"]["periodMinutes"]["default"] == 2
    assert spec["deletionPolicy"]["default"] == "Retain"
    # An object of which "external" may be the only member must not be filled in.
    assert "default" not in spec["postgres"]
    assert not any("default" in node for node in spec["postgres"]["properties"].values())


def test_defaults_of_schema_and_model_agree() -> None:
    for definition in crd.DEFINITIONS:
        kind = definition.model.KIND
        spec = definition.model.parse(BY_KIND[kind]).to_wire()["spec"]

        def check(node: Mapping[str, Any], value: Any) -> None:
            for name, part in node.get("properties", {}).items():
                if isinstance(part.get("default"), dict):
                    check(part, value[name])
                elif "default" in part and name in value:
                    assert value[name] == part["default"], name

        check(schema_of(kind)["properties"]["spec"], spec)


class Unbounded(BaseModel):
    text: str


class UnboundedList(BaseModel):
    items: list[int]


class Union(BaseModel):
    either: int | Annotated[str, Field(max_length=3)]


class Item(BaseModel):
    number: int = 3


class DefaultInItem(BaseModel):
    items: Annotated[list[Item], Field(max_length=3)]


class Untyped(BaseModel):
    anything: Any


class Loose(BaseModel):
    anything: dict[str, Any]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Unbounded, r"\.text: a string without a bound"),
        (UnboundedList, r"\.items: a array without a bound"),
        (Union, r"\.either: a union"),
        (DefaultInItem, r"\.items: a default inside a list item"),
        (Untyped, r"\.anything: type None"),
        (Loose, r"\.anything: an object without properties"),
    ],
)
def test_a_model_without_a_structural_form_is_refused(model: type[BaseModel], words: str) -> None:
    with pytest.raises(crd.SchemaError, match=words):
        crd.structural(model.model_json_schema())


def test_files_of_the_project_are_not_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--check"]) == 0, capsys.readouterr().out


def test_stale_files_are_named_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crd.main(["--check", "--root", str(tmp_path)]) == 1
    assert "stale: crds/vision.brinkbyte.io_tenants.yaml" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert crd.main(["--root", str(tmp_path)]) == 0
    assert crd.main(["--check", "--root", str(tmp_path)]) == 0
    for name, content in crd.render().items():
        assert (tmp_path / name).read_text(encoding="utf-8") == content
    changed_file = tmp_path / "crds" / "vision.brinkbyte.io_tenants.yaml"
    changed_file.write_text(changed_file.read_text(encoding="utf-8") + "# edited\n")
    assert crd.main(["--check", "--root", str(tmp_path)]) == 1


def test_files_are_the_definitions() -> None:
    for name, content in crd.render().items():
        if name.startswith("crds/"):
            body = yaml.safe_load(content)
            assert body == CRDS[body["spec"]["names"]["kind"]]
        else:
            assert "helm.sh/resource-policy: keep" in content
            assert content.startswith("# Generated")
            assert "{{- if .Values.crds.enabled }}" in content
