"""The charges of a period before discounts: paid ahead, risen, dated, and used."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from brinkbyte.catalog import Catalog, CatalogError, Terms, check_usage, round_money
from brinkbyte.catalog.values import EXACT
from brinkbyte.rating.model import History, Line, LineKind, Period, Usage
from brinkbyte.rating.own_dates import DatedCharge, dated_charges
from brinkbyte.rating.periods import day_of, days_between, month_index, period_at
from brinkbyte.rating.prices import Item, highest, price_table
from brinkbyte.rating.timeline import Cover, Stretch, Timeline, by_day

ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Rated:
    """What the charges of one period are read from.

    Attributes:
        catalog: the price list.
        timeline: of the subscription.
        period: the one that is rated.
        index: of the period, counted from the anchor.
        cover: the payment ahead that covers it; None before the first change.
    """

    catalog: Catalog
    timeline: Timeline
    period: Period
    index: int
    cover: Cover | None

    @classmethod
    def of(cls, catalog: Catalog, history: History, period: Period) -> Rated:
        """Read a history for one of its periods.

        Raises:
            CatalogError: the period is not one of the subscription's.
        """
        if period_at(history, period.start) != period:
            msg = (
                f"{period.start:%F} to {period.end:%F} is not a billing period of this "
                "subscription; take one from period_at"
            )
            raise CatalogError(msg)
        timeline = Timeline(catalog, history)
        return cls(
            catalog=catalog,
            timeline=timeline,
            period=period,
            index=month_index(history.anchor, period.start),
            cover=timeline.cover(period),
        )

    @property
    def opens_cover(self) -> bool:
        """Whether a payment ahead begins with this period."""
        return self.cover is not None and self.cover.first == self.index

    def line(
        self,
        item: Item,
        kind: LineKind,
        *,
        description: str,
        quantity: int,
        unit_price: Decimal,
        charged: tuple[datetime, datetime],
        of_days: int,
    ) -> Line:
        """Return a line for the days charged of so many."""
        start, end = charged
        days = days_between(start, end)
        amount = EXACT.multiply(unit_price, Decimal(quantity))
        part = days != of_days
        if part:
            amount = EXACT.divide(EXACT.multiply(amount, Decimal(days)), Decimal(of_days))
        return Line(
            line=item.line,
            kind=kind,
            description=description,
            quantity=Decimal(quantity),
            unit_price=unit_price,
            days=days if part else None,
            of_days=of_days if part else None,
            period=Period(start=start, end=end),
            amount=round_money(self.catalog, amount),
        )


def _ahead(cover: Cover, price: Decimal) -> Decimal:
    return EXACT.multiply(price, Decimal(cover.months))


def _title(cover: Cover, title: str) -> str:
    return title if cover.months == 1 else f"{title}, {cover.months} months"


def opening(rated: Rated) -> Iterator[Line]:
    """Yield what is paid ahead as the period begins."""
    cover = rated.cover
    if cover is None:
        return
    if cover.opening is not None and rated.opens_cover:
        table = price_table(rated.catalog, cover.opening.change.terms)
        for item in table.every("month"):
            yield rated.line(
                item,
                "prepaid",
                description=_title(cover, item.title),
                quantity=item.quantity,
                unit_price=_ahead(cover, item.price),
                charged=(day_of(cover.opened), cover.end),
                of_days=days_between(cover.start, cover.end),
            )
    for charge in _dated(rated):
        if charge.opens:
            yield _dated_line(rated, charge)


def rises(rated: Rated) -> Iterator[Line]:
    """Yield each day's rise above what is already paid, in the period."""
    cover = rated.cover
    if cover is None:
        return
    # What is paid: of a quantity its line, of a plan its family.
    paid: dict[str, Item] = {}
    if cover.opening is not None:
        table = price_table(rated.catalog, cover.opening.change.terms)
        paid = {item.family or item.line: item for item in table.every("month")}
    opening_too = [] if cover.opening is None else [cover.opening]
    # What it opened with is the newest of its instant: the day's last price may be its.
    wishes = sorted(
        [*rated.timeline.later(cover, rated.period.end), *opening_too],
        key=lambda stretch: stretch.start,
    )
    for day, group in by_day(iter(wishes)):
        for item in _day_highest(rated.catalog, group):
            key = item.family or item.line
            before = paid.get(key)
            if before is not None and (item.rank, item.quantity) <= (before.rank, before.quantity):
                continue
            if day >= rated.period.start:
                more = _rise if item.family is None else _plan_change
                yield from more(rated, cover, item, before, day)
            paid[key] = item
            if before is not None and item.family is not None and before.price > item.price:
                # What is paid stays paid, also where the higher plan costs this customer less.
                paid[key] = replace(item, price=before.price)


def _day_highest(catalog: Catalog, group: list[Stretch]) -> list[Item]:
    """Return the most that a day held of each monthly item, at the day's last price of it."""
    found: dict[str, Item] = {}
    for stretch in group:
        for item in price_table(catalog, stretch.change.terms).every("month"):
            # Of the plans of a family the highest counts, of a quantity the most.
            key = item.family or item.line
            before = found.get(key)
            if before is None or (item.rank, item.quantity) >= (before.rank, before.quantity):
                found[key] = item
            elif item.line == before.line:
                found[key] = replace(before, price=item.price)
    return sorted(found.values(), key=lambda item: item.position)


