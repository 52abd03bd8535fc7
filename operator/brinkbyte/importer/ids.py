"""Ids of imported rows: UUIDv8 (RFC 9562) that the same old row gets every time.

48 bits of the source's name, 10 bits of the table, 64 bits of the rowid: nothing is hashed away, so
two rows never share an id, and an import's rows of a table are one range of ids.
"""

from __future__ import annotations

import hashlib
from typing import Final
from uuid import UUID

_VERSION: Final = 8
_VARIANT: Final = 0b10
_LOW_BITS: Final = 62
_LOW: Final = (1 << _LOW_BITS) - 1
_ROWID_BITS: Final = 64
TABLE_NUMBERS: Final = {"telemetry_events": 1, "frames": 2}


class RowIds:
    """The ids of one table of one source.

    Args:
        tenant_id: whose instance it is.
        source: name of the old database.
        table: one of ``TABLE_NUMBERS``.
    """

    def __init__(self, tenant_id: str, source: str, table: str) -> None:
        digest = hashlib.sha256(f"{tenant_id}\0{source}".encode()).digest()
        self._base = (
            int.from_bytes(digest[:6], "big") << 80
            | _VERSION << 76
            | TABLE_NUMBERS[table] << 66
            | _VARIANT << _LOW_BITS
        )

    def __call__(self, rowid: int) -> UUID:
        """Return the id of a row; SQLite's rowids are signed 64-bit integers."""
        unsigned = rowid & ((1 << _ROWID_BITS) - 1)
        return UUID(int=self._base | unsigned >> _LOW_BITS << 64 | unsigned & _LOW)

    @property
    def span(self) -> tuple[UUID, UUID]:
        """The first and the last id that there can be."""
        return self(0), self(-1)
