"""The OpenAPI document: who may call, what an error looks like, an example of everything.

``python -m brinkbyte.billing.openapi docs/openapi.json`` writes it; ``--check`` only compares.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import SecretStr

from brinkbyte.billing.auth import CSRF_HEADER, SESSION_COOKIE
from brinkbyte.billing.http import BODY_SCHEMAS
from brinkbyte.billing.openapi_examples import Examples
from brinkbyte.billing.settings import ServerSettings
from brinkbyte.kit.generated import write_page
from brinkbyte.kit.problem import MEDIA_TYPE

_UNSAFE: Final = frozenset({"post", "put", "patch", "delete"})
_METHODS: Final = _UNSAFE | {"get"}
_ORDER: Final = ("get", "head", "options", "post", "put", "patch", "delete")
_SCHEMES: Final[dict[str, Any]] = {
    "instanceCredential": {
        "type": "http",
        "scheme": "bearer",
        "description": "`bbi_…`: a customer instance's, from enrollment",
    },
    "vendorCredential": {
        "type": "http",
        "scheme": "bearer",
        "description": "`bbv_…`: the vendor's own",
    },
    "tenantKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "`bbt_…`: a customer's API key, scopes billing:read and billing:write",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": f"a person's session; unsafe methods also need the header {CSRF_HEADER}",
    },
}
_PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "An error (RFC 9457). `reason` is a stable word for programs; `detail` says "
    "what to do next. Some reasons have further members.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "reason"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:brinkbyte:problem:UnknownCustomer"]},
        "title": {"type": "string", "examples": ["UnknownCustomer"]},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "examples": [404]},
        "detail": {"type": "string", "examples": ["there is no customer acme; create it"]},
        "reason": {"type": "string", "examples": ["UnknownCustomer"]},
    },
}
_PROBLEM_CONTENT: Final = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_TEXTS: Final = {
    "401": "no credential, or one that is good no more",
    "402": "what was bought does not cover it",
    "403": "the credential lacks the scope, or the session's CSRF token is missing",
    "404": "there is no such thing for this credential",
    "409": "what is there stands against it",
    "410": "it was there, and is over",
    "413": "the body is too long",
    "422": "the request is not as it should be; nothing was changed",
    "429": "too much at once; see Retry-After",
    "503": "something that is needed does not answer; see Retry-After",
}
_PAID_FOR: Final = ("/api/billing/subscription", "/api/v1/gateway/", "/api/v1/quotas/")
_ANYTHING: Final = frozenset({"422", "429", "503"})


def complete(app: FastAPI) -> None:
    """Make an application's OpenAPI document say all of it."""
    generate = app.openapi

    def completed() -> dict[str, Any]:
        if app.openapi_schema is None:
            with warnings.catch_warnings():
                # One function behind two methods; named apart below.
                warnings.filterwarnings("ignore", "Duplicate Operation ID", UserWarning)
                document = generate()
            _complete(app, document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = completed  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _complete(app: FastAPI, document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, schema in BODY_SCHEMAS.items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = _SCHEMES
    security = {
        (method.lower(), route.path_format): _security(route.dependant)
        for route in _routes(app.routes)
        for method in route.methods or ()
    }
    examples = Examples(schemas)
    _name_apart(document)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                schemes = security.get((method, path), ())
                _secure(operation, schemes)
                _describe_errors(operation, path, method, secured="security" in operation)
                examples.complete(operation)


def _name_apart(document: dict[str, Any]) -> None:
    """Put methods in order, and name those of one function apart: a route keeps them as a set."""
    for path, item in document["paths"].items():
        ordered = {method: item[method] for method in _ORDER if method in item}
        rest = {name: value for name, value in item.items() if name not in ordered}
        document["paths"][path] = ordered | rest
        names = [operation["operationId"] for operation in ordered.values()]
        for method, operation in ordered.items():
            name: str = operation["operationId"]
            if names.count(name) > 1:
                stem = name.rpartition("_")[0]
                operation["operationId"] = f"{stem}_{method}"


def _routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        # Newer releases of FastAPI keep a router that was included as it is.
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _routes(included.routes)


def _security(dependant: Dependant) -> tuple[str, ...]:
    own: tuple[str, ...] = getattr(dependant.call, "security_schemes", ())
    found = list(own)
    for each in dependant.dependencies:
        found += _security(each)
    return tuple(dict.fromkeys(found))


def _secure(operation: dict[str, Any], schemes: Sequence[str]) -> None:
    if schemes and "security" not in operation:
        operation["security"] = [{scheme: []} for scheme in schemes]


def _describe_errors(operation: dict[str, Any], path: str, method: str, *, secured: bool) -> None:
    wanted = set(_ANYTHING)
    if secured:
        wanted |= {"401", "403", "404"}
    if "{" in path:
        wanted.add("404")
    if method in _UNSAFE:
        wanted |= {"404", "409"}
    if path.startswith(_PAID_FOR) and secured:
        wanted.add("402")
    if "requestBody" in operation:
        wanted |= {"401", "403", "410", "413"}
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)
    for status in sorted(wanted):
        responses.setdefault(status, {"description": _TEXTS[status]})
    for status, answer in responses.items():
        if status >= "400":
            answer.setdefault("content", deepcopy(_PROBLEM_CONTENT))


def document_text() -> str:
    """Return the document as it is stored."""
    from brinkbyte.billing.app import create_app  # noqa: PLC0415 - the application imports this

    settings = ServerSettings(
        database_url=SecretStr("postgresql:///"),
        pepper=SecretStr("only-for-the-document"),
        signing_keys_dir=Path(),
    )
    return json.dumps(create_app(settings).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(write_page(document_text(), "brinkbyte.billing.openapi", "OpenAPI document"))
