"""SQL of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.rows import DictRow

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.usage.columns import event_columns, plain_array, total_columns
from brinkbyte.billing.usage.events import LedgerEvent, RejectedEvent

# Who closes a period reads it under the lock of this module.
from brinkbyte.billing.usage.sums import period_vector as period_vector  # noqa: PLC0414
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.batches import BatchHeader
from brinkbyte.rating.periods import add_months

_INSERT_EVENTS: Final = """
    WITH new AS (INSERT INTO usage_events (tenant_id, id, occurred_at, meter, family, quantity,
        cost, key, camera_id, hardware_id, attributes, content_hash, instance_id, epoch, batch_no,
        received_at)
    SELECT %(tenant)s, s.id, timestamptz 'epoch' + s.millisecond * interval '1 millisecond',
        s.meter, s.family, s.quantity, s.cost, s.key, s.camera_id, s.hardware_id,
        coalesce(s.attributes, '{}'), substring(%(hashes)b FROM 32 * s.place::integer - 31 FOR 32),
        %(instance)s, %(epoch)s::uuid, %(batch_no)s::bigint, %(now)s
    FROM ROWS FROM (
        unnest(%(ids)s::uuid[]), unnest(%(milliseconds)s::bigint[]), unnest(%(meters)s::text[]),
        unnest(%(families)s::text[]), unnest(%(quantities)s::numeric[]),
        unnest(%(costs)s::numeric[]), unnest(%(keys)s::text[]), unnest(%(cameras)s::text[]),
        unnest(%(devices)s::text[]), jsonb_array_elements(%(attributes)s::jsonb)
    ) WITH ORDINALITY AS s(id, millisecond, meter, family, quantity, cost, key, camera_id,
        hardware_id, attributes, place)
    ON CONFLICT DO NOTHING
    RETURNING id)
    SELECT count(*) AS count, CASE WHEN count(*) < %(sent)s THEN array_agg(id)::text[] END AS ids
    FROM new
"""
"""An array a column: half the work of COPY into a table, and no round trip of its own.

Which ones were new is told only where it was not all of them.
"""
_COUNT_EVENTS: Final = """
    INSERT INTO usage_aggregates AS a (tenant_id, grain, meter, bucket, quantity, events, cost,
        last_quantity, last_id)
    SELECT %(tenant)s, s.grain, s.meter, to_timestamp(s.second), s.quantity, s.events, s.cost,
        s.last_quantity, s.last_id
    FROM unnest(%(grains)s::text[], %(meters)s::text[], %(seconds)s::bigint[],
        %(quantities)s::numeric[], %(events)s::bigint[], %(costs)s::numeric[],
        %(last_quantities)s::numeric[], %(last_ids)s::uuid[])
        AS s(grain, meter, second, quantity, events, cost, last_quantity, last_id)
    ON CONFLICT (tenant_id, grain, meter, bucket) DO UPDATE SET
        quantity = a.quantity + excluded.quantity,
        events = a.events + excluded.events,
        cost = a.cost + excluded.cost,
        last_quantity = CASE WHEN excluded.last_id > a.last_id
            THEN excluded.last_quantity ELSE a.last_quantity END,
        last_id = greatest(a.last_id, excluded.last_id)
"""


@dataclass(frozen=True)
class Origin:
    """Where events came from.

    Attributes:
        instance_id: the instance, or the vendor's program that reported them.
        epoch_id: of the sealed batch; None: reported without one.
    """

    instance_id: str
    epoch_id: UUID | None = None
    batch_no: int | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """As parameters of a statement."""
        return {
            "instance": self.instance_id, "epoch": self.epoch_id, "batch_no": self.batch_no
        }  # fmt: skip


async def lock_chain(connection: Connection, tenant_id: str) -> None:
    """Let one writer of a customer's ledger in at a time, until its transaction ends.

    A chain goes on from one instance to the next, and who closes a period sees all of a writer's
    events or none.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7266))", [tenant_id]
    )


async def ask_emitter(
    connection: Connection, tenant_id: str, instance_id: str
) -> AsyncCursor[DictRow]:
    """Ask for an instance's end and every key that it ever registered: a row a key."""
    return await connection.execute(
        "SELECT i.ended_at, k.key_id, k.jwk FROM instances i "
        "LEFT JOIN instance_keys k USING (tenant_id, instance_id) "
        "WHERE i.tenant_id = %s AND i.instance_id = %s",
        [tenant_id, instance_id],
        prepare=True,
    )


async def ask_epoch(connection: Connection, tenant_id: str, wanted: UUID) -> AsyncCursor[DictRow]:
    """Ask for an epoch."""
    return await connection.execute(
        "SELECT * FROM usage_epochs WHERE tenant_id = %s AND epoch = %s",
        [tenant_id, wanted],
        prepare=True,
    )


