"""Value types shared by the catalog's models: exact money, limits, read-only mappings."""

import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    WrapSerializer,
)

UNLIMITED: Final = "unlimited"

# Wide enough that no product of a price and a count is ever rounded before its line is.
EXACT: Final = Context(prec=80, rounding=ROUND_HALF_EVEN)

_AMOUNT: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,12})?")

K = TypeVar("K")
V = TypeVar("V")


def parse_money(value: object) -> Decimal:
    """Read an amount of money: a Decimal or a decimal string, zero or more.

    Raises:
        ValueError: anything else; binary floating point is refused because it is not exact.
    """
    if isinstance(value, bool) or not isinstance(value, str | Decimal):
        msg = 'money must be a quoted decimal string such as "19.90"'
        raise ValueError(msg)
    text = format(value, "f") if isinstance(value, Decimal) else value
    if not _AMOUNT.fullmatch(text):
        msg = (
            f'{text!r} is not an amount of money; write zero or more as "19.90", '
            "with at most 30 digits before the point and 12 after it"
        )
        raise ValueError(msg)
    return Decimal(text)


def _read_only(value: Mapping[K, V]) -> Mapping[K, V]:
    return MappingProxyType(dict(value))


def _plain(value: Mapping[Any, Any], handler: Callable[[Any], Any]) -> Any:
    return handler(dict(value))


Money = Annotated[Decimal, BeforeValidator(parse_money)]
Percent = Annotated[Decimal, BeforeValidator(parse_money), Field(gt=0, le=100)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Strict(), Field(ge=0)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Sku = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$", max_length=96)]
Limit = Count | Literal["unlimited"] | None
"""A number, "unlimited", or null: empty in the price list ("contact sales")."""

FrozenMap = Annotated[Mapping[K, V], AfterValidator(_read_only), WrapSerializer(_plain)]


class Frozen(BaseModel):
    """Base of every model here: immutable, no unknown fields, no silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )
