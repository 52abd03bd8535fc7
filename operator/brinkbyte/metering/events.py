"""Usage events. An event's time is the millisecond of its UUIDv7 id; it has no other."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final
from uuid import UUID

from pydantic import ConfigDict, Field, field_validator

from brinkbyte.kit.canonical import canonical_json, sha256_hex
from brinkbyte.kit.model import WireModel
from brinkbyte.kit.uuid7 import is_uuid7

MAX_QUANTITY: Final = Decimal(10) ** 15
MAX_ATTRIBUTES: Final = 16
QUANTITY_PATTERN: Final = r"^(0|[1-9][0-9]{0,14})(\.[0-9]{0,8}[1-9])?$"
"""Decimal text in its one canonical form: no sign, no exponent, no trailing zeros."""

Name = Annotated[str, Field(min_length=1, max_length=128)]


class UsageEvent(WireModel):
    """One metered event.

    Attributes:
        id: UUIDv7 text, lower case.
        meter: name in the catalog.
        quantity: decimal text in the meter's unit, up to 10^15 with up to 9 decimals.
        key: the caller's Idempotency-Key, when it sent one.
        camera_id: the camera it concerns.
        hardware_id: the device it concerns.
        attributes: up to 16 further facts, text to text.
    """

    model_config = ConfigDict(strict=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$")]
    meter: Name
    quantity: Annotated[str, Field(pattern=QUANTITY_PATTERN)]
    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    camera_id: Name | None = None
    hardware_id: Name | None = None
    attributes: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]{0,63}$")],
        Annotated[str, Field(max_length=400)],
    ] = Field(default_factory=dict, max_length=MAX_ATTRIBUTES)

    @field_validator("id")
    @classmethod
    def _version(cls, value: str) -> str:
        if not is_uuid7(UUID(value)):
            raise ValueError("not a UUIDv7")
        return value

    def to_wire(self) -> dict[str, object]:
        """Return the members that are set, as they are signed."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the canonical event, hex: same id with another hash is another event."""
        return sha256_hex(canonical_json(self.to_wire()))  # type: ignore[arg-type]


def quantity_text(value: Decimal | int) -> str:
    """Return a quantity in its canonical text.

    Raises:
        ValueError: negative, not finite, above 10^15, or finer than 9 decimals.
    """
    number = Decimal(value)
    if not number.is_finite() or number < 0 or number >= MAX_QUANTITY:
        raise ValueError(f"quantity {value} is not between 0 and {MAX_QUANTITY}")
    if number != round(number, 9):
        raise ValueError(f"quantity {value} is finer than 9 decimals")
    text = format(abs(number), "f")  # Decimal has a negative zero
    return text.rstrip("0").rstrip(".") if "." in text else text
