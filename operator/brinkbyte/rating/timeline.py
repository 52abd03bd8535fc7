"""A history as stretches of time, and the stretches that one payment ahead covers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Literal

from brinkbyte.catalog import Catalog
from brinkbyte.rating.model import Change, History, Period
from brinkbyte.rating.periods import DAY, add_months, day_of, month_index

Phase = Literal["trial", "paid", "suspended", "ended"]
_YEAR = 12


@dataclass(frozen=True, slots=True)
class Stretch:
    """From ``start`` until the next one, ``change`` is the newest wish and ``phase`` holds."""

    start: datetime
    change: Change
    phase: Phase


@dataclass(frozen=True, slots=True)
class Cover:
    """What one payment ahead is for: a billing period, or a year of twelve.

    Attributes:
        first: index of its first period.
        months: how many periods it covers.
        start: UTC midnight.
        end: UTC midnight, exclusive.
        opened: when the quantities that it opens with were read: its start, or the first change.
        opening: what held then, None when nothing could open.
    """

    first: int
    months: int
    start: datetime
    end: datetime
    opened: datetime
    opening: Stretch | None


def end_of(change: Change) -> datetime | None:
    """Return when a change ends what it says by itself; None: it renews."""
    if change.ends_at is None and change.status == "canceled":
        return day_of(change.at) + DAY
    return change.ends_at


def _only_trial(catalog: Catalog, change: Change) -> bool:
    return any(
        catalog.plan(family, name).offering == "trial"
        for family, name in change.terms.plans.items()
    )


class Timeline:
    """The stretches of a history. Rises, falls and ends are read off them."""

    def __init__(self, catalog: Catalog, history: History) -> None:
        self.anchor = history.anchor
        self.stretches = tuple(_stretches(catalog, history))
        self._starts = [stretch.start for stretch in self.stretches]
        self.began = self._starts[0]

    def at(self, moment: datetime) -> Stretch | None:
        """Return what holds at a moment; None before the first change."""
        index = bisect_right(self._starts, moment)
        return self.stretches[index - 1] if index else None

    def opened(self, start: datetime) -> datetime:
        """Return when what opens at the start of a period is read."""
        return max(start, self.began)

    def cover(self, period: Period) -> Cover | None:
        """Return the payment ahead that covers a period; None before the first change."""
        wanted = month_index(self.anchor, period.start)
        first = month_index(self.anchor, self.began)
        if wanted < first:
            return None
        while True:
            cover = self._cover(first)
            first += cover.months
            if wanted < first:
                return cover

    def _cover(self, first: int) -> Cover:
        start = add_months(self.anchor, first)
        opened = self.opened(start)
        state = self.at(opened)
        opening = state if state is not None and state.phase == "paid" else None
        months = 1
        if opening is not None and opening.change.agreement.interval == "year":
            ends_at = end_of(opening.change)
            # A term known to end within the year is paid by the month.
            if ends_at is None or ends_at >= add_months(self.anchor, first + _YEAR):
                months = _YEAR
        return Cover(
            first=first,
            months=months,
            start=start,
            end=add_months(self.anchor, first + months),
            opened=opened,
            opening=opening,
        )

    def later(self, cover: Cover, until: datetime) -> Iterator[Stretch]:
        """Yield the paid stretches that begin in a cover after what it opened with.

        One that was replaced at the moment of opening is among them: the day's highest counts.
        """
        for stretch in self.stretches:
            if (
                cover.opened <= stretch.start < until
                and stretch.phase == "paid"
                and stretch is not cover.opening
            ):
                yield stretch

    def paid(self, cover: Cover, until: datetime) -> list[Stretch]:
        """Return every paid stretch of a cover that begins before a moment, oldest first."""
        opening = [cover.opening] if cover.opening is not None else []
        return opening + list(self.later(cover, until))


def by_day(stretches: Iterator[Stretch]) -> Iterator[tuple[datetime, list[Stretch]]]:
    """Yield (UTC day, the stretches that begin on it)."""
    for day, group in groupby(stretches, key=lambda stretch: day_of(stretch.start)):
        yield day, list(group)


def _stretches(catalog: Catalog, history: History) -> Iterator[Stretch]:
    free = False
    for index, change in enumerate(history.changes):
        # A trial that is canceled stays free until its end.
        free = change.status == "trialing" or (change.status == "canceled" and free)
        until = history.changes[index + 1].at if index + 1 < len(history.changes) else None
        trial_end = change.trial_ends_at if free else None
        end = end_of(change)
        if free and trial_end is not None and _only_trial(catalog, change):
            end = trial_end if end is None else min(end, trial_end)
        turns = sorted(
            {
                turn
                for turn in (trial_end, end)
                if turn is not None and change.at < turn and (until is None or turn < until)
            }
        )
        for start in (change.at, *turns):
            phase: Phase = "paid"
            if end is not None and start >= end:
                phase = "ended"
            elif free and (trial_end is None or start < trial_end):
                phase = "trial"
            elif change.status == "suspended":
                phase = "suspended"
            yield Stretch(start=start, change=change, phase=phase)
