"""How a bundle lies in Secrets: in one, or for thousands of cameras in several.

A Secret holds 1 MiB. The one that ``spec.license.bundleSecretRef`` names has the bundle under
``bundle.json``; of a larger one it has ``parts`` instead, ``<hash> <count>``, and the parts are in
``<name>-<hash>-<n>``. A new bundle has other parts, so it is in force all at once: when the first
Secret is written, which comes last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.resources import names

PART_BYTES: Final = 900_000
"""Below the 1 MiB of a Secret, with room for its metadata."""
_MAX_PARTS: Final = 99
_MAX_NAME: Final = 253
_PARTS: Final = re.compile(r"^([0-9a-f]{16}) ([1-9][0-9]?)$")


@dataclass(frozen=True)
class BundleSecrets:
    """The values of a bundle's Secrets.

    Attributes:
        head: of the Secret that the Tenant names; written last.
        parts: of the others by name.
    """

    head: Mapping[str, str]
    parts: Mapping[str, Mapping[str, str]]


def to_secrets(name: str, text: str, *, part_bytes: int = PART_BYTES) -> BundleSecrets:
    """Spread a bundle over Secrets.

    Args:
        name: of the first.
        text: the bundle, plain ASCII.
        part_bytes: at most in one Secret.

    Raises:
        InvalidInputError: it does not fit.
    """
    if len(text) <= part_bytes:
        return BundleSecrets({names.BUNDLE_KEY: text}, {})
    pieces = [text[start : start + part_bytes] for start in range(0, len(text), part_bytes)]
    head = {names.BUNDLE_PARTS_KEY: f"{sha256_hex(text.encode())[:16]} {len(pieces)}"}
    listed = part_names(name, head) if len(pieces) <= _MAX_PARTS else ()
    if not listed or max(map(len, listed)) > _MAX_NAME:
        raise InvalidInputError(
            f"the bundle has {len(pieces)} parts, which do not fit Secrets named {name}-…; choose "
            "a shorter name in spec.license.bundleSecretRef, or spread the cameras over Tenants",
            reason="BundleTooLarge",
        )
    parts = {part: {names.BUNDLE_KEY: piece} for part, piece in zip(listed, pieces, strict=True)}
    return BundleSecrets(head, parts)


def _parts(head: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the first digits of the bundle's hash and the number of parts; None: it has none."""
    found = _PARTS.match(head.get(names.BUNDLE_PARTS_KEY, "").strip())
    return (found[1], int(found[2])) if found is not None else None


def part_names(name: str, head: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the Secrets that hold the parts; none: it is whole in the first."""
    parts = _parts(head)
    if parts is None:
        return ()
    return tuple(f"{name}-{parts[0]}-{number}" for number in range(1, parts[1] + 1))


def is_bundle(head: Mapping[str, str]) -> bool:
    """Tell whether the values of a Secret are a bundle's, good or not."""
    return names.BUNDLE_KEY in head or names.BUNDLE_PARTS_KEY in head


def from_secrets(
    name: str, head: Mapping[str, str], parts: Mapping[str, Mapping[str, str]]
) -> str | None:
    """Return the text of a bundle, None while a part of it is missing or another bundle's.

    Args:
        name: of the first Secret.
        head: its values.
        parts: values of the Secrets that :func:`part_names` lists, as far as they are there.
    """
    wanted = _parts(head)
    if wanted is None:
        return head.get(names.BUNDLE_KEY)
    pieces = [parts.get(part, {}).get(names.BUNDLE_KEY, "") for part in part_names(name, head)]
    text = "".join(pieces)
    whole = all(pieces) and sha256_hex(text.encode()).startswith(wanted[0])
    return text if whole else None
