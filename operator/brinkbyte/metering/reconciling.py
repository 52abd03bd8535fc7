"""What the ledger says it has, for a site to compare its outbox with."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel
from brinkbyte.license.claims import Quarantined

PAGE: Final = 5_000
FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
ID_PATTERN: Final = r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"

EventId = Annotated[str, Field(pattern=ID_PATTERN)]


class LedgerEvents(OpenWireModel):
    """``GET /api/v1/usage/events?after=&until=&limit=``: events of sealed batches by their ids.

    Attributes:
        events: id and content hash (SHA-256 of the canonical event, hex), in the order of ids,
            above ``after`` and below ``until``.
        quarantined: events set aside and not released, of the same range as far as ``next``.
        next: ``after`` of the next page; None: this is the last.
    """

    events: tuple[tuple[str, str], ...]
    quarantined: tuple[Quarantined, ...] = ()
    next: str | None = None


class LedgerBatches(OpenWireModel):
    """``GET /api/v1/usage/batches?epoch=&batchNo=&limit=``: batches after that one.

    Attributes:
        batches: epoch, number and chain hash, in the order of epochs and numbers.
        more: whether there are further ones.
    """

    batches: tuple[tuple[str, int, str], ...]
    more: bool = False
