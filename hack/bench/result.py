"""One line of the benchmark's table and file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MEASURABLE: Final = 0.05


@dataclass(frozen=True)
class Result:
    """One line of ``build/bench.json``.

    ``ratio`` is value / reference, None beside a reference too small to divide by.
    """

    name: str
    value: float
    unit: str
    reference: str
    referenceValue: float  # noqa: N815 - the file's own spelling
    ratio: float | None
    target: str
    ok: bool


def result(
    name: str, value: float, unit: str, *, beside: str, beside_value: float, target: str, ok: bool
) -> Result:
    """Return a line with its ratio."""
    ratio = round(value / beside_value, 3) if beside_value >= MEASURABLE else None
    return Result(name, round(value, 3), unit, beside, round(beside_value, 3), ratio, target, ok)
