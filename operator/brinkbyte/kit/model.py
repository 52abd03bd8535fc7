"""The base of every model that crosses a wire or is signed: strict, frozen, camelCase outside."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel


def first_problem(error: ValidationError) -> str:
    """Return the first field that is not as it should be, and why, for a message."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


class WireModel(BaseModel):
    """Strict camelCase model that refuses unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )


class OpenWireModel(WireModel):
    """Answers of another release's server: unknown fields are passed over, not refused."""

    model_config = ConfigDict(extra="ignore")
