"""SQL of usage sums, quotas and alerts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.quotas.limits import Limit

KEPT_PERIODS: Final = "13 months"


@dataclass(frozen=True, slots=True)
class DaySum:
    """New events of the ledger, of one meter and UTC day.

    Attributes:
        day: the UTC midnight before them.
        quantity: their sum.
        last_quantity: quantity of the newest one (of the greatest id).
        last_id: its id.
    """

    meter: str
    day: datetime
    quantity: Decimal
    last_quantity: Decimal
    last_id: UUID


@dataclass(frozen=True)
class Counted:
    """What counting came to.

    Attributes:
        crossed: quotas of the running period that have reached a percentage nobody was told of:
            ``meter period_start period_end included ending used alerted reached``.
        current: whether the customer has quotas of the running period; without them they are to be
            made (and take what was counted from the ledger's sums).
    """

    crossed: tuple[Row, ...]
    current: bool


# The percentages that were told of before are read without a lock: whoever writes events or counts
# them holds the customer's lock of the ledger (usage.repository.lock_chain).
# Arrays stand in sub-selects, which hides their lengths from the planner: it then keeps one plan
# for all batches, where planning each took as long as running it.
_COUNT: Final = """
WITH sums AS (
    SELECT * FROM unnest((SELECT %(meters)s::text[]), (SELECT %(days)s::timestamptz[]),
        (SELECT %(quantities)s::numeric[]), (SELECT %(lasts)s::numeric[]),
        (SELECT %(ids)s::uuid[])) AS s (meter, day, quantity, last_quantity, last_id)
), added AS (
    SELECT q.meter, q.period_start, q.alerted, sum(s.quantity) AS quantity,
        (array_agg(s.last_quantity ORDER BY s.last_id DESC))[1] AS last_quantity,
        (array_agg(s.last_id ORDER BY s.last_id DESC))[1] AS last_id
    FROM sums s JOIN usage_quotas q ON q.tenant_id = %(tenant)s AND q.meter = s.meter
        AND (q.period_start <= s.day AND s.day < q.period_end)
    GROUP BY q.meter, q.period_start, q.alerted
), levels AS (
    SELECT q.meter, q.period_start, a.alerted, q.used AS before, a.last_id,
        CASE WHEN NOT q.gauge THEN q.used + a.quantity
             WHEN q.last_id IS NULL OR a.last_id > q.last_id THEN a.last_quantity
             ELSE q.used END AS used
    FROM added a JOIN usage_quotas q ON q.tenant_id = %(tenant)s AND q.meter = a.meter
        AND q.period_start = a.period_start
), counted AS (
    UPDATE usage_quotas q SET used = l.used,
        last_id = greatest(q.last_id, l.last_id),
        over_since = CASE WHEN l.used > q.included THEN coalesce(q.over_since, %(now)s) END,
        alerted = greatest(q.alerted, (SELECT coalesce(max(p), 0)
            FROM unnest((SELECT %(percents)s::integer[])) p
            WHERE l.used > 0 AND l.used * 100 >= q.included * p)),
        updated_at = %(now)s
    FROM levels l
    WHERE q.tenant_id = %(tenant)s AND q.meter = l.meter AND q.period_start = l.period_start
    RETURNING q.meter, q.period_start, q.period_end, q.included, q.ending, q.used, l.alerted,
        q.alerted AS reached
)
SELECT c.*, EXISTS (SELECT 1 FROM usage_quotas q WHERE q.tenant_id = %(tenant)s
        AND q.period_start <= %(now)s AND q.period_end > %(now)s) AS current
FROM (VALUES (true)) AS always
    LEFT JOIN counted c ON c.reached > c.alerted AND c.period_end > %(now)s
"""


async def count_ledger(
    connection: Connection,
    tenant_id: str,
    sums: Iterable[DaySum],
    now: datetime,
    percents: Sequence[int],
) -> Counted:
    """Count events that are new in the ledger, in the ledger's transaction and by one statement.

    Args:
        connection: the transaction that wrote the events and holds the customer's ledger lock.
        tenant_id: whose events.
        sums: of the events that were inserted; never of those that had been there.
        now: moment.
        percents: of what is included, that alerts are for.
    """
    listed = list(sums)
    cursor = await connection.execute(
        _COUNT,
        {
            "tenant": tenant_id,
            "meters": [s.meter for s in listed],
            "days": [s.day for s in listed],
            "quantities": [s.quantity for s in listed],
            "lasts": [s.last_quantity for s in listed],
            "ids": [s.last_id for s in listed],
            "now": now,
            "percents": list(percents),
        },
        prepare=True,
    )
    rows = await cursor.fetchall()
    crossed = tuple(row for row in rows if row["meter"] is not None)
    return Counted(crossed, any(row["current"] for row in rows))


async def crossed(
    connection: Connection, tenant_id: str, now: datetime, percents: Sequence[int]
) -> list[Row]:
    """Return quotas of the running period that reached a percentage nobody was told of."""
    cursor = await connection.execute(
        """
        WITH reached AS (
            SELECT q.meter, q.period_start, q.period_end, q.alerted, (SELECT coalesce(max(p), 0)
                FROM unnest(%(percents)s::integer[]) p
                WHERE q.used > 0 AND q.used * 100 >= q.included * p) AS reached
            FROM usage_quotas q WHERE q.tenant_id = %(tenant)s
                AND q.period_start <= %(now)s AND q.period_end > %(now)s
        )
        UPDATE usage_quotas q SET alerted = r.reached FROM reached r
        WHERE q.tenant_id = %(tenant)s AND q.meter = r.meter AND q.period_start = r.period_start
            AND r.reached > q.alerted
        RETURNING q.meter, q.period_start, q.period_end, q.included, q.ending, q.used, r.alerted,
            r.reached
        """,
        {"tenant": tenant_id, "now": now, "percents": list(percents)},
    )
    return await cursor.fetchall()


async def add_alert(
    connection: Connection, tenant_id: str, row: Mapping[str, Any], percent: int, now: datetime
) -> bool:
    """Write that a percentage was reached; False if it had been in this period."""
    cursor = await connection.execute(
        "INSERT INTO usage_alerts (tenant_id, meter, period_start, percent, used, included, at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING percent",
        [
            tenant_id,
            row["meter"],
            row["period_start"],
            percent,
            row["used"],
            row["included"],
            now,
        ],
    )
    # A pipelined connection knows no rowcount before an answer is read.
    return await cursor.fetchone() is not None


async def has_period(
    connection: Connection, tenant_id: str, start: datetime, end: datetime, meters: Collection[str]
) -> bool:
    """Tell whether every meter has its quota of a period."""
    cursor = await connection.execute(
        "SELECT count(*) AS n FROM usage_quotas WHERE tenant_id = %s AND period_start = %s "
        "AND period_end = %s AND meter = ANY(%s)",
        [tenant_id, start, end, list(meters)],
    )
    row = await cursor.fetchone()
    return row is not None and int(row["n"]) == len(meters)


def _columns(limits: Collection[Limit]) -> dict[str, Any]:
    return {
        "meters": [limit.meter for limit in limits],
        "gauges": [limit.gauge for limit in limits],
        "included": [limit.included for limit in limits],
        "endings": [limit.ending for limit in limits],
        "ceilings": [limit.ceiling for limit in limits],
        "over_for": [limit.over_for for limit in limits],
    }


_GIVEN: Final = """
    SELECT * FROM unnest(%(meters)s::text[], %(gauges)s::boolean[], %(included)s::numeric[],
        %(endings)s::text[], %(ceilings)s::numeric[], %(over_for)s::interval[])
        AS g (meter, gauge, included, ending, ceiling, over_for)
"""
# Without a subscription the price list alone.
_SOURCE: Final = """
    (SELECT quota_source(%(catalog)s, s.terms, s.period_anchor)
     FROM (VALUES (true)) AS always LEFT JOIN subscriptions s
        ON s.tenant_id = %(tenant)s AND s.ended_at IS NULL)
"""


async def change_limits(
    connection: Connection,
    tenant_id: str,
    limits: Collection[Limit],
    *,
    catalog: str,
    start: datetime,
    now: datetime,
) -> None:
    """Change the limits of a period whose quotas are there; what was used stays."""
    await connection.execute(
        f"""
        UPDATE usage_quotas q SET gauge = g.gauge, included = g.included, ending = g.ending,
            ceiling = g.ceiling, over_for = g.over_for, compiled_from = {_SOURCE},
            over_since = CASE WHEN q.used > g.included THEN coalesce(q.over_since, %(now)s) END,
            updated_at = %(now)s
        FROM ({_GIVEN}) AS g
        WHERE q.tenant_id = %(tenant)s AND q.meter = g.meter AND q.period_start = %(start)s
        """,  # noqa: S608 - constants
        {"tenant": tenant_id, "catalog": catalog, "start": start, "now": now, **_columns(limits)},
    )


async def open_period(
    connection: Connection,
    tenant_id: str,
    limits: Collection[Limit],
    *,
    catalog: str,
    start: datetime,
    end: datetime,
    now: datetime,
) -> None:
    """Make the quotas of a period, with what the ledger has of it already.

    The caller holds the customer's ledger lock. Quotas of other periods that reach into this one
    (the anchor changed) go, and so do those of long ago.
    """
    parameters = {
        "tenant": tenant_id,
        "catalog": catalog,
        "start": start,
        "end": end,
        "now": now,
        "kept": KEPT_PERIODS,
        **_columns(limits),
    }
    await connection.execute(
        "DELETE FROM usage_quotas WHERE tenant_id = %(tenant)s AND ("
        "(period_start < %(end)s AND period_end > %(start)s "
        "AND (period_start, period_end) <> (%(start)s, %(end)s)) "
        "OR period_end < %(start)s::timestamptz - %(kept)s::interval)",
        parameters,
    )
    await connection.execute(
        f"""
        INSERT INTO usage_quotas AS q (tenant_id, meter, period_start, period_end, gauge, included,
            ending, ceiling, over_for, used, last_id, over_since, compiled_from, updated_at)
        SELECT %(tenant)s, g.meter, %(start)s, %(end)s, g.gauge, g.included, g.ending, g.ceiling,
            g.over_for, u.used, u.last_id, CASE WHEN u.used > g.included THEN %(now)s END,
            {_SOURCE}, %(now)s
        FROM ({_GIVEN}) AS g
        CROSS JOIN LATERAL (
            SELECT coalesce(CASE WHEN g.gauge THEN newest.last_quantity ELSE summed.used END, 0)
                AS used, CASE WHEN g.gauge THEN newest.last_id END AS last_id
            FROM (SELECT sum(a.quantity) AS used FROM usage_aggregates a
                  WHERE a.tenant_id = %(tenant)s AND a.grain = 'day' AND a.meter = g.meter
                  AND a.bucket >= %(start)s AND a.bucket < %(end)s) AS summed
            LEFT JOIN (SELECT a.last_quantity, a.last_id FROM usage_aggregates a
                  WHERE a.tenant_id = %(tenant)s AND a.grain = 'day' AND a.meter = g.meter
                  AND a.bucket < %(end)s ORDER BY a.bucket DESC LIMIT 1) AS newest ON true
        ) AS u
        ORDER BY g.meter
        ON CONFLICT (tenant_id, meter, period_start) DO UPDATE SET gauge = excluded.gauge,
            included = excluded.included, ending = excluded.ending, ceiling = excluded.ceiling,
            over_for = excluded.over_for, used = excluded.used, last_id = excluded.last_id,
            over_since = CASE WHEN excluded.used > excluded.included
                THEN coalesce(q.over_since, excluded.over_since) END,
            compiled_from = excluded.compiled_from, updated_at = excluded.updated_at
        """,  # noqa: S608 - constants
        parameters,
    )


_STATE: Final = """
    SELECT q.*, s.subscription_id, s.terms, s.status, s.period_anchor, s.trial_ends_at, s.hard_end,
        s.payment_due_at, q.compiled_from
            = quota_source(%(catalog)s, s.terms, s.period_anchor)
            AND coalesce(s.projected_until > %(now)s, true) AS fresh
    FROM (VALUES (true)) AS always
    LEFT JOIN subscriptions s ON s.tenant_id = %(tenant)s AND s.ended_at IS NULL
    LEFT JOIN LATERAL (SELECT * FROM usage_quotas q WHERE q.tenant_id = %(tenant)s
        AND q.meter = %(meter)s AND q.period_start <= %(now)s AND q.period_end > %(now)s
        ORDER BY q.period_start DESC LIMIT 1) AS q ON true
"""


async def state(
    connection: Connection, tenant_id: str, meter: str, *, catalog: str, now: datetime
) -> Row:
    """Return a meter's quota with the subscription beside it.

    ``meter`` is None when there is no quota of the running period; ``fresh`` says whether its
    limits are those of the subscription as it is.
    """
    cursor = await connection.execute(
        _STATE,
        {"tenant": tenant_id, "meter": meter, "catalog": catalog, "now": now},
        prepare=True,
    )
    row = await cursor.fetchone()
    return row or {}


async def quotas(connection: Connection, tenant_id: str, now: datetime) -> list[Row]:
    """Return the quotas of the running period, by meter."""
    cursor = await connection.execute(
        "SELECT * FROM usage_quotas WHERE tenant_id = %s AND period_start <= %s "
        "AND period_end > %s ORDER BY meter",
        [tenant_id, now, now],
    )
    return await cursor.fetchall()


async def alerts(connection: Connection, tenant_id: str, start: datetime) -> list[Row]:
    """Return the alerts of a period, oldest first."""
    cursor = await connection.execute(
        "SELECT meter, percent, used, included, at FROM usage_alerts "
        "WHERE tenant_id = %s AND period_start = %s ORDER BY at, meter, percent",
        [tenant_id, start],
    )
    return await cursor.fetchall()


async def has_event(connection: Connection, tenant_id: str, event_id: UUID) -> Row | None:
    """Return meter and quantity of an event that the ledger has."""
    cursor = await connection.execute(
        "SELECT meter, quantity FROM usage_events WHERE tenant_id = %s AND id = %s",
        [tenant_id, event_id],
    )
    return await cursor.fetchone()
