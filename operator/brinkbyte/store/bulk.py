"""Many events into the outbox at once: one COPY, one commit.

A :data:`CopyRow` is made when an event is tracked; its id is set in when the rows are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from brinkbyte.kit.uuid7 import millisecond_of
from brinkbyte.metering.forms import EventForm

_COPY: Final = "COPY usage_events (id, event, meter, quantity, camera_id, hardware_id) FROM STDIN"
_ENSURE: Final = "SELECT ensure_usage_partition(%s)"
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


CopyRow: TypeAlias = tuple[str, str]
"""A row as COPY takes it: the id, the first text, the id again, the second text.

A plain tuple: hundreds of thousands wait at a time, and the collector need not look at these.
"""


def copy_row(form: EventForm) -> CopyRow:
    """Return the row of an event that has no id yet."""
    camera, device = (
        r"\N" if name is None else name.translate(_ESCAPES)
        for name in (form.camera_id, form.hardware_id)
    )
    meter = form.meter.translate(_ESCAPES)
    # JSON escapes its control characters: of what COPY reads there are only backslashes.
    return (
        "\t" + form.head.replace("\\", r"\\"),
        form.tail.replace("\\", r"\\") + f"\t{meter}\t{form.quantity}\t{camera}\t{device}\n",
    )


def copy_lines(ids: Sequence[str], rows: Sequence[CopyRow]) -> list[str]:
    """Return the lines of rows with these ids."""
    return [f"{id_}{head}{id_}{rest}" for id_, (head, rest) in zip(ids, rows, strict=True)]


async def copy_events(conn: AsyncConnection[Any], ids: Sequence[str], lines: Sequence[str]) -> None:
    """Write lines, all or none, durable once this returns.

    Args:
        conn: autocommit: the statement is its own transaction.
        ids: of the lines; a month without a partition gets one.
        lines: see :func:`copy_lines`.

    Raises:
        psycopg.errors.UniqueViolation: an id is there; nothing was written.
    """
    data = "".join(lines)
    try:
        await _copy(conn, data)
    except psycopg.errors.CheckViolation:
        for month in sorted({_month(id_) for id_ in ids}):
            await conn.execute(_ENSURE, (month,))
        await _copy(conn, data)


async def has_event(conn: AsyncConnection[Any], event_id: str) -> bool:
    """Tell whether an event is in the outbox."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("SELECT EXISTS (SELECT FROM usage_events WHERE id = %s)", (event_id,))
        row = await cursor.fetchone()
    return bool(row and row[0])


async def _copy(conn: AsyncConnection[Any], data: str) -> None:
    async with conn.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(data)


def _month(event_id: str) -> datetime:
    moment = datetime.fromtimestamp(millisecond_of(UUID(event_id)) / 1000, UTC)
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)
