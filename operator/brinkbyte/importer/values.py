"""Old values as what they mean. SQLite lets any column hold any type, and the old service used it.

Pure; each function takes whatever a column held and raises :class:`Unreadable` when it cannot be
what the column is for.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter, ValidationError

from brinkbyte.license.claims import Identifier

Old: TypeAlias = int | float | str | bytes | None
"""What SQLite holds."""

FIRST_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
MAX_JSON_DEPTH: Final = 32
"""Deeper JSON could be stored and never be read out again."""
_LONGEST_NUMBER: Final = 300
"""Digits of a whole number in JSON, at most."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Year 2000 is 9.5e8 s, 9.5e11 ms, 9.5e14 µs: what a number counts is told by its size.
_SECONDS_BELOW: Final = 10**11
_MILLISECONDS_BELOW: Final = 10**14
_MICROSECONDS_BELOW: Final = 10**17
_JULIAN: Final = (2_400_000.0, 2_500_000.0)
_JULIAN_EPOCH: Final = 2_440_587.5
_DAY_SECONDS: Final = 86_400
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE: Final = frozenset({"0", "false", "f", "no", "n", "off"})
_NUMBER: Final = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")
_NOT_UNICODE: Final = re.compile("[\ud800-\udfff]")
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_UNSTORABLE: Final = re.compile("[\\x00\ud800-\udfff]")
_WORD: Final = re.compile(r"^[A-Za-z][\w.-]{0,63}$")
_IDENTIFIER: Final = TypeAdapter(Identifier)


class Unreadable(ValueError):  # noqa: N818 - it says what the value is
    """A value cannot be what its column is for.

    Args:
        reason: stable CamelCase word.
        message: what is wrong with it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def text(value: Old, column: str, *, most: int = 200, printable: bool = True) -> str | None:
    """Return text; numbers as they are written, blobs as UTF-8.

    Args:
        value: as SQLite held it.
        column: its name, for the message.
        most: characters at most.
        printable: whether control characters are refused; NUL always is.
    """
    if value is None:
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise Unreadable("NotText", f"{column} is a blob that is not UTF-8 text") from None
    elif isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = str(int(value))
    elif not isinstance(value, str):
        value = str(value)
    if not value.isprintable():
        if _NOT_UNICODE.search(value):
            raise Unreadable("NotText", f"{column} is not UTF-8 text")
        if "\0" in value or (printable and _CONTROL.search(value)):
            raise Unreadable("NotText", f"{column} has control characters")
    if len(value) > most:
        raise Unreadable("TooLong", f"{column} has {len(value)} characters, {most} fit")
    return value


@lru_cache(maxsize=10_000)
def identifier(value: Old, column: str) -> str:
    """Return an id of a camera or device; the same few come again and again."""
    given = (text(value, column, most=1000) or "").strip()
    if not given:
        raise Unreadable("Missing", f"{column} is empty")
    try:
        return _IDENTIFIER.validate_python(given)
    except ValidationError:
        raise Unreadable(
            "NotAnIdentifier",
            f"{column} {given[:60]!r} is no id: letters, digits and . : @ _ - only, 128 at most",
        ) from None


@lru_cache(maxsize=10_000)
def word(value: Old, column: str) -> str:
    """Return a short name: of a component, zone or kind of event."""
    given = (text(value, column, most=1000) or "").strip()
    if not given:
        raise Unreadable("Missing", f"{column} is empty")
    if not _WORD.match(given):
        raise Unreadable(
            "NotAName",
            f"{column} {given[:60]!r} is no name: a letter, then those, digits, . _ -, at most 64",
        )
    return given


def number(value: Old, column: str) -> float | None:
    """Return a finite number; text that looks like one counts."""
    if isinstance(value, bytes):
        value = text(value, column)
    if isinstance(value, str):
        given = value.strip()
        if not given:
            return None
        if not _NUMBER.match(given):
            raise Unreadable("NotANumber", f"{column} {given[:60]!r} is no number")
        value = float(given)
    if value is None:
        return None
    found = float(value)
    if not math.isfinite(found):
        raise Unreadable("NotANumber", f"{column} is not finite")
    return found


def integer(value: Old, column: str) -> int | None:
    """Return a whole number."""
    if isinstance(value, int):
        return value
    found = number(value, column)
    if found is None:
        return None
    if not found.is_integer() or abs(found) > 2**53:
        raise Unreadable("NotANumber", f"{column} {found!r} is no whole number")
    return int(found)


def share(value: Old, column: str) -> float:
    """Return a share of a picture's width or height, 0 to 1."""
    found = number(value, column)
    if found is None:
        raise Unreadable("Missing", f"{column} is empty")
    if not 0 <= found <= 1:
        raise Unreadable("NotAShare", f"{column} {found!r} is not between 0 and 1")
    return found + 0.0  # -0.0 is 0.0