async def epoch(connection: Connection, tenant_id: str, wanted: UUID) -> Row | None:
    """Return an epoch."""
    return await (await ask_epoch(connection, tenant_id, wanted)).fetchone()


async def open_epoch(connection: Connection, tenant_id: str, instance_id: str) -> Row | None:
    """Return the instance's open epoch."""
    cursor = await connection.execute(
        "SELECT * FROM usage_epochs WHERE tenant_id = %s AND instance_id = %s AND state = 'open'",
        [tenant_id, instance_id],
    )
    return await cursor.fetchone()


async def inherited_epoch(connection: Connection, tenant_id: str) -> Row | None:
    """Return the newest open epoch of an instance that has ended."""
    cursor = await connection.execute(
        "SELECT e.* FROM usage_epochs e JOIN instances i USING (tenant_id, instance_id) "
        "WHERE e.tenant_id = %s AND e.state = 'open' AND i.ended_at IS NOT NULL "
        "ORDER BY i.created_at DESC, e.opened_at DESC, e.epoch DESC LIMIT 1",
        [tenant_id],
    )
    return await cursor.fetchone()


async def instance_ended(connection: Connection, tenant_id: str, instance_id: str) -> bool:
    """Tell whether an instance has ended."""
    cursor = await connection.execute(
        "SELECT 1 FROM instances "
        "WHERE tenant_id = %s AND instance_id = %s AND ended_at IS NOT NULL",
        [tenant_id, instance_id],
    )
    return await cursor.fetchone() is not None


async def batch(connection: Connection, tenant_id: str, wanted: UUID, batch_no: int) -> Row | None:
    """Return a stored batch."""
    cursor = await connection.execute(
        "SELECT * FROM usage_batches WHERE tenant_id = %s AND epoch = %s AND batch_no = %s",
        [tenant_id, wanted, batch_no],
    )
    return await cursor.fetchone()


async def has_chain_hash(
    connection: Connection, tenant_id: str, wanted: UUID, chain_hash: bytes
) -> bool:
    """Tell whether a batch of the epoch has this chain hash."""
    cursor = await connection.execute(
        "SELECT 1 FROM usage_batches WHERE tenant_id = %s AND epoch = %s AND chain_hash = %s",
        [tenant_id, wanted, chain_hash],
    )
    return await cursor.fetchone() is not None


async def close_epochs(connection: Connection, tenant_id: str, wanted: UUID, now: datetime) -> None:
    """Close an epoch, and what older instances that have ended left open."""
    await connection.execute(
        "UPDATE usage_epochs e SET state = 'closed', closed_at = %(now)s "
        "WHERE e.tenant_id = %(tenant)s AND e.state = 'open' AND (e.epoch = %(epoch)s OR EXISTS ("
        "SELECT 1 FROM instances i WHERE i.tenant_id = e.tenant_id "
        "AND i.instance_id = e.instance_id AND i.ended_at IS NOT NULL))",
        {"now": now, "tenant": tenant_id, "epoch": wanted},
    )


async def insert_epoch(
    connection: Connection,
    tenant_id: str,
    header: BatchHeader,
    follows: UUID | None,
    now: datetime,
) -> None:
    """Open the epoch of a first batch."""
    await connection.execute(
        "INSERT INTO usage_epochs (tenant_id, epoch, instance_id, state, follows, "
        "last_batch_no, last_chain_hash, opened_at) VALUES (%s, %s, %s, 'open', %s, %s, %s, %s)",
        [
            tenant_id,
            UUID(header.epoch),
            header.instance,
            follows,
            header.batch_no,
            bytes.fromhex(header.chain_hash),
            now,
        ],
    )


async def advance_epoch(connection: Connection, tenant_id: str, header: BatchHeader) -> None:
    """Move the head of an epoch to a batch."""
    await connection.execute(
        "UPDATE usage_epochs SET last_batch_no = %s, last_chain_hash = %s "
        "WHERE tenant_id = %s AND epoch = %s",
        [header.batch_no, bytes.fromhex(header.chain_hash), tenant_id, UUID(header.epoch)],
    )


async def insert_events(
    connection: Connection,
    tenant_id: str,
    events: Sequence[LedgerEvent],
    origin: Origin,
    now: datetime,
) -> list[LedgerEvent]:
    """Write events into the ledger, each id once; the caller holds :func:`lock_chain`.

    Returns:
        Those that were new.
    """
    cursor = await connection.execute(
        _INSERT_EVENTS,
        {
            **event_columns(events),
            **origin.parameters,
            "tenant": tenant_id,
            "now": now,
            "sent": len(events),
        },
        prepare=True,
    )
    (new,) = await cursor.fetchall()
    if new["count"] == len(events):
        return list(events)
    written = set(new["ids"] or ())
    return [event for event in events if event.event.id in written]


