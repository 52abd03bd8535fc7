"""The OpenAPI document: examples that fit, errors and security of every operation, none stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from brinkbyte.billing.openapi import document_text

STORED = Path(__file__).parents[3] / "docs" / "openapi.json"
PUBLIC = {
    "GET /health": "probe",
    "GET /stats": "probe",
    "GET /metrics": "probe",
    "GET /api/v1/keys": "public keys, root-signed",
    "GET /.well-known/jwks.json": "public keys",
    "POST /api/v1/enrollments": "the body has the one-time token",
    "POST /api/billing/webhooks/stripe": "the body is signed",
    "POST /api/account/sign-in": "the body has address and password",
    "POST /api/account/sign-in/link": "says nothing about who is known",
    "POST /api/account/sign-in/token": "the body has the link's token",
}
"""Operations without a credential, and why."""


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document_text())
    return found


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_the_stored_document_is_what_the_code_says() -> None:
    assert document_text() == STORED.read_text(), "run: make generate"


def test_operations_are_named_once_and_described() -> None:
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(ids) == len(set(ids))
    assert [name for name, operation in operations() if not operation.get("description")] == []


def test_everything_but_what_is_public_needs_a_credential() -> None:
    open_ = {name for name, operation in operations() if not operation.get("security")}
    assert open_ == set(PUBLIC)


def test_examples_are_there_and_fit_their_schemas() -> None:
    components = {"components": document()["components"]}
    wrong: list[str] = []

    def check(where: str, schema: dict[str, Any], described: dict[str, Any]) -> None:
        if "example" not in described and "examples" not in described:
            wrong.append(f"{where}: no example")
            return
        example = described.get("example", described.get("examples"))
        validator = Draft202012Validator({**schema, **components})
        wrong.extend(
            f"{where}: {'.'.join(map(str, error.absolute_path))}: {error.message[:100]}"
            for error in validator.iter_errors(example)
        )

    for name, operation in operations():
        for parameter in operation.get("parameters", ()):
            check(f"{name} {parameter['name']}", parameter["schema"], parameter)
        bodies = [("request", operation.get("requestBody", {}))] + [
            (status, answer)
            for status, answer in operation["responses"].items()
            if status.startswith("2")
        ]
        for what, body in bodies:
            for kind, media in body.get("content", {}).items():
                if kind.endswith("json"):
                    check(f"{name} {what}", media.get("schema", {}), media)
    assert wrong == []


@pytest.mark.parametrize("status", ["422", "429", "503"])
def test_errors_are_described_as_problems(status: str) -> None:
    reference = {"$ref": "#/components/schemas/Problem"}
    for name, operation in operations():
        answer = operation["responses"][status]
        assert answer["content"]["application/problem+json"]["schema"] == reference, name


def test_bodies_of_unsafe_operations_are_described() -> None:
    for name, operation in operations():
        body = operation.get("requestBody")
        if body is not None:
            assert body["required"], name
            assert "application/json" in body["content"] or "webhooks" in name, name
