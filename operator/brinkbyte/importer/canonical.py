"""The one form in which rows of both databases are compared, and sums that no order changes."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SEPARATOR: Final = "\0"
"""PostgreSQL's text cannot hold it."""
_NONE: Final = "\1"
_DIGEST_BYTES: Final = 16
# Numbers that PostgreSQL's jsonb may write in another way: many digits, and minus nothing.
_ODD: Final = re.compile(r"\d{17}|-0\.0")
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_WHOLE_BELOW: Final = 10**16


def json_text(value: Any) -> str:
    """Return JSON with sorted keys, numbers in one way of writing."""
    text = _ENCODER.encode(value)
    if _ODD.search(text):
        text = _ENCODER.encode(json.loads(text, parse_int=_whole, parse_float=_fraction))
    return text


def _whole(digits: str) -> int | float:
    found = int(digits)
    return found if abs(found) < _WHOLE_BELOW else float(digits)


def _fraction(digits: str) -> float:
    return float(digits) + 0.0


def _time(value: datetime) -> str:
    return str((value - _EPOCH) // _MICROSECOND)


def _single(value: float) -> str:
    return struct.pack(">f", value).hex()


def _picture(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _double(value: float) -> str:
    return repr(value + 0.0)


FORMS: Final[dict[str, Callable[[Any], str]]] = {
    "text": str,
    "uuid": str,
    "boolean": str,
    "bigint": str,
    "integer": str,
    "real": _single,
    "double precision": _double,
    "timestamptz": _time,
    "jsonb": json_text,
    "bytea": _picture,
}
"""By PostgreSQL's type."""


class RowHash:
    """Hashes rows of one table.

    Args:
        table: its name.
        types: PostgreSQL's types of its columns.
    """

    def __init__(self, table: str, types: Sequence[str]) -> None:
        self._prefix = table + _SEPARATOR
        self._forms = [FORMS[kind] for kind in types]

    def __call__(self, row: Sequence[Any]) -> int:
        """Return 128 bits; JSON null counts as no value."""
        parts = [
            _NONE if value is None else form(value)
            for form, value in zip(self._forms, row, strict=True)
        ]
        text = self._prefix + _SEPARATOR.join(parts)
        digest = hashlib.blake2b(text.encode("utf-8"), digest_size=_DIGEST_BYTES).digest()
        return int.from_bytes(digest, "big")


def as_uuid(row_hash: int) -> UUID:
    """Return a hash as PostgreSQL keeps it."""
    return UUID(int=row_hash)


def raw_text(row: Sequence[Any]) -> str:
    """Return an old row's values as ASCII JSON from which they can be had back exactly."""
    return json.dumps([_raw(value) for value in row])


def raw_hash(row: Sequence[Any]) -> str:
    """Return a hash of an old row as it was read."""
    return hashlib.blake2b(raw_text(row).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _raw(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float):
        return {"real": repr(value)}
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        return {"text_hex": value.encode("utf-8", "surrogateescape").hex()}
    return value
