"""Billing periods: months counted from a subscription's anchor, between UTC midnights."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from brinkbyte.rating.model import History, Period

_MONTHS = 12
DAY = timedelta(days=1)


def add_months(start: datetime, months: int) -> datetime:
    """Return the same day of a later (or earlier) month; the last day of a shorter month.

    Count from the origin each time, never from the result: the 31st stays the 31st where the
    month has one.
    """
    # A database may give the same moment in another zone, where it is another day.
    start = start.astimezone(UTC)
    year, month = divmod(start.year * _MONTHS + start.month - 1 + months, _MONTHS)
    return start.replace(
        year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1])
    )


def day_of(moment: datetime) -> datetime:
    """Return the UTC midnight that begins the day of a moment."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def days_between(start: datetime, end: datetime) -> int:
    """Return the whole days from one UTC midnight to another."""
    return (end - start).days


def month_index(anchor: datetime, moment: datetime) -> int:
    """Return which month from the anchor holds the moment; before the anchor it is negative."""
    at, anchor = moment.astimezone(UTC), anchor.astimezone(UTC)
    index = (at.year - anchor.year) * _MONTHS + at.month - anchor.month
    return index if add_months(anchor, index) <= at else index - 1


def nth_period(anchor: datetime, index: int) -> Period:
    """Return the month with this index from the anchor."""
    return Period(start=add_months(anchor, index), end=add_months(anchor, index + 1))


def period_at(history: History, moment: datetime) -> Period:
    """Return the billing period that holds a moment.

    Periods are months counted from ``history.anchor``; a month without the anchor's day begins on
    its last day. They go on before the anchor and after a subscription's end alike: whether
    anything is owed in one is for the lines to say.

    Args:
        history: the subscription's; only its anchor counts.
        moment: aware; a period's start belongs to it, its end to the next.
    """
    return nth_period(history.anchor, month_index(history.anchor, moment))


def periods_until(history: History, moment: datetime) -> Iterator[Period]:
    """Yield the billing periods that have begun by a moment, oldest first.

    The first is the one that holds the first change, the last the one that holds ``moment`` (so
    it is the only one that has not closed). Nothing before the first change. After a
    subscription's end they go on; the lines of such a period are empty.

    Args:
        history: the subscription's.
        moment: aware.
    """
    first, last = (month_index(history.anchor, at) for at in (history.changes[0].at, moment))
    for index in range(first, last + 1):
        yield nth_period(history.anchor, index)
