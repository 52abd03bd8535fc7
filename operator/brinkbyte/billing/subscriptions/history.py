"""A subscription's changes, and what of them is in force.

``subscription_changes`` has every wish as it was made; when it counts is for rating to say. The row
of ``subscriptions`` is what is in force, as licenses and quotas read it: written with each change,
renewed by the worker when time alone changes it, and worked out by whoever reads it later than
that, so nothing waits for the worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.subscriptions import repository
from brinkbyte.catalog import Catalog, Terms
from brinkbyte.kit.problem import ProblemError
from brinkbyte.rating import effective, period_at
from brinkbyte.rating.model import Agreement, Change, History, Status

_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Recorded:
    """A change as it was stored; ``at_once``: a correction that does not wait for a period."""

    change_id: str
    change: Change
    at_once: bool
    reason: str


@dataclass(frozen=True)
class Projection:
    """What is in force, and until when; ``until`` None: until another change."""

    change: Change
    until: datetime | None


def change_of(row: Row) -> Change:
    """Read a row of ``subscription_changes``."""
    return Change(
        at=row["at"],
        terms=Terms.model_validate(row["terms"]),
        status=row["status"],
        agreement=read_agreement(row["agreement"]),
        ends_at=row["ends_at"],
        trial_ends_at=row["trial_ends_at"],
    )


def read_agreement(stored: object) -> Agreement:
    """Read an agreement as it is stored."""
    # Strict models take decimals and times as text from JSON alone, not from Python objects.
    return Agreement.model_validate(stored, strict=False)


async def load(connection: Connection, tenant_id: str, row: Row) -> list[Recorded]:
    """Return every change of a subscription's row, oldest first."""
    return [
        Recorded(str(found["id"]), change_of(found), found["at_once"], found["reason"])
        for found in await repository.changes(connection, tenant_id, row["subscription_id"])
    ]


def history_of(row: Row, changes: Sequence[Recorded]) -> History:
    """Return what invoices are rated from.

    Raises:
        ProblemError: 404 ``NoSubscription`` where there is no change at all.
    """
    if not changes:
        raise ProblemError(404, "the subscription has no history", reason="NoSubscription")
    return History(
        anchor=row["period_anchor"], changes=tuple(recorded.change for recorded in changes)
    )


def projected(
    catalog: Catalog, row: Row, changes: Sequence[Recorded], moment: datetime
) -> Projection:
    """Return what is in force at a moment that is not before the newest change."""
    history = history_of(row, changes)
    if changes[-1].at_once:
        # A correction holds as it was made; what was before it no longer matters.
        history = History(anchor=history.anchor, changes=history.changes[-1:])
    moment = max(moment, history.changes[-1].at)
    change = _in_force(catalog, history, moment)
    for turn in sorted(turn for turn in _turns(history, moment) if turn > moment):
        if _in_force(catalog, history, turn) != change:
            return Projection(change, turn)
    return Projection(change, None)


def _in_force(catalog: Catalog, history: History, moment: datetime) -> Change:
    """Return the newest change with the terms and the status that licenses go by.

    Rating ends a subscription by emptying it. A license says instead when its end was, and what
    held until then: so who is offline and who asks hear the same, and grace is what the status
    says. Only a trial of what is paid for goes on, as active.
    """
    newest = history.changes[-1]
    seen = moment
    if newest.ends_at is not None:
        seen = min(seen, newest.ends_at - _TICK)
    if (
        newest.status == "trialing"
        and newest.trial_ends_at
        and on_trial_plan(catalog, newest.terms)
    ):
        seen = min(seen, newest.trial_ends_at - _TICK)
    if seen < newest.at:
        # It had ended when it was made.
        return newest
    found = effective(catalog, history, seen) or newest
    trial_over = newest.status == "trialing" and found.status == "active"
    return newest.model_copy(
        update={"terms": found.terms, "status": "active" if trial_over else newest.status}
    )


def on_trial_plan(catalog: Catalog, terms: Terms) -> bool:
    """Tell whether a plan of the terms is only a trial: it ends everything with it."""
    return any(catalog.plan(f, p).offering == "trial" for f, p in terms.plans.items())


def _turns(history: History, moment: datetime) -> Iterator[datetime]:
    """Yield the moments at which time alone may change what is in force."""
    # A fall waits for the next period; what is paid twelve months ahead, for one of the next ones.
    periods = 12 if any(c.agreement.interval == "year" for c in history.changes) else 1
    for _ in range(periods):
        turn = period_at(history, moment).end
        yield turn
        moment = turn
    newest = history.changes[-1]
    if newest.trial_ends_at is not None:
        yield newest.trial_ends_at
    if newest.ends_at is not None:
        yield newest.ends_at


