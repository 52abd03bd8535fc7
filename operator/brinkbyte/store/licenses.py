"""License documents, the validation audit, and the instance's key-value state in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from brinkbyte.license.claims import TokenKind

LOG_RETENTION: Final = timedelta(days=400)
_PURGE_ROWS: Final = 10_000

# The higher sequence wins, whoever writes last.
_STORE: Final = """
INSERT INTO license_documents AS held (tenant_id, kind, sequence, document, source)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, kind) DO UPDATE
    SET sequence = excluded.sequence, document = excluded.document, source = excluded.source
    WHERE held.sequence < excluded.sequence
"""
_CLOCK: Final = """
INSERT INTO system_config AS held (tenant_id, key, value) VALUES (%(tenant)s, 'clock', %(value)s)
ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value
    WHERE CASE
        WHEN held.value->>'signedTime' ~ '^[0-9]{1,12}$'
             AND held.value->>'runningSeconds' ~ '^[0-9]{1,12}$'
        THEN ((held.value->>'signedTime')::bigint, (held.value->>'runningSeconds')::bigint)
             < ((excluded.value->>'signedTime')::bigint,
                (excluded.value->>'runningSeconds')::bigint)
        ELSE true  -- edited: it says nothing, and must not keep the right one out
    END
"""

_IDS: Final = """
SELECT nextval(pg_get_serial_sequence('license_validation_log', 'id'))
FROM generate_series(1, %s)
"""
_RECORD: Final = """
INSERT INTO license_validation_log AS held (tenant_id, id, at, last_at, times,
    subject_kind, subject, allowed, mode, reason, message, tier)
OVERRIDING SYSTEM VALUE
SELECT %(tenant)s, id, to_timestamp(first), CASE WHEN times > 1 THEN to_timestamp(last) END, times,
       subject_kind, subject, allowed, mode, reason, message, tier
FROM unnest(%(ids)s::bigint[], %(first)s::float8[], %(last)s::float8[], %(times)s::bigint[],
            %(subject_kinds)s::text[], %(subjects)s::text[], %(allowed)s::boolean[],
            %(modes)s::text[], %(reasons)s::text[], %(messages)s::text[], %(tiers)s::text[])
    AS given (id, first, last, times, subject_kind, subject, allowed, mode, reason, message, tier)
ON CONFLICT (tenant_id, id) DO UPDATE SET times = excluded.times, last_at = excluded.last_at
    WHERE held.times < excluded.times AND held.at = excluded.at
"""


@dataclass(frozen=True)
class StoredDocument:
    """A document as it is kept."""

    kind: TokenKind
    sequence: int
    document: str


@dataclass(frozen=True)
class ValidationRecord:
    """One row of the audit.

    Attributes:
        subject_kind: ``camera``, ``document`` or ``mode``.
        subject: camera id, kind of document, or mode.
        tier: where the decision's data came from: memory, redis, postgres, billing, directory.
    """

    subject_kind: str
    subject: str
    allowed: bool
    mode: str
    reason: str
    message: str
    tier: str


@dataclass(frozen=True)
class AuditRow:
    """A decision, and how often it was made.

    Attributes:
        times: from ``first_at`` to ``last_at``, Unix seconds.
    """

    id: int
    record: ValidationRecord
    times: int
    first_at: float
    last_at: float


async def store_document(
    conn: AsyncConnection[Any],
    tenant_id: str,
    kind: TokenKind,
    *,
    sequence: int,
    document: str,
    source: str,
) -> None:
    """Keep a verified document unless a newer one is kept already."""
    await conn.execute(_STORE, (tenant_id, kind.value, sequence, document, source))


async def load_documents(
    conn: AsyncConnection[Any], tenant_id: str, newer_than: dict[TokenKind, int]
) -> list[StoredDocument]:
    """Return the documents whose sequence is above the given one of their kind."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT held.kind, held.sequence, held.document FROM license_documents AS held "
            "JOIN unnest(%s::text[], %s::bigint[]) AS given (kind, sequence) USING (kind) "
            "WHERE held.tenant_id = %s AND held.sequence > given.sequence",
            (
                [kind.value for kind in newer_than],
                list(newer_than.values()),
                tenant_id,
            ),
        )
        return [
            StoredDocument(TokenKind(kind), sequence, document)
            async for kind, sequence, document in cursor
        ]


async def new_audit_ids(conn: AsyncConnection[Any], count: int) -> list[int]:
    """Return ids for so many new rows of the audit."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_IDS, (count,))
        return [int(row[0]) async for row in cursor]


async def record_validations(
    conn: AsyncConnection[Any], tenant_id: str, rows: Sequence[AuditRow]
) -> None:
    """Write rows of the audit, new ones and those that count on; writing twice changes nothing."""
    records = [row.record for row in rows]
    await conn.execute(
        _RECORD,
        {
            "tenant": tenant_id,
            "ids": [row.id for row in rows],
            "times": [row.times for row in rows],
            "first": [row.first_at for row in rows],
            "last": [row.last_at for row in rows],
            "subject_kinds": [record.subject_kind for record in records],
            "subjects": [record.subject for record in records],
            "allowed": [record.allowed for record in records],
            "modes": [record.mode for record in records],
            "reasons": [record.reason for record in records],
            "messages": [record.message for record in records],
            "tiers": [record.tier for record in records],
        },
    )


async def purge_validations(
    conn: AsyncConnection[Any], tenant_id: str, *, keep: timedelta = LOG_RETENTION
) -> bool:
    """Delete audit rows older than ``keep``, up to 10,000, and tell whether there may be more."""
    done = await conn.execute(
        "DELETE FROM license_validation_log WHERE tenant_id = %(tenant)s AND id IN ("
        "SELECT id FROM license_validation_log WHERE tenant_id = %(tenant)s "
        "AND at < now() - %(keep)s LIMIT %(rows)s)",
        {"tenant": tenant_id, "keep": keep, "rows": _PURGE_ROWS},
    )
    return done.rowcount == _PURGE_ROWS


async def get_config(conn: AsyncConnection[Any], tenant_id: str, key: str) -> dict[str, Any] | None:
    """Return a value of the instance's state, None when it was never set."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT value FROM system_config WHERE tenant_id = %s AND key = %s", (tenant_id, key)
        )
        row = await cursor.fetchone()
    return None if row is None else row[0]


async def set_config(
    conn: AsyncConnection[Any], tenant_id: str, key: str, value: dict[str, Any]
) -> None:
    """Set a value of the instance's state; an equal value writes nothing."""
    await conn.execute(
        "INSERT INTO system_config AS held (tenant_id, key, value) VALUES (%s, %s, %s) "
        "ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value "
        "WHERE held.value <> excluded.value",
        (tenant_id, key, Jsonb(value)),
    )


async def advance_clock(conn: AsyncConnection[Any], tenant_id: str, state: dict[str, Any]) -> None:
    """Keep the offline clock's state if it is ahead of the one kept; it never goes back."""
    await conn.execute(_CLOCK, {"tenant": tenant_id, "value": Jsonb(state)})
