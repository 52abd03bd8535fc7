"""SQL of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.usage.events import LedgerEvent, RejectedEvent
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.batches import BatchHeader

_COLUMNS = (
    "id, occurred_at, meter, family, quantity, cost, key, camera_id, hardware_id, attributes, "
    "content_hash"
)


async def lock_chain(connection: Connection, tenant_id: str) -> None:
    """Let one batch of a customer in at a time: a chain goes on from one instance to the next."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7266))", [tenant_id]
    )


async def epoch(connection: Connection, tenant_id: str, wanted: UUID) -> Row | None:
    """Return an epoch."""
    cursor = await connection.execute(
        "SELECT * FROM usage_epochs WHERE tenant_id = %s AND epoch = %s", [tenant_id, wanted]
    )
    return await cursor.fetchone()


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


async def stage(connection: Connection, events: Iterable[LedgerEvent]) -> None:
    """Copy events into this connection's staging table (COPY cannot write under row security)."""
    await connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS usage_staging (id uuid, occurred_at timestamptz, "
        "meter text, family text, quantity numeric, cost numeric, key text, camera_id text, "
        "hardware_id text, attributes text, content_hash bytea) ON COMMIT DELETE ROWS"
    )
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY pg_temp.usage_staging ({_COLUMNS}) FROM STDIN") as copy,
    ):
        for event in events:
            await copy.write_row(
                (
                    event.id,
                    event.occurred_at,
                    event.meter,
                    event.family,
                    event.quantity,
                    event.cost,
                    event.key,
                    event.camera_id,
                    event.hardware_id,
                    event.attributes,
                    event.content_hash,
                )
            )


async def insert_staged(
    connection: Connection,
    tenant_id: str,
    *,
    instance_id: str,
    epoch_id: UUID | None,
    batch_no: int | None,
    now: datetime,
) -> int:
    """Move staged events into the ledger, each id once, and count them in the aggregates.

    Returns:
        How many were new.
    """
    cursor = await connection.execute(
        """
        WITH inserted AS (
            INSERT INTO usage_events (tenant_id, id, occurred_at, meter, family, quantity, cost,
                key, camera_id, hardware_id, attributes, content_hash, instance_id, epoch,
                batch_no, received_at)
            SELECT %(tenant)s, id, occurred_at, meter, family, quantity, cost, key, camera_id,
                hardware_id, attributes::jsonb, content_hash, %(instance)s, %(epoch)s::uuid,
                %(batch_no)s::bigint, %(now)s
            FROM pg_temp.usage_staging ORDER BY id
            ON CONFLICT DO NOTHING
            RETURNING id, occurred_at, meter, quantity, cost
        ), counted AS (
            INSERT INTO usage_aggregates AS a (tenant_id, grain, meter, bucket, quantity, events,
                cost, last_quantity, last_id)
            SELECT %(tenant)s, grain, meter, date_trunc(grain, occurred_at, 'UTC') AS bucket,
                sum(quantity), count(*), coalesce(sum(cost), 0),
                (array_agg(quantity ORDER BY id DESC))[1], (array_agg(id ORDER BY id DESC))[1]
            FROM inserted CROSS JOIN unnest(ARRAY['minute', 'hour', 'day']) AS grain
            GROUP BY grain, meter, bucket
            -- One order for everybody: two writers never wait for each other in a ring.
            ORDER BY grain, meter, bucket
            ON CONFLICT (tenant_id, grain, meter, bucket) DO UPDATE SET
                quantity = a.quantity + excluded.quantity,
                events = a.events + excluded.events,
                cost = a.cost + excluded.cost,
                last_quantity = CASE WHEN excluded.last_id > a.last_id
                    THEN excluded.last_quantity ELSE a.last_quantity END,
                last_id = greatest(a.last_id, excluded.last_id)
        )
        SELECT count(*) AS new FROM inserted
        """,
        {
            "tenant": tenant_id,
            "instance": instance_id,
            "epoch": epoch_id,
            "batch_no": batch_no,
            "now": now,
        },
    )
    row = await cursor.fetchone()
    return int(row["new"]) if row else 0


async def staged_with_other_content(connection: Connection, tenant_id: str) -> set[UUID]:
    """Return ids of staged events that the ledger has with another content."""
    cursor = await connection.execute(
        "SELECT s.id FROM pg_temp.usage_staging s JOIN usage_events e "
        "ON e.tenant_id = %s AND e.id = s.id WHERE e.content_hash <> s.content_hash",
        [tenant_id],
    )
    return {row["id"] for row in await cursor.fetchall()}


async def quarantine(
    connection: Connection,
    tenant_id: str,
    events: Sequence[RejectedEvent],
    *,
    instance_id: str,
    epoch_id: UUID | None,
    batch_no: int | None,
    now: datetime,
) -> None:
    """Set events aside."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO usage_quarantine (tenant_id, id, instance_id, epoch, batch_no, position, "
            "event_id, reason, event, received_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    tenant_id,
                    uuid7(),
                    instance_id,
                    epoch_id,
                    batch_no,
                    event.position,
                    event.event_id,
                    event.reason,
                    event.raw,
                    now,
                )
                for event in events
            ],
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


async def quarantined(connection: Connection, tenant_id: str) -> list[Row]:
    """Return what is set aside of a customer."""
    cursor = await connection.execute(
        "SELECT id, instance_id, epoch, batch_no, position, event_id, reason, received_at, "
        "released_at FROM usage_quarantine WHERE tenant_id = %s ORDER BY id",
        [tenant_id],
    )
    return await cursor.fetchall()


async def ledger_end(connection: Connection) -> str | None:
    """Return the last month (YYYYMM) that a ledger partition is prepared for."""
    cursor = await connection.execute(
        "SELECT max(right(c.relname, 6)) AS month FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'usage_events'::regclass"
    )
    row = await cursor.fetchone()
    return None if row is None else row["month"]
