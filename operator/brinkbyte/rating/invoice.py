"""The lines of invoices: of a period that begins, of one that closed, of one closed long ago."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from decimal import Decimal

from brinkbyte.catalog import Catalog, round_money
from brinkbyte.catalog.values import EXACT
from brinkbyte.rating.charges import ONE, Rated, dated, opening, rises, usage_lines
from brinkbyte.rating.discounts import Spent, counts, discount_lines, months
from brinkbyte.rating.model import History, Line, Period, Promotion, Usage
from brinkbyte.rating.periods import nth_period
from brinkbyte.rating.prices import ZERO


def opening_lines(catalog: Catalog, history: History, period: Period) -> tuple[Line, ...]:
    """Return what is paid ahead for a period that begins.

    - ``prepaid``: plan fees and quantities as they are at the period's begin (in the first
      period: as the first change has them, by days left). With annual payment twelve months in
      the first period of each paid year, and nothing in the other eleven.
    - ``yearly``: items whose anniversary falls in this period, for the year from it.
    - ``discount``: off the lines above: first the annual percent, then each promotion in the
      agreement's order; a line each, with the ``line`` of the charge it lowers.

    Nothing opens while trialing, while suspended, and from the subscription's end on. Only
    changes up to the period's begin count, so the lines never change later. May be empty.

    Args:
        catalog: the price list.
        history: the subscription's, at least up to the period's begin.
        period: one of the subscription's (``period_at``).

    Raises:
        CatalogError: the terms cannot be bought, for example an empty price ("contact sales")
            for which the customer has no value of their own; names what is missing.
    """
    return tuple(_opening(Rated.of(catalog, history, period))[0])


def closing_lines(
    catalog: Catalog,
    history: History,
    period: Period,
    usage: Usage,
    *,
    paid_once: Collection[str] = (),
) -> tuple[Line, ...]:
    """Return what a closed period costs beyond what was paid ahead.

    - ``rise``: each day's rise of a quantity above what is already paid, by UTC days left, that
      day included (with annual payment: days left in the paid year).
    - ``plan_change``: the fee difference of a higher plan, likewise. A paid plan after a trial or
      a pause counts as risen from nothing.
    - ``yearly``: the first year of yearly items bought in the period; ``once``: one-time items.
    - ``overage``: usage beyond the allowance, linear. The allowance is the period's highest. A
      period that was trial to its end has none.
    - ``pass_through``: the costs that events carry, always.
    - ``discount``: as at the opening.

    Only changes before the period's end count. Caps make no charges. May be empty.

    Args:
        catalog: the price list.
        history: the subscription's, at least up to the period's end.
        period: one of the subscription's (``period_at``).
        usage: of the whole period, by meter; a meter that is absent was not used.
        paid_once: line ids of one-time charges that the customer has paid before in another
            subscription; they are not charged again.

    Raises:
        CatalogError: as ``opening_lines``; an unknown meter, negative or impossible usage.
    """
    rated = Rated.of(catalog, history, period)
    charges = [
        *rises(rated),
        *dated(rated, paid_once),
        *usage_lines(rated, usage),
    ]
    newest = rated.timeline.at(period.end - period.end.resolution)
    if newest is None or not charges:
        return tuple(charges)
    spent = _Spent(rated)
    lines, _ = discount_lines(rated, charges, newest.change.agreement, spent.left)
    return (*charges, *lines)


def adjustment_lines(
    catalog: Catalog,
    history: History,
    period: Period,
    usage: Usage,
    invoiced: Sequence[Line],
) -> tuple[Line, ...]:
    """Return what late events change in a closed period: rated anew, less what was invoiced.

    Late events change usage alone, so lines of meters are compared (net of their discounts), by
    ``line``; no difference leaves no line. An amount below zero is a credit.

    Args:
        catalog: the price list **that the period's invoice was rated with**.
        history: the subscription's.
        period: the closed period.
        usage: of the whole period, late events included.
        invoiced: lines of the invoice that closed the period, and of those since that may carry
            adjustments of it. Lines of other periods and of other charges are ignored, so whole
            invoices may be given.

    Returns:
        ``adjustment`` lines whose ``period`` is the one adjusted; ``quantity`` is the difference
        of the units charged.

    Raises:
        CatalogError: as ``closing_lines``.
    """
    owed: dict[str, Line] = {}
    difference: dict[str, tuple[Decimal, Decimal]] = {}

    def add(line: Line, sign: Decimal) -> None:
        units, amount = difference.get(line.line, (ZERO, ZERO))
        if line.kind != "discount":
            units = EXACT.add(units, EXACT.multiply(sign, line.quantity))
            owed.setdefault(line.line, line)
        difference[line.line] = units, EXACT.add(amount, EXACT.multiply(sign, line.amount))

    for line in closing_lines(catalog, history, period, usage):
        if line.line in catalog.meters:
            add(line, ONE)
    for line in invoiced:
        if line.line in catalog.meters and line.period == period:
            add(line, ONE.copy_negate())
    return tuple(
        Line(
            line=name,
            kind="adjustment",
            description=f"{catalog.meters[name].title}, corrected for late events",
            quantity=difference[name][0],
            period=period,
            amount=round_money(catalog, difference[name][1]),
        )
        for name in catalog.meters
        if name in difference and difference[name][1]
    )


def total(catalog: Catalog, lines: Sequence[Line]) -> Decimal:
    """Return the exact sum of the lines in the currency's main unit; 0 of none."""
    amount = ZERO
    for line in lines:
        amount = EXACT.add(amount, line.amount)
    return round_money(catalog, amount)


def _opening(rated: Rated) -> tuple[list[Line], Spent]:
    """Return the opening's lines, and what promotions of an amount gave."""
    charges = list(opening(rated))
    state = rated.timeline.at(rated.timeline.opened(rated.period.start))
    if state is None or not charges:
        return charges, {}
    lines, spent = discount_lines(
        rated, charges, state.change.agreement, _Spent(rated, opening_itself=True).left
    )
    return [*charges, *lines], spent


class _Spent:
    """What a promotion of an amount has left in a period, after what was paid ahead.

    Each month of a payment ahead has the amount once. What the payment ahead took of them is
    spread over its months.
    """

    def __init__(self, rated: Rated, *, opening_itself: bool = False) -> None:
        self._rated = rated
        self._opening_itself = opening_itself

    def left(self, promotion: Promotion) -> Decimal:
        rated, amount = self._rated, promotion.amount or ZERO
        if self._opening_itself and rated.opens_cover:
            return EXACT.multiply(amount, Decimal(months(rated, promotion)[0]))
        if not counts(rated, promotion, rated.index):
            return ZERO
        cover = rated.cover
        if cover is None:
            return amount
        first = _at(rated, cover.first)
        ahead = months(first, promotion)[0]
        if ahead:
            taken = _opening(first)[1].get(promotion, ZERO)
            amount = EXACT.subtract(amount, EXACT.divide(taken, Decimal(ahead)))
        if not self._opening_itself and not rated.opens_cover:
            amount = EXACT.subtract(amount, _opening(rated)[1].get(promotion, ZERO))
        return amount


def _at(rated: Rated, index: int) -> Rated:
    period = nth_period(rated.timeline.anchor, index)
    return replace(rated, period=period, index=index)
