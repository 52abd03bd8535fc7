"""Releasing what was set aside: judged again by the rules of now, at the time of its arrival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from brinkbyte.billing import audit
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Database, Row
from brinkbyte.billing.quotas import service as quotas
from brinkbyte.billing.usage import quarantine_rows as rows_of
from brinkbyte.billing.usage import repository
from brinkbyte.billing.usage.events import LedgerEvent, arrived, judge
from brinkbyte.billing.usage.repository import Origin
from brinkbyte.catalog import Catalog
from brinkbyte.kit.uuid7 import uuid7

PAGE: Final = 500
"""Events of one transaction."""


@dataclass
class Released:
    """What became of the events that waited.

    Attributes:
        released: are in the ledger now.
        known: were there already with the same content.
        kept: stay set aside, by reason.
    """

    released: int = 0
    known: int = 0
    kept: Counter[str] = field(default_factory=Counter)


@dataclass
class _Page:
    """Good events by origin; an id that comes again on the page is in a later statement's."""

    good: dict[tuple[Origin, int], list[tuple[Row, LedgerEvent]]] = field(default_factory=dict)
    bad: dict[UUID, str] = field(default_factory=dict)


async def release(
    database: Database,
    catalog: Catalog,
    tenant_id: str,
    *,
    actor: str,
    clock: Callable[[], float],
    page: int = PAGE,
) -> Released:
    """Judge again what is set aside of a customer, and take in what is good now.

    ``TooFarAhead`` and ``TooOld`` go by the time at which an event came first. Each event counts
    once, however often this is run and wherever it dies.

    Args:
        database: of the role ``brinkbyte_admin``.
        catalog: the meters of now.
        tenant_id: whose.
        actor: for the audit log.
        clock: returns Unix seconds.
        page: events of one transaction.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    found = Released()
    after: UUID | None = None
    while True:
        async with database.tenant(tenant_id) as connection:
            if await customers.find(connection, tenant_id) is None:
                raise unknown_customer(tenant_id)
            # Before the look: a writer may be about to set more aside, or to take the same in.
            await repository.lock_chain(connection, tenant_id)
            rows = await rows_of.waiting(connection, tenant_id, after, page)
            if not rows:
                return found
            await _release(
                connection, catalog, tenant_id, rows, found, now=int(clock()), actor=actor
            )
        after = rows[-1]["id"]


async def _release(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    rows: list[Row],
    found: Released,
    *,
    now: int,
    actor: str,
) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    judged = await _judge_again(connection, catalog, tenant_id, rows)
    done: list[UUID] = []
    released = 0
    for (origin, _), pairs in judged.good.items():
        events = [event for _, event in pairs]
        arrival = pairs[0][0]["received_at"]
        new = await repository.insert_events(connection, tenant_id, events, origin, arrival)
        if new:
            await repository.count_events(connection, tenant_id, new)
            await quotas.count_events(connection, catalog, tenant_id, new, moment)
        others: set[str] = set()
        if len(new) < len(events):
            others = await repository.with_other_content(connection, tenant_id, events)
        for row, event in pairs:
            if event.event.id in others:
                judged.bad[row["id"]] = "DuplicateIdOtherContent"
            else:
                done.append(row["id"])
        released += len(new)
    if done:
        await rows_of.mark_released(connection, tenant_id, done, moment)
        await audit.record(
            connection,
            tenant_id,
            now=now,
            actor=actor,
            action="quarantine.released",
            subject=tenant_id,
            details={"released": released, "known": len(done) - released, "first": str(done[0])},
        )
    if judged.bad:
        await rows_of.set_reasons(connection, tenant_id, judged.bad)
    found.released += released
    found.known += len(done) - released
    found.kept.update(judged.bad.values())


async def _judge_again(
    connection: Connection, catalog: Catalog, tenant_id: str, rows: list[Row]
) -> _Page:
    page = _Page()
    families: dict[str, frozenset[str]] = {}
    times: Counter[str] = Counter()
    start = await rows_of.ledger_start(connection) or ""
    for row in rows:
        emitter = row["instance_id"]
        if emitter not in families:
            families[emitter] = await rows_of.families(connection, tenant_id, emitter)
        arrival = int(row["received_at"].timestamp() * 1000)
        judged = judge(arrived([bytes(row["event"])]), catalog, families[emitter], arrival)
        if judged.bad:
            page.bad[row["id"]] = judged.bad[0].reason
        elif f"{judged.good[0].occurred_at:%Y%m}" < start:
            page.bad[row["id"]] = "TooOld"
        else:
            (event,) = judged.good
            place = Origin(emitter, row["epoch"], row["batch_no"]), times[event.event.id]
            times[event.event.id] += 1
            page.good.setdefault(place, []).append((row, event))
    return page


async def hold(
    database: Database, tenant_id: str, since: datetime, reason: str, *, actor: str, now: int
) -> UUID:
    """Keep the ledger from a moment on until :func:`end_hold`, for a dispute.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    hold_id = uuid7()
    async with database.tenant(tenant_id) as connection:
        if await customers.find(connection, tenant_id) is None:
            raise unknown_customer(tenant_id)
        await rows_of.open_hold(
            connection,
            tenant_id,
            hold_id,
            since=since,
            reason=reason,
            actor=actor,
            now=datetime.fromtimestamp(now, UTC),
        )
        await audit.record(
            connection,
            tenant_id,
            now=now,
            actor=actor,
            action="ledger.held",
            subject=str(hold_id),
            details={"since": since.isoformat(), "reason": reason},
        )
    return hold_id


async def end_hold(database: Database, tenant_id: str, *, actor: str, now: int) -> int:
    """Close a customer's holds; returns how many were open."""
    async with database.tenant(tenant_id) as connection:
        closed = await rows_of.close_holds(
            connection, tenant_id, actor, datetime.fromtimestamp(now, UTC)
        )
        for hold_id in closed:
            await audit.record(
                connection,
                tenant_id,
                now=now,
                actor=actor,
                action="ledger.hold_closed",
                subject=str(hold_id),
            )
    return len(closed)
