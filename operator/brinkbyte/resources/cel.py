"""CEL rules as schema extensions of the models' fields."""

from __future__ import annotations

from typing import Any


def rules(*given: tuple[str, str] | tuple[str, str, str]) -> dict[str, Any]:
    """Return rules as a schema extension: (rule, message[, path of the field at fault])."""
    entries = []
    for rule, message, *path in given:
        entry = {"rule": rule, "message": message}
        if path:
            entry["fieldPath"] = path[0]
        entries.append(entry)
    return {"x-kubernetes-validations": entries}


def immutable(field: str, instead: str) -> dict[str, Any]:
    """Return the rule that a required field keeps its first value.

    Args:
        field: path, as the message names it.
        instead: what to do before the object is created with another value.
    """
    return rules(
        ("self == oldSelf", f"{field} is immutable: {instead} and create one with the new value")
    )
