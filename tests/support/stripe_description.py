"""Stripe's published OpenAPI description: what a call and an answer must look like.

It comes with a Go module that is fetched into Go's own cache at set-up and never copied here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

MODULE = "github.com/stripe/stripe-mock@v0.203.0"
CHECKSUM = "h1:EzW7nb/fphqcAkgVRHAaC88OaAZo6SBWSl54cflDTio="
API_VERSION = "2026-08-26.dahlia"
_FORM = "application/x-www-form-urlencoded"
_REF = "#/components/schemas/"


class DescriptionError(Exception):
    """A call or an answer that the description does not allow; ``param`` is where."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


def fetch_description() -> Path:
    """Return the path of the description, fetched with Go.

    Raises:
        RuntimeError: there is no Go, the module cannot be fetched, or it is another.
    """
    if shutil.which("go") is None:
        raise RuntimeError(f"Stripe's API description needs Go to fetch {MODULE}: install Go")
    done = subprocess.run(
        ["go", "mod", "download", "-json", MODULE],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"{MODULE} cannot be fetched: {done.stdout}{done.stderr}")
    answer = json.loads(done.stdout)
    if answer["Sum"] != CHECKSUM:
        raise RuntimeError(f"{MODULE} has the checksum {answer['Sum']}, not {CHECKSUM}")
    return Path(answer["Dir"]) / "embedded" / "openapi" / "spec3.json"


@cache
def description() -> Description:
    """Return the description, read once."""
    return Description(json.loads(fetch_description().read_bytes()))


class Description:
    """Checks calls and answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        if document["info"]["version"] != API_VERSION:
            raise RuntimeError(f"the description is of {document['info']['version']}")
        self._paths = document["paths"]
        self._schemas = document["components"]["schemas"]
        self._templates = [
            (re.compile("^" + re.sub(r"\{[^}]+\}", "([^/]+)", path) + "$"), path)
            for path in sorted(self._paths, key=lambda path: path.count("{"))
        ]
        self._validators: dict[str, Draft202012Validator] = {}

    def find(self, method: str, path: str) -> tuple[str, tuple[str, ...]]:
        """Return the path's template and what stands for its parameters.

        Raises:
            DescriptionError: there is no such call.
        """
        for pattern, template in self._templates:
            found = pattern.match(path)
            if found and method.lower() in self._paths[template]:
                return template, found.groups()
        raise DescriptionError(f"Unrecognized request URL ({method}: {path})")

    def parameters(self, method: str, template: str, text: str) -> dict[str, Any]:
        """Return the parameters of a form-encoded body or query as values of their types.

        Raises:
            DescriptionError: unknown, missing, of a wrong type.
        """
        call = self._paths[template][method.lower()]
        if method == "POST":
            schema = call["requestBody"]["content"][_FORM]["schema"]
        else:
            given = [each for each in call.get("parameters", ()) if each["in"] == "query"]
            schema = {
                "type": "object",
                "additionalProperties": False,
                "properties": {each["name"]: each["schema"] for each in given},
                "required": [each["name"] for each in given if each.get("required")],
            }
        values = coerced(decoded(text), schema)
        self._check(f"call {method} {template}", schema, values)
        return values

    def check_answer(self, method: str, template: str, status: int, body: Any) -> None:
        """See that an answer is as described.

        Raises:
            DescriptionError: it is not.
        """
        responses = self._paths[template][method.lower()]["responses"]
        chosen = responses.get(str(status), responses["default"])
        schema = chosen["content"]["application/json"]["schema"]
        self._check(f"answer {method} {template} {status}", schema, body)

    def check_object(self, name: str, body: Any) -> None:
        """See that an object is as described."""
        self._check(f"object {name}", {"$ref": f"{_REF}{name}"}, body)

    def _check(self, name: str, schema: Mapping[str, Any], value: Any) -> None:
        validator = self._validators.get(name)
        if validator is None:
            needed: dict[str, Any] = {}
            root = self._converted(schema, needed)
            root["$defs"] = needed
            validator = self._validators[name] = Draft202012Validator(root)
        problem = best_match(validator.iter_errors(value))
        if problem is not None:
            raise DescriptionError(f"{name}: {_sentence(problem)}", _param(problem))

    def _converted(self, schema: Mapping[str, Any], needed: dict[str, Any]) -> dict[str, Any]:
        """Return an OpenAPI 3.0 schema as JSON Schema; objects take nothing unknown."""
        made: dict[str, Any] = {}
        for key, value in schema.items():
            if key == "$ref":
                name = value.removeprefix(_REF)
                made["$ref"] = f"#/$defs/{name}"
                if name not in needed:
                    needed[name] = {}
                    needed[name] = self._converted(self._schemas[name], needed)
            elif key == "properties":
                made[key] = {n: self._converted(each, needed) for n, each in value.items()}
            elif key in {"anyOf", "oneOf", "allOf"}:
                made[key] = [self._converted(each, needed) for each in value]
            elif key in {"items", "additionalProperties"} and isinstance(value, dict):
                made[key] = self._converted(value, needed)
            elif key in {"type", "enum", "required", "maxLength", "pattern"} or (
                key == "additionalProperties"
            ):
                made[key] = value
        if "properties" in made:
            made.setdefault("additionalProperties", False)
        # Stripe answers with further values of its own here.
        if schema.get("x-stripeBypassValidation"):
            made.pop("enum", None)
        if schema.get("nullable"):
            return {"anyOf": [made, {"type": "null"}]}
        return made


def _sentence(problem: ValidationError) -> str:
    return f"{_param(problem) or 'value'}: {problem.message[:300]}"


def _param(problem: ValidationError) -> str:
    first, *rest = [*map(str, problem.absolute_path), ""]
    return first + "".join(f"[{part}]" for part in rest if part)


def decoded(text: str) -> dict[str, Any]:
    """Return what a form with nested keys says: ``a[b][0]=x`` → ``{"a": {"b": ["x"]}}``.

    Raises:
        DescriptionError: a key is not well-formed, or names two different things.
    """
    tree: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        found = re.fullmatch(r"([^\[\]]+)((?:\[[^\[\]]*\])*)", key)
        if found is None:
            raise DescriptionError(f"Invalid key: {key}", key)
        path = [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])]
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise DescriptionError(f"{key} names two different things", key)
        last = path[-1] or str(len(node))
        if last in node:
            raise DescriptionError(f"{key} is given twice", key)
        node[last] = value
    return {key: _lists(value) for key, value in tree.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    children = {key: _lists(each) for key, each in value.items()}
    if children and list(children) == [str(n) for n in range(len(children))]:
        return list(children.values())
    return children


def coerced(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return text as the integer or boolean that the schema asks for, where it is one."""
    for choice in _choices(schema):
        if choice.get("type") == "object" and isinstance(value, dict):
            known, more = choice.get("properties", {}), choice.get("additionalProperties")
            rest = more if isinstance(more, dict) else {}
            return {key: coerced(each, known.get(key, rest)) for key, each in value.items()}
        if choice.get("type") == "array" and isinstance(value, list):
            return [coerced(each, choice.get("items", {})) for each in value]
        if isinstance(value, str):
            if choice.get("type") == "integer" and re.fullmatch(r"-?\d{1,18}", value):
                return int(value)
            if choice.get("type") == "boolean" and value in {"true", "false"}:
                return value == "true"
    return value


def _choices(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for each in schema.get("anyOf", ()):
        yield from _choices(each)