async def record(
    connection: Connection,
    catalog: Catalog,
    tenant_id: str,
    row: Row,
    change: Change,
    *,
    actor: str,
    reason: str,
    at_once: bool = False,
    keeps_due: bool | None = None,
) -> Row:
    """Append a change and write what is in force now.

    Args:
        connection: a transaction of the tenant that holds the customer's lock.
        catalog: the price list.
        tenant_id: whose.
        row: the live subscription.
        change: what is wanted from now on.
        actor: as in the audit log.
        reason: why, one word.
        at_once: a correction of the vendor's that does not wait for the next period.
        keeps_due: whether the due date of an unpaid invoice goes on counting; by default while
            the status is past due.

    Returns:
        The subscription's row as it now is.
    """
    before = await load(connection, tenant_id, row)
    change = after(before[-1].change if before else None, change)
    await repository.insert_change(
        connection,
        tenant_id,
        row["subscription_id"],
        change,
        actor=actor,
        reason=reason,
        at_once=at_once,
    )
    changes = [*before, Recorded("", change, at_once, reason)]
    keeps = change.status == "past_due" if keeps_due is None else keeps_due
    await _write(connection, tenant_id, projected(catalog, row, changes, change.at), keeps, change)
    found = await repository.live(connection, tenant_id)
    return row if found is None else found


def after(before: Change | None, change: Change) -> Change:
    """Return a change that comes after another, also within one second or as a clock went back."""
    if before is None or change.at > before.at:
        return change
    return change.model_copy(update={"at": before.at + _TICK})


async def _write(
    connection: Connection, tenant_id: str, found: Projection, keeps_due: bool, change: Change
) -> None:
    await repository.set_projection(
        connection,
        tenant_id,
        found.change,
        projected_until=found.until,
        keeps_due=keeps_due,
        now=change.at,
    )


async def note_status(
    connection: Connection,
    tenant_id: str,
    row: Row,
    status: Status,
    *,
    at: datetime,
    actor: str,
    reason: str,
) -> None:
    """Append a change of the status alone; the caller writes the row."""
    changes = await load(connection, tenant_id, row)
    change = latest(row, changes, at).model_copy(update={"status": status})
    change = after(changes[-1].change if changes else None, change)
    await repository.insert_change(
        connection,
        tenant_id,
        row["subscription_id"],
        change,
        actor=actor,
        reason=reason,
        at_once=bool(changes) and changes[-1].at_once,
    )


def latest(row: Row, changes: Sequence[Recorded], moment: datetime) -> Change:
    """Return the newest wish as of a moment, to be changed into the next one."""
    newest = changes[-1].change if changes else None
    if newest is None:
        return Change(
            at=moment,
            terms=Terms.model_validate(row["terms"]),
            status=row["status"],
            agreement=read_agreement(row["agreement"]),
            ends_at=row["hard_end"],
            trial_ends_at=row["trial_ends_at"],
        )
    return newest.model_copy(update={"at": moment})


async def current(connection: Connection, catalog: Catalog, tenant_id: str, now: int) -> Row | None:
    """Return the live subscription as it is in force now, the worker late or not."""
    row = await repository.live(connection, tenant_id)
    moment = datetime.fromtimestamp(now, UTC)
    if row is None or row["projected_until"] is None or row["projected_until"] > moment:
        return row
    changes = await load(connection, tenant_id, row)
    if not changes:
        return row
    found = projected(catalog, row, changes, moment)
    change = found.change
    return {
        **row,
        "terms": change.terms.model_dump(mode="json"),
        "status": change.status,
        "agreement": change.agreement.model_dump(mode="json"),
        "hard_end": change.ends_at,
        "trial_ends_at": change.trial_ends_at,
        "projected_until": found.until,
    }


async def renew(connection: Connection, catalog: Catalog, tenant_id: str, now: int) -> bool:
    """Write what is in force now, where time alone has changed it; True: it had.

    The caller holds the customer's lock.
    """
    row = await repository.live(connection, tenant_id)
    moment = datetime.fromtimestamp(now, UTC)
    if row is None or row["projected_until"] is None or row["projected_until"] > moment:
        return False
    changes = await load(connection, tenant_id, row)
    if not changes:
        return False
    found = projected(catalog, row, changes, moment)
    await repository.set_projection(
        connection,
        tenant_id,
        found.change,
        projected_until=found.until,
        keeps_due=found.change.status in ("past_due", "suspended"),
        now=moment,
    )
    return True