def _rise(
    rated: Rated, cover: Cover, item: Item, before: Item | None, day: datetime
) -> Iterator[Line]:
    more = item.quantity - (0 if before is None else before.quantity)
    yield rated.line(
        item,
        "rise",
        description=f"{_title(cover, item.title)}, {more:,} more from {day:%F}",
        quantity=more,
        unit_price=_ahead(cover, item.price),
        charged=(day, cover.end),
        of_days=days_between(cover.start, cover.end),
    )


def _plan_change(
    rated: Rated, cover: Cover, item: Item, before: Item | None, day: datetime
) -> Iterator[Line]:
    difference = item.price if before is None else EXACT.subtract(item.price, before.price)
    if before is not None and difference <= 0:
        # A higher plan that costs no more for this customer: nothing to pay, no refund either.
        return
    instead = "" if before is None else f" instead of {before.title}"
    yield rated.line(
        item,
        "plan_change",
        description=f"{_title(cover, item.title)}{instead} from {day:%F}",
        quantity=1,
        unit_price=_ahead(cover, difference),
        charged=(day, cover.end),
        of_days=days_between(cover.start, cover.end),
    )


def _dated(rated: Rated) -> Iterator[DatedCharge]:
    period = rated.period
    charges = dated_charges(rated.catalog, rated.timeline, period.end)
    return (charge for charge in charges if period.start <= charge.day < period.end)


def dated(rated: Rated, paid_once: Collection[str]) -> Iterator[Line]:
    """Yield yearly and one-time charges that the period's opening did not know of."""
    for charge in _dated(rated):
        if not charge.opens and not (charge.of is None and charge.line in paid_once):
            yield _dated_line(rated, charge)


def _dated_line(rated: Rated, charge: DatedCharge) -> Line:
    item = price_table(rated.catalog, charge.wish).items[charge.line]
    if charge.of is None:
        return rated.line(
            item,
            "once",
            description=f"{item.title}, one-time",
            quantity=charge.units,
            unit_price=item.price,
            charged=(charge.day, rated.period.end),
            of_days=days_between(charge.day, rated.period.end),
        )
    start, end = charge.of
    begins = charge.day == start
    more = "" if begins else f", {charge.units:,} more"
    return rated.line(
        item,
        "yearly" if begins else "rise",
        description=f"{item.title}, year to {end:%F}{more}",
        quantity=charge.units,
        unit_price=item.price,
        charged=(charge.day, end),
        of_days=days_between(start, end),
    )


def held_terms(rated: Rated) -> Terms | None:
    """Return the most that the period held: its allowances count for all of it.

    None when nothing that is owed for was held: the period was all trial, or after the end.
    """
    cover, period = rated.cover, rated.period
    if cover is None:
        return None
    timeline = rated.timeline
    wishes = timeline.paid(cover, period.end)
    # While suspended nothing is paid ahead, but what is used nevertheless is owed.
    began = timeline.at(timeline.opened(period.start))
    suspended = [
        stretch
        for stretch in timeline.stretches
        if stretch.phase == "suspended"
        and (period.start <= stretch.start < period.end or stretch is began)
    ]
    held = sorted((*wishes, *suspended), key=lambda stretch: stretch.start)
    return highest(rated.catalog, [stretch.change.terms for stretch in held]) if held else None


def usage_lines(rated: Rated, usage: Usage) -> Iterator[Line]:
    """Yield what was used beyond allowances, and costs that are passed on.

    Raises:
        CatalogError: an unknown meter, negative or impossible usage.
    """
    catalog = rated.catalog
    check_usage(
        catalog,
        {name: used.quantity for name, used in usage.items()},
        {
            name: used.cost
            for name, used in usage.items()
            if used.cost or (name in catalog.meters and catalog.meters[name].pass_through)
        },
    )
    terms = held_terms(rated)
    included = {} if terms is None else price_table(catalog, terms).allowances
    for name, meter in catalog.meters.items():
        used = usage.get(name)
        if used is None:
            continue
        if meter.pass_through is not None and used.cost > 0:
            yield Line(
                line=name,
                kind="pass_through",
                description=f"{meter.title}, at cost",
                quantity=used.quantity,
                period=rated.period,
                amount=round_money(catalog, used.cost),
            )
        allowance = included.get(name)
        if allowance is None or allowance.overage is None or allowance.included is None:
            continue
        beyond = EXACT.subtract(used.quantity, Decimal(allowance.included))
        if beyond > 0:
            rate = allowance.overage
            cost = EXACT.divide(EXACT.multiply(beyond, rate.amount), Decimal(rate.per))
            yield Line(
                line=name,
                kind="overage",
                description=f"{meter.title} beyond {allowance.included:,}",
                quantity=beyond,
                unit_price=rate.amount,
                per=rate.per,
                period=rated.period,
                amount=round_money(catalog, cost),
            )
