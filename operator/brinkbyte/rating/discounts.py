"""Discounts: the annual percent first, then promotions in their order, a line for each charge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Final

from brinkbyte.catalog import round_money
from brinkbyte.catalog.values import EXACT
from brinkbyte.rating.charges import ONE, Rated
from brinkbyte.rating.model import Agreement, Line, Promotion
from brinkbyte.rating.periods import day_of, nth_period
from brinkbyte.rating.prices import ZERO

_HUNDRED: Final = Decimal(100)
_AHEAD: Final = ("prepaid", "rise", "plan_change")
_PREPAID: Final = (*_AHEAD, "yearly")


@dataclass(slots=True)
class _Discounts:
    """Discounts under way: what is left of each charge, and the lines so far."""

    rated: Rated
    charges: Sequence[Line]
    left: list[Decimal]
    lines: list[Line] = field(default_factory=list)

    def take(self, index: int, label: str, amount: Decimal) -> Decimal:
        """Lower a charge, never below zero; returns by how much."""
        taken = min(amount, self.left[index])
        if taken <= 0:
            return ZERO
        charge = self.charges[index]
        self.left[index] = EXACT.subtract(self.left[index], taken)
        self.lines.append(
            Line(
                line=charge.line,
                kind="discount",
                description=f"{label}: {charge.description}",
                quantity=ONE,
                unit_price=taken.copy_negate(),
                period=charge.period,
                amount=taken.copy_negate(),
            )
        )
        return taken

    def percent(
        self, label: str, percent: Decimal, applies: Callable[[Line], tuple[int, int]]
    ) -> None:
        """Take a percent off each charge; ``applies`` says for which share of it."""
        for index, charge in enumerate(self.charges):
            part, whole = applies(charge)
            if part:
                amount = EXACT.multiply(self.left[index], EXACT.multiply(percent, Decimal(part)))
                amount = EXACT.divide(amount, EXACT.multiply(_HUNDRED, Decimal(whole)))
                self.take(index, label, round_money(self.rated.catalog, amount))

    def amount(
        self, label: str, budget: Decimal, applies: Callable[[Line], tuple[int, int]]
    ) -> Decimal:
        """Take up to a sum off the charges, first ones first; returns how much was taken."""
        digits = Decimal(1).scaleb(-self.rated.catalog.rules.money.minor_units)
        rest = budget
        for index, charge in enumerate(self.charges):
            if applies(charge)[0]:
                # Never more than was promised, so the last part of a cent is not given.
                part = max(rest, ZERO).quantize(digits, rounding=ROUND_DOWN, context=EXACT)
                rest = EXACT.subtract(rest, self.take(index, label, part))
        return EXACT.subtract(budget, rest)


Spent = dict[Promotion, Decimal]
"""What each promotion of an amount has given."""


def discount_lines(
    rated: Rated,
    charges: Sequence[Line],
    agreement: Agreement,
    budget: Callable[[Promotion], Decimal],
) -> tuple[list[Line], Spent]:
    """Return the discounts off the charges of a period.

    Args:
        rated: the period.
        charges: its lines before discounts.
        agreement: whose promotions count.
        budget: what a promotion of an amount has left for these charges.
    """
    under_way = _Discounts(rated, charges, [charge.amount for charge in charges])
    cover = rated.cover
    if cover is not None and cover.months > 1 and cover.opening is not None:
        percent = cover.opening.change.agreement.annual_percent
        if percent:
            under_way.percent(
                f"{percent.normalize():f} % off for a year paid ahead",
                percent,
                lambda charge: (int(charge.kind in _AHEAD), 1),
            )
    spent: Spent = {}
    for promotion in agreement.promotions:
        applies = _applies(rated, promotion)
        label = f"Promotion {promotion.code}"
        if promotion.percent is not None:
            label += f", {promotion.percent.normalize():f} % off"
            under_way.percent(label, promotion.percent, applies)
        elif promotion.amount is not None:
            spent[promotion] = under_way.amount(label, budget(promotion), applies)
    return under_way.lines, spent


def counts(rated: Rated, promotion: Promotion, index: int) -> bool:
    """Whether a promotion counts for the period with this index: it begins within its dates."""
    timeline = rated.timeline
    begin = day_of(timeline.opened(nth_period(timeline.anchor, index).start))
    return promotion.starts_at <= begin and (promotion.ends_at is None or begin < promotion.ends_at)


def months(rated: Rated, promotion: Promotion) -> tuple[int, int]:
    """Return for how many of the months paid ahead that are left the promotion counts."""
    cover = rated.cover
    end = rated.index + 1 if cover is None else cover.first + cover.months
    left = range(rated.index, end)
    return sum(counts(rated, promotion, index) for index in left), len(left)


def _applies(rated: Rated, promotion: Promotion) -> Callable[[Line], tuple[int, int]]:
    now = int(counts(rated, promotion, rated.index)), 1
    ahead = months(rated, promotion)

    def share(charge: Line) -> tuple[int, int]:
        named = charge.line in promotion.lines if promotion.lines else charge.kind in _PREPAID
        if not named:
            return 0, 1
        return ahead if charge.kind in _AHEAD else now

    return share