async def count_events(
    connection: Connection, tenant_id: str, events: Iterable[LedgerEvent]
) -> None:
    """Count new events in the aggregates; the caller holds :func:`lock_chain`."""
    await connection.execute(
        _COUNT_EVENTS, {**total_columns(events), "tenant": tenant_id}, prepare=True
    )


async def with_other_content(
    connection: Connection, tenant_id: str, events: Sequence[LedgerEvent]
) -> set[str]:
    """Return ids of events that the ledger has with another content."""
    cursor = await connection.execute(
        "SELECT id::text, content_hash FROM usage_events "
        "WHERE tenant_id = %s AND id = ANY(%s::uuid[])",
        [tenant_id, plain_array(event.event.id for event in events)],
    )
    stored = {row["id"]: bytes(row["content_hash"]) for row in await cursor.fetchall()}
    return {
        event.event.id
        for event in events
        if stored.get(event.event.id, event.content_hash) != event.content_hash
    }


async def quarantine(
    connection: Connection,
    tenant_id: str,
    events: Sequence[RejectedEvent],
    origin: Origin,
    now: datetime,
) -> None:
    """Set events aside, the same bytes of one emitter once; under :func:`lock_chain`."""
    await connection.execute(
        "INSERT INTO usage_quarantine (tenant_id, id, instance_id, epoch, batch_no, position, "
        "event_id, reason, event, received_at) "
        "SELECT %(tenant)s, s.id, %(instance)s, %(epoch)s::uuid, %(batch_no)s::bigint, "
        "s.position, s.event_id, "
        "s.reason, s.event, %(now)s FROM unnest(%(ids)s::uuid[], %(positions)s::integer[], "
        "%(names)s::text[], %(reasons)s::text[], %(events)s::bytea[]) "
        "AS s(id, position, event_id, reason, event) "
        "WHERE NOT EXISTS (SELECT FROM usage_quarantine q WHERE q.tenant_id = %(tenant)s "
        "AND sha256(q.event) = sha256(s.event) AND q.instance_id = %(instance)s)",
        {
            **origin.parameters,
            "tenant": tenant_id,
            "now": now,
            "ids": [uuid7() for _ in events],
            "positions": [event.position for event in events],
            "names": [event.event_id for event in events],
            "reasons": [event.reason for event in events],
            "events": [event.raw for event in events],
        },
    )


async def insert_batch(
    connection: Connection,
    tenant_id: str,
    header: BatchHeader,
    *,
    token: str,
    receipt: str,
    inserted: int,
    quarantined: int,
    now: datetime,
) -> None:
    """Store a batch with its receipt."""
    await connection.execute(
        "INSERT INTO usage_batches (tenant_id, epoch, batch_no, instance_id, count, inserted, "
        "quarantined, payload_sha256, previous_hash, chain_hash, header, receipt, received_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            UUID(header.epoch),
            header.batch_no,
            header.instance,
            header.count,
            inserted,
            quarantined,
            bytes.fromhex(header.payload_sha256),
            bytes.fromhex(header.previous_hash),
            bytes.fromhex(header.chain_hash),
            token,
            receipt,
            now,
        ],
    )


async def batches(connection: Connection, tenant_id: str) -> list[Row]:
    """Return a customer's batches in the order they came."""
    cursor = await connection.execute(
        "SELECT instance_id, epoch, batch_no, count, inserted, quarantined, chain_hash, receipt, "
        "received_at FROM usage_batches WHERE tenant_id = %s "
        "ORDER BY received_at, epoch, batch_no",
        [tenant_id],
    )
    return await cursor.fetchall()


async def events(connection: Connection, tenant_id: str) -> list[Row]:
    """Return a customer's ledger in the order of ids."""
    cursor = await connection.execute(
        "SELECT id, occurred_at, meter, quantity, key, camera_id, hardware_id, attributes, "
        "content_hash, instance_id, epoch, batch_no, received_at "
        "FROM usage_events WHERE tenant_id = %s ORDER BY id",
        [tenant_id],
    )
    return await cursor.fetchall()


async def ledger_end(connection: Connection) -> datetime | None:
    """Return the end of the last month that a ledger partition is prepared for."""
    cursor = await connection.execute(
        "SELECT max(right(c.relname, 6)) AS month FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'usage_events'::regclass"
    )
    row = await cursor.fetchone()
    if row is None or row["month"] is None:
        return None
    month = str(row["month"])
    return add_months(datetime(int(month[:4]), int(month[4:]), 1, tzinfo=UTC), 1)
