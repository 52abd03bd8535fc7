"""Counters of what is used of a meter per billing period: checked and counted in one statement.

The row's lock makes callers take turns, and whoever waited is judged by the row as it is then: two
callers never share the last unit. All statements want isolation READ COMMITTED, as the pool has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from brinkbyte.metering.events import MAX_QUANTITY, UsageEvent
from brinkbyte.store.outbox import event_text

# Also the first of a period is judged: it may be too much by itself. The event is recorded by the
# row that was counted, so never without it.
_COUNT: Final = """
WITH counted AS (
    INSERT INTO entitlement_counters AS held (tenant_id, meter, period_ends_at, used, over_since)
    SELECT %(tenant)s, %(meter)s, %(ends)s::timestamptz, %(quantity)s::numeric,
           CASE WHEN %(quantity)s::numeric > %(included)s::numeric THEN now() END
    WHERE entitlement_fits(%(quantity)s::numeric, %(included)s::numeric, %(ceiling)s::numeric,
                           NULL, %(over_for)s::interval)
    ON CONFLICT (tenant_id, meter, period_ends_at) DO UPDATE
        SET used = held.used + excluded.used,
            over_since = CASE WHEN held.used + excluded.used > %(included)s::numeric THEN coalesce(
                CASE WHEN held.used > %(included)s::numeric THEN held.over_since END, now()) END
        WHERE entitlement_fits(
            held.used + excluded.used, %(included)s::numeric, %(ceiling)s::numeric,
            CASE WHEN held.used > %(included)s::numeric THEN held.over_since END,
            %(over_for)s::interval)
    RETURNING used
)
SELECT used, CASE WHEN %(id)s::uuid IS NOT NULL THEN record_usage_events(
    ARRAY[%(id)s::uuid], ARRAY[%(event)s::text], ARRAY[%(meter)s::text],
    ARRAY[%(quantity)s::numeric], ARRAY[%(camera)s::text], ARRAY[%(device)s::text])::text END
FROM counted
"""
_LOOK: Final = """
SELECT coalesce(held.used, 0), entitlement_fits(
    coalesce(held.used, 0) + %(quantity)s::numeric, %(included)s::numeric, %(ceiling)s::numeric,
    CASE WHEN held.used > %(included)s::numeric THEN held.over_since END, %(over_for)s::interval)
FROM (VALUES (true)) AS always LEFT JOIN entitlement_counters AS held
    ON held.tenant_id = %(tenant)s AND held.meter = %(meter)s
    AND held.period_ends_at = %(ends)s::timestamptz
"""
_RELEASE: Final = """
UPDATE entitlement_counters SET used = greatest(0, used - %(quantity)s::numeric),
    over_since = CASE WHEN used - %(quantity)s::numeric > %(included)s::numeric THEN over_since END
WHERE tenant_id = %(tenant)s AND meter = %(meter)s AND period_ends_at = %(ends)s::timestamptz
RETURNING used
"""
_DEVICES: Final = "SELECT count(*) FROM edge_devices WHERE tenant_id = %(tenant)s"
_HELD: Final = MAX_QUANTITY - 1


@dataclass(frozen=True)
class Counter:
    """One counter, and when it refuses.

    Attributes:
        period_ends_at: None: a gauge, whose level no period ends.
        included: what costs and warns nothing; None: unlimited.
        ceiling: use never passes it; None: no end but that of the column.
        over_for: how long use may stay above ``included``; None: for ever.
    """

    tenant_id: str
    meter: str
    period_ends_at: datetime | None
    included: Decimal | None
    ceiling: Decimal | None
    over_for: timedelta | None

    def values(self, quantity: Decimal) -> dict[str, Any]:
        """Return the parameters of the statements."""
        return {
            "tenant": self.tenant_id,
            "meter": self.meter,
            "ends": self.period_ends_at or "infinity",
            "included": self.included,
            "ceiling": _HELD if self.ceiling is None else self.ceiling,
            "over_for": self.over_for,
            "quantity": quantity,
        }


async def count(
    conn: AsyncConnection[Any], counter: Counter, quantity: Decimal, event: UsageEvent | None
) -> Decimal | None:
    """Count a quantity inside the caller's transaction, if it fits, and record its event.

    Args:
        conn: a connection inside a transaction; the counter stays locked until it ends.
        counter: what to count, and its limits.
        quantity: above zero, in the meter's unit.
        event: of this meter and quantity; None: the caller records one of its own.

    Returns:
        What is used now; None when the quantity does not fit, and then nothing was written.

    Raises:
        InvalidInputError: the event has text that is not Unicode; nothing was written.
    """
    recorded = {
        "id": event and event.id,
        "event": event and event_text(event),
        "camera": event and event.camera_id,
        "device": event and event.hardware_id,
    }
    row = await _row(conn, _COUNT, {**counter.values(quantity), **recorded})
    return None if row is None else Decimal(row[0])


async def look(
    conn: AsyncConnection[Any], counter: Counter, quantity: Decimal
) -> tuple[Decimal, bool]:
    """Return what is used now and whether the quantity would fit; nothing is counted."""
    row = await _row(conn, _LOOK, counter.values(quantity))
    return (Decimal(0), False) if row is None else (Decimal(row[0]), bool(row[1]))


async def release(
    conn: AsyncConnection[Any], counter: Counter, quantity: Decimal
) -> Decimal | None:
    """Take a quantity back, not below zero, and return what is used now; None: nothing ever was."""
    row = await _row(conn, _RELEASE, counter.values(quantity))
    return None if row is None else Decimal(row[0])


async def held_gauges(conn: AsyncConnection[Any], tenant_id: str) -> dict[str, Decimal]:
    """Return the level of every gauge that services count, by meter."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT meter, used FROM entitlement_counters "
            "WHERE tenant_id = %s AND period_ends_at = 'infinity'",
            (tenant_id,),
        )
        return {str(meter): Decimal(used) async for meter, used in cursor}


async def registered_devices(conn: AsyncConnection[Any], tenant_id: str) -> int:
    """Return how many devices are registered."""
    row = await _row(conn, _DEVICES, {"tenant": tenant_id})
    return 0 if row is None else int(row[0])


async def _row(
    conn: AsyncConnection[Any], statement: str, values: dict[str, Any]
) -> tuple[Any, ...] | None:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchone()