def boolean(value: Old, column: str, *, default: bool) -> bool:
    """Return a truth value: 1, '1', 'true', 'yes', 'on' … and their opposites."""
    if value is None:
        return default
    given = (text(value, column) or "").strip().lower()
    if not given:
        return default
    if given in _TRUE:
        return True
    if given in _FALSE:
        return False
    raise Unreadable("NotABoolean", f"{column} {given[:60]!r} is neither true nor false")


def time(value: Old, column: str, *, latest: datetime) -> datetime:
    """Return an instant in UTC.

    Numbers (and text of digits) are Unix seconds, milliseconds or microseconds, by their size, or
    Julian days; other text is ISO 8601, in UTC where it names no zone.

    Args:
        value: as SQLite held it.
        column: its name, for the message.
        latest: what comes later is a broken clock.
    """
    if isinstance(value, bytes):
        value = text(value, column)
    if isinstance(value, str):
        given = value.strip()
        if not given:
            raise Unreadable("Missing", f"{column} is empty")
        found = _of_number(given, column) if _NUMBER.match(given) else _of_text(given, column)
    elif value is None:
        raise Unreadable("Missing", f"{column} is empty")
    else:
        found = _of_number(value, column)
    if not FIRST_TIME <= found <= latest:
        raise Unreadable(
            "TimeOutOfRange", f"{column} is {found:%Y-%m-%dT%H:%M:%SZ}: no clock was right then"
        )
    return found


def _of_text(given: str, column: str) -> datetime:
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise Unreadable("NotATime", f"{column} {given[:60]!r} is no time") from None
    if found.tzinfo is None:
        return found.replace(tzinfo=UTC)
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise Unreadable("NotATime", f"{column} {given[:60]!r} is no time") from None


def _of_number(given: float | str, column: str) -> datetime:
    # Whole numbers stay whole: a float has no room for microseconds since 1970.
    whole: int | float
    if isinstance(given, str):
        whole = int(given) if given.lstrip("+-").isdigit() else float(given)
    else:
        whole = given
    if isinstance(whole, float):
        if not math.isfinite(whole):
            raise Unreadable("NotATime", f"{column} is not finite")
        if _JULIAN[0] <= whole < _JULIAN[1]:
            whole = (whole - _JULIAN_EPOCH) * _DAY_SECONDS
    size = abs(whole)
    if size < _SECONDS_BELOW:
        microseconds = whole * 1_000_000
    elif size < _MILLISECONDS_BELOW:
        microseconds = whole * 1000
    elif size < _MICROSECONDS_BELOW:
        microseconds = whole
    else:
        raise Unreadable("NotATime", f"{column} {given!r} is no time")
    try:
        return _EPOCH + round(microseconds) * _MICROSECOND
    except OverflowError:
        raise Unreadable("NotATime", f"{column} {given!r} is no time") from None


def json_value(value: Old, column: str) -> Any:
    """Return JSON; None where there is none."""
    if value is None or isinstance(value, int | float):
        return number(value, column) if isinstance(value, float) else value
    given = text(value, column, most=1_000_000, printable=False)
    if given is None or not given.strip():
        return None
    try:
        found = _DECODER.decode(given)
    except (ValueError, RecursionError):
        raise Unreadable("NotJson", f"{column} {given[:60]!r} is no JSON") from None
    if (
        "\\u" in given
        or given.count("[") + given.count("{") > MAX_JSON_DEPTH
        or len(given) > _LONGEST_NUMBER
    ):
        # Nearly all rows are short and plain, and need no second look.
        check_json(found, column)
    return found


def json_object(value: Old, column: str) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is none."""
    found = json_value(value, column)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Unreadable("NotAnObject", f"{column} is JSON, and no object")
    return found


def check_json(found: Any, column: str) -> None:
    """Refuse JSON that PostgreSQL cannot hold or nobody could read back."""
    level = [found]
    for _ in range(MAX_JSON_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str) and not _storable(item):
                raise Unreadable("NotJson", f"{column} has text that cannot be kept")
            if isinstance(item, int) and abs(item) >= 10**_LONGEST_NUMBER:
                raise Unreadable("NotJson", f"{column} has a number that is too large")
            if isinstance(item, dict):
                if not all(map(_storable, item)):
                    raise Unreadable("NotJson", f"{column} has text that cannot be kept")
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    raise Unreadable("NotJson", f"{column} is nested more than {MAX_JSON_DEPTH} deep")


def _storable(item: str) -> bool:
    return _UNSTORABLE.search(item) is None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _finite(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise ValueError(digits)
    return found


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
