"""Events before they have an id: checked, and spelled as RFC 8785 wants them around it.

The same rules and bytes as :class:`~brinkbyte.metering.events.UsageEvent`, without a model for each
event: hundreds of thousands a second are recorded this way. A property test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Final, NamedTuple

from brinkbyte.metering.events import MAX_ATTRIBUTES, quantity_text

_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_LONGEST_NAME: Final = 128
_LONGEST_KEY: Final = 200
_LONGEST_VALUE: Final = 400


class EventForm(NamedTuple):
    """An event without its id.

    Attributes:
        head: the canonical JSON up to the id.
        tail: the canonical JSON after the id.
        meter: name in the catalog.
        quantity: canonical decimal text.
    """

    head: str
    tail: str
    meter: str
    quantity: str
    camera_id: str | None
    hardware_id: str | None

    def text(self, event_id: str) -> str:
        """Return the canonical JSON of the event with this id."""
        return f"{self.head}{event_id}{self.tail}"


def event_form(
    meter: str,
    quantity: Decimal | int,
    *,
    key: str | None = None,
    camera_id: str | None = None,
    hardware_id: str | None = None,
    attributes: Mapping[str, str] | None = None,
) -> EventForm:
    """Check what an event says and spell it.

    Raises:
        ValueError: a member is not what an event may have.
    """
    amount = quantity_text(quantity)
    _check("meter", meter, _LONGEST_NAME)
    members = []
    if attributes:
        members.append(f'"attributes":{_attributes(attributes)}')
    if camera_id is not None:
        members.append(f'"cameraId":{_check("camera_id", camera_id, _LONGEST_NAME)}')
    if hardware_id is not None:
        members.append(f'"hardwareId":{_check("hardware_id", hardware_id, _LONGEST_NAME)}')
    members.append('"id":"')
    named = "" if key is None else f',"key":{_check("key", key, _LONGEST_KEY)}'
    return EventForm(
        head="{" + ",".join(members),
        tail=f'"{named},"meter":{encode_basestring(meter)},"quantity":"{amount}"}}',
        meter=meter,
        quantity=amount,
        camera_id=camera_id,
        hardware_id=hardware_id,
    )


def _attributes(attributes: Mapping[str, str]) -> str:
    if len(attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"an event has at most {MAX_ATTRIBUTES} attributes")
    spelled = []
    for name in sorted(attributes):
        if not isinstance(name, str) or _ATTRIBUTE.fullmatch(name) is None:
            raise ValueError(f"attribute {name!r} must be like {_ATTRIBUTE.pattern}")
        value = _check(f"attribute {name}", attributes[name], _LONGEST_VALUE, shortest=0)
        spelled.append(f'"{name}":{value}')
    return "{" + ",".join(spelled) + "}"


def _check(name: str, value: str, longest: int, *, shortest: int = 1) -> str:
    """Return a text as JSON."""
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise ValueError(f"{name} must be a text of {shortest} to {longest} characters")
    if "\0" in value:
        raise ValueError(f"{name} cannot hold a NUL character")
    if not value.isascii():
        value.encode()  # UnicodeEncodeError, a ValueError: a lone surrogate
    return encode_basestring(value)
