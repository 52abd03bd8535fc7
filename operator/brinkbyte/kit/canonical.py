"""RFC 8785 canonical JSON for the values we sign and hash: text, integers, booleans, null.

Floating-point numbers are refused: quantities and money travel as decimal text. Without them the
canonical form is JSON with sorted keys and no spaces; a property test holds it against an
independent implementation of the RFC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = bool | int | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None
_MAX_INTEGER = 2**53 - 1


def canonical_json(value: JsonValue) -> bytes:
    """Return the RFC 8785 form of a value.

    Raises:
        ValueError: a float, an integer beyond 2^53 - 1, a key that is not plain ASCII text, or text
            that is not Unicode (a lone surrogate).
    """
    _check(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of the data as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def _check(value: object) -> None:
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise ValueError(f"{value} is beyond 2^53 - 1: send it as text")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise ValueError(f"key {key!r} is not plain ASCII text")
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    else:
        raise ValueError(f"{type(value).__name__} has no canonical form here: send it as text")
