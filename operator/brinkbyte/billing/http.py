"""Reading request bodies: bounded, validated once, never a 500."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from brinkbyte.kit.problem import ProblemError

SMALL_BODY: Final = 256 * 1024
LARGE_BODY: Final = 32 * 1024 * 1024

CustomerId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][\w.:@-]*$")]
"""A customer's id in a path."""

M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body.

    Raises:
        ProblemError: 413 when it is longer than ``limit`` bytes.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise ProblemError(
                413,
                f"the body is longer than {limit} bytes; send less at once",
                reason="BodyTooLarge",
            )
    request.state.body_digest = hashlib.sha256(body).digest()
    return bytes(body)


def json_body(model: type[M], limit: int = SMALL_BODY) -> Callable[[Request], Awaitable[M]]:
    """Return a dependency that reads and validates a JSON body."""

    async def read(request: Request) -> M:
        body = await read_body(request, limit)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise invalid(error) from None

    return read


def invalid(error: ValidationError) -> RequestValidationError:
    """Turn a model's refusal into the answer's form; at most 20 fields are named."""
    return RequestValidationError(
        [
            {"loc": ("body", *(_printable(part) for part in item["loc"])), "msg": item["msg"]}
            for item in error.errors(include_url=False, include_context=False, include_input=False)[
                :20
            ]
        ]
    )


def _printable(part: int | str) -> int | str:
    return part if isinstance(part, int) else part.encode("ascii", "replace").decode()[:100]


BODY_SCHEMAS: Final[dict[str, Any]] = {}
"""Schemas that the bodies refer to; the application adds them to its OpenAPI document."""


def described_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the ``openapi_extra`` of an endpoint whose body :func:`json_body` reads."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    BODY_SCHEMAS.update(schema.pop("$defs", {}))
    BODY_SCHEMAS[model.__name__] = schema
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }
