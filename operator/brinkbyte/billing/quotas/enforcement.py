"""May so much of a meter be used: looked at, or counted so that two never share the last unit.

A look (:func:`check`) may be answered from Redis and be some seconds old; it counts nothing. What
counts (:func:`reserve`) goes to the database each time: it judges under the customer's ledger lock
and writes the event into the ledger in the same transaction, so what was allowed is what will be
rated, and an event that is reported again under its id counts once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import psycopg

from brinkbyte.billing.auth import VendorCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.quotas import repository, service
from brinkbyte.billing.quotas.cache import Snapshot
from brinkbyte.billing.quotas.limits import ZERO, Limit, Quota, Verdict, plain, verdict
from brinkbyte.billing.subscriptions.standing import no_subscription, standing_of
from brinkbyte.billing.usage import repository as ledger
from brinkbyte.billing.usage import service as usage
from brinkbyte.billing.usage.events import Judged, arrived, judge
from brinkbyte.billing.usage.repository import Origin
from brinkbyte.kit.errors import TemporaryError
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import from_parts, uuid7
from brinkbyte.license.modes import UPGRADE_URL


@dataclass(frozen=True)
class Use:
    """A quantity that somebody wants to use.

    Attributes:
        meter: name in the catalog.
        quantity: in the meter's unit, at least 0; of a gauge: so much more of it.
        event_id: UUIDv7 under which it is counted once, however often it comes; None: a new one.
        emitter: who asks, for the ledger.
        attributes: further facts for the ledger.
    """

    meter: str
    quantity: Decimal
    event_id: UUID | None = None
    emitter: str = "billing"
    attributes: Mapping[str, str] = field(default_factory=dict)


def unknown_meter(meter: str) -> ProblemError:
    """Return the answer about a meter that the price list does not have."""
    return ProblemError(
        422,
        f"there is no meter {meter!r}; name one of the price list, as in docs/catalog.md",
        reason="UnknownMeter",
    )


def check_family(context: Context, caller: VendorCaller, meter: str) -> None:
    """Refuse a meter of a product line that the emitter may not report.

    Raises:
        ProblemError: 422 ``UnknownMeter``; 403 ``WrongFamily``.
    """
    known = context.catalog.meters.get(meter)
    if known is None:
        raise unknown_meter(meter)
    if known.family not in caller.families:
        raise ProblemError(
            403,
            f"this credential may not report meters of {known.family}; use one that may",
            reason="WrongFamily",
        )


def _quota(row: Row) -> Quota:
    limit = Limit(
        row["meter"], row["gauge"], row["included"], row["ending"], row["ceiling"], row["over_for"]
    )
    return Quota(limit, row["period_start"], row["period_end"], row["used"], row["over_since"])


async def load(connection: Connection, context: Context, tenant_id: str, meter: str) -> Snapshot:
    """Return a meter's quota; made, or brought in line, first if it is not as bought.

    Raises:
        ProblemError: 422 ``UnknownMeter``.
    """
    if meter not in context.catalog.meters:
        raise unknown_meter(meter)
    now = context.now()
    moment = datetime.fromtimestamp(now, UTC)
    version = context.catalog.version
    row = await repository.state(connection, tenant_id, meter, catalog=version, now=moment)
    if not row.get("fresh"):
        # Also where time alone has changed what is in force and the worker has not written it yet.
        standing = await service.renew_current(connection, context.catalog, tenant_id, now)
        row = await repository.state(connection, tenant_id, meter, catalog=version, now=moment)
        return Snapshot(_quota(row), standing)
    bought = row["subscription_id"] is not None
    return Snapshot(_quota(row), standing_of(row) if bought else no_subscription())


def _judge(snapshot: Snapshot, quantity: Decimal, now: int) -> Verdict:
    """Judge by the subscription first, then by the quota."""
    standing, quota = snapshot.standing, snapshot.quota
    if not standing.keeps(now):
        reason, message = standing.refusal(now)
        return Verdict(False, quota, reason, f"{message}. See {UPGRADE_URL}")
    return verdict(quota, quantity, datetime.fromtimestamp(now, UTC))


async def check(
    context: Context, tenant_id: str, meter: str, quantity: Decimal, *, cached: bool = True
) -> Verdict:
    """Tell whether so much would fit; nothing is counted.

    Args:
        context: the server's dependencies.
        tenant_id: an existing customer.
        meter: name in the catalog.
        quantity: at least 0.
        cached: an answer may be as old as ``quotas.cache.FRESH_SECONDS``.

    Raises:
        ProblemError: 422 ``UnknownMeter``.
    """
    if meter not in context.catalog.meters:
        raise unknown_meter(meter)
    cache = context.quota_cache
    found = await cache.get(tenant_id, meter, context.now()) if cached else None
    if found is None:
        async with context.database.pipelined(tenant_id) as connection:
            found = await load(connection, context, tenant_id, meter)
        await cache.put(tenant_id, meter, found, context.now())
    return _judge(found, quantity, context.now())


async def check_in(
    connection: Connection, context: Context, tenant_id: str, meter: str, quantity: Decimal
) -> Verdict:
    """Tell whether so much would fit the quota, inside a transaction of the customer's.

    The standing is the caller's to judge.
    """
    found = await load(connection, context, tenant_id, meter)
    return verdict(found.quota, quantity, datetime.fromtimestamp(context.now(), UTC))


async def reserve(context: Context, tenant_id: str, use: Use) -> Verdict:
    """Count a quantity if it fits, and write its event; two callers never share the last unit.

    Args:
        context: the server's dependencies.
        tenant_id: an existing customer.
        use: what is wanted; a repeated ``event_id`` gets its first answer and is not counted again.

    Raises:
        ProblemError: 422 ``UnknownMeter``, or an event that the ledger does not take; 409
            ``DuplicateIdOtherContent``.
        TemporaryError: the ledger is not prepared for this month.
    """
    if use.quantity == ZERO:
        return await check(context, tenant_id, use.meter, ZERO)
    known = await context.quota_cache.get(tenant_id, use.meter, context.now())
    if known is not None and use.event_id is None:
        refused = _judge(known, use.quantity, context.now())
        if not refused.allowed:
            # A refusal may be as old as the cache; what is allowed never is.
            return refused
    try:
        async with context.database.pipelined(tenant_id) as connection:
            await ledger.lock_chain(connection, tenant_id)
            found, answer = await _reserve_in(connection, context, tenant_id, use)
    except psycopg.errors.CheckViolation as error:
        if "no partition" not in str(error):
            raise
        raise TemporaryError(
            "the ledger is not prepared for this month; run `brinkbyte billing migrate`",
            reason="LedgerNotPrepared",
            retry_after=60,
        ) from None
    await context.quota_cache.put(tenant_id, use.meter, found, context.now())
    return answer


async def _reserve_in(
    connection: Connection, context: Context, tenant_id: str, use: Use
) -> tuple[Snapshot, Verdict]:
    found = await load(connection, context, tenant_id, use.meter)
    now = context.now()
    moment = datetime.fromtimestamp(now, UTC)
    if use.event_id is not None:
        had = await repository.has_event(connection, tenant_id, use.event_id)
        if had is not None:
            _same(had, use, gauge=found.quota.limit.gauge)
            said = verdict(
                found.quota,
                use.quantity,
                moment,
                counted=True,
                repeated=True,
                event_id=str(use.event_id),
            )
            return found, said
    refused = _judge(found, use.quantity, now)
    if not refused.allowed:
        return found, refused
    judged = _event(context, found.quota, use)
    # Counts the quota, too.
    await usage.write_events(
        connection, context, tenant_id, judged, Origin(use.emitter), now=moment
    )
    counted = await load(connection, context, tenant_id, use.meter)
    event_id = judged.good[0].event.id
    return counted, verdict(counted.quota, use.quantity, moment, counted=True, event_id=event_id)


def _same(had: Row, use: Use, *, gauge: bool) -> None:
    # A gauge's event says the new level, which follows from what was before.
    if had["meter"] != use.meter or (not gauge and had["quantity"] != use.quantity):
        raise ProblemError(
            409,
            f"event {use.event_id} is in the ledger with another meter or quantity; use a new id",
            reason="DuplicateIdOtherContent",
        )


def _event(context: Context, quota: Quota, use: Use) -> Judged:
    """Build the ledger's event, and judge it as any other that comes in."""
    quantity = use.quantity + quota.used if quota.limit.gauge else use.quantity
    said = {
        "id": str(use.event_id or _new_id(context)),
        "meter": use.meter,
        "quantity": plain(quantity),
        **({"attributes": dict(use.attributes)} if use.attributes else {}),
    }
    raw = json.dumps(said, ensure_ascii=False).encode()
    families = frozenset({context.catalog.meters[use.meter].family})
    judged = judge(arrived([raw]), context.catalog, families, int(context.clock() * 1000))
    if not judged.good:
        reason = judged.bad[0].reason
        raise ProblemError(
            422,
            f"the ledger does not take this event: {reason}; correct it and send again",
            reason=reason,
        )
    if not quota.period_start <= judged.good[0].occurred_at < quota.period_end:
        raise ProblemError(
            422,
            "the id's time is outside the billing period, whose quota it would pass by; make a new "
            "id",
            reason="OutsidePeriod",
        )
    return judged


def _new_id(context: Context) -> UUID:
    """Return a new id of the context's clock, which is the event's time."""
    tail = uuid7().int
    high, low = (tail >> 64) & 0xFFF, tail & ((1 << 62) - 1)
    return from_parts(int(context.clock() * 1000), high << 62 | low)
