"""Metered answers and bodies that are read as bytes first."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from brinkbyte.instance.container import Instance
from brinkbyte.instance.services.metered import MeteredAnswer, MeteredCall

B = TypeVar("B", bound=BaseModel)


def parse_body(call: MeteredCall, model: type[B]) -> B:
    """Read a JSON body.

    Raises:
        RequestValidationError: names each wrong field.
    """
    try:
        return model.model_validate_json(call.body)
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        ) from None


def metered_response(instance: Instance, operation: str, answer: MeteredAnswer) -> Response:
    """Return the answer of a metered call, marked when it is a stored one."""
    instance.metrics.metered.labels(operation, str(answer.replayed).lower()).inc()
    if not answer.tracked:
        instance.metrics.untracked.labels(operation).inc()
    headers = {"Idempotent-Replayed": "true"} if answer.replayed else None
    return Response(
        answer.body, status_code=answer.status, media_type="application/json", headers=headers
    )
