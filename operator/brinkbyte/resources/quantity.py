"""Kubernetes quantities as exact numbers, to compare what two writers mean by the same amount."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from brinkbyte.kit.errors import InvalidInputError

_SUFFIXES: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(1024),
    "Mi": Decimal(1024) ** 2,
    "Gi": Decimal(1024) ** 3,
    "Ti": Decimal(1024) ** 4,
    "Pi": Decimal(1024) ** 5,
    "Ei": Decimal(1024) ** 6,
}
_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{1,3})|([A-Za-z]{0,2}))", re.ASCII
)


def parse_quantity(text: str | int | float) -> Decimal:
    """Return the exact amount of a quantity such as ``500m``, ``10Gi`` or ``1e3``.

    Raises:
        InvalidInputError: reason ``InvalidQuantity``.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None or (match[3] or "") not in _SUFFIXES:
        raise InvalidInputError(
            f"{text!r} is not a quantity: write a number, or one such as 500m or 10Gi",
            reason="InvalidQuantity",
        )
    if match[2] is not None:
        return Decimal(match[1]) * Decimal(10) ** int(match[2])
    return Decimal(match[1]) * _SUFFIXES[match[3] or ""]
