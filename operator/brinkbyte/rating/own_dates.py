"""Charges with dates of their own: yearly items on their anniversary, one-time items once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from brinkbyte.catalog import Catalog, Terms, charge_line, plan_sku
from brinkbyte.rating.periods import add_months, day_of, month_index, nth_period
from brinkbyte.rating.timeline import Stretch, Timeline, by_day, end_of

_YEAR = 12


@dataclass(frozen=True, slots=True)
class Dated:
    """What to look for: a charge of a SKU, or of a plan of a family."""

    line: str
    sku: str
    every: Literal["year", "once"]
    family: str | None = None
    plan: str | None = None

    def units(self, terms: Terms) -> int:
        """Return how many units of it the terms hold."""
        if self.family is not None:
            return int(terms.plans.get(self.family) == self.plan)
        return terms.quantities.get(self.sku, 0)


@dataclass(frozen=True, slots=True)
class DatedCharge:
    """Units of a dated charge that begin to be paid on a day.

    Attributes:
        line: id of the charge.
        day: UTC midnight.
        of: the year that is charged, ``(start, end)``; None for a one-time charge.
        units: charged.
        wish: whose terms give the price.
        opens: known when the day's period began, so that it is paid with its opening.
    """

    line: str
    day: datetime
    of: tuple[datetime, datetime] | None
    units: int
    wish: Terms
    opens: bool


def dated(catalog: Catalog) -> Iterator[Dated]:
    """Yield every charge of the price list that is not monthly."""
    for family, spec in catalog.families.items():
        for name, plan in spec.plans.items():
            sku = plan_sku(family, name)
            for charge in plan.charges:
                if charge.every != "month":
                    yield Dated(charge_line(sku, charge), sku, charge.every, family, name)
    for sku, item in catalog.skus.items():
        for charge in item.charges:
            if charge.every != "month":
                yield Dated(charge_line(sku, charge), sku, charge.every)


def dated_charges(catalog: Catalog, timeline: Timeline, until: datetime) -> Iterator[DatedCharge]:
    """Yield the dated charges of a whole history up to a moment."""
    paid = [s for s in timeline.stretches if s.phase == "paid" and s.start < until]
    for charge in dated(catalog):
        if any(charge.units(stretch.change.terms) for stretch in paid):
            if charge.every == "once":
                yield from _once(charge, paid)
            else:
                yield from _yearly(charge, timeline, paid, until)


def _most(charge: Dated, group: list[Stretch]) -> tuple[int, Terms]:
    """Return the most units held in a group, and the newest terms that hold any."""
    held = [s.change.terms for s in group if charge.units(s.change.terms)]
    return max(map(charge.units, held), default=0), (held or [group[-1].change.terms])[-1]


def _once(charge: Dated, paid: list[Stretch]) -> Iterator[DatedCharge]:
    ever = 0
    for day, group in by_day(iter(paid)):
        units, wish = _most(charge, group)
        if units > ever:
            yield DatedCharge(charge.line, day, None, units - ever, wish, opens=False)
            ever = units


def _yearly(
    charge: Dated, timeline: Timeline, paid: list[Stretch], until: datetime
) -> Iterator[DatedCharge]:
    lapsed = timeline.began
    while True:
        first = next((s for s in paid if s.start >= lapsed and charge.units(s.change.terms)), None)
        if first is None:
            return
        origin = day_of(first.start)
        start, years, carried = origin, 0, None
        while True:
            years += 1
            end = add_months(origin, _YEAR * years)
            known = _known(charge, timeline, start)
            if years > 1:
                carried = timeline.at(start)
                held = carried is not None and carried.phase == "paid"
                carried = carried if held else None
                if known is None and (carried is None or not charge.units(carried.change.terms)):
                    lapsed = start
                    break
            within = [s for s in paid if max(start, lapsed) <= s.start < end]
            yield from _year(charge, (start, end), known, carried, within)
            start = end
            if start >= until:
                return


def _known(charge: Dated, timeline: Timeline, start: datetime) -> Stretch | None:
    """Return what the opening of the period in which a year begins knows of it."""
    period = nth_period(timeline.anchor, month_index(timeline.anchor, start))
    opened = timeline.opened(period.start)
    state = timeline.at(opened)
    if state is None or state.phase != "paid" or not charge.units(state.change.terms):
        return None
    ends_at = end_of(state.change)
    return state if ends_at is None or ends_at > start else None


def _year(
    charge: Dated,
    year: tuple[datetime, datetime],
    known: Stretch | None,
    carried: Stretch | None,
    within: list[Stretch],
) -> Iterator[DatedCharge]:
    paid = 0
    if known is not None:
        paid = charge.units(known.change.terms)
        yield DatedCharge(charge.line, year[0], year, paid, known.change.terms, opens=True)
    groups = list(by_day(iter(within)))
    if carried is not None:
        if groups and groups[0][0] == year[0]:
            groups[0] = (year[0], [carried, *groups[0][1]])
        else:
            groups.insert(0, (year[0], [carried]))
    for day, group in groups:
        units, wish = _most(charge, group)
        if units > paid:
            yield DatedCharge(charge.line, day, year, units - paid, wish, opens=False)
            paid = units
