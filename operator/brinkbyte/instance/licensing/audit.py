"""The audit of license decisions: what was validated, taken in, refused."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.pools import Pool
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.documents import Refusal
from brinkbyte.license.modes import LicenseMode
from brinkbyte.store.licenses import ValidationRecord, record_validations

DATABASE_ERRORS: Final = (psycopg.Error, PoolTimeout, BrinkByteError, OSError)
_PATIENCE_SECONDS: Final = 1.0
_REST_SECONDS: Final = 5.0
_REMEMBERED: Final = 200
_SHOWN: Final = 20
_log = get_logger(__name__)


@dataclass(frozen=True)
class RefusedDocument:
    """A document that was refused lately, for the status page."""

    kind: TokenKind
    reason: str
    message: str
    source: str
    at: int


class Audit:
    """Writes audit rows; no answer waits long for one.

    Args:
        pool: the instance's database.
        monotonic: seconds that never go back.
    """

    def __init__(self, pool: Pool, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._rest_until = float("-inf")
        self._before: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.refused: deque[RefusedDocument] = deque(maxlen=_SHOWN)

    async def write(self, tenant_id: str, records: list[ValidationRecord]) -> None:
        """Append rows; without a database they are lost, which is logged."""
        if not records:
            return
        if self._monotonic() < self._rest_until:
            _log.warning("audit rows are lost: no database", rows=len(records))
            return
        try:
            async with self._pool.connection(timeout=_PATIENCE_SECONDS) as connection:
                await record_validations(connection, tenant_id, records)
        except DATABASE_ERRORS as error:
            # The answers do not wait for the audit again and again.
            self._rest_until = self._monotonic() + _REST_SECONDS
            _log.warning("audit rows are lost: no database", rows=len(records), error=str(error))

    def refusals(
        self, refused: Sequence[Refusal], *, source: str, mode: LicenseMode, at: int
    ) -> list[ValidationRecord]:
        """Return the rows of refusals that were not seen before, and keep them for the status page.

        Args:
            refused: what was refused just now.
            source: where it came from.
            mode: the mode that stays in force.
            at: Unix seconds.
        """
        records = []
        for refusal in refused:
            key = (refusal.fingerprint, refusal.reason)
            if key in self._before:
                continue
            self._before[key] = None
            while len(self._before) > _REMEMBERED:
                self._before.popitem(last=False)
            kind, reason, message = refusal.kind, refusal.reason, refusal.message
            _log.warning(
                "document refused; the last good one stays in force",
                kind=kind.value,
                reason=reason,
                source=source,
            )
            self.refused.append(RefusedDocument(kind, reason, message, source, at))
            records.append(
                ValidationRecord("document", kind.value, False, mode.value, reason, message, source)
            )
        return records
